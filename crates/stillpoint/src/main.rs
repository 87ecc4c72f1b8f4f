//! The `stillpoint` binary: `serve` is the daemon; `doctor` looks at the host it would run on; `backup` is a client.
//!
//! Here everything is put together; nothing is decided. Exit codes of `serve`, each with a message that says what to do:
//! 2 usage or configuration, 3 port taken, 4 data directory locked by another daemon, 5 QEMU missing, 6 database of a
//! newer version, 1 anything else.

mod backup;
mod cli;
mod doctor;
mod serve;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// A failure to start: the exit code, and a message that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: 1,
            message: format!("{:#}", error.into()),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(options) => runtime().and_then(|runtime| runtime.block_on(serve::run(options))),
        Command::Backup { command } => runtime().and_then(|runtime| {
            let done = runtime.block_on(backup::execute(command));
            // Whoever pressed Ctrl-C does not wait for a file that is still being read.
            runtime.shutdown_background();
            done
        }),
        Command::Doctor(options) => runtime().and_then(|runtime| runtime.block_on(doctor::run(&options))),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            eprintln!("stillpoint: {message}");
            ExitCode::from(code)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
