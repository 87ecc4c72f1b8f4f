//! One NBD connection in use: many requests in flight, each known by its cookie.
//!
//! One task owns the socket. Requests are handed to it whole, so a caller that goes away never leaves half a message on
//! the wire; its answer is thrown away when it comes. Whatever is wrong ends the connection, and with it every request
//! in flight: after one misunderstanding nothing that follows can be trusted.

use super::{
    handshake::{Agreed, handshake},
    reply::{Answer, Pending, read_replies},
    wire::*,
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    io::IoSlice,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter},
    net::UnixStream,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

/// Time for connecting and all options.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Time for an answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Time for a flush, which may have to write much first.
const FLUSH_LIMIT: Duration = Duration::from_secs(300);
/// Time that a server gets to close its side.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Requests that wait to be sent.
const QUEUE: usize = 64;
/// Replies have heads of 16 and 20 bytes: reading ahead saves calls, but what is read ahead of data is copied twice.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// What the tasks and the callers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pending: Mutex<HashMap<u64, Pending>>,
    /// Why the connection ended.
    ended: OnceLock<String>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        // Every change of the map is one call: a panic elsewhere leaves it whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that is about to be sent; not if the connection has ended.
    fn note(&self, cookie: u64, request: Pending) -> bool {
        let mut pending = self.pending();
        let is_open = self.ended.get().is_none();
        if is_open {
            pending.insert(cookie, request);
        }
        is_open
    }

    /// Takes a request out, to work on its answer.
    pub(super) fn take(&self, cookie: u64) -> Option<Pending> {
        self.pending().remove(&cookie)
    }

    /// Puts it back, as its answer is not whole yet.
    pub(super) fn put_back(&self, cookie: u64, pending: Pending) {
        self.pending().insert(cookie, pending);
    }

    /// Refuses requests from now on and fails all in flight.
    fn end(&self, why: &str) {
        let mut pending = self.pending();
        self.ended.get_or_init(|| why.to_owned());
        // Each waits on a channel whose other end goes away here.
        pending.clear();
    }
}

struct Outgoing {
    head: [u8; 28],
    data: Vec<Bytes>,
}

/// A connection. Dropping it says goodbye to the server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) agreed: Agreed,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
    next_cookie: AtomicU64,
    /// Ends the task at once: after a deadline passed. Else it ends when it has said goodbye.
    cut: CancellationToken,
}

impl Connection {
    /// Connects and opens the export.
    pub(super) async fn open(socket: &Path, export: &str, contexts: &[String]) -> Driven<Self> {
        let opening = async {
            let mut stream = UnixStream::connect(socket).await.map_err(|error| {
                let context = format!("no NBD server listens on {}", socket.display());
                DriverError::new(DriverErrorKind::Disconnected, "connect to NBD server", context).caused_by(error)
            })?;
            let agreed = handshake(&mut stream, export, contexts).await?;
            Ok((stream, agreed))
        };
        let (stream, agreed) = tokio::time::timeout(OPEN_LIMIT, opening).await.map_err(|elapsed| {
            let context = format!("the NBD server on {} does not answer", socket.display());
            DriverError::new(DriverErrorKind::Timeout, "connect to NBD server", context).caused_by(elapsed)
        })??;
        let (queue, requests) = mpsc::channel(QUEUE);
        let (shared, cut) = (Arc::new(Shared::default()), CancellationToken::new());
        let by_task = Arc::clone(&shared);
        let (guard, structured) = (cut.clone(), agreed.structured);
        tokio::spawn(async move {
            let why = tokio::select! {
                why = drive(stream, structured, &by_task, requests) => why,
                () = guard.cancelled() => "it was cut off".to_owned(),
            };
            by_task.end(&why);
        });
        Ok(Self {
            agreed,
            shared,
            queue,
            next_cookie: AtomicU64::new(1),
            cut,
        })
    }

    /// Requests in flight.
    pub(super) fn load(&self) -> usize {
        self.shared.pending().len()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.shared.ended.get().is_some()
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, command: Command, offset: u64, length: u32, data: Vec<Bytes>) -> Driven<Answer> {
        let op = match command {
            Command::Read => "read from NBD server",
            Command::Write => "write to NBD server",
            Command::WriteZeroes => "write zeroes to NBD server",
            Command::Flush => "flush NBD server",
            Command::BlockStatus => "ask NBD server for extents",
            Command::Disconnect => "leave NBD server",
        };
        let cookie = self.next_cookie.fetch_add(1, Ordering::Relaxed);
        let outgoing = Outgoing {
            head: request(command, cookie, offset, length),
            data,
        };
        let limit = if command == Command::Flush {
            FLUSH_LIMIT
        } else {
            ANSWER_LIMIT
        };
        let asking = async {
            // Noting and sending are one step, so that a caller that is dropped while it waits leaves nothing behind.
            let seat = self.queue.reserve().await.ok()?;
            let (sender, answer) = oneshot::channel();
            if !self
                .shared
                .note(cookie, Pending::new(op, command, offset, length, sender))
            {
                return None;
            }
            seat.send(outgoing);
            answer.await.ok()
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(Some(answered)) => answered,
            Ok(None) => Err(self.gone(op)),
            Err(elapsed) => {
                self.cut.cancel();
                let context = format!("the NBD server did not answer for {} s", limit.as_secs());
                Err(DriverError::new(DriverErrorKind::Timeout, op, context).caused_by(elapsed))
            }
        }
    }

    fn gone(&self, op: &'static str) -> DriverError {
        let why = self.shared.ended.get().map_or("it ended", String::as_str);
        let context = format!("the connection to the NBD server is gone: {why}");
        DriverError::new(DriverErrorKind::Disconnected, op, context)
    }
}

/// Runs the connection to its end; says why it ended.
async fn drive(stream: UnixStream, structured: bool, shared: &Shared, requests: mpsc::Receiver<Outgoing>) -> String {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, reader);
    let reading = read_replies(&mut reader, structured, shared);
    tokio::pin!(reading);
    let sending = send(BufWriter::new(writer), requests);
    tokio::select! {
        error = reading.as_mut() => error.chain(),
        sent = sending => match sent {
            Err(error) => format!("sending failed: {error}"),
            Ok(()) => {
                // Goodbye is said: the server closes, as it has nothing more to answer.
                match tokio::time::timeout(CLOSE_LIMIT, reading).await {
                    Ok(_) | Err(_) => "it was closed".to_owned(),
                }
            }
        }
    }
}

/// Sends what is asked until nobody can ask any more, and then goodbye.
async fn send(
    mut writer: BufWriter<impl AsyncWrite + Unpin>,
    mut requests: mpsc::Receiver<Outgoing>,
) -> std::io::Result<()> {
    while let Some(outgoing) = requests.recv().await {
        let mut parts = vec![IoSlice::new(&outgoing.head)];
        parts.extend(outgoing.data.iter().map(|piece| IoSlice::new(piece)));
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            let count = writer.write_vectored(rest).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, count);
        }
        // Several small requests in one packet, but none that waits for another to come.
        if requests.is_empty() {
            writer.flush().await?;
        }
    }
    writer.write_all(&request(Command::Disconnect, 0, 0, 0)).await?;
    writer.shutdown().await
}
