//! What a handler answers, before it is put on the connection.

use crate::fault::Refused;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::io;
use stillpoint_wire::{Form, Wire, model};

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'static str,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
}

/// The body of an answer.
pub(crate) enum Payload {
    /// At hand.
    Whole(Bytes),
    /// Made while it is sent; its beginning is at hand.
    Pieces(BoxStream<'static, io::Result<Bytes>>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// A text of any media type.
    pub(crate) fn text(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            media_type,
            headers: Vec::new(),
            payload: Payload::Whole(body.into()),
        }
    }

    /// A representation.
    pub(crate) fn document<T: Wire>(status: StatusCode, value: &T, form: Form) -> Self {
        Self::text(status, form.encoding.media_type(), stillpoint_wire::write(value, form))
    }

    /// A fault.
    pub(crate) fn refused(refused: &Refused, form: Form, shape: crate::route::Shape) -> Self {
        let (body, media_type) = refused.render(form, shape);
        let mut answer = Self::text(refused.status(), media_type, body);
        answer.headers.extend(refused.header().cloned());
        answer
    }

    /// Adds where the new object is.
    pub(crate) fn with_location(mut self, href: &str) -> Self {
        // An href is made of ids and fixed words, so it is always a header value.
        if let Ok(value) = HeaderValue::from_str(href) {
            self.headers.push((header::LOCATION, value));
        }
        self
    }
}

/// `<action>` for something that is done, or goes on as a job.
pub(crate) fn action(status: &str, job: Option<Box<model::Job>>) -> model::Action {
    model::Action {
        job,
        status: Some(status.into()),
        ..model::Action::default()
    }
}
