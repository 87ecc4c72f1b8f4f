//! Reading Keystone's bodies: members that must, may, or may be null.

use crate::{
    call::Visit,
    fault::Refused,
    identity::{DOMAIN_ID, DOMAIN_NAME},
    text,
};
use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The member of the body that holds everything.
pub(super) fn inner(visit: &Visit, name: &str) -> Result<Object, Refused> {
    let mut body = visit.object()?;
    match body.remove(name) {
        Some(Value::Object(inner)) => Ok(inner),
        _ => Err(Refused::bad_request(format!("The body must hold an object {name:?}"))),
    }
}

/// A member that is an object; `None` if it is not there.
pub(super) fn object<'a>(from: &'a Object, name: &str) -> Result<Option<&'a Object>, Refused> {
    match from.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Refused::bad_request(format!("{name:?} must be an object"))),
    }
}

/// A member that is a text; `None` if it is not there or null.
pub(super) fn text<'a>(from: &'a Object, name: &str) -> Result<Option<&'a str>, Refused> {
    Ok(nullable(from, name)?.flatten())
}

/// A member that is a text or null; `None` if it is not there.
pub(super) fn nullable<'a>(from: &'a Object, name: &str) -> Result<Option<Option<&'a str>>, Refused> {
    match from.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) => Ok(Some(Some(text))),
        Some(_) => Err(Refused::bad_request(format!("{name:?} must be a text"))),
    }
}

/// A text that must be there.
pub(super) fn needed<'a>(from: &'a Object, name: &str) -> Result<&'a str, Refused> {
    text(from, name)?.ok_or_else(|| Refused::bad_request(format!("{name:?} is needed")))
}

/// A member that is a truth value; `None` if it is not there.
pub(super) fn boolean(from: &Object, name: &str) -> Result<Option<bool>, Refused> {
    match from.get(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Refused::bad_request(format!("{name:?} must be true or false"))),
    }
}

/// A truth value in a query.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// An id of the path: what is none is the id of nothing.
pub(super) fn path_id(visit: &Visit, index: usize, what: &str) -> Result<uuid::Uuid, Refused> {
    text::from_hex(visit.segment(index)).ok_or_else(|| Refused::not_found(format!("Could not find the {what}")))
}

/// Whether `domain` names the only domain; a missing one means it.
pub(super) fn is_ours(domain: Option<&Object>) -> Result<bool, Refused> {
    let Some(domain) = domain else { return Ok(true) };
    match (text(domain, "id")?, text(domain, "name")?) {
        (Some(id), _) => Ok(id == DOMAIN_ID),
        (None, Some(name)) => Ok(name.eq_ignore_ascii_case(DOMAIN_NAME)),
        (None, None) => Err(Refused::bad_request("A domain has an id or a name")),
    }
}

/// The domain of a new thing must be ours.
pub(super) fn check_domain_id(from: &Object) -> Result<(), Refused> {
    match text(from, "domain_id")? {
        Some(id) if id != DOMAIN_ID => Err(Refused::not_found("Could not find the domain")),
        _ => Ok(()),
    }
}
