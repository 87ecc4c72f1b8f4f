//! How long guests' writes stood while their disks were switched: the price of a snapshot, for the operator's metrics.
//!
//! Only switches of this process are counted; what happened before a restart is in the old process's numbers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Stalls that nobody has fetched yet, at most: whoever scrapes no metrics needs none.
const KEPT_MAX: usize = 4096;

/// Stalls since somebody last asked.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Mutex<Vec<Duration>>);

impl Stalls {
    /// One more: from the freeze to the thaw, or the transaction alone.
    pub(crate) fn add(&self, window_us: u64, transaction_us: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(Duration::from_micros(window_us.max(transaction_us)));
        }
    }

    /// All that have not been fetched.
    pub(crate) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
