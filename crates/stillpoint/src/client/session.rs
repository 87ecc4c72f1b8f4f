//! One command's talk with the server: reading, changing, and waiting for what a change began.
//!
//! What only reads is tried again when the connection breaks. A change is sent once, under a correlation id of its own:
//! when its answer is lost, the server's jobs and events under that id say whether it was carried out.
//!
//! # Cancellation
//! A change that is being sent when Ctrl-C comes is sent to its end: the command ends after the answer. What the server
//! began then goes on there and ends by itself.

use super::{Common, Trouble, code, connect::connect_to, progress::Waited, retry::Patience, server::Server};
use clap::Args;
use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};
use stillpoint_sdk::{
    CallOptions, Connection, Error, ListOptions, RemoveOptions, Request, SystemService,
    types::{Event, Job, Step},
};
use tokio::{sync::Mutex, time::sleep};

/// How often a read is tried again: about three seconds.
pub(crate) const READS_MAX: u32 = 4;
/// How long it is looked for what an unanswered change has begun.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at a job.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Whether a command waits until what it began has ended.
#[derive(Debug, Clone, Args)]
pub(crate) struct Waiting {
    /// Wait until it has ended on the server. This is the default.
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// End as soon as the server has accepted it.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait; then the command ends with code 8, and the server goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

impl Waiting {
    pub(crate) fn waits(&self) -> bool {
        !self.no_wait
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The failure to see something in time.
    pub(crate) fn not_within(&self, what: &str) -> Trouble {
        let text = format!("{what}: not seen within {} s; the server goes on", self.timeout);
        Trouble::new(text).code(code::UNENDED)
    }
}

/// The talk.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    pub(crate) json: bool,
    /// Held while a change is being sent.
    sending: Arc<Mutex<()>>,
    /// What becomes of the last change that was sent, when nobody waits for it any more.
    sent: RefCell<Option<String>>,
}

/// A change that the server has accepted.
#[derive(Debug)]
pub(crate) struct Change {
    /// What it does, as an error says it: `snapshot "a" of VM "b" was not deleted`.
    failure: String,
    correlation: String,
}

impl Session {
    pub(crate) fn open(common: &Common) -> Result<Self, Trouble> {
        Self::of(&common.server.resolve()?, common.json)
    }

    pub(crate) fn of(server: &Server, json: bool) -> Result<Self, Trouble> {
        Ok(Self {
            connection: connect_to(server)?,
            json,
            sending: Arc::default(),
            sent: RefCell::default(),
        })
    }

    pub(crate) fn system(&self) -> SystemService {
        self.connection.system_service()
    }

    /// The connection itself, for what a server has beside the API.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the logout failed");
        }
    }

    /// What a Ctrl-C leaves: the request that was under way is answered first.
    pub(crate) async fn interrupt(&self) -> Trouble {
        let done = self.sending.lock().await;
        drop(done);
        let trouble = Trouble::interrupted();
        match &*self.sent.borrow() {
            Some(text) => trouble.hint(text),
            None => trouble,
        }
    }

    /// From here on, Ctrl-C leaves something that the user has to know.
    pub(crate) fn leaves(&self, text: impl Into<String>) {
        *self.sent.borrow_mut() = Some(text.into());
    }

    /// Reads; again and again for a few seconds while the connection breaks.
    pub(crate) async fn read<T>(&self, make: impl Fn() -> Request<T>) -> Result<T, Error> {
        let mut patience = Patience::of(READS_MAX);
        loop {
            match make().await {
                Ok(read) => return Ok(read),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Sends a change, once. `failure` says what has not happened if it fails.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        failure: impl Into<String>,
        make: impl FnOnce(CallOptions) -> Request<T>,
    ) -> Result<(T, Change), Trouble> {
        let change = Change::new(failure.into());
        let options = CallOptions::new().header("Correlation-Id", change.correlation.clone());
        match self.send(&change, make(options)).await {
            Ok(answer) => Ok((answer, change)),
            Err(error) => Err(self.refused(&change, error).await),
        }
    }

    /// Removes. That may be sent again when its answer was lost: what is gone stays gone.
    pub(crate) async fn remove(
        &self,
        failure: impl Into<String>,
        make: impl Fn(RemoveOptions) -> Request<()>,
    ) -> Result<Change, Trouble> {
        let change = Change::new(failure.into());
        let mut patience = Patience::of(READS_MAX);
        let mut is_again = false;
        loop {
            let options = RemoveOptions::new().header("Correlation-Id", change.correlation.clone());
            match self.send(&change, make(options)).await {
                Ok(()) => return Ok(change),
                Err(Error::NotFound(_)) if is_again => return Ok(change),
                // The first one is under way: that is what holds the lock.
                Err(error) if is_again && error.status() == Some(409) && self.trace(&change).await.is_some() => {
                    return Ok(change);
                }
                Err(error) => match patience.after(error).await {
                    Ok(()) => is_again = true,
                    Err(error) => return Err(self.refused(&change, error).await),
                },
            }
        }
    }

    /// Sends to the end, whatever becomes of the one who waits.
    async fn send<T: Send + 'static>(&self, change: &Change, request: Request<T>) -> Result<T, Error> {
        let look = format!("stillpoint job list --correlation {}", change.correlation);
        self.send_to_the_end(&look, request).await
    }

    /// Sends to the end, whatever becomes of the one who waits. `look` is the command by which it is seen.
    pub(crate) async fn send_to_the_end<T: Send + 'static>(
        &self,
        look: &str,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let sending = Arc::clone(&self.sending).lock_owned().await;
        self.leaves(format!(
            "what was asked for goes on at the server and ends by itself: {look}"
        ));
        let sent = tokio::spawn(async move {
            let answer = request.await;
            drop(sending);
            answer
        });
        // A task that panicked has nothing to say.
        sent.await
            .unwrap_or_else(|error| Err(Error::Usage(format!("the request was given up: {error}"))))
    }

    async fn refused(&self, change: &Change, error: Error) -> Trouble {
        let (is_lost, status) = (error.is_transient() && error.status().is_none(), error.status());
        let trouble = Trouble::from(error);
        if !is_lost {
            let trouble = match status {
                Some(409) => trouble.hint("when that is over, try again; stillpoint explain says what holds it"),
                _ => trouble,
            };
            return trouble.context(change.failure.clone());
        }
        let id = &change.correlation;
        match self.trace(change).await {
            Some(true) => trouble
                .context("the answer was lost, but the server has begun with it")
                .replace_hint(format!(
                    "do not send it again; look: stillpoint job list --correlation {id}"
                )),
            Some(false) => trouble
                .context(change.failure.clone())
                .replace_hint("the server has no trace of it: it can be sent again"),
            None => trouble.context("whether it was carried out is not known").hint(format!(
                "look before it is sent again: stillpoint event list --correlation {id}"
            )),
        }
    }

    /// Whether the server has begun with a change; `None`: it does not say.
    async fn trace(&self, change: &Change) -> Option<bool> {
        let begin = Instant::now();
        let mut answer = None;
        while begin.elapsed() < LOOK_LIMIT {
            match self.jobs_of(&change.correlation).await {
                Ok(jobs) if !jobs.is_empty() => return Some(true),
                Ok(_) => match self.events_of(&change.correlation).await {
                    Ok(events) if !events.is_empty() => return Some(true),
                    Ok(_) => answer = Some(false),
                    Err(_) => answer = None,
                },
                Err(error) if error.is_transient() => answer = None,
                Err(_) => return None,
            }
            sleep(LOOK_MIN * 5).await;
        }
        answer
    }

    pub(crate) async fn jobs_of(&self, correlation: &str) -> Result<Vec<Job>, Error> {
        let search = format!("correlation_id=\"{correlation}\"");
        let jobs = self.system().jobs_service();
        jobs.list(ListOptions::new().search(&search).follow("steps")).await
    }

    pub(crate) async fn events_of(&self, correlation: &str) -> Result<Vec<Event>, Error> {
        let search = format!("correlation_id=\"{correlation}\"");
        let events = self.system().events_service();
        events.list(ListOptions::new().search(&search)).await
    }

    /// Waits until what a change began has ended well. A connection that breaks meanwhile is no end.
    pub(crate) async fn wait(&self, change: &Change, waiting: &Waiting) -> Result<(), Trouble> {
        if waiting.no_wait {
            return Ok(());
        }
        let (begin, mut pause, shown) = (Instant::now(), LOOK_MIN, Waited::new());
        loop {
            match self.jobs_of(&change.correlation).await {
                Ok(jobs) => {
                    let is = |job: &Job, state: &str| job.status.as_ref().is_some_and(|status| &**status == state);
                    if let Some(failed) = jobs.iter().find(|job| is(job, "failed") || is(job, "aborted")) {
                        return Err(self.failed(change, failed).await);
                    }
                    let Some(job) = jobs.iter().find(|job| is(job, "started")) else {
                        return Ok(());
                    };
                    shown.say(at_step(job));
                }
                Err(error) if error.is_transient() => tracing::debug!(%error, "looking again"),
                Err(error) => return Err(error.into()),
            }
            if begin.elapsed() > waiting.limit() {
                let hint = format!("stillpoint job list --correlation {}", change.correlation);
                return Err(waiting.not_within("its end").hint(hint));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// Why a job failed: its own words, else those of the last event.
    async fn failed(&self, change: &Change, job: &Job) -> Trouble {
        let mut why = job.head.comment.clone().filter(|text| !text.is_empty());
        if why.is_none() {
            let events = self.events_of(&change.correlation).await.unwrap_or_default();
            why = events.into_iter().next().and_then(|event| event.head.description);
        }
        let why = why.unwrap_or_else(|| "the server does not say why".to_owned());
        let id = job.head.id.as_deref().unwrap_or_default();
        Trouble::new(format!("{}: {why}", change.failure)).hint(format!("its steps: stillpoint job show {id}"))
    }
}

/// What a job does, and at which step it is.
pub(crate) fn at_step(job: &Job) -> String {
    let what = job.head.description.as_deref().unwrap_or_default();
    let steps: Vec<_> = job.steps.iter().flatten().collect();
    let is_over = |step: &&&Step| step.status.as_ref().is_some_and(|status| &**status == "finished");
    let done = steps.iter().filter(is_over).count();
    let now = steps.get(done).and_then(|step| step.head.description.as_deref());
    let progress = steps.get(done).and_then(|step| step.progress);
    let progress = progress.map_or_else(String::new, |percent| format!(" {percent} %"));
    match now {
        Some(now) => format!("{what}: {now} ({} of {}){progress}", done + 1, steps.len()),
        None => what.to_owned(),
    }
}

impl Change {
    fn new(failure: String) -> Self {
        Self {
            failure,
            correlation: uuid::Uuid::new_v4().to_string(),
        }
    }
}
