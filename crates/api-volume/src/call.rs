//! A request on its way through a handler: what the client gave, and the doors to the core.

use crate::{Api, Route, fault::Refused, microversion::Microversion, route::Given};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::{Map, Value};
use std::{ops::Deref, sync::Arc};
use stillpoint_auth::{Auth, Scoped};
use stillpoint_engine::{Engine, command::Origin};
use stillpoint_types::{Caller, ProjectId};

/// What any request has.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) api: Api,
    pub(crate) route: &'static Route,
    pub(crate) given: Given,
    /// The parameters in their order, percent-decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Its correlation id is the request's id, `req-<uuid>`.
    pub(crate) origin: Origin,
    /// 3.0 where the family is not Cinder.
    pub(crate) microversion: Microversion,
}

/// A request whose sender is known.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) visit: Visit,
    pub(crate) scoped: Arc<Scoped>,
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

    /// Users, projects and tokens.
    pub(crate) fn auth(&self) -> &Auth {
        self.api.auth()
    }

    /// A given segment of the path, percent-decoded; the project's is not counted.
    pub(crate) fn segment(&self, index: usize) -> &str {
        self.given.segments.get(index).map_or("", String::as_str)
    }

    /// The first value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the body: JSON of at most 127 levels.
    ///
    /// # Errors
    /// 415 for another content type (none is taken for JSON), 400 for an empty body and for what is no JSON.
    pub(crate) fn json(&self) -> Result<Value, Refused> {
        if !is_json(&self.headers) {
            return Err(Refused::unsupported_media_type());
        }
        if self.body.trim_ascii().is_empty() {
            return Err(Refused::bad_request("A body is needed").evs("EVS.1008"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refused::bad_request(format!("The body is no valid JSON: {error}")).evs("EVS.1018"))
    }

    /// Reads the body, which must be an object.
    ///
    /// # Errors
    /// As [`Visit::json`]; 400 for anything but an object.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refused> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Refused::bad_request("The body must be a JSON object").evs("EVS.1018")),
        }
    }
}

impl Call {
    /// Who asks, narrowed to the token's scope.
    pub(crate) fn who(&self) -> &Caller {
        &self.scoped.caller
    }

    /// The token's project.
    ///
    /// # Errors
    /// 403 if it has none; the server has refused it before on routes that demand a role.
    pub(crate) fn project(&self) -> Result<ProjectId, Refused> {
        self.scoped.scope.project().ok_or_else(Refused::no_project)
    }

    /// Where the request came from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.visit.origin
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let text = value.to_str().unwrap_or("?");
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.is_empty()
        || media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn bodies_are_json_whatever_follows_the_media_type() {
        for (value, is) in [
            (Some("application/json"), true),
            (Some("application/json;charset=utf8"), true),
            (Some("Application/JSON ; charset=utf-8"), true),
            (Some("application/openstack-images-v2.1-json-patch"), false),
            (Some("application/xml"), false),
            (Some("text/plain"), false),
            (None, true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(is_json(&headers), is, "{value:?}");
        }
    }
}
