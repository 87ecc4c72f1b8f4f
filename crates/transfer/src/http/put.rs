//! PUT: bytes from a client into an image.
//!
//! What was received before a failure stays written; the client is told, and sends the range again.

use super::{Visit, content_length, range};
use crate::{
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
};
use axum::body::Body;
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;

pub(super) async fn put(
    registry: &Registry,
    id: &str,
    visit: &Visit,
    body: &mut Body,
) -> Result<Response<Body>, Refusal> {
    let size = content_length(&visit.head.headers)?.ok_or_else(|| Refusal::bad("Content-Length header is required"))?;
    let given = visit
        .header(header::CONTENT_RANGE)
        .map(range::content_range)
        .transpose()?;
    let (offset, last) = given.unwrap_or((0, None));
    if let Some(last) = last
        && last.checked_sub(offset).and_then(|rest| rest.checked_add(1)) != Some(size)
    {
        return Err(Refusal::bad("Content-Range and Content-Length differ"));
    }
    let flush = visit.choice("flush", &["y", "n"], "y")? == "y";
    let op = registry.begin(id, Need::Write)?;
    let allowed = op.ticket().size_bytes;
    if offset.checked_add(size).is_none_or(|end| end > allowed) {
        return Err(Refusal::range("Requested range out of allowed range").of_size(allowed));
    }
    // A task of its own: when the client goes away this future is dropped, and no write may be cut in the middle.
    let gone = op.token().drop_guard();
    let mut sent = std::mem::take(body);
    let writing = tokio::spawn(async move {
        let written = write(&op, &mut sent, offset, size, flush).await;
        let answer = written.as_ref().map_err(Refusal::from).copied();
        match &written {
            Ok(()) => op.end_well(),
            Err(stopped) => op.end_badly(stopped),
        }
        (answer, sent)
    });
    let lost = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation was ended");
    let (answer, rest) = writing.await.map_err(lost)?;
    drop(gone.disarm());
    *body = rest;
    answer.map(|()| Response::new(Body::empty()))
}

async fn write(op: &Operation, body: &mut Body, offset: u64, size: u64, flush: bool) -> Result<(), Stopped> {
    let (source, mut flying) = (op.source(), FuturesUnordered::new());
    let chunk = source.chunk_bytes() as usize;
    let (mut buffer, mut received, mut at) = (BytesMut::new(), 0_u64, offset);
    let mut stopped = None;
    while stopped.is_none() && (received < size || !flying.is_empty()) {
        tokio::select! {
            Some(written) = flying.next(), if !flying.is_empty() => match written {
                Ok((start, length)) => op.has_written(start, length),
                Err(error) => stopped = Some(Stopped::Source(error)),
            },
            frame = op.client(body.frame()), if received < size && flying.len() < source.depth() => {
                match frame {
                    Ok(Some(Ok(frame))) => {
                        let data = frame.into_data().unwrap_or_default();
                        received += data.len() as u64;
                        buffer.extend_from_slice(&data);
                    }
                    Ok(_) => stopped = Some(Stopped::Short { requested: size, available: received }),
                    Err(why) => stopped = Some(why),
                }
                while buffer.len() >= chunk || received >= size && !buffer.is_empty() {
                    let piece = buffer.split_to(chunk.min(buffer.len())).freeze();
                    let (start, length) = (at, piece.len() as u64);
                    at += length;
                    flying.push(async move { source.write(start, piece).await.map(|()| (start, length)) });
                }
            }
        }
    }
    // After a failure: nothing may be written any more once this has returned.
    while let Some(written) = flying.next().await {
        if let Ok((start, length)) = written {
            op.has_written(start, length);
        }
    }
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    op.check()?;
    if flush {
        source.flush().await?;
    }
    Ok(())
}
