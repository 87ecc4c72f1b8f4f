//! Events and jobs as they happen, as server-sent events (HTML Living Standard, section 9.2).
//!
//! Each connection sleeps until a commit wakes it, then asks the core once what is new. An event bears its number as `id`, so
//! a client that was cut off goes on with `Last-Event-ID`; a job is sent whenever its state, a step's state or progress has
//! changed. Twice a minute it is looked whether the sender may still listen, and a comment keeps the connection alive.
//!
//! ```text
//! id: 4711                          event: job                        event: end
//! event: event                      data: {"id": ..., "steps": ...}   data: {"error": ...}
//! data: {"index": 4711, ...}
//! ```

use crate::{Api, answer::Answer, call::Call, document, fault::Refused, login};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use std::{collections::HashMap, convert::Infallible, time::Duration};
use stillpoint_engine::view::{EventView, explain::JobDetail};
use stillpoint_types::{Caller, FaultCode, JobId, Micros, VmId};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

/// Connections that listen at a time.
pub(crate) const LISTENERS_MAX: usize = 128;
/// Longest silence: a proxy takes a connection for dead after a minute or so.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether the sender may still listen.
const JUDGE_EVERY: Duration = Duration::from_secs(30);
/// Least time between two looks: a busy daemon commits hundreds of times a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the client waits before it comes back, milliseconds.
const RETRY_MS: u32 = 2000;
/// A job that ended while a look was under way is told by the next one.
const OVERLAP: Micros = 2_000_000;

/// What a client wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    events: bool,
    jobs: bool,
    vm: Option<VmId>,
}

/// What was told of a job last.
type Mark = (String, Vec<(String, u8)>, Option<u32>);

/// A connection that listens.
struct Feed {
    api: Api,
    who: Caller,
    headers: HeaderMap,
    wanted: Wanted,
    correlation_id: Option<String>,
    changes: watch::Receiver<u64>,
    /// The newest event that was told.
    last: i64,
    jobs: HashMap<JobId, Mark>,
    /// Jobs that ended since then are told.
    since: Micros,
    judge_at: Instant,
    is_first: bool,
    is_over: bool,
    _seat: OwnedSemaphorePermit,
}

/// `GET /stillpoint/v1/events`.
pub(crate) async fn events(call: Call) -> Result<Answer, Refused> {
    let wanted = wanted(&call)?;
    let seat = call.api.take_seat().ok_or_else(|| {
        let text = format!("{LISTENERS_MAX} connections listen already");
        Refused::new(FaultCode::Unavailable, text)
    })?;
    // Subscribed first: what happens from here on wakes.
    let changes = call.engine().changes();
    let after = match call.header("last-event-id").map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse().map_err(|_no_number| {
            Refused::new(
                FaultCode::InvalidValue,
                format!("Last-Event-ID is no number of an event: {id}"),
            )
        })?),
        None => call.parsed::<i64>("after")?,
    };
    let last = match after {
        Some(after) => after,
        None => call.engine().newest_event().await?,
    };
    let feed = Feed {
        correlation_id: call.param("correlation_id").map(str::to_owned),
        since: call.engine().now(),
        who: call.who.clone(),
        headers: call.visit.headers.clone(),
        api: call.visit.api.clone(),
        wanted,
        changes,
        last,
        jobs: HashMap::new(),
        judge_at: Instant::now() + JUDGE_EVERY,
        is_first: true,
        is_over: false,
        _seat: seat,
    };
    let chunks = stream::unfold(feed, |mut feed| async move {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    });
    let answer = Answer::of_type(StatusCode::OK, "text/event-stream", Body::from_stream(chunks));
    Ok(answer.with_header(HeaderName::from_static("x-accel-buffering"), "no"))
}

fn wanted(call: &Call) -> Result<Wanted, Refused> {
    let (events, jobs) = match call.param("only") {
        None => (true, true),
        Some("events") => (true, false),
        Some("jobs") => (false, true),
        Some(other) => {
            let text = format!("The parameter only is events or jobs, not {other}");
            return Err(Refused::new(FaultCode::InvalidValue, text));
        }
    };
    Ok(Wanted {
        events,
        jobs,
        vm: call.parsed("vm")?,
    })
}

impl Feed {
    /// The next piece of the stream; `None`: it has ended.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let stopping = self.api.stopping().clone();
        let quiet_at = Instant::now() + SILENCE_MAX;
        let mut text = String::new();
        if self.is_first {
            self.is_first = false;
            text.push_str(&format!("retry: {RETRY_MS}\n\n"));
            // What runs now is told at once.
            if let Err(refused) = self.look(&mut text).await {
                self.end(&mut text, &refused);
            }
            return Some(text.into());
        }
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    self.end(&mut text, &Refused::new(FaultCode::Unavailable, "The daemon is stopping"));
                }
                () = tokio::time::sleep_until(self.judge_at) => {
                    self.judge_at = Instant::now() + JUDGE_EVERY;
                    match login::admit(self.api.auth(), &self.headers).await {
                        // Roles may have changed, too.
                        Ok(who) => self.who = who,
                        Err(refused) => self.end(&mut text, &refused),
                    }
                }
                () = tokio::time::sleep_until(quiet_at) => text.push_str(":\n\n"),
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                    self.changes.mark_unchanged();
                    if let Err(refused) = self.look(&mut text).await {
                        self.end(&mut text, &refused);
                    }
                }
            }
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }

    /// Asks what is new, and writes it.
    async fn look(&mut self, text: &mut String) -> Result<(), Refused> {
        let news = self
            .api
            .engine()
            .news(&self.who, self.last, self.since.saturating_sub(OVERLAP))
            .await?;
        for event in &news.events {
            self.last = event.index;
            if self.wanted.events && self.wants_event(event) {
                write(text, Some(event.index), "event", &document::event(event));
            }
        }
        for job in &news.jobs {
            let mark = mark(job);
            if self.wanted.jobs && self.wants_job(job) && self.jobs.get(&job.job.id) != Some(&mark) {
                write(text, None, "job", &document::job(job));
                self.jobs.insert(job.job.id, mark);
            }
        }
        self.jobs.retain(|id, _| news.jobs.iter().any(|job| job.job.id == *id));
        self.since = news.at;
        if news.more {
            // The rest, once this much has been taken.
            self.changes.mark_changed();
        }
        Ok(())
    }

    fn wants_event(&self, event: &EventView) -> bool {
        let is_of_vm = self
            .wanted
            .vm
            .is_none_or(|vm| event.vm.as_ref().is_some_and(|(id, _)| *id == vm));
        let is_of_request = self.correlation_id.is_none() || self.correlation_id == event.correlation_id;
        is_of_vm && is_of_request
    }

    fn wants_job(&self, job: &JobDetail) -> bool {
        let is_of_vm = self.wanted.vm.is_none() || self.wanted.vm == job.vm;
        let request = self.correlation_id.as_ref();
        is_of_vm && request.is_none_or(|id| *id == job.job.correlation_id)
    }

    fn end(&mut self, text: &mut String, refused: &Refused) {
        if let Some(cause) = refused.log() {
            tracing::debug!(fault = cause, "a stream of events ends");
        }
        write(text, None, "end", &refused.document());
        self.is_over = true;
    }
}

fn mark(job: &JobDetail) -> Mark {
    let steps = job.steps.iter().map(|step| (step.state.to_string(), step.progress));
    (
        job.state.to_string(),
        steps.collect(),
        job.waits.as_ref().map(|waits| waits.tries),
    )
}

/// One message. JSON has no line breaks of its own, so its data is one line.
fn write(text: &mut String, id: Option<i64>, name: &str, data: &Value) {
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}
