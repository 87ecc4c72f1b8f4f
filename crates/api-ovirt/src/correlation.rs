//! The correlation id: what ties a client's request to jobs, events and the log.

use crate::param::Params;
use http::HeaderMap;

/// Most characters of a correlation id.
const LENGTH_MAX: usize = 36;

/// The id of a request: its header, else its parameter, else a fresh UUID; always safe to log and to echo.
pub(crate) fn correlation_id(headers: &HeaderMap, params: &Params) -> String {
    let from_header = headers
        .get("correlation-id")
        .map(|value| sanitised(&String::from_utf8_lossy(value.as_bytes())))
        .filter(|id| !id.is_empty());
    from_header
        .or_else(|| params.text("correlation_id").map(sanitised).filter(|id| !id.is_empty()))
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
}

/// The part of a text that a correlation id may have.
pub(crate) fn sanitised(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .take(LENGTH_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn id(header: Option<&'static [u8]>, query: &str) -> String {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("correlation-id", HeaderValue::from_bytes(header).unwrap());
        }
        correlation_id(&headers, &Params::collect(Some(query), None, &headers))
    }

    #[test]
    fn a_correlation_id_is_cleaned_cut_and_made_up_when_absent() {
        assert_eq!(id(Some(b"abc-1"), ""), "abc-1");
        assert_eq!(id(Some(b"a b/c"), ""), "abc");
        assert_eq!(id(Some(&[b'x'; 60]), ""), "x".repeat(36));
        assert_eq!(id(None, "correlation_id=q1"), "q1");
        assert_eq!(id(Some(b"//"), "correlation_id=q1"), "q1");
        assert_eq!(id(Some(b"\xff\xfe"), "").len(), 36);
        assert!(id(None, "").parse::<uuid::Uuid>().is_ok());
    }
}
