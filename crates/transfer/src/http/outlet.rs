//! The way from an operation to the body of its answer: few pieces at a time, so that a client that reads slowly takes no
//! memory, and an operation can be ended while its client reads nothing at all.

use crate::{
    refusal::Refusal,
    registry::{Operation, Stopped},
};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

/// Pieces that wait to be sent.
const WAITING: usize = 2;

/// What comes out of an operation.
#[derive(Debug)]
pub(crate) enum Item {
    Data(Bytes),
    /// All is out. Only where the length was not said before.
    End,
    Failed(Refusal),
}

/// The operation's end of it.
#[derive(Debug)]
pub(crate) struct Outlet(mpsc::Sender<Item>);

impl Outlet {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Item>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Hands a piece to the client, or waits until it takes one.
    pub(crate) async fn put(&self, op: &Operation, item: Item) -> Result<(), Stopped> {
        op.watch()
            .client(self.0.send(item))
            .await?
            .map_err(|_closed| Stopped::ClientGone)
    }

    /// Tells the client if it can be told; the answer breaks off in any case, as its end is missing.
    pub(crate) fn fail(&self, stopped: &Stopped) {
        drop(self.0.try_send(Item::Failed(stopped.into())));
    }
}

/// Waits for the first piece, as long as an error can be answered with a status.
pub(crate) async fn first_of(items: &mut mpsc::Receiver<Item>) -> Result<Bytes, Refusal> {
    match items.recv().await {
        Some(Item::Data(data)) => Ok(data),
        Some(Item::End) => Ok(Bytes::new()),
        Some(Item::Failed(refusal)) => Err(refusal),
        None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation was ended").closing()),
    }
}

/// A body that begins with `first`. It ends well after `length` bytes, or without a length after [`Item::End`]; else it
/// breaks off with an error, which cuts the connection. Dropping it ends the operation.
pub(crate) fn body_of(first: Bytes, items: mpsc::Receiver<Item>, gone: DropGuard, length: Option<u64>) -> Body {
    let missing = length.map(|length| length.saturating_sub(first.len() as u64));
    let flow = stream::unfold(Some((Some(first), items, gone, missing)), |state| async move {
        let (first, mut items, gone, missing) = state?;
        if let Some(first) = first {
            return Some((Ok(first), Some((None, items, gone, missing))));
        }
        if missing == Some(0) {
            return None;
        }
        match items.recv().await {
            Some(Item::Data(data)) => {
                let missing = missing.map(|missing| missing.saturating_sub(data.len() as u64));
                Some((Ok(data), Some((None, items, gone, missing))))
            }
            Some(Item::End) if missing.is_none() => None,
            _ => Some((Err(std::io::Error::other("the operation was ended")), None)),
        }
    });
    Body::from_stream(flow)
}
