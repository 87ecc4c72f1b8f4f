//! What a handler answers, before it is put on the connection: a JSON document, or a stream.

use axum::body::Body;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Body,
}

impl Answer {
    /// A JSON document.
    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(body) => Self::of_type(status, "application/json", Body::from(body)),
            // Only a map with keys that are no texts, or a Serialize that fails, ends here: a fault of ours.
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an answer cannot be written");
                Self::of_type(StatusCode::INTERNAL_SERVER_ERROR, "application/json", Body::empty())
            }
        }
    }

    /// 200 with a JSON document.
    pub(crate) fn ok(document: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, document)
    }

    /// A body of a media type.
    pub(crate) fn of_type(status: StatusCode, media_type: &'static str, body: Body) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
            body,
        }
    }

    /// Adds a header; one whose value no header can have is left out.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}
