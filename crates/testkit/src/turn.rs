//! One real guest at a time: tests of one process take turns, as two cores emulate one machine well and five badly.
//!
//! A turn belongs to a thread and may be taken again by it, so a test may run several daemons.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

static OWNER: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

/// The right to use the machine; given back on drop, which may happen on another thread.
#[derive(Debug)]
pub struct Turn(());

impl Turn {
    /// Waits until no other thread has the turn and takes it.
    #[must_use]
    pub fn take() -> Self {
        let me = thread::current().id();
        let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        while owner.is_some_and(|(holder, _)| holder != me) {
            owner = FREE.wait(owner).unwrap_or_else(PoisonError::into_inner);
        }
        let depth = owner.map_or(0, |(_, depth)| depth);
        *owner = Some((me, depth + 1));
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        *owner = match *owner {
            Some((holder, depth)) if depth > 1 => Some((holder, depth - 1)),
            _ => None,
        };
        FREE.notify_all();
    }
}
