//! A monitor socket that is connected when it is needed, and again after a lost connection.
//!
//! A process that is alive but does not answer gives `Timeout`, one that is gone `Disconnected`. Nothing is cached but
//! the connection.

use crate::{
    failure::qmp_failed,
    qmp::{Event, Qmp, QmpError},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use tokio::{
    net::UnixStream,
    sync::{Mutex, broadcast},
    time::{Instant, timeout_at},
};

/// One monitor of one process.
#[derive(Debug)]
pub(crate) struct Monitor {
    path: PathBuf,
    limit: Duration,
    link: Mutex<Link>,
}

/// What there is of a connection.
#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    /// Made before the process was started, and not used yet.
    Fresh(UnixStream),
    /// Used; it may be lost.
    Used(Arc<Qmp>),
}

impl Monitor {
    pub(crate) fn new(path: PathBuf, limit: Duration) -> Self {
        let link = Mutex::default();
        Self { path, limit, link }
    }

    /// One whose first connection is there already.
    pub(crate) fn over(path: PathBuf, limit: Duration, first: UnixStream) -> Self {
        let link = Mutex::new(Link::Fresh(first));
        Self { path, limit, link }
    }

    /// A command's deadline.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The connection, made now if there is none.
    pub(crate) async fn qmp(&self) -> Result<Arc<Qmp>, QmpError> {
        let mut link = self.link.lock().await;
        if let Link::Used(qmp) = &*link
            && qmp.is_connected()
        {
            return Ok(Arc::clone(qmp));
        }
        let qmp = match std::mem::take(&mut *link) {
            Link::Fresh(stream) => Qmp::over(stream, self.limit, self.limit).await?,
            Link::None | Link::Used(_) => Qmp::connect(&self.path, self.limit).await?,
        };
        let qmp = Arc::new(qmp);
        *link = Link::Used(Arc::clone(&qmp));
        Ok(qmp)
    }

    /// Runs a command and decodes its result.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        op: &'static str,
        command: &str,
        arguments: Value,
    ) -> Driven<T> {
        let result = match self.qmp().await {
            Ok(qmp) => qmp.call(command, arguments).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| qmp_failed(op, command, error))
    }

    /// Runs a command whose result says nothing.
    pub(crate) async fn run(&self, op: &'static str, command: &str, arguments: Value) -> Driven<()> {
        self.call::<serde::de::IgnoredAny>(op, command, arguments)
            .await
            .map(drop)
    }

    /// Events from now on.
    pub(crate) async fn events(&self, op: &'static str) -> Driven<broadcast::Receiver<Event>> {
        let subscribed = match self.qmp().await {
            Ok(qmp) => qmp.subscribe(),
            Err(error) => Err(error),
        };
        subscribed.map_err(|error| qmp_failed(op, "events", error))
    }

    /// Whether it can be connected to, which includes that it answers.
    pub(crate) async fn ready(&self, op: &'static str) -> Driven<()> {
        let connected = self.qmp().await;
        connected.map(drop).map_err(|error| qmp_failed(op, "connect", error))
    }

    /// `query-status`.
    pub(crate) async fn status(&self, op: &'static str) -> Driven<String> {
        #[derive(Deserialize)]
        struct Status {
            status: String,
        }
        let status: Status = self.call(op, "query-status", json!({})).await?;
        Ok(status.status)
    }
}

/// Waits for the next event that `wanted` accepts, or until `end`. `Ok(false)`: the deadline, or events were lost:
/// the caller reads the state again in any case.
pub(crate) async fn wake(
    events: &mut broadcast::Receiver<Event>,
    end: Instant,
    op: &'static str,
    wanted: impl Fn(&Event) -> bool,
) -> Driven<bool> {
    loop {
        match timeout_at(end, events.recv()).await {
            Err(_elapsed) => return Ok(false),
            Ok(Ok(event)) if wanted(&event) => return Ok(true),
            Ok(Ok(_)) => {}
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => return Ok(false),
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                return Err(DriverError::new(
                    DriverErrorKind::Disconnected,
                    op,
                    "the monitor's socket closed",
                ));
            }
        }
    }
}
