//! The log: to standard error, as text or JSON; `RUST_LOG` chooses what it holds.

use crate::cli::LogChoice;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts it. Secrets never reach it: no room logs bodies, tokens or passwords.
pub(crate) fn start(choice: LogChoice) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match choice {
        LogChoice::Text => builder.with_ansi(false).try_init(),
        LogChoice::Json => builder.json().try_init(),
    };
    if let Err(error) = started {
        eprintln!("stillpoint: the log could not be started: {error}");
    }
}
