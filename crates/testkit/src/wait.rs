//! Waiting with a deadline for what only another process can bring about.
//!
//! Such a condition sends no event to a test, so it is asked again and again; no wait is without an end.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time between two looks, short against anything that a test measures in seconds.
const POLL: Duration = Duration::from_millis(25);

/// Asks `look` until it gives a value, and returns that value.
///
/// `what` completes the sentence "waited 5s for ...".
///
/// # Errors
/// When the deadline passes, and at once when `look` itself fails.
pub fn eventually<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look().with_context(|| format!("while waiting for {what}"))? {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} for {what}");
        }
        std::thread::sleep(POLL);
    }
}

/// A TCP port of the loopback address that was free a moment ago.
///
/// Prefer `--listen 127.0.0.1:0`: somebody else may take the port before it is used.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding a port")?;
    Ok(listener.local_addr()?.port())
}
