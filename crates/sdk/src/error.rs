//! What can go wrong with a request, told apart as a caller has to: what the server refused, and what never got there.

use std::{error::Error as StdError, fmt, io, time::Duration};

/// An answer by which the server refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Method and path of the request, without query and without secrets.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// The class of the failure, as the fault says; `None` when the answer carried no fault.
    pub reason: Option<String>,
    /// What exactly is wrong, as the fault says.
    pub detail: Option<String>,
    /// The text by which the server's log and events name the request, if it told one (`correlation-id`).
    pub correlation_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was refused with status {}", self.request, self.status)?;
        match (&self.reason, &self.detail) {
            (Some(reason), Some(detail)) => write!(f, ": {reason} {detail}"),
            (Some(text), None) | (None, Some(text)) => write!(f, ": {text}"),
            (None, None) => Ok(()),
        }
    }
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The credentials are wrong (401, or the login said so), or they do not allow this (403).
    #[error("{0}")]
    Auth(Refusal),
    /// What the request names is not there, or not visible (404).
    #[error("{0}")]
    NotFound(Refusal),
    /// Any other refusal.
    #[error("{0}")]
    Refused(Refusal),
    /// The server was not reached, or the connection broke: it is unknown whether the request was carried out.
    #[error("{request}: the connection to the server failed")]
    Transport {
        /// Method and path.
        request: String,
        /// What happened.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No answer in time: it is unknown whether the request was carried out.
    #[error("{request}: no answer within {} s", .limit.as_secs_f64())]
    Timeout {
        /// Method and path.
        request: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The answer is not what the API says it is.
    #[error("{request}: the server's answer cannot be understood: {detail}")]
    Protocol {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        detail: String,
    },
    /// What the server had accepted went wrong afterwards.
    #[error("{what} is in status {status}{}", .why.as_deref().map(|why| format!(": {why}")).unwrap_or_default())]
    Ended {
        /// What it happened to, with its id.
        what: String,
        /// Its status.
        status: String,
        /// What the server says about it.
        why: Option<String>,
    },
    /// The caller gave something that no request can be made of; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// A file that the connection needs cannot be used.
    #[error("cannot use {what}")]
    Setup {
        /// The file, or what else.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The refusal, if the server answered at all.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Auth(refusal) | Self::NotFound(refusal) | Self::Refused(refusal) => Some(refusal),
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Protocol { .. }
            | Self::Ended { .. }
            | Self::Usage(_)
            | Self::Setup { .. } => None,
        }
    }

    /// The HTTP status, if the server refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// Whether the same request may succeed a moment later: the connection broke, no answer came in time, or the server
    /// said that it cannot just now (429, 500, 502, 503, 504).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Auth(_)
            | Self::NotFound(_)
            | Self::Protocol { .. }
            | Self::Ended { .. }
            | Self::Usage(_)
            | Self::Setup { .. } => false,
            Self::Refused(refusal) => matches!(refusal.status, 429 | 500 | 502..=504),
        }
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal.status {
            401 | 403 => Self::Auth(refusal),
            404 => Self::NotFound(refusal),
            _ => Self::Refused(refusal),
        }
    }

    pub(crate) fn transport(request: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Transport {
            request: request.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn protocol(request: &str, detail: impl fmt::Display) -> Self {
        Self::Protocol {
            request: request.to_owned(),
            detail: detail.to_string(),
        }
    }
}
