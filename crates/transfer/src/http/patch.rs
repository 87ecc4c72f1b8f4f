//! PATCH: zeroes and flushes, told by a small message.

use super::small_body;
use crate::{
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
};
use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Map, Value};

/// Longest message; real ones have less than 100 bytes.
const MESSAGE_MAX_BYTES: usize = 16 * 1024;

/// What is asked. Members that are not known are ignored, as newer clients may send more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Zero { offset: u64, size: u64, flush: bool },
    Flush,
}

fn integer(message: &Map<String, Value>, name: &str, default: Option<u64>) -> Result<u64, Refusal> {
    match (message.get(name), default) {
        (None, Some(default)) => Ok(default),
        (None, None) => Err(Refusal::bad(format!("Missing required value for {name:?}"))),
        (Some(value), _) => value
            .as_u64()
            .ok_or_else(|| Refusal::bad(format!("Invalid value for {name:?}: an integer from 0 on is required"))),
    }
}

fn change(message: &[u8]) -> Result<Change, Refusal> {
    let message: Map<String, Value> =
        serde_json::from_slice(message).map_err(|error| Refusal::bad(format!("Invalid JSON message {error}")))?;
    match message.get("op").and_then(Value::as_str) {
        Some("flush") => Ok(Change::Flush),
        Some("zero") => Ok(Change::Zero {
            size: integer(&message, "size", None)?,
            offset: integer(&message, "offset", Some(0))?,
            flush: match message.get("flush") {
                None => false,
                Some(Value::Bool(flush)) => *flush,
                Some(_) => return Err(Refusal::bad("Invalid value for \"flush\": a boolean is required")),
            },
        }),
        Some(_) => Err(Refusal::bad(
            "Unsupported value for \"op\", expecting one of [\"flush\", \"zero\"]",
        )),
        None => Err(Refusal::bad("Missing required value for op")),
    }
}

pub(super) async fn patch(registry: &Registry, id: &str, body: &mut Body) -> Result<Response<Body>, Refusal> {
    let change = change(&small_body(std::mem::take(body), MESSAGE_MAX_BYTES).await?)?;
    let op = registry.begin(id, Need::Write)?;
    if let Change::Zero { offset, size, .. } = change {
        let allowed = op.ticket().size_bytes;
        if offset.checked_add(size).is_none_or(|end| end > allowed) {
            return Err(Refusal::range("Requested range out of allowed range").of_size(allowed));
        }
    }
    let gone = op.token().drop_guard();
    let changing = tokio::spawn(async move {
        let changed = run(&op, change).await;
        let answer = changed.as_ref().map_err(Refusal::from).copied();
        match &changed {
            Ok(()) => op.end_well(),
            Err(stopped) => op.end_badly(stopped),
        }
        answer
    });
    let lost = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation was ended");
    let answer = changing.await.map_err(lost)?;
    drop(gone.disarm());
    answer.map(|()| Response::new(Body::empty()))
}

async fn run(op: &Operation, change: Change) -> Result<(), Stopped> {
    let source = op.source();
    let mut is_flushing = true;
    if let Change::Zero {
        mut offset,
        mut size,
        flush,
    } = change
    {
        is_flushing = flush;
        while size > 0 {
            op.watch().check()?;
            let done = source.zero(offset, size).await?;
            op.has_written(offset, done);
            (offset, size) = (offset + done, size - done);
        }
    }
    if is_flushing {
        source.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_exactly_or_refused() {
        let zero = |offset, size, flush| Change::Zero { offset, size, flush };
        assert_eq!(change(br#"{"op":"flush"}"#).unwrap(), Change::Flush);
        assert_eq!(change(br#"{"op":"zero","size":5}"#).unwrap(), zero(0, 5, false));
        let full = br#"{"op":"zero","size":5,"offset":7,"flush":true,"future":{}}"#;
        assert_eq!(change(full).unwrap(), zero(7, 5, true));
        let wrong: [&[u8]; 9] = [
            b"",
            b"[]",
            b"{}",
            br#"{"op":"trim","size":1}"#,
            br#"{"op":"zero"}"#,
            br#"{"op":"zero","size":-1}"#,
            br#"{"op":"zero","size":1.5}"#,
            br#"{"op":"zero","size":1,"offset":"0"}"#,
            br#"{"op":"zero","size":1,"flush":1}"#,
        ];
        for message in wrong {
            assert!(change(message).is_err(), "{}", String::from_utf8_lossy(message));
        }
    }
}
