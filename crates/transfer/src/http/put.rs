//! PUT: bytes from a client into an image.
//!
//! What was received before a failure stays written; the client is told, and sends the range again.

use super::{Visit, content_length, range};
use crate::{
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped, Watch},
};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Pieces of one request to the source at most: each is a place of a system call.
const PIECES_MAX: usize = 64;
/// Chunks between the client and those that are being written.
const CHUNKS_WAITING: usize = 2;
/// When a client has sent so much that is to be flushed, the storage begins with it, beside what is still coming: else it would
/// do nothing until the end, and then be waited for.
const FLUSH_EARLY_BYTES: u64 = 16 << 20;

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
    let (watch, gone) = (op.watch().clone(), op.token().drop_guard());
    let (feed, fed) = mpsc::channel(CHUNKS_WAITING);
    let chunk_bytes = op.source().write_chunk_bytes() as usize;
    // A task of its own: when the client goes away this future is dropped, and no write may be cut in the middle. It gets whole
    // chunks, as each hand-over to another thread costs as much as a small piece.
    let mut writing = tokio::spawn(async move {
        let written = write(&op, fed, offset, offset + size, flush).await;
        let answer = written.as_ref().map_err(Refusal::from).copied();
        match &written {
            Ok(()) => op.end_well(),
            Err(stopped) => op.end_badly(stopped),
        }
        answer
    });
    let answer = tokio::select! {
        // It could not go on: the client need not send the rest.
        answer = &mut writing => answer,
        () = receive(&watch, body, size, chunk_bytes, feed) => writing.await,
    };
    drop(gone.disarm());
    answer
        .map_err(|_lost| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation was ended"))?
        .map(|()| Response::new(Body::empty()))
}

/// A chunk of the image, or why no more comes.
type Fed = Result<Vec<Bytes>, Stopped>;

/// Cuts what the client sends into chunks. What it ends with, or that the writer has ended, is told by the writer.
async fn receive(watch: &Watch, body: &mut Body, size: u64, chunk_bytes: usize, feed: mpsc::Sender<Fed>) {
    let (mut buffer, mut received) = (Received::default(), 0_u64);
    while received < size {
        let stopped = match watch.client(body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                received += data.len() as u64;
                buffer.push(data);
                None
            }
            Ok(_) => Some(Stopped::Short {
                requested: size,
                available: received,
            }),
            Err(why) => Some(why),
        };
        while buffer.bytes >= chunk_bytes || received >= size && buffer.bytes > 0 {
            if feed.send(Ok(buffer.take(chunk_bytes))).await.is_err() {
                return;
            }
        }
        if let Some(stopped) = stopped {
            // The writer has ended by itself, if it does not listen.
            drop(feed.send(Err(stopped)).await);
            return;
        }
    }
}

/// What was received and is not in a request yet, as it came: the bytes are not moved together.
#[derive(Debug, Default)]
struct Received {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Received {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Takes the first `length` bytes, or all that are there.
    fn take(&mut self, length: usize) -> Vec<Bytes> {
        let (mut taken, mut missing) = (Vec::new(), length.min(self.bytes));
        self.bytes -= missing;
        while missing > 0
            && let Some(mut piece) = self.pieces.pop_front()
        {
            if piece.len() > missing {
                self.pieces.push_front(piece.split_off(missing));
            }
            missing -= piece.len();
            taken.push(piece);
        }
        // Of a client that sends crumbs.
        if taken.len() > PIECES_MAX {
            taken = vec![taken.concat().into()];
        }
        taken
    }
}

async fn write(op: &Operation, mut fed: mpsc::Receiver<Fed>, begin: u64, end: u64, flush: bool) -> Result<(), Stopped> {
    let (source, mut flying) = (op.source(), FuturesUnordered::new());
    let (mut early, mut unflushed) = (FuturesUnordered::new(), 0_u64);
    let (mut at, mut stopped) = (begin, None);
    while stopped.is_none() && (at < end || !flying.is_empty()) {
        tokio::select! {
            Some(written) = flying.next(), if !flying.is_empty() => match written {
                Ok((start, length)) => {
                    op.has_written(start, length);
                    unflushed += length;
                    if flush && unflushed >= FLUSH_EARLY_BYTES && early.is_empty() {
                        unflushed = 0;
                        early.push(source.flush());
                    }
                }
                Err(error) => stopped = Some(Stopped::Source(error)),
            },
            Some(flushed) = early.next(), if !early.is_empty() => {
                stopped = flushed.err().map(Stopped::Source);
            }
            chunk = fed.recv(), if at < end && flying.len() < source.write_depth() => match chunk {
                Some(Ok(pieces)) => {
                    let (start, length) = (at, pieces.iter().map(|piece| piece.len() as u64).sum());
                    at += length;
                    flying.push(async move { source.write(start, pieces).await.map(|()| (start, length)) });
                }
                Some(Err(why)) => stopped = Some(why),
                // The client's connection has ended, and what fed this with it.
                None => stopped = Some(Stopped::ClientGone),
            },
        }
    }
    // After a failure: nothing may be written any more once this has returned.
    while let Some(written) = flying.next().await {
        if let Ok((start, length)) = written {
            op.has_written(start, length);
        }
    }
    while let Some(flushed) = early.next().await {
        stopped = stopped.or(flushed.err().map(Stopped::Source));
    }
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    op.watch().check()?;
    if flush {
        source.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_taken_in_order_whatever_the_pieces() {
        let mut received = Received::default();
        let all: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for piece in all.chunks(7) {
            received.push(Bytes::copy_from_slice(piece));
        }
        let mut taken = Vec::new();
        for length in [1, 6, 7, 8, 700, 5_000, 10_000] {
            let pieces = received.take(length);
            assert!(pieces.len() <= PIECES_MAX);
            taken.extend(pieces.concat());
        }
        assert!(taken == all);
        assert_eq!((received.bytes, received.pieces.len()), (0, 0));
    }
}
