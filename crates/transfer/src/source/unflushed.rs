//! What was written and is not known to be durable.
//!
//! # Crash consistency
//! A flush covers what was answered before it began. After a failed one, or after the writer's process was lost, a later
//! flush may succeed although data are gone (kernels report such an error once): so a loss is remembered for good.

use std::sync::{Mutex, MutexGuard, PoisonError};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};

#[derive(Debug, Default)]
struct Counts {
    written: u64,
    flushed: u64,
    lost: Option<String>,
}

/// The books of one source.
#[derive(Debug, Default)]
pub(crate) struct Unflushed(Mutex<Counts>);

/// A flush that began: what it covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flush(u64);

impl Unflushed {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Every change is a single assignment: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write was answered.
    pub(crate) fn wrote(&self) {
        self.counts().written += 1;
    }

    /// What is not flushed now may be gone.
    pub(crate) fn lose(&self, why: &str) {
        let mut counts = self.counts();
        if counts.written != counts.flushed {
            counts.lost.get_or_insert_with(|| why.to_owned());
        }
    }

    /// A write was sent and not answered in time: it may still be carried out, whenever.
    pub(crate) fn doubt(&self, why: &str) {
        self.counts().lost.get_or_insert_with(|| why.to_owned());
    }

    /// Everything is durable.
    pub(crate) fn is_none(&self) -> bool {
        let counts = self.counts();
        counts.written == counts.flushed && counts.lost.is_none()
    }

    /// A flush begins.
    pub(crate) fn begin(&self) -> Driven<Flush> {
        let counts = self.counts();
        Self::check(&counts)?;
        Ok(Flush(counts.written))
    }

    /// It ended.
    pub(crate) fn end(&self, flush: Flush, flushed: Driven<()>) -> Driven<()> {
        let Flush(covered) = flush;
        if let Err(error) = &flushed {
            self.lose(&error.chain());
        }
        flushed?;
        let mut counts = self.counts();
        Self::check(&counts)?;
        counts.flushed = counts.flushed.max(covered);
        Ok(())
    }

    fn check(counts: &Counts) -> Driven<()> {
        let Some(why) = &counts.lost else {
            return Ok(());
        };
        let context = format!("written data may be lost, transfer them again: {why}");
        Err(DriverError::new(DriverErrorKind::Io, "flush", context))
    }
}
