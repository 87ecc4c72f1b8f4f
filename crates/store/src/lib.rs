//! The catalogue: one SQLite file that holds what Stillpoint knows, behind one batching writer and a few readers.
//!
//! All SQL text of the product lives in this room, in one module per noun, as free functions over [`Conn`] (reading) and
//! [`Tx`] (writing). The database is not hidden behind a trait: tests use the real one.
//!
//! # How to use
//! ```no_run
//! # async fn f() -> Result<(), stillpoint_store::StoreError> {
//! use stillpoint_store::{Store, StoreError, meta};
//! let store = Store::open("catalogue.db".as_ref())?;
//! store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "colour", "blue") }).await?;
//! let colour = store.read(|conn| -> Result<_, StoreError> { meta::value(conn, "colour") }).await?;
//! # assert_eq!(colour.as_deref(), Some("blue")); Ok(()) }
//! ```
//!
//! # Crash consistency
//! A write whose future gave `Ok` survives `kill -9` and the loss of power (WAL, `synchronous=FULL`). A piece of work is
//! whole or absent. A read that begins after a write was answered sees it.
//!
//! # Cancellation
//! Dropping the future of a write before it is queued means that it is not done; afterwards it is done all the same.

mod column;
mod error;
mod find;
mod listing;
mod migrate;
mod query;
mod readers;
mod writer;

pub mod access_key;
pub mod application_credential;
pub mod backup;
pub mod checkpoint;
pub mod disk;
pub mod event;
pub mod exposed;
pub mod freeze;
pub mod image;
pub mod job;
pub mod message;
pub mod meta;
pub mod numbers;
pub mod offer;
pub mod preview;
pub mod project;
pub mod quota;
pub mod repair;
pub mod role;
pub mod scoped_token;
pub mod seal;
pub mod snapshot;
pub mod token;
pub mod transfer;
pub mod usage;
pub mod user;
pub mod vm;
pub mod volume;
pub mod volume_backup;
pub mod volume_snapshot;
pub mod volume_type;

pub use error::StoreError;
pub use find::{Find, Op, Sort, Value};
pub use listing::{ListedRows, Listing, Test};
pub use migrate::known_version;
pub use query::{Query, Rows};

/// What every function over rows answers.
pub type Stored<T> = Result<T, StoreError>;

use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{File, OpenOptions},
    future::Future,
    ops::Deref,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long work waits for room in a full queue before it is refused.
pub const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// How long a statement waits for a lock that another process (a copy being made) holds.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Statements kept prepared in each connection; the noun modules have fewer than that.
const STATEMENTS_KEPT: usize = 256;

/// A connection inside one consistent read transaction. Only this room can see the SQL behind it.
#[derive(Debug)]
pub struct Conn {
    sql: Connection,
    asked: Arc<AtomicU64>,
}

impl Conn {
    /// The connection itself, for this room's noun modules.
    pub(crate) fn sql(&self) -> &Connection {
        self.asked.fetch_add(1, Ordering::Relaxed);
        &self.sql
    }
}

/// The writer's connection inside one piece of work; everything that reads a [`Conn`] reads it too.
#[derive(Debug)]
pub struct Tx(Conn);

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl Tx {
    /// Runs a part of this piece of work that may fail alone: its writes are rolled back, and the rest goes on.
    ///
    /// # Errors
    /// What the closure returns.
    pub fn nested<T, E: From<StoreError>>(&self, work: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        let batch = |sql: &str| self.sql().execute_batch(sql).map_err(StoreError::from);
        batch("SAVEPOINT nested")?;
        let outcome = work(self);
        batch(if outcome.is_ok() {
            "RELEASE nested"
        } else {
            "ROLLBACK TO nested; RELEASE nested"
        })?;
        outcome
    }
}

/// The open catalogue. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writes: mpsc::Sender<writer::Message>,
    reads: mpsc::Sender<readers::Message>,
    stopping: Arc<AtomicBool>,
    commits: Arc<watch::Sender<u64>>,
    /// Microseconds that commits took, all together.
    committing: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    /// Readers first, then the writer: the last one to end moves the WAL into the file.
    threads: Mutex<Vec<JoinHandle<Result<(), StoreError>>>>,
}

impl Store {
    /// Opens the database, making it (mode 0600) if it is not there, and brings its schema up to date. Blocks.
    ///
    /// One process at a time: the data directory's lock, which is not this room's, sees to that.
    ///
    /// # Errors
    /// `Newer` and `NotOurs` (nothing was changed), `Corrupt`, or `Open`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_file(path).map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let write_connection = open_writer(path)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (commits, asked) = (Arc::new(watch::Sender::new(0)), Arc::new(AtomicU64::new(0)));
        let (reads, read_queue) = mpsc::channel(readers::QUEUE_MAX);
        let read_queue: readers::Queue = Arc::new(Mutex::new(read_queue));
        let (writes, write_queue) = mpsc::channel(writer::QUEUE_MAX);

        let mut connections = Vec::with_capacity(readers::READERS);
        let counted = |sql| Conn {
            sql,
            asked: Arc::clone(&asked),
        };
        let write_connection = counted(write_connection);
        for _ in 0..readers::READERS {
            connections.push(counted(open_reader(path)?));
        }
        let mut threads = Vec::with_capacity(readers::READERS + 1);
        for connection in connections {
            let (queue, stopping) = (Arc::clone(&read_queue), Arc::clone(&stopping));
            threads.push(spawn(path, "store-reader", move || {
                readers::run(connection, &queue, &stopping)
            })?);
        }
        let committing = Arc::new(AtomicU64::new(0));
        let (stop, count, spent) = (Arc::clone(&stopping), Arc::clone(&commits), Arc::clone(&committing));
        threads.push(spawn(path, "store-writer", move || {
            writer::run(write_connection, write_queue, &stop, &count, &spent)
        })?);
        let inner = Inner {
            writes,
            reads,
            stopping,
            commits,
            committing,
            asked,
            threads: Mutex::new(threads),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Queues a write. The future resolves after its outcome is decided: `Ok` once it is durable; `Err` of the closure
    /// once it is rolled back, alone. Closures must be short, must not block and must not wait for another write.
    ///
    /// # Errors
    /// What the closure returns; `Overloaded`, `Closed`, `Panicked`, `NotCommitted`, `Unanswered` of the store.
    pub fn write<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let queue = self.inner.writes.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            let job = writer::Job {
                work: Some(work),
                outcome: None,
                reply,
            };
            enqueue(queue, writer::Message::Work(Box::new(job))).await?;
            // No deadline: the caller must learn what became of the write, and the writer always says.
            answer.await.map_err(|_gone| StoreError::Unanswered)?
        }
    }

    /// Queues a read; it sees one consistent state, from its first statement to its last.
    ///
    /// # Errors
    /// What the closure returns; `Overloaded`, `Closed`, `Panicked`, `Unanswered`, `Sql` of the store.
    pub fn read<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let queue = self.inner.reads.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            enqueue(queue, readers::pack(work, reply)).await?;
            answer.await.map_err(|_gone| StoreError::Unanswered)?
        }
    }

    /// How many transactions were committed since the store was opened: fewer than writes when they come together.
    #[must_use]
    pub fn commits(&self) -> u64 {
        *self.inner.commits.borrow()
    }

    /// Wakes whoever shows what the catalogue holds: its value is [`Store::commits`], and changes after each commit.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.commits.subscribe()
    }

    /// How long commits have taken since the store was opened, all together: what writers wait for is mostly this.
    #[must_use]
    pub fn committing(&self) -> Duration {
        Duration::from_micros(self.inner.committing.load(Ordering::Relaxed))
    }

    /// How many statements were run since the store was opened, those that begin and end transactions among them: what a
    /// request costs does not grow with what it lists.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// Ends the store: finishes what is queued, refuses what comes later, moves the WAL into the database file. Further
    /// calls do nothing.
    ///
    /// # Errors
    /// The first error of a thread that ended badly; nothing that was answered `Ok` is lost by it.
    pub async fn close(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.stop())
            .await
            .map_err(|_panicked| StoreError::Unanswered)?
    }
}

impl Inner {
    /// Asks the threads to end, and waits for them.
    fn stop(&self) -> Result<(), StoreError> {
        self.stopping.store(true, Ordering::Release);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = threads.pop();
        // A full queue needs no wake-up: its thread is busy, and looks at the flag after what it does now.
        wake(&self.reads, readers::Message::Wake);
        let mut outcome = Ok(());
        for thread in threads.drain(..) {
            outcome = outcome.and(join(thread));
        }
        wake(&self.writes, writer::Message::Wake);
        if let Some(thread) = writer {
            outcome = outcome.and(join(thread));
        }
        outcome
    }
}

impl Drop for Inner {
    /// As [`Store::close`], for whoever did not close: blocks for what is still queued.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the catalogue did not close cleanly"
            );
        }
    }
}

fn wake<M>(queue: &mpsc::Sender<M>, message: M) {
    if queue.try_send(message).is_err() {
        tracing::trace!("the store's thread is awake or gone");
    }
}

fn join(thread: JoinHandle<Result<(), StoreError>>) -> Result<(), StoreError> {
    if thread.thread().id() == thread::current().id() {
        // The last handle was dropped by a closure that runs on this very thread, which ends by itself.
        return Ok(());
    }
    thread
        .join()
        .map_err(|panic| StoreError::Panicked(writer::panic_text(panic.as_ref())))?
}

async fn enqueue<M>(queue: mpsc::Sender<M>, message: M) -> Result<(), StoreError> {
    use mpsc::error::SendTimeoutError;
    queue
        .send_timeout(message, QUEUE_WAIT)
        .await
        .map_err(|error| match error {
            SendTimeoutError::Timeout(_) => StoreError::Overloaded,
            SendTimeoutError::Closed(_) => StoreError::Closed,
        })
}

fn spawn(
    path: &Path,
    name: &str,
    body: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
) -> Result<JoinHandle<Result<(), StoreError>>, StoreError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

/// Makes the file unreadable for others before SQLite gives the same mode to its WAL, and its name durable.
fn make_file(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let opening = |error| StoreError::opening(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut sql = Connection::open_with_flags(path, flags).map_err(opening)?;
    sql.busy_timeout(BUSY_WAIT).map_err(opening)?;
    migrate::check(path, &sql)?;
    let mode: String = sql
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(opening)?;
    if mode != "wal" {
        let source = format!("the file system allows journal mode {mode} only, not WAL").into();
        return Err(StoreError::Open {
            path: path.to_owned(),
            source,
        });
    }
    sql.execute_batch(
        // The writer moves the WAL itself, when nobody waits for it (see `writer`). A savepoint's journal is no file.
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;",
    )
    .map_err(opening)?;
    sql.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    find::install(&sql).map_err(opening)?;
    migrate::apply(path, &mut sql)?;
    Ok(sql)
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let opening = |error| StoreError::opening(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = Connection::open_with_flags(path, flags).map_err(opening)?;
    sql.busy_timeout(BUSY_WAIT).map_err(opening)?;
    sql.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")
        .map_err(opening)?;
    sql.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    find::install(&sql).map_err(opening)?;
    Ok(sql)
}
