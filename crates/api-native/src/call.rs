//! A request on its way through a handler: what the client gave, and the doors to the core.

use crate::{Api, fault::Refused};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};
use std::{ops::Deref, str::FromStr};
use stillpoint_engine::{Engine, command::Origin};
use stillpoint_types::{Caller, FaultCode};

/// What any request has.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) api: Api,
    /// The segments that the client gave, percent-decoded.
    pub(crate) given: Vec<String>,
    /// The parameters in their order, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Its correlation id is the request's id, `req-<uuid>`.
    pub(crate) origin: Origin,
}

/// A request whose sender is known.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) visit: Visit,
    pub(crate) who: Caller,
}

impl Deref for Call {
    type Target = Visit;

    fn deref(&self) -> &Visit {
        &self.visit
    }
}

impl Visit {
    /// The core.
    pub(crate) fn engine(&self) -> &Engine {
        self.api.engine()
    }

    /// A given segment of the path.
    pub(crate) fn segment(&self, index: usize) -> &str {
        self.given.get(index).map_or("", String::as_str)
    }

    /// A given segment that is an id; what is no id names nothing (404).
    pub(crate) fn id<T: FromStr>(&self, index: usize, kind: &str) -> Result<T, Refused> {
        let text = self.segment(index);
        text.parse().map_err(|_no_id| Refused::not_found(kind, text))
    }

    /// The first value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that is a number, or whatever else is read from a word.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refused> {
        let Some(text) = self.param(name) else {
            return Ok(None);
        };
        let bad = |_no_value| {
            let text = format!("The parameter {name} has a value that it cannot have: {text}");
            Refused::new(FaultCode::InvalidValue, text)
        };
        text.parse().map(Some).map_err(bad)
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Visit {
    /// Refuses a body that says something, for a route that has nothing to be told: an empty one and `{}` say nothing.
    pub(crate) fn expect_no_body(&self) -> Result<(), Refused> {
        if self.body.trim_ascii().is_empty() {
            return Ok(());
        }
        let members: Map<String, Value> = serde_json::from_slice(&self.body).map_err(|error| {
            let text = format!("The body is no JSON object, nor empty: {error}");
            Refused::new(FaultCode::Malformed, text)
        })?;
        match members.keys().next() {
            None => Ok(()),
            Some(name) => {
                let text = format!("The body has a member {name:?}, and nothing can be told to this route");
                Err(Refused::new(FaultCode::InvalidValue, text))
            }
        }
    }
}

impl Call {
    /// Who asks.
    pub(crate) fn who(&self) -> &Caller {
        &self.who
    }
}
