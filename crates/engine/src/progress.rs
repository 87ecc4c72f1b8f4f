//! Progress of a step, written to its row often enough for people and seldom enough for the disk.

use crate::journal::Cx;
use std::sync::{Mutex, PoisonError};
use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

/// Least time between two writes of one step's progress.
const WRITE_EVERY: Duration = Duration::from_millis(250);

impl Cx {
    /// A function that takes done and total, and writes percents.
    pub(crate) fn progress(&self) -> impl Fn(u64, u64) + Send + Sync + use<> {
        let (store, job, seq) = (self.engine.store.clone(), self.job.id, self.step.seq);
        let last = AtomicU8::new(0);
        let next = Mutex::new(Instant::now());
        move |done, total| {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(99);
            let percent = u8::try_from(percent).unwrap_or(99);
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            if percent <= last.load(Ordering::Relaxed) || Instant::now() < *next {
                return;
            }
            *next = Instant::now() + WRITE_EVERY;
            last.store(percent, Ordering::Relaxed);
            let write = store.write(move |tx| stillpoint_store::job::set_progress(tx, job, seq, percent));
            tokio::spawn(async move {
                if let Err(error) = write.await {
                    tracing::debug!(%error, "progress was not written");
                }
            });
        }
    }
}
