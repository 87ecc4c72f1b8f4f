//! The core's one error: what a client may read, and a private cause that only the log may have.

use crate::ports::{DriverError, DriverErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use stillpoint_types::FaultCode;

/// Why a command was refused or a job failed.
///
/// The public text names the object, the cause, what blocks it and since when, and what to do. It is stored with a
/// failed job and read back after restarts, so it is plain data. The private part has no `Display`: printing it takes
/// [`Fault::log_chain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What the dialects decide by.
    pub code: FaultCode,
    /// What the client may read.
    pub text: String,
    /// The causes, for the log only.
    private: Option<String>,
    /// What stands in the way is work of the daemon's own, which nobody asked for: it passes by itself.
    #[serde(skip)]
    passing: bool,
    /// For programs: what the text says of it, if the place that made the fault knew.
    #[serde(skip)]
    about: Option<Box<About>>,
}

/// The thing that a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its kind: `vm`, `disk` and so on.
    pub kind: String,
    /// Its id, or its name where only that was known.
    pub id: String,
}

/// The job that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// The job.
    pub job: String,
    /// What it does, for people.
    pub what: String,
    /// Since when, RFC 3339.
    pub since: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct About {
    object: Option<Object>,
    blocker: Option<Blocker>,
}

impl Fault {
    /// A fault with its public text.
    pub fn new(code: FaultCode, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
            private: None,
            passing: false,
            about: None,
        }
    }

    /// The entity of the URL does not exist, or is not visible: both look the same.
    pub fn not_found(kind: &str, id: impl fmt::Display) -> Self {
        Self::new(FaultCode::NotFound, format!("Entity not found: {kind} {id}")).of(kind, id)
    }

    /// Says for programs which thing it is about: kind, and id or name.
    #[must_use]
    pub fn of(mut self, kind: &str, id: impl fmt::Display) -> Self {
        self.about.get_or_insert_default().object = Some(Object {
            kind: kind.to_owned(),
            id: id.to_string(),
        });
        self
    }

    /// Says for programs which job stands in the way.
    pub(crate) fn blocked_by(mut self, blocker: Blocker) -> Self {
        self.about.get_or_insert_default().blocker = Some(blocker);
        self
    }

    /// The thing that it is about, if that was recorded.
    #[must_use]
    pub fn object(&self) -> Option<&Object> {
        self.about.as_ref()?.object.as_ref()
    }

    /// The job that stands in the way, if there is one.
    #[must_use]
    pub fn blocker(&self) -> Option<&Blocker> {
        self.about.as_ref()?.blocker.as_ref()
    }

    /// A fault of our own; the cause goes to the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self {
            code: FaultCode::Internal,
            text: "Internal error; the daemon's log has the cause under this correlation id".into(),
            private: Some(cause.to_string()),
            passing: false,
            about: None,
        }
    }

    /// Says that what stands in the way passes by itself, so that a command waits for it instead of being refused.
    pub(crate) fn passing(self) -> Self {
        Self { passing: true, ..self }
    }

    /// Whether it is worth while to wait.
    pub(crate) const fn is_passing(&self) -> bool {
        self.passing
    }

    /// The same with another code: what a command of another dialect refuses, as this one calls it.
    pub(crate) fn with_code(self, code: FaultCode) -> Self {
        Self { code, ..self }
    }

    /// Attaches a cause that only the log may have.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.private = Some(cause.to_string());
        self
    }

    /// Code, public text and private causes on one line, for the log.
    #[must_use]
    pub fn log_chain(&self) -> String {
        match &self.private {
            Some(private) => format!("{:?}: {}: {private}", self.code, self.text),
            None => format!("{:?}: {}", self.code, self.text),
        }
    }
}

/// The only place where a driver's kind becomes a client's code.
impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        let code = match error.kind {
            DriverErrorKind::NoSpace => FaultCode::NoSpace,
            DriverErrorKind::InvalidImage => FaultCode::ImageIllegal,
            DriverErrorKind::Timeout | DriverErrorKind::Disconnected => FaultCode::HostUnreachable,
            DriverErrorKind::Unsupported => FaultCode::Unsupported,
            DriverErrorKind::Busy | DriverErrorKind::Protocol => FaultCode::Hypervisor,
            DriverErrorKind::AlreadyExists => FaultCode::IdInUse,
            DriverErrorKind::NotFound | DriverErrorKind::Io => FaultCode::Storage,
        };
        Self {
            code,
            text: error.to_string(),
            private: Some(error.chain()),
            passing: false,
            about: None,
        }
    }
}

impl From<stillpoint_store::StoreError> for Fault {
    fn from(error: stillpoint_store::StoreError) -> Self {
        Self::internal(error)
    }
}
