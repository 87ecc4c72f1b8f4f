//! What a server answers: an object, nothing, or a fault, in one of the forms that these services have.

use crate::{Error, Refusal};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The refusal in an answer. Keystone: `{"error": {"title", "message"}}`; Cinder: `{"badRequest": {"message"}}`; a path that is
/// not there, or a proxy before either: `{"message", "title"}`, or no JSON at all.
pub(super) fn refusal(request: &str, status: StatusCode, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let inner = value.as_object().and_then(|object| {
        let faults = object.iter().filter(|(_, inner)| inner.get("message").is_some());
        faults.map(|(name, inner)| (name.clone(), inner.clone())).next()
    });
    let (reason, detail) = match inner {
        Some((name, inner)) if name == "error" => (text(&inner, "title"), text(&inner, "message")),
        Some((name, inner)) => (Some(name), text(&inner, "message")),
        None => (text(&value, "title"), text(&value, "message")),
    };
    Error::refused(Refusal {
        request: request.to_owned(),
        status: status.as_u16(),
        reason: reason.map(|reason| format!("{reason}:")),
        detail,
        correlation_id: None,
    })
}

/// The member of an answer that holds what was asked for.
pub(super) fn member<T: DeserializeOwned>(request: &str, mut body: Value, name: &str) -> Result<T, Error> {
    let inner = body
        .get_mut(name)
        .map(Value::take)
        .ok_or_else(|| Error::protocol(request, format!("it has no {name:?}")))?;
    serde_json::from_value(inner).map_err(|error| Error::protocol(request, error))
}
