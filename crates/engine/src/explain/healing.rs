//! What the last start found and did, for who may see it.

use super::{detail, with_steps};
use crate::{
    engine::Inner,
    event::What,
    fault::Fault,
    view::explain::{Healing, MachineFound},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stillpoint_store::{Conn, event, job};
use stillpoint_types::{Access, Caller, Micros, Need, ProjectId, now_micros};

/// Events that are told, at most.
const EVENTS: u32 = 200;
/// Jobs that are told, at most.
const JOBS: u32 = 200;

/// What the start notes while it looks: it goes on with what does not answer after the first request.
#[derive(Debug)]
pub(crate) struct Start {
    at: Micros,
    found: Mutex<Vec<(ProjectId, MachineFound)>>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            at: now_micros(),
            found: Mutex::default(),
        }
    }
}

impl Start {
    fn all(&self) -> MutexGuard<'_, Vec<(ProjectId, MachineFound)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was found of a VM's process.
    pub(crate) fn note(&self, project: ProjectId, found: MachineFound) {
        self.all().push((project, found));
    }
}

pub(crate) async fn healing(engine: &Arc<Inner>, who: &Caller) -> Result<Healing, Fault> {
    let since = engine.start.at;
    let codes = [
        What::Recovered,
        What::GraphMismatch,
        What::JobWaits,
        What::CheckpointLost,
        What::VmCrashed,
        What::VmDownError,
        What::VmNotResponding,
        What::VmResponding,
        What::Thawed,
        What::ThawFailed,
        What::TransferLost,
    ]
    .map(What::number);
    let asking = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let projects = asking.visible_projects();
        let events = event::of_codes(conn, projects.as_deref(), &codes, since, EVENTS)?;
        let mut rows = job::lately(conn, projects.as_deref(), since, JOBS)?;
        rows.retain(|row| row.created_at < since && row.kind != job::CLIENT);
        Ok((events, with_steps(conn, &asking, rows)?))
    };
    let (events, jobs) = engine.store.read(read).await?;
    let machines = engine.start.all();
    let visible = machines
        .iter()
        .filter(|(project, _)| who.may(*project, Need::Read) == Access::Allowed);
    Ok(Healing {
        started_at: since,
        machines: visible.map(|(_, found)| found.clone()).collect(),
        jobs: jobs
            .into_iter()
            .map(|(row, steps)| detail(engine, row, steps))
            .collect(),
        events: events.into_iter().map(crate::job::event_view).collect(),
    })
}
