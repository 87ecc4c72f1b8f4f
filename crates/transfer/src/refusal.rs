//! What a client is told when it does not get what it asked for: a status and a line of plain text, as imageio does.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    /// Of a range that cannot be had: what there is.
    size_bytes: Option<u64>,
    closes: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            size_bytes: None,
            closes: false,
        }
    }

    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// No right, in imageio's words; it closes the connection, and so do we.
    pub(crate) fn forbidden(reason: &str) -> Self {
        let text = format!("You are not allowed to access this resource: {reason}");
        Self::new(StatusCode::FORBIDDEN, text).closing()
    }

    pub(crate) fn range(text: impl Into<String>) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, text)
    }

    /// The same, with what there is.
    pub(crate) fn of_size(mut self, size_bytes: u64) -> Self {
        self.size_bytes = Some(size_bytes);
        self
    }

    /// The connection is of no use after it.
    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(crate) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=UTF-8"),
        );
        if let Some(size) = self.size_bytes
            && let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
