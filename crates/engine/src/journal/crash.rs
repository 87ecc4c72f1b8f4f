//! Crash points at the journal's boundaries, for the tests that kill the daemon there.
//!
//! Compiled only with the feature `failpoints`; the variable `STILLPOINT_CRASH_AT` names one boundary as
//! `KIND:STEP:WHEN`, `WHEN` being `started` (intent is on disk, no effect yet), `effect` (the effect has happened,
//! nothing recorded) or `done` (recorded). The process ends there at once, as by SIGKILL.

/// Ends the process if this boundary is the one that was asked for.
#[cfg(feature = "failpoints")]
pub(crate) fn point(kind: &str, step: &str, when: &str) {
    use std::sync::LazyLock;
    static AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("STILLPOINT_CRASH_AT").ok());
    if AT.as_deref().is_some_and(|at| at == format!("{kind}:{step}:{when}")) {
        std::process::abort();
    }
}

/// Does nothing without the feature.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn point(_kind: &str, _step: &str, _when: &str) {}
