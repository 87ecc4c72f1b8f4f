//! What is new in the catalogue, for who shows it live: events after one, and the jobs of now.
//!
//! Whoever asks is woken by [`crate::Engine::changes`], and asks once for each wake, not each second.

use crate::{
    engine::Inner,
    explain::{detail, with_steps},
    fault::Fault,
    view::{EventView, explain::JobDetail},
};
use std::sync::Arc;
use stillpoint_store::{Conn, event, job};
use stillpoint_types::{Caller, Micros, now_micros};

/// Events in one answer.
const EVENTS: u32 = 200;
/// Jobs in one answer, of those that run and of those that have ended each.
const JOBS: u32 = 200;

/// What is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Events after the one that was named, oldest first.
    pub events: Vec<EventView>,
    /// There are more events than that: ask again at once.
    pub more: bool,
    /// The jobs that run, and those that ended since the instant that was named, oldest first.
    pub jobs: Vec<JobDetail>,
    /// When this was read: where the next question begins.
    pub at: Micros,
}

pub(crate) async fn news(engine: &Arc<Inner>, who: &Caller, after: i64, ended_since: Micros) -> Result<News, Fault> {
    let asking = who.clone();
    let at = now_micros();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let projects = asking.visible_projects();
        let events = event::after(conn, projects.as_deref(), after, EVENTS)?;
        let rows = job::lately(conn, projects.as_deref(), ended_since, JOBS)?;
        Ok((events, with_steps(conn, &asking, rows)?))
    };
    let (events, jobs) = engine.store.read(read).await?;
    Ok(News {
        more: events.len() >= usize::try_from(EVENTS).unwrap_or(usize::MAX),
        events: events.into_iter().map(crate::job::event_view).collect(),
        jobs: jobs
            .into_iter()
            .map(|(row, steps)| detail(engine, row, steps))
            .collect(),
        at,
    })
}

/// The number of the newest event, whoever may see it.
pub(crate) async fn newest(engine: &Arc<Inner>) -> Result<i64, Fault> {
    engine
        .store
        .read(|conn: &Conn| -> Result<_, Fault> { Ok(event::newest(conn)?) })
        .await
}
