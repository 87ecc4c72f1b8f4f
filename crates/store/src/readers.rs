//! The readers: a few threads with read-only connections, each piece of work in one read transaction.
//!
//! Why threads: SQLite blocks, and async workers must not. In WAL mode readers never wait for the writer and see, from
//! their first statement to their last, one committed state.
//!
//! Must not: know any table, or write (the connections are opened read-only and say so again by `query_only`).

use crate::{Conn, StoreError, writer::panic_text};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// Reader threads: reads are short and mostly in memory, so a few serve many callers.
pub(crate) const READERS: usize = 4;
/// How many reads may wait; then callers wait for room.
pub(crate) const QUEUE_MAX: usize = 512;

/// What goes through the queue.
pub(crate) enum Message {
    /// Something to read; answers its caller itself.
    Work(Box<dyn FnOnce(&Conn) + Send>),
    /// Look at the stop flag.
    Wake,
}

/// The readers' end of the queue; they take turns at it.
pub(crate) type Queue = Arc<Mutex<mpsc::Receiver<Message>>>;

/// Packs a read for the queue.
pub(crate) fn pack<T, E, F>(work: F, reply: oneshot::Sender<Result<T, E>>) -> Message
where
    F: FnOnce(&Conn) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Message::Work(Box::new(move |conn| {
        let answer = in_transaction(conn, work);
        if reply.send(answer).is_err() {
            tracing::debug!("nobody waits for the outcome of a read any more");
        }
    }))
}

fn in_transaction<T, E, F>(conn: &Conn, work: F) -> Result<T, E>
where
    F: FnOnce(&Conn) -> Result<T, E>,
    E: From<StoreError>,
{
    let fail = |error: rusqlite::Error| E::from(StoreError::from(error));
    conn.sql().execute_batch("BEGIN DEFERRED").map_err(fail)?;
    // Unwind safety: after a panic the transaction is ended and nothing else of the closure is looked at.
    let outcome = catch_unwind(AssertUnwindSafe(|| work(conn)))
        .unwrap_or_else(|panic| Err(E::from(StoreError::Panicked(panic_text(panic.as_ref())))));
    if !conn.sql().is_autocommit() {
        conn.sql().execute_batch("ROLLBACK").map_err(fail)?;
    }
    outcome
}

/// Runs until the queue is closed and empty.
pub(crate) fn run(conn: Conn, queue: &Queue, stopping: &AtomicBool) -> Result<(), StoreError> {
    loop {
        let message = {
            // Nothing panics while this lock is held.
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let message = queue.blocking_recv();
            if stopping.load(Ordering::Acquire) {
                queue.close();
            }
            message
        };
        match message {
            Some(Message::Work(work)) => work(&conn),
            Some(Message::Wake) => {}
            None => break,
        }
    }
    conn.sql.close().map_err(|(_still_open, error)| StoreError::from(error))
}
