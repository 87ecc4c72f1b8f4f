//! The `stillpoint` binary: `serve` is the daemon; `doctor` looks at the host it would run on; `backup` and all commands
//! of `client` are clients.
//!
//! Here everything is put together; nothing is decided. Exit codes of `serve`, each with a message that says what to do:
//! 2 usage or configuration, 3 port taken, 4 data directory locked by another daemon, 5 QEMU missing, 6 database of a
//! newer version, 1 anything else.

mod backup;
mod cli;
mod client;
mod doctor;
mod serve;

use clap::Parser;
use cli::{Cli, Command};
use client::{Asked, CloudAsked, CloudCommon, Common, Trouble};
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
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            client::shown::note(&format!("stillpoint: {message}"));
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(options) => runtime()?.block_on(serve::run(options)),
        Command::Doctor(options) => runtime()?.block_on(doctor::run(&options)),
        Command::Backup { command } => until_done(backup::execute(command)),
        Command::Vm { common, command } => ask(&common, Asked::Vm(command)),
        Command::Disk { common, command } => ask(&common, Asked::Disk(command)),
        Command::Snapshot { common, command } => ask(&common, Asked::Snapshot(command)),
        Command::Checkpoint { common, command } => ask(&common, Asked::Checkpoint(command)),
        Command::Transfer { common, command } => ask(&common, Asked::Transfer(command)),
        Command::Job { common, command } => ask(&common, Asked::Job(command)),
        Command::Event { common, command } => ask(&common, Asked::Event(command)),
        Command::Volume { common, command } => ask_cloud(&common, CloudAsked::Volume(command)),
        Command::User { common, command } => ask_cloud(&common, CloudAsked::User(command)),
        Command::Project { common, command } => ask_cloud(&common, CloudAsked::Project(command)),
        Command::Key { common, command } => ask_cloud(&common, CloudAsked::Key(command)),
        Command::Explain { common, options } => ask(&common, Asked::Explain(options)),
        Command::Repair { common, options } => ask(&common, Asked::Repair(options)),
        Command::Completions(options) => client::shell::completions(&options).map_err(Trouble::into_failure),
        Command::Man(options) => client::shell::man(&options).map_err(Trouble::into_failure),
        Command::Reference => client::reference::show().map_err(Trouble::into_failure),
    }
}

fn ask(common: &Common, asked: Asked) -> Result<ExitCode, Failure> {
    until_done(client::execute(common, asked))
}

fn ask_cloud(common: &CloudCommon, asked: CloudAsked) -> Result<ExitCode, Failure> {
    until_done(client::execute_cloud(common, asked))
}

/// Runs a client's command. Whoever pressed Ctrl-C does not wait for a file that is still being read.
fn until_done(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(command);
    runtime.shutdown_background();
    done
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
