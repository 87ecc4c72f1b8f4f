//! The one writer: a thread that owns the only connection that may change the catalogue, and commits in batches.
//!
//! Why: SQLite has one writer at a time anyway, and what a commit costs is its sync to disk. So everything that waits is
//! taken at once, each piece of work runs in a savepoint of its own, and one commit makes all of it durable.
//!
//! ```text
//! queue: w1 w2 w3   BEGIN IMMEDIATE
//!                     SAVEPOINT w1 RELEASE | SAVEPOINT w2 ROLLBACK TO (w2 failed) | SAVEPOINT w3 RELEASE
//!                   COMMIT (one sync)   then, and only then, w1 Ok, w2 Err, w3 Ok
//! ```
//!
//! Crash consistency: an answered `Ok` is on disk (WAL, `synchronous=FULL`). A crash before the commit loses whole pieces
//! of work, none of which was answered. Constraints must be immediate: one that is deferred would fail the commit, and with
//! it the work of strangers.
//!
//! Must not: know any table.

use crate::{Conn, StoreError, Tx};
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{mpsc, oneshot, watch};

/// How much work may wait; then callers wait for room. Enough for every connection of a busy daemon.
pub(crate) const QUEUE_MAX: usize = 1024;
/// How much work one commit may take: bounds how long the first of a batch waits for the last.
const BATCH_MAX: usize = 128;
/// After how many commits the WAL is moved into the database file. A commit of ours writes some twenty pages: 10 MiB.
const CHECKPOINT_PERIOD: u64 = 128;

/// What goes through the queue.
pub(crate) enum Message {
    /// Something to do.
    Work(Box<dyn Work>),
    /// Look at the stop flag.
    Wake,
}

/// A piece of work whose types are forgotten, so that different ones fit in one queue.
pub(crate) trait Work: Send {
    /// Runs it; true if its writes are to be kept.
    fn run(&mut self, tx: &Tx) -> bool;
    /// Tells the caller. `lost`: why the transaction did not commit.
    fn answer(self: Box<Self>, lost: Option<StoreError>);
}

/// [`Work`] of known types.
pub(crate) struct Job<F, T, E> {
    pub(crate) work: Option<F>,
    pub(crate) outcome: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Work for Job<F, T, E>
where
    F: FnOnce(&Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &Tx) -> bool {
        let Some(work) = self.work.take() else { return false };
        // Unwind safety: after a panic the savepoint is rolled back and nothing else of the closure is looked at.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|panic| Err(E::from(StoreError::Panicked(panic_text(panic.as_ref())))));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, lost: Option<StoreError>) {
        let answer = match (self.outcome, lost) {
            // Its own error says more than the batch's.
            (Some(Err(own)), _) => Err(own),
            (_, Some(lost)) => Err(E::from(lost)),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(E::from(StoreError::Unanswered)),
        };
        if self.reply.send(answer).is_err() {
            tracing::debug!("nobody waits for the outcome of a write any more");
        }
    }
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Runs until the queue is closed and empty, then moves the WAL into the database file.
pub(crate) fn run(
    conn: Conn,
    mut queue: mpsc::Receiver<Message>,
    stopping: &AtomicBool,
    commits: &watch::Sender<u64>,
    committing: &AtomicU64,
) -> Result<(), StoreError> {
    let tx = Tx(conn);
    let mut behind = 0;
    while let Some(first) = queue.blocking_recv() {
        let mut batch = VecDeque::with_capacity(BATCH_MAX);
        let mut next = Some(first);
        while let Some(message) = next {
            if let Message::Work(work) = message {
                batch.push_back(work);
            }
            next = if batch.len() < BATCH_MAX {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        let before = *commits.borrow();
        while !batch.is_empty() {
            commit_some(&tx, &mut batch, commits, committing);
        }
        behind += commits.borrow().wrapping_sub(before);
        if behind >= CHECKPOINT_PERIOD {
            move_wal(&tx);
            behind = 0;
        }
        if stopping.load(Ordering::Acquire) {
            queue.close();
        }
    }
    finish(tx)
}

/// Copies the WAL into the database file, after everybody has his answer: SQLite's own way would let one of them wait.
/// What a reader still needs stays, and is copied the next time.
fn move_wal(tx: &Tx) {
    if let Err(error) = tx.sql().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_row| Ok(())) {
        let error = &error as &dyn std::error::Error;
        tracing::error!(
            error,
            "the WAL cannot be moved into the database; it grows until it can"
        );
    }
}

/// Runs the batch in one transaction and answers what it ran. If the transaction breaks on the way, what was not begun
/// stays in `batch` for another one. Always takes something from `batch`.
fn commit_some(tx: &Tx, batch: &mut VecDeque<Box<dyn Work>>, commits: &watch::Sender<u64>, committing: &AtomicU64) {
    let mut ran = Vec::with_capacity(batch.len());
    if let Err(error) = tx.sql().execute_batch("BEGIN IMMEDIATE") {
        ran.extend(batch.drain(..));
        return give_up(tx, ran, "begin", error);
    }
    let mut kept = false;
    while let Some(mut work) = batch.pop_front() {
        let step = run_one(tx, work.as_mut());
        ran.push(work);
        match step {
            Ok(keep) => kept |= keep,
            Err(error) => return give_up(tx, ran, "savepoint", error),
        }
    }
    let end = if kept { "COMMIT" } else { "ROLLBACK" };
    let begun = Instant::now();
    if let Err(error) = tx.sql().execute_batch(end) {
        return give_up(tx, ran, "commit", error);
    }
    if kept {
        let spent = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        committing.fetch_add(spent, Ordering::Relaxed);
        commits.send_modify(|count| *count = count.wrapping_add(1));
    }
    for work in ran {
        work.answer(None);
    }
}

/// One piece of work in its savepoint. An error means that the whole transaction is gone.
fn run_one(tx: &Tx, work: &mut dyn Work) -> rusqlite::Result<bool> {
    let sql = tx.sql();
    sql.execute_batch("SAVEPOINT work")?;
    let keep = work.run(tx);
    if sql.is_autocommit() {
        // A full disk or an I/O error makes SQLite roll back everything (lang_transaction.html, "response to errors").
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
            Some("the whole transaction was rolled back".to_owned()),
        ));
    }
    sql.execute_batch(if keep {
        "RELEASE work"
    } else {
        "ROLLBACK TO work; RELEASE work"
    })?;
    Ok(keep)
}

/// Takes the transaction back and tells everybody in it.
fn give_up(tx: &Tx, ran: Vec<Box<dyn Work>>, stage: &'static str, error: rusqlite::Error) {
    tracing::error!(
        stage,
        error = &error as &dyn std::error::Error,
        writes = ran.len(),
        "a batch did not commit"
    );
    if !tx.sql().is_autocommit()
        && let Err(error) = tx.sql().execute_batch("ROLLBACK")
    {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a failed batch cannot be rolled back"
        );
    }
    let source = Arc::new(error);
    for work in ran {
        work.answer(Some(StoreError::NotCommitted {
            stage,
            source: Arc::clone(&source),
        }));
    }
}

fn finish(tx: Tx) -> Result<(), StoreError> {
    // A reader outside of this process may hold the WAL: then the checkpoint is partial, and nothing is lost.
    tx.sql()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))?;
    let Tx(conn) = tx;
    conn.sql.close().map_err(|(_still_open, error)| StoreError::from(error))
}

#[cfg(test)]
mod tests {
    use crate::{Store, StoreError, meta};
    use std::{path::PathBuf, sync::mpsc, time::Duration};

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.db");
        (folder, path)
    }

    #[tokio::test]
    async fn a_lost_transaction_fails_who_was_in_it_and_spares_who_was_not_begun() {
        let (_folder, path) = fresh();
        let store = Store::open(&path).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let (begun, mut running) = tokio::sync::mpsc::channel(1);
        let held = tokio::spawn(store.write(move |_tx| -> Result<(), StoreError> {
            begun.blocking_send(()).unwrap();
            gate.recv_timeout(Duration::from_secs(20)).unwrap();
            Ok(())
        }));
        // From here on, what is queued lies in the next batch.
        running.recv().await.unwrap();
        let before = tokio::spawn(store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "before", "v") }));
        let breaker = tokio::spawn(store.write(|tx| -> Result<(), StoreError> {
            // What SQLite itself does after some I/O errors.
            Ok(tx.sql().execute_batch("ROLLBACK")?)
        }));
        let after = tokio::spawn(store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "after", "v") }));
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        held.await.unwrap().unwrap();
        let lost = |outcome| matches!(outcome, Err(StoreError::NotCommitted { stage: "savepoint", .. }));
        assert!(lost(before.await.unwrap()), "it must not be told that its row is there");
        assert!(lost(breaker.await.unwrap()));
        after.await.unwrap().unwrap();
        let rows = store
            .read(|conn| -> Result<_, StoreError> { Ok((meta::value(conn, "before")?, meta::value(conn, "after")?)) })
            .await
            .unwrap();
        assert_eq!(rows, (None, Some("v".to_owned())));
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_the_store_goes_on_once_there_is_room() {
        let (_folder, path) = fresh();
        let store = Store::open(&path).unwrap();
        let limit = async |pages: u32| {
            store
                .write(move |tx| -> Result<_, StoreError> {
                    Ok(tx
                        .sql()
                        .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
                            row.get::<_, i64>(0)
                        })?)
                })
                .await
                .unwrap()
        };
        // SQLite takes a limit below the present size for the present size.
        limit(1).await;
        let big = "x".repeat(1024 * 1024);
        let value = big.clone();
        let full = store
            .write(move |tx| -> Result<_, StoreError> { meta::put(tx, "big", &value) })
            .await
            .unwrap_err();
        let text = format!("{full:?}");
        assert!(text.contains("DiskFull"), "{text}");
        limit(1_000_000).await;
        store
            .write(move |tx| -> Result<_, StoreError> { meta::put(tx, "big", &big) })
            .await
            .unwrap();
        let length = store
            .read(|conn| -> Result<_, StoreError> { Ok(meta::value(conn, "big")?.map(|value| value.len())) })
            .await
            .unwrap();
        assert_eq!(length, Some(1024 * 1024));
    }
}
