//! Which encoding a client wants, in both directions, and whether it takes gzip.

use crate::{fault::Refused, param::Params};
use http::{HeaderMap, HeaderName, header};
use stillpoint_wire::Encoding;

/// The encoding of the answer: `?accept=`, else the `Accept` header, else XML.
///
/// # Errors
/// 406 when nothing that we write is acceptable.
pub(crate) fn answer_encoding(headers: &HeaderMap, params: &Params) -> Result<Encoding, Refused> {
    let wanted = match params.text("accept") {
        Some(text) => text.to_owned(),
        None => joined(headers, &header::ACCEPT),
    };
    if wanted.trim().is_empty() {
        return Ok(Encoding::Xml);
    }
    let xml = quality(&wanted, &["application/xml", "text/xml"]);
    let json = quality(&wanted, &["application/json"]);
    match (xml > 0, json > 0) {
        (true, _) if xml >= json => Ok(Encoding::Xml),
        (_, true) => Ok(Encoding::Json),
        _ => Err(Refused::not_acceptable()),
    }
}

/// The encoding of a request's body, by its content type.
///
/// # Errors
/// 415 for anything but XML and JSON.
pub(crate) fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Refused> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Encoding::Xml);
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/xml" | "text/xml" => Ok(Encoding::Xml),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Refused::unsupported_media_type()),
    }
}

/// Whether the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let wanted = joined(headers, &header::ACCEPT_ENCODING);
    let named = wanted
        .split(',')
        .map(weighted)
        .find(|(name, _)| name == "gzip" || name == "x-gzip" || name == "*");
    named.is_some_and(|(_, weight)| weight > 0)
}

/// Whether JSON may be answered at the token endpoints: they have no other form.
pub(crate) fn takes_json(headers: &HeaderMap) -> bool {
    quality(&joined(headers, &header::ACCEPT), &["application/json"]) > 0
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    values.join(",")
}

/// The quality in thousandths of the most specific range that matches one of the types (RFC 9110, 12.5.1).
fn quality(wanted: &str, types: &[&str]) -> u16 {
    let mut best = (0u8, 0u16);
    for (range, weight) in wanted.split(',').map(weighted) {
        let specific = if types.contains(&range.as_str()) {
            3
        } else if range.ends_with("/*") && types.iter().any(|t| t.split('/').next() == range.split('/').next()) {
            2
        } else if range == "*/*" || range == "*" {
            1
        } else {
            continue;
        };
        if specific > best.0 || (specific == best.0 && weight > best.1) {
            best = (specific, weight);
        }
    }
    best.1
}

/// The name of an element of such a header, lower case, and its quality in thousandths.
fn weighted(element: &str) -> (String, u16) {
    let mut parts = element.split(';');
    let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let weight = parts
        .filter_map(|part| part.trim().strip_prefix("q="))
        .find_map(|q| thousandths(q.trim()))
        .unwrap_or(1000);
    (name, weight)
}

/// `0`, `1`, `0.25` as thousandths; `None` for anything else.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match whole {
        "1" => Some(1000),
        "0" => format!("{fraction:0<3}").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn answer(accept: Option<&'static str>, query: &str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        answer_encoding(&headers, &Params::collect(Some(query), None, &headers)).ok()
    }

    #[test]
    fn the_answer_comes_in_the_encoding_that_was_asked_for() {
        for (accept, encoding) in [
            (None, Encoding::Xml),
            (Some(""), Encoding::Xml),
            (Some("*/*"), Encoding::Xml),
            (Some("application/xml"), Encoding::Xml),
            (Some("text/xml, */*;q=0.1"), Encoding::Xml),
            (Some("application/json"), Encoding::Json),
            (Some("Application/JSON; charset=utf-8"), Encoding::Json),
            (Some("application/xml;q=0.5, application/json;q=0.9"), Encoding::Json),
            (Some("application/json, application/xml"), Encoding::Xml),
            (Some("application/xml;q=0, */*"), Encoding::Json),
            (Some("text/html, application/*;q=0.3"), Encoding::Xml),
        ] {
            assert_eq!(answer(accept, ""), Some(encoding), "{accept:?}");
        }
        assert_eq!(
            answer(Some("application/xml"), "accept=application/json"),
            Some(Encoding::Json)
        );
        assert_eq!(answer(Some("text/csv"), ""), None);
        assert_eq!(answer(Some("application/xml;q=0"), ""), None);
    }

    #[test]
    fn only_xml_and_json_bodies_are_read() {
        let body = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]);
            body_encoding(&headers).ok()
        };
        assert_eq!(body("application/xml; charset=UTF-8"), Some(Encoding::Xml));
        assert_eq!(body("text/xml"), Some(Encoding::Xml));
        assert_eq!(body("APPLICATION/json"), Some(Encoding::Json));
        assert_eq!(body("text/plain"), None);
        assert_eq!(body_encoding(&HeaderMap::new()).ok(), Some(Encoding::Xml));
    }

    #[test]
    fn gzip_is_used_only_when_it_is_taken() {
        let takes = |text: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static(text),
            )]))
        };
        assert!(takes("deflate, gzip, br"));
        assert!(takes("gzip;q=0.5"));
        assert!(takes("*"));
        assert!(!takes("gzip;q=0"));
        assert!(!takes("br"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
