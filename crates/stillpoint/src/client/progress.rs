//! How far it is: bars on a terminal, a line now and then elsewhere. All of it on standard error.

use super::shown::note;
use indicatif::{BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two lines about one disk.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two turns of what shows that something is waited for.
const TICK: Duration = Duration::from_millis(120);
const TEMPLATE: &str = "{prefix} [{bar:28}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// Where progress goes.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            is_terminal,
        }
    }

    /// Says something that the user should know, without disturbing the bars.
    pub(crate) fn say(&self, text: &str) {
        if !self.is_terminal {
            note(text);
        } else if let Err(error) = self.bars.println(text) {
            tracing::debug!(%error, "the terminal cannot be written to");
        }
    }

    /// Begins with something that has `total` bytes.
    pub(crate) fn begin(&self, what: impl Into<String>, total: u64) -> Bar<'_> {
        let what = what.into();
        let bar = self.bars.add(ProgressBar::new(total));
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_prefix(what.clone());
        let now = Instant::now();
        Bar {
            progress: self,
            bar,
            what,
            total,
            done: AtomicU64::new(0),
            begin: now,
            told: Mutex::new(now),
        }
    }
}

/// How far one thing is.
#[derive(Debug)]
pub(crate) struct Bar<'p> {
    progress: &'p Progress,
    bar: ProgressBar,
    what: String,
    total: u64,
    done: AtomicU64,
    begin: Instant,
    told: Mutex<Instant>,
}

impl Bar<'_> {
    /// So many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.progress.is_terminal {
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        if told.elapsed() >= LINE_EVERY {
            *told = Instant::now();
            drop(told);
            self.progress
                .say(&line(&self.what, done, self.total, self.begin.elapsed()));
        }
    }

    pub(crate) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is being waited for, on a terminal; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Waited(ProgressBar);

impl Waited {
    pub(crate) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = per_second(done, elapsed);
    let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
    format!(
        "{what}: {} of {}, {}/s, {} left",
        BinaryBytes(done),
        BinaryBytes(total),
        BinaryBytes(rate),
        HumanDuration(Duration::from_secs(left)),
    )
}

/// Bytes a second.
pub(crate) fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_bytes_rate_and_what_is_left() {
        let said = line("disk1", 512 << 20, 2 << 30, Duration::from_secs(4));
        assert_eq!(said, "disk1: 512.00 MiB of 2.00 GiB, 128.00 MiB/s, 12 seconds left");
        line("disk1", 0, 0, Duration::ZERO);
    }
}
