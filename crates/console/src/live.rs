//! The stream that keeps pages live: an event `changed` after commits to the catalogue.
//!
//! It carries no content: the page asks for itself again, so that what is shown live is what is shown at all, and what a
//! visitor may see is decided in one place.

use crate::{answer, trouble::Trouble, visit::Visit};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;

/// Changes that come together are told once.
const PAUSE: Duration = Duration::from_millis(300);
/// A line without meaning, so that whoever is between does not take the connection for dead.
const IDLE: Duration = Duration::from_secs(20);
/// How long a stream lives: the browser connects again by itself, and is asked again who it is.
const LIFE: Duration = Duration::from_mins(10);

/// The stream.
pub(crate) async fn stream(visit: Visit) -> Result<Response<Body>, Trouble> {
    let changes = visit.engine().changes();
    let stopping = visit.console.settings().stopping.clone();
    let end = Instant::now() + LIFE;
    let first = Some(Bytes::from_static(b"retry: 1000\n\nevent: open\ndata:\n\n"));
    let events = stream::unfold((changes, first), move |(mut changes, first)| {
        let stopping = stopping.clone();
        async move {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (changes, None)));
            }
            let text = tokio::select! {
                () = stopping.cancelled() => return None,
                () = tokio::time::sleep_until(end) => return None,
                () = tokio::time::sleep(IDLE) => ":\n\n",
                changed = changes.changed() => {
                    changed.ok()?;
                    tokio::time::sleep(PAUSE).await;
                    changes.borrow_and_update();
                    "event: changed\ndata:\n\n"
                }
            };
            Some((Ok(Bytes::from_static(text.as_bytes())), (changes, None)))
        }
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(answer::guarded(response))
}
