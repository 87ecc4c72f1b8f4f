//! Crash points: moments at which a test can end the daemon, or hold it while something else is ended.
//!
//! Without the feature `failpoints`, which no release has, a point is nothing. With it, two variables choose:
//! * `STILLPOINT_CRASH_AT` names one point, see [`crash_point`];
//! * `STILLPOINT_CRASH_HOW` is `abort` (default: the process ends there at once, nothing is flushed or dropped) or
//!   `stop` (the process stops itself as by SIGSTOP, once; whoever waits for that kills what it likes, then continues it).
//!
//! The names, outermost first:
//! * `KIND:STEP:WHEN`, the boundaries of a journal's step: `started` (intent is on disk, no effect yet), `effect` (the
//!   effect has happened, nothing recorded), `done` (recorded), `undo` (about to be taken back);
//! * `switch:MOMENT`, within the window of a snapshot of disks: `frozen`, `switched`;
//! * `save:MOMENT`, within the window of one with memory: `stopped`, `switched`, `saving`;
//! * `merge:MOMENT`: `running`, `ready`, `pending`, `marked`, `finalizing`, `concluded`.

/// A limit that a test may change by the environment variable `name`, as it has no room for what is beyond the real one.
/// Without the feature it is `default`.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn test_limit(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The limit itself, without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[must_use]
pub fn test_limit(_name: &str, default: u64) -> u64 {
    default
}

/// The point named by `parts`, joined with `:`. Ends or stops the process there if it is the chosen one.
#[cfg(feature = "failpoints")]
pub fn crash_point(parts: &[&str]) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    };
    static AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("STILLPOINT_CRASH_AT").ok());
    static STOPS: LazyLock<bool> =
        LazyLock::new(|| std::env::var("STILLPOINT_CRASH_HOW").is_ok_and(|how| how == "stop"));
    static STOPPED: AtomicBool = AtomicBool::new(false);
    if AT.as_deref() != Some(parts.join(":").as_str()) {
        return;
    }
    if !*STOPS {
        std::process::abort();
    }
    if !STOPPED.swap(true, Ordering::SeqCst) {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
            .expect("a process may stop itself");
    }
}

/// The point named by `parts`: nothing, without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn crash_point(_parts: &[&str]) {}
