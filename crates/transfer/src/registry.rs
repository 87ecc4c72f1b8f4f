//! The tickets, and the operations that run on each.
//!
//! A ticket is found by the SHA-256 of its id, so the time of a look-up tells nothing about ids that are served. All is in
//! memory: after a restart the core adds its tickets anew.
//!
//! # Life of a ticket
//! ```text
//! add ── served ── remove ── refusing ── running ones ended ── flushed ── gone
//!          │ │                   └─ limit passed: aborted, between two requests to the source
//!          │ └ extend, an operation that ends well: lives on
//!          └ expired: refused, until extend
//! ```
//! # Cancellation
//! An operation is ended by force only where it waits for its client. A request to the source is always waited for, as it
//! may be half done: so once nothing runs, nothing is written either. If the source itself does not answer, `remove` says
//! so, and the ticket stays refused until a later `remove` succeeds. If what was written cannot be flushed any more, none
//! does: then it stays until `forget`, or until it is added anew.

use crate::{ranges::RangeSet, refusal::Refusal, source::Source};
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use stillpoint_engine::ports::{DirtyMap, Driven, DriverError, DriverErrorKind, Ticket, TicketId, TicketStatus};
use tokio::time::Instant;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// After an abort: the time that requests to the source get to end. Longer than an answer of an NBD server may take.
const ABORT_LIMIT: Duration = Duration::from_secs(75);
/// Longest a ticket can be valid: far beyond any transfer, and no sum with it overflows.
const VALID_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

#[derive(Debug)]
struct State {
    expires: Instant,
    /// When the last operation ended, or the ticket was added.
    last: Instant,
    running: u32,
    is_refusing: bool,
    /// A removal found that written data may be lost.
    is_lost: bool,
    transferred: RangeSet,
    failure: Option<String>,
}

/// A ticket that is served.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ticket: Ticket,
    pub(crate) source: Source,
    /// What the client wants of it, if not all.
    dirty: Option<DirtyMap>,
    state: Mutex<State>,
    moved: Arc<Moved>,
    running: TaskTracker,
    abort: CancellationToken,
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two assignments; a panic elsewhere must not end the ticket.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writing implies reading, as with imageio.
    pub(crate) fn may(&self, need: Need) -> bool {
        let rights = self.ticket.rights;
        rights.write || need == Need::Read && rights.read
    }

    /// Lets an operation in.
    fn begin(self: &Arc<Self>, need: Need) -> Result<Operation, Refusal> {
        let transfer = &self.ticket.transfer;
        let mut state = self.state();
        if state.is_refusing {
            return Err(Refusal::forbidden(&format!("Transfer={transfer} was canceled")));
        }
        if state.running == 0 && Instant::now() >= state.expires {
            return Err(Refusal::forbidden(&format!("Transfer={transfer} expired")));
        }
        if !self.may(need) {
            return Err(Refusal::forbidden(&format!(
                "Transfer={transfer} forbids {}",
                need.name()
            )));
        }
        state.running += 1;
        Ok(Operation {
            watch: Watch {
                entry: Arc::clone(self),
                gone: self.abort.child_token(),
            },
            ended_well: false,
            _seat: self.running.token(),
        })
    }

    fn status(&self) -> TicketStatus {
        let (state, now) = (self.state(), Instant::now());
        let is_idle = state.running == 0;
        TicketStatus {
            transferred_bytes: state.transferred.total(),
            idle: if is_idle { now - state.last } else { Duration::ZERO },
            running: state.running,
            expired: is_idle && now >= state.expires,
            failure: state.failure.clone(),
        }
    }
}

/// Why an operation went no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("the transfer was canceled")]
    Aborted,
    #[error("the client went away")]
    ClientGone,
    #[error("the client did nothing for as long as the ticket is valid")]
    ClientStuck,
    #[error("the request has {available} of {requested} bytes")]
    Short { requested: u64, available: u64 },
    #[error(transparent)]
    Source(#[from] DriverError),
}

/// What ends an operation from outside. Clones are of the same operation.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    entry: Arc<Entry>,
    /// Cancelled when the ticket is aborted or the client is gone.
    gone: CancellationToken,
}

impl Watch {
    fn stopped(&self) -> Stopped {
        if self.entry.abort.is_cancelled() {
            Stopped::Aborted
        } else {
            Stopped::ClientGone
        }
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.gone.is_cancelled() {
            return Err(self.stopped());
        }
        Ok(())
    }

    /// Waits for the client, and not longer than the ticket is valid without activity.
    pub(crate) async fn client<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Stopped> {
        let limit = self.entry.ticket.valid_for.clamp(Duration::from_secs(1), VALID_MAX);
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(self.stopped()),
            done = waiting => Ok(done),
            () = tokio::time::sleep(limit) => Err(Stopped::ClientStuck),
        }
    }
}

/// An operation under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Operation {
    watch: Watch,
    ended_well: bool,
    _seat: TaskTrackerToken,
}

impl Operation {
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.watch.entry.ticket
    }

    pub(crate) fn source(&self) -> &Source {
        &self.watch.entry.source
    }

    pub(crate) fn may(&self, need: Need) -> bool {
        self.watch.entry.may(need)
    }

    pub(crate) fn dirty(&self) -> Option<&DirtyMap> {
        self.watch.entry.dirty.as_ref()
    }

    /// To be cancelled when the client is gone.
    pub(crate) fn token(&self) -> CancellationToken {
        self.watch.gone.clone()
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Counts bytes that were read.
    pub(crate) fn has_read(&self, offset: u64, bytes: u64) {
        self.watch.entry.moved.read.fetch_add(bytes, Ordering::Relaxed);
        self.watch.entry.state().transferred.add(offset, offset + bytes);
    }

    /// Counts bytes that were written, or made zero.
    pub(crate) fn has_written(&self, offset: u64, bytes: u64) {
        self.watch.entry.moved.written.fetch_add(bytes, Ordering::Relaxed);
        self.watch.entry.state().transferred.add(offset, offset + bytes);
    }

    /// The operation did what it was asked for.
    pub(crate) fn end_well(mut self) {
        self.ended_well = true;
    }

    /// It did not; a failure of the source is kept for the core.
    pub(crate) fn end_badly(self, stopped: &Stopped) {
        let transfer = &self.watch.entry.ticket.transfer;
        if let Stopped::Source(error) = stopped {
            let failure = error.chain();
            tracing::warn!(transfer, failure, "the source of a transfer failed");
            self.watch.entry.state().failure = Some(failure);
        } else {
            tracing::info!(transfer, why = %stopped, "an operation of a transfer was ended early");
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let valid_for = self.watch.entry.ticket.valid_for.min(VALID_MAX);
        let mut state = self.watch.entry.state();
        state.running -= 1;
        state.last = Instant::now();
        if self.ended_well {
            // Not earlier than an extension that was given meanwhile.
            state.expires = state.expires.max(state.last + valid_for);
        }
    }
}

/// Reads the ticket's map of changes, if it has one. One that does not fit is refused: what it leaves out would be lost.
async fn load_dirty(ticket: &Ticket) -> Driven<Option<DirtyMap>> {
    const OP: &str = "read a map of changes";
    let Some(path) = &ticket.dirty else { return Ok(None) };
    let bad = |text: String| DriverError::new(DriverErrorKind::InvalidImage, OP, text);
    let file = tokio::fs::read(path)
        .await
        .map_err(|error| DriverError::new(DriverErrorKind::Io, OP, path.display()).caused_by(error))?;
    let map = DirtyMap::decode(&file).map_err(|error| bad(path.display().to_string()).caused_by(error))?;
    if map.size_bytes() == ticket.size_bytes {
        return Ok(Some(map));
    }
    let (has, needed) = (map.size_bytes(), ticket.size_bytes);
    Err(bad(format!("{} is of {has} bytes, not of {needed}", path.display())))
}

type Key = [u8; 32];

fn key(id: &TicketId) -> Key {
    Sha256::digest(id.0.as_bytes()).into()
}

/// Bytes that went through all tickets, each time that they did.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) read: AtomicU64,
    pub(crate) written: AtomicU64,
}

/// All tickets.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<Key, Arc<Entry>>>,
    moved: Arc<Moved>,
}

impl Registry {
    /// Bytes that were read and written so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.moved.read), count(&self.moved.written))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Arc<Entry>>> {
        // Every change is one call of the map's.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &TicketId) -> Option<Arc<Entry>> {
        self.entries().get(&key(id)).cloned()
    }

    pub(crate) async fn add(&self, ticket: Ticket) -> Driven<()> {
        let already = |entry: &Entry| {
            if entry.ticket == ticket && !entry.state().is_refusing {
                return Ok(());
            }
            let context = format!("another ticket of transfer {} has this id", entry.ticket.transfer);
            Err(DriverError::new(DriverErrorKind::AlreadyExists, "add ticket", context))
        };
        match self.entry(&ticket.id) {
            // Its removal told the core that data are lost, and now the transfer begins anew.
            Some(entry) if entry.state().is_lost => self.take_out(&entry),
            Some(entry) => return already(&entry),
            None => {}
        }
        let source = Source::open(&ticket).await?;
        let dirty = load_dirty(&ticket).await?;
        let now = Instant::now();
        let entry = Arc::new(Entry {
            state: Mutex::new(State {
                expires: now + ticket.valid_for.min(VALID_MAX),
                last: now,
                running: 0,
                is_refusing: false,
                is_lost: false,
                transferred: RangeSet::default(),
                failure: None,
            }),
            source,
            dirty,
            moved: Arc::clone(&self.moved),
            running: TaskTracker::new(),
            abort: CancellationToken::new(),
            ticket: ticket.clone(),
        });
        match self.entries().entry(key(&ticket.id)) {
            std::collections::hash_map::Entry::Occupied(there) => already(there.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(entry);
                Ok(())
            }
        }
    }

    pub(crate) fn extend(&self, id: &TicketId, valid_for: Duration) -> Driven<()> {
        let gone = || DriverError::new(DriverErrorKind::NotFound, "extend ticket", "it is not served");
        let entry = self.entry(id).ok_or_else(gone)?;
        let mut state = entry.state();
        if state.is_refusing {
            return Err(gone());
        }
        state.expires = Instant::now() + valid_for.min(VALID_MAX);
        Ok(())
    }

    pub(crate) fn status(&self, id: &TicketId) -> Option<TicketStatus> {
        self.entry(id).map(|entry| entry.status())
    }

    /// See [`stillpoint_engine::ports::DataPlane::moved`].
    pub(crate) fn moved(&self, id: &TicketId, cell_bytes: u64) -> Option<Vec<u64>> {
        self.entry(id)
            .map(|entry| entry.state().transferred.per_cell(cell_bytes))
    }

    /// See [`stillpoint_engine::ports::DataPlane::remove`].
    pub(crate) async fn remove(&self, id: &TicketId, limit: Duration) -> Driven<()> {
        let Some(entry) = self.entry(id) else {
            return Ok(());
        };
        let op = "remove ticket";
        entry.state().is_refusing = true;
        entry.running.close();
        if tokio::time::timeout(limit, entry.running.wait()).await.is_err() {
            tracing::info!(transfer = entry.ticket.transfer, "operations of a transfer are cut off");
            entry.abort.cancel();
            tokio::time::timeout(ABORT_LIMIT, entry.running.wait())
                .await
                .map_err(|elapsed| {
                    let context = format!("the source of transfer {} does not answer", entry.ticket.transfer);
                    DriverError::new(DriverErrorKind::Timeout, op, context).caused_by(elapsed)
                })?;
        }
        let flushed = if entry.source.is_flushed() {
            Ok(())
        } else {
            entry.source.flush().await
        };
        entry.source.close();
        match &flushed {
            Ok(()) => self.take_out(&entry),
            Err(_) => entry.state().is_lost = true,
        }
        flushed
    }

    /// See [`stillpoint_engine::ports::DataPlane::forget`].
    pub(crate) fn forget(&self, id: &TicketId) {
        if let Some(entry) = self.entry(id).filter(|entry| entry.state().is_lost) {
            self.take_out(&entry);
        }
    }

    fn take_out(&self, entry: &Arc<Entry>) {
        let (mut entries, key) = (self.entries(), key(&entry.ticket.id));
        if entries.get(&key).is_some_and(|there| Arc::ptr_eq(there, entry)) {
            entries.remove(&key);
        }
    }

    /// Lets an operation in by the text of a ticket's id.
    pub(crate) fn begin(&self, id: &str, need: Need) -> Result<Operation, Refusal> {
        // Only the canonical form: one name, one ticket.
        let parsed = uuid::Uuid::try_parse(id).ok();
        parsed
            .filter(|parsed| parsed.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == id)
            .and_then(|parsed| self.entry(&TicketId(parsed)))
            .ok_or_else(|| Refusal::forbidden("No such ticket"))?
            .begin(need)
    }
}

impl From<&Stopped> for Refusal {
    fn from(stopped: &Stopped) -> Self {
        match stopped {
            Stopped::Aborted => Self::forbidden("the transfer was canceled"),
            Stopped::ClientGone => Self::new(StatusCode::BAD_REQUEST, "The request was not sent whole").closing(),
            Stopped::ClientStuck => Self::new(StatusCode::REQUEST_TIMEOUT, "The request took too long").closing(),
            Stopped::Short { requested, available } => Self::new(
                StatusCode::BAD_REQUEST,
                format!("Requested {requested} bytes, available {available} bytes"),
            )
            .closing(),
            Stopped::Source(error) => {
                // Without paths and names, which are in the log.
                let why = match error.kind {
                    DriverErrorKind::NoSpace => "no space is left on the disk's storage",
                    DriverErrorKind::Timeout => "the disk's server does not answer",
                    DriverErrorKind::Disconnected => "the disk's server is gone",
                    DriverErrorKind::Unsupported => "the disk's server cannot do this",
                    _ => "input/output error",
                };
                let text = format!("Server failed to perform the request: {why}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}
