//! POST `/stillpoint/v1/images/{ticket}/read`: many ranges of an image in one answer, one after the other without anything
//! between. What changed on a disk is often thousands of small runs, and a request for each costs more than its bytes.
//!
//! The message is `{"ranges": [[OFFSET, LENGTH], ...]}`, in bytes, in the order of the disk, none in another. The length of
//! the answer is their sum: an answer that breaks off is told by it, and the client asks for the rest.

use super::{get, small_body};
use crate::{
    refusal::Refusal,
    registry::{Need, Registry},
};
use axum::body::Body;
use http::Response;
use serde::Deserialize;

/// Ranges of one request.
pub(super) const RANGES_MAX: usize = 4096;
/// Longest message: a range has two numbers of at most 20 digits.
const MESSAGE_MAX_BYTES: usize = RANGES_MAX * 48;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    ranges: Vec<(u64, u64)>,
}

pub(super) async fn read(registry: &Registry, id: &str, body: &mut Body) -> Result<Response<Body>, Refusal> {
    let op = registry.begin(id, Need::Read)?;
    let text = small_body(std::mem::take(body), MESSAGE_MAX_BYTES).await?;
    let message: Message =
        serde_json::from_slice(&text).map_err(|error| Refusal::bad(format!("Invalid message: {error}")))?;
    let (op, size) = get::sized(op).await?;
    let ranges = checked(message.ranges, size)?;
    let mut response = Response::new(Body::empty());
    get::describe(response.headers_mut());
    get::stream(op, ranges, response).await
}

/// The ranges as begin and end.
fn checked(ranges: Vec<(u64, u64)>, size: u64) -> Result<Vec<(u64, u64)>, Refusal> {
    if ranges.is_empty() || ranges.len() > RANGES_MAX {
        return Err(Refusal::bad(format!(
            "{} ranges, expecting 1 to {RANGES_MAX}",
            ranges.len()
        )));
    }
    let mut before = 0;
    ranges
        .into_iter()
        .map(|(offset, length)| {
            let end = offset.checked_add(length).filter(|end| *end <= size && length > 0);
            let end = end.ok_or_else(|| Refusal::range("Requested range out of allowed range").of_size(size))?;
            if offset < before {
                return Err(Refusal::bad("The ranges are not in the order of the disk, or overlap"));
            }
            before = end;
            Ok((offset, end))
        })
        .collect()
}
