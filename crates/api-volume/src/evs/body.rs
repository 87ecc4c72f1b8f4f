//! Bodies, read strictly, each refusal with EVS's own code. Lengths are counted in characters, after blanks at the ends are gone.

use crate::{call::Call, fault::Refused};
use serde_json::{Map, Value};
use stillpoint_engine::command::volume::Metadata;
use uuid::Uuid;

/// Longest name, in characters.
const NAME_LONGEST: usize = 64;
/// Longest description, in characters.
const DESCRIPTION_LONGEST: usize = 85;
/// Longest key or value of metadata, in characters.
const PAIR_LONGEST: usize = 255;
/// Keys that begin so are the daemon's own.
const SYSTEM: &str = "__system__";

pub(super) const WRONG_TYPE: &str = "EVS.1018";
pub(super) const MISSING: &str = "EVS.1008";
pub(super) const INVALID: &str = "EVS.2108";
pub(super) const MALFORMED: &str = "EVS.5400";

/// An object of a request.
pub(super) type Object = Map<String, Value>;

/// The one object of a body, as in `{"snapshot": {...}}`. What else may stand beside it is said by `beside`.
pub(super) fn object(call: &Call, name: &str, beside: &[&str]) -> Result<Object, Refused> {
    let mut body = call.object()?;
    let inner = body.remove(name);
    only(&body, "The body", beside)?;
    match inner {
        Some(Value::Object(object)) => Ok(object),
        Some(Value::Null) | None => {
            Err(Refused::bad_request(format!("The body must have an object {name:?}")).evs(MISSING))
        }
        Some(_) => Err(Refused::bad_request(format!("{name} must be an object")).evs(WRONG_TYPE)),
    }
}

/// Refuses elements that are not known.
pub(super) fn only(object: &Object, place: &str, known: &[&str]) -> Result<(), Refused> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            Err(Refused::bad_request(format!("{place} has an element that is not known: {shown:?}")).evs(INVALID))
        }
    }
}

/// A text that may be null or absent, without blanks at its ends. `None`: absent; `Some(None)`: null.
fn text(object: &Object, key: &str, longest: usize, too_long: &'static str) -> Result<Option<Option<String>>, Refused> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) => {
            let text = text.trim();
            if text.chars().count() > longest {
                let refused = Refused::bad_request(format!("{key} has more than {longest} characters"));
                return Err(refused.evs(too_long));
            }
            Ok(Some(Some(text.to_owned())))
        }
        Some(_) => Err(Refused::bad_request(format!("{key} must be a text or null")).evs(WRONG_TYPE)),
    }
}

/// The name.
pub(super) fn name(object: &Object) -> Result<Option<Option<String>>, Refused> {
    text(object, "name", NAME_LONGEST, "EVS.1003")
}

/// The description, of printable characters.
pub(super) fn description(object: &Object) -> Result<Option<Option<String>>, Refused> {
    let given = text(object, "description", DESCRIPTION_LONGEST, "EVS.1004")?;
    if let Some(Some(text)) = &given
        && text.chars().any(char::is_control)
    {
        return Err(Refused::bad_request("description may have printable characters only").evs("EVS.1004"));
    }
    Ok(given)
}

/// New names of a thing: of each, `None` leaves it as it is, and `Some(None)` takes it away.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) name: Option<Option<String>>,
    pub(super) description: Option<Option<String>>,
}

/// New names, at least one of the two.
pub(super) fn names(object: &Object) -> Result<Names, Refused> {
    let names = Names {
        name: name(object)?,
        description: description(object)?,
    };
    if names.name.is_none() && names.description.is_none() {
        return Err(Refused::bad_request("name or description is needed").evs("EVS.1001"));
    }
    Ok(names)
}

/// An id that has to be there.
pub(super) fn id(object: &Object, key: &str, code: &'static str) -> Result<Uuid, Refused> {
    optional_id(object, key, code)?.ok_or_else(|| Refused::bad_request(format!("{key} is needed")).evs(code))
}

/// An id that may be null or absent.
pub(super) fn optional_id(object: &Object, key: &str, code: &'static str) -> Result<Option<Uuid>, Refused> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match uuid(text) {
            Some(id) => Ok(Some(id)),
            None => Err(Refused::bad_request(format!("{key} is no UUID")).evs(code)),
        },
        Some(_) => Err(Refused::bad_request(format!("{key} must be a text")).evs(WRONG_TYPE)),
    }
}

/// An id with hyphens, or of 32 digits.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok())?
}

/// Yes or no, as a boolean or its word; absent is no.
pub(super) fn flag(object: &Object, key: &str) -> Result<bool, Refused> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(Refused::bad_request(format!("{key} must be true or false")).evs(WRONG_TYPE)),
    }
}

/// Pairs of texts, none of them the daemon's own.
pub(super) fn pairs(value: &Value, place: &str) -> Result<Metadata, Refused> {
    let Value::Object(object) = value else {
        return Err(Refused::bad_request(format!("{place} must be an object of texts")).evs(WRONG_TYPE));
    };
    let mut pairs = Metadata::new();
    for (key, value) in object {
        own_key(key)?;
        let Value::String(value) = value else {
            return Err(Refused::bad_request(format!("A value in {place} is no text")).evs(WRONG_TYPE));
        };
        if value.chars().count() > PAIR_LONGEST {
            let text = format!("A value in {place} has more than {PAIR_LONGEST} characters");
            return Err(Refused::bad_request(text).evs(MALFORMED));
        }
        pairs.insert(key.clone(), value.clone());
    }
    Ok(pairs)
}

/// Metadata of a new thing: null or absent is none.
pub(super) fn new_metadata(object: &Object) -> Result<Metadata, Refused> {
    match object.get("metadata") {
        None | Some(Value::Null) => Ok(Metadata::new()),
        Some(value) => pairs(value, "metadata"),
    }
}

/// A key that a user may write.
///
/// # Errors
/// 403 for one of the daemon's own, 400 for what is no key.
pub(super) fn own_key(key: &str) -> Result<(), Refused> {
    if key.starts_with(SYSTEM) {
        let text = format!("Metadata keys that begin with {SYSTEM} are the server's own");
        return Err(Refused::forbidden(text));
    }
    let is_key = (1..=PAIR_LONGEST).contains(&key.chars().count())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. /".contains(c));
    if is_key {
        return Ok(());
    }
    let text = format!("A metadata key must have 1 to {PAIR_LONGEST} characters of letters, digits and \"-_:. /\"");
    Err(Refused::bad_request(text).evs(MALFORMED))
}

/// A size in GiB, at least 1, as bytes.
pub(super) fn gib(value: &Value, key: &str) -> Result<u64, Refused> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|gib| *gib >= 1)
        .and_then(|gib| gib.checked_mul(1 << 30))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Refused::bad_request(format!("{key} must be a whole number of GiB, at least 1")).evs(MALFORMED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use serde_json::json;

    fn code(refused: &Refused) -> String {
        let answer = refused.render(Family::Evs, "http://h", "r");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        format!("{} {}", answer.status.as_u16(), body["error"]["code"].as_str().unwrap())
    }

    fn of(value: &Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn names_and_descriptions_are_counted_in_characters_after_blanks_are_gone() {
        let named = |text: String| name(&of(&json!({"name": text})));
        assert_eq!(
            named(format!("  {}  ", "\u{e7}".repeat(64))).unwrap(),
            Some(Some("\u{e7}".repeat(64)))
        );
        assert_eq!(code(&named("a".repeat(65)).unwrap_err()), "400 EVS.1003");
        assert_eq!(code(&name(&of(&json!({"name": 1}))).unwrap_err()), "400 EVS.1018");
        let described = |text: String| description(&of(&json!({"description": text})));
        assert!(described("\u{1f4be}".repeat(85)).is_ok());
        assert_eq!(code(&described("a".repeat(86)).unwrap_err()), "400 EVS.1004");
        assert_eq!(code(&described("a\nb".into()).unwrap_err()), "400 EVS.1004");
        assert_eq!(described("null".into()).unwrap(), Some(Some("null".into())));
        assert_eq!(description(&of(&json!({"description": null}))).unwrap(), Some(None));
        assert_eq!(code(&names(&of(&json!({}))).unwrap_err()), "400 EVS.1001");
    }

    #[test]
    fn metadata_is_pairs_of_texts_and_none_of_the_daemons_own() {
        assert!(pairs(&json!({"a": "1", "b/c": ""}), "metadata").is_ok());
        for (bad, wanted) in [
            (json!([]), "400 EVS.1018"),
            (json!({"a": 1}), "400 EVS.1018"),
            (json!({"a": null}), "400 EVS.1018"),
            (json!({"": "1"}), "400 EVS.5400"),
            (json!({"k": "v".repeat(256)}), "400 EVS.5400"),
            (json!({"__system__enableActive": "true"}), "403 EVS.5403"),
        ] {
            assert_eq!(code(&pairs(&bad, "metadata").unwrap_err()), wanted, "{bad}");
        }
    }

    #[test]
    fn flags_and_sizes_have_one_meaning() {
        for (value, wanted) in [
            (json!({}), Some(false)),
            (json!({"force": true}), Some(true)),
            (json!({"force": "True"}), Some(true)),
            (json!({"force": null}), None),
            (json!({"force": 1}), None),
            (json!({"force": "maybe"}), None),
        ] {
            assert_eq!(flag(&of(&value), "force").ok(), wanted, "{value}");
        }
        for (value, wanted) in [
            (json!(1), Some(1 << 30)),
            (json!("10"), Some(10 << 30)),
            (json!(0), None),
            (json!(1.5), None),
            (json!(""), None),
            (json!(u64::MAX), None),
        ] {
            assert_eq!(gib(&value, "size").ok(), wanted, "{value}");
        }
    }
}
