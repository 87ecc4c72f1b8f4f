//! Path and query in the one spelling that is signed.
//!
//! Signing decodes before it encodes again, so different bytes on the wire can have one signature. None of them may have
//! another meaning, or somebody on the way could change it:
//! * `%2F` in a path would count as a separator: such a path is refused. (No key that a signer's client library can name here
//!   needs one; a client with such a metadata key uses a token.)
//! * `+` in a query is a blank to whoever reads the query, so it is signed as one (`%20`); a plus sign is `%2B`.
//! * Parameters are signed sorted: moving different names about changes nothing that is read, moving equal names about is
//!   sorted away by the signer too, so a parameter that is given twice with different values is refused unless it is sorted.

use super::SignatureError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use std::borrow::Cow;

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The path, ending with `/` whether or not it did.
pub(super) fn path(raw: &str) -> Result<String, SignatureError> {
    if raw.to_ascii_lowercase().contains("%2f") {
        return Err(SignatureError::Ambiguous("a signed path cannot hold an encoded slash"));
    }
    let mut path: Vec<_> = raw.split('/').map(|segment| encode(&decode(segment))).collect();
    if path.last().is_none_or(|last| !last.is_empty()) {
        path.push(String::new());
    }
    Ok(path.join("/"))
}

/// The query, sorted.
pub(super) fn query(raw: &str) -> Result<String, SignatureError> {
    let mut pairs: Vec<_> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read = |text: &str| decode(&text.replace('+', " ")).into_owned();
            (read(name), read(value))
        })
        .collect();
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    if !pairs.is_sorted() {
        return Err(SignatureError::Ambiguous(
            "the values of a signed parameter have to be sorted",
        ));
    }
    let encoded: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    Ok(encoded.join("&"))
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    percent_decode(text.as_bytes()).into()
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}
