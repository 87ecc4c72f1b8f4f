//! Bodies, read as strictly as Cinder's schemas do: unknown keys, types, lengths in characters, nulls, yes and no as words.
//!
//! A refusal names the element and what is wrong with it.

use crate::{call::Call, fault::Refused};
use serde_json::{Map, Value};
use stillpoint_engine::command::volume::Metadata;
use uuid::Uuid;

/// Longest name, description, key or value of metadata, in characters.
const LONGEST: usize = 255;

/// An object of a request.
pub(super) type Object = Map<String, Value>;

/// The object of a body that has one name, as in `{"snapshot": {...}}`; whatever stands beside it is refused if `alone`.
pub(super) fn object(call: &Call, name: &str, alone: bool) -> Result<Object, Refused> {
    let mut body = call.object()?;
    let inner = body.remove(name);
    if alone && let Some(other) = body.keys().next() {
        return Err(unknown("The body", other));
    }
    match inner {
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Refused::bad_request(format!("{name} must be an object"))),
        None => Err(Refused::bad_request(format!("The body must have an object {name:?}"))),
    }
}

fn unknown(place: &str, key: &str) -> Refused {
    let shown: String = key.chars().take(64).collect();
    Refused::bad_request(format!("{place} has an element that is not known: {shown:?}"))
}

/// The one action of a body, with what is said of it.
///
/// # Errors
/// 400 for none and for several.
pub(super) fn action(call: &Call) -> Result<(String, Value), Refused> {
    let mut entries = call.object()?.into_iter();
    match (entries.next(), entries.next()) {
        (Some(action), None) => Ok(action),
        _ => Err(Refused::bad_request("The body must name one action")),
    }
}

/// Refuses elements that are not known.
pub(super) fn only(object: &Object, place: &str, known: &[&str]) -> Result<(), Refused> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(other) => Err(unknown(place, other)),
        None => Ok(()),
    }
}

/// A text that may be null or absent, at most 255 characters. `None`: absent; `Some(None)`: null.
pub(super) fn text(object: &Object, key: &str) -> Result<Option<Option<String>>, Refused> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) if text.chars().count() <= LONGEST => Ok(Some(Some(text.clone()))),
        Some(Value::String(_)) => Err(Refused::bad_request(format!(
            "{key} has more than {LONGEST} characters"
        ))),
        Some(_) => Err(Refused::bad_request(format!("{key} must be a text or null"))),
    }
}

/// The name under either of its spellings, without blanks at its ends.
pub(super) fn name(object: &Object) -> Result<Option<Option<String>>, Refused> {
    let own = text(object, "name")?;
    let old = text(object, "display_name")?;
    Ok(own.or(old).map(|given| given.map(|text| text.trim().to_owned())))
}

/// The description under either of its spellings: of printable characters, without blanks at its ends.
pub(super) fn description(object: &Object) -> Result<Option<Option<String>>, Refused> {
    let own = text(object, "description")?;
    let given = own.or(text(object, "display_description")?);
    if let Some(Some(text)) = &given
        && text.chars().any(char::is_control)
    {
        return Err(Refused::bad_request("description may have printable characters only"));
    }
    Ok(given.map(|given| given.map(|text| text.trim().to_owned())))
}

/// Yes or no, as a boolean or one of the words that Cinder knows; numbers and null are neither.
pub(super) fn flag(value: &Value, key: &str) -> Result<bool, Refused> {
    let word = match value {
        Value::Bool(flag) => return Ok(*flag),
        Value::String(text) => text.as_str(),
        _ => "",
    };
    word_of_flag(word)
        .ok_or_else(|| Refused::bad_request(format!("{key} must be true or false, or one of the words for that")))
}

/// Yes or no as a word.
pub(super) fn word_of_flag(word: &str) -> Option<bool> {
    match word {
        "True" | "TRUE" | "true" | "1" | "ON" | "On" | "on" | "YES" | "Yes" | "yes" | "Y" | "y" | "T" | "t" => {
            Some(true)
        }
        "False" | "FALSE" | "false" | "0" | "OFF" | "Off" | "off" | "NO" | "No" | "no" | "N" | "n" | "F" | "f" => {
            Some(false)
        }
        _ => None,
    }
}

/// A flag that may be absent.
pub(super) fn optional_flag(object: &Object, key: &str) -> Result<Option<bool>, Refused> {
    object.get(key).map(|value| flag(value, key)).transpose()
}

/// An id in the hyphenated form or of 32 digits.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok())?
}

/// An id that may be null or absent.
///
/// # Errors
/// 400 for anything else that is no UUID.
pub(super) fn optional_id(object: &Object, key: &str) -> Result<Option<Uuid>, Refused> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => uuid(text)
            .map(Some)
            .ok_or_else(|| Refused::bad_request(format!("{key} is no UUID"))),
        Some(_) => Err(Refused::bad_request(format!("{key} must be a UUID"))),
    }
}

/// Which characters a key of metadata may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Letters, digits, `-`, `_`, `:`, `.` and blanks.
    NoSlash,
    /// Slashes, too.
    Slash,
}

impl Keys {
    fn allow(self, key: &str) -> bool {
        (1..=LONGEST).contains(&key.chars().count())
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c) || (c == '/' && self == Self::Slash))
    }
}

/// Pairs of texts. `place`: how the element is called in a refusal.
pub(super) fn pairs(value: &Value, place: &str, keys: Keys) -> Result<Metadata, Refused> {
    let Value::Object(object) = value else {
        return Err(Refused::bad_request(format!("{place} must be an object of texts")));
    };
    let mut pairs = Metadata::new();
    for (key, value) in object {
        if !keys.allow(key) {
            return Err(Refused::bad_request(format!(
                "A key in {place} must have 1 to {LONGEST} characters of letters, digits and \"-_:. \"{}",
                if keys == Keys::Slash { " and \"/\"" } else { "" }
            )));
        }
        match value {
            Value::String(text) if text.chars().count() <= LONGEST => pairs.insert(key.clone(), text.clone()),
            Value::String(_) => {
                return Err(Refused::bad_request(format!(
                    "A value in {place} has more than {LONGEST} characters"
                )));
            }
            _ => return Err(Refused::bad_request(format!("A value in {place} is no text"))),
        };
    }
    Ok(pairs)
}

/// Metadata of a new thing: null or absent is none.
pub(super) fn new_metadata(object: &Object) -> Result<Metadata, Refused> {
    match object.get("metadata") {
        None | Some(Value::Null) => Ok(Metadata::new()),
        Some(value) => pairs(value, "metadata", Keys::Slash),
    }
}

/// A whole number from a JSON number, or from a text of digits.
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse().ok())?
        }
        _ => None,
    }
}

/// A size in GiB, at least 1, as bytes.
pub(super) fn gib(value: &Value, key: &str) -> Result<u64, Refused> {
    whole(value)
        .and_then(|gib| u64::try_from(gib).ok())
        .filter(|gib| *gib >= 1)
        .and_then(|gib| gib.checked_mul(1 << 30))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Refused::bad_request(format!("{key} must be a whole number of GiB, at least 1")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_are_words_or_booleans_and_nothing_else() {
        for (value, wanted) in [
            (json!(true), Some(true)),
            (json!("on"), Some(true)),
            (json!("TRUE"), Some(true)),
            (json!("f"), Some(false)),
            (json!("maybe"), None),
            (json!(1), None),
            (json!(null), None),
            (json!("tRuE"), None),
        ] {
            assert_eq!(flag(&value, "force").ok(), wanted, "{value}");
        }
    }

    #[test]
    fn sizes_are_whole_gib_or_digits() {
        for (value, wanted) in [
            (json!(1), Some(1 << 30)),
            (json!("2"), Some(2 << 30)),
            (json!(0), None),
            (json!("0"), None),
            (json!(-1), None),
            (json!(1.5), None),
            (json!(""), None),
            (json!("#$%"), None),
            (json!("+1"), None),
            (json!(true), None),
            (json!(i64::MAX), None),
        ] {
            assert_eq!(gib(&value, "size").ok(), wanted, "{value}");
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let object = |name: &str| Map::from_iter([("name".to_owned(), json!(name))]);
        assert!(name(&object(&"\u{fc}".repeat(255))).is_ok());
        assert!(name(&object(&"a".repeat(256))).is_err());
        assert_eq!(name(&object("  a  ")).unwrap(), Some(Some("a".to_owned())));
        assert!(pairs(&json!({"a/b": "1"}), "metadata", Keys::NoSlash).is_err());
        assert!(pairs(&json!({"a/b": "1"}), "metadata", Keys::Slash).is_ok());
        for bad in [json!({"": "1"}), json!({"a": 1}), json!({"a": null}), json!([])] {
            assert!(pairs(&bad, "metadata", Keys::Slash).is_err(), "{bad}");
        }
    }
}
