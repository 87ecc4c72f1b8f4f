//! The commands of a client: one grammar for all nouns, against any server of the oVirt API.
//!
//! * `vm`, `snapshot`, `disk`, `job`, `event`, `checkpoint`, `transfer`: one noun, one file. `explain`: why a thing is in
//!   its state. `repair`: damage, and mending it. `shell`: completions and man pages. `reference`: all commands as one document.
//! * `backup`: backups on the server. Points in a directory: [`crate::backup`].
//! * `volume`, `user`, `project`, `key`: over OpenStack's APIs. `cloud`: for them, what `session` is for the others.
//! * `session`: reading (tried again when the connection breaks), changing (never sent twice unseen), waiting for the job.
//! * `plan`: what a command is about to do and what is lost by it; shown before anything destructive, and by `--dry-run`.
//! * `shown`: a result, as a table for people or as JSON. `find`: from names to ids. `suggest`: what was meant.
//! * `secret`: passwords that are not on the command line.
//! * `server`, `connect`, `trouble`, `retry`, `table`, `progress`: shared with `stillpoint backup`.

mod backup;
mod checkpoint;
mod cloud;
pub(crate) mod code;
pub(crate) mod connect;
mod disk;
mod event;
mod explain;
mod find;
mod job;
mod key;
mod plan;
pub(crate) mod progress;
mod project;
pub(crate) mod reference;
mod repair;
pub(crate) mod retry;
mod secret;
mod server;
mod session;
pub(crate) mod shell;
pub(crate) mod shown;
mod size;
mod snapshot;
mod suggest;
pub(crate) mod table;
mod transfer;
mod tree;
mod trouble;
mod user;
mod vm;
mod volume;

pub(crate) use backup::{FinalizeOptions, OneBackup, ServerBackupCommand, StartOptions};
pub(crate) use checkpoint::CheckpointCommand;
pub(crate) use cloud::CloudCommon;
pub(crate) use disk::DiskCommand;
pub(crate) use event::EventCommand;
pub(crate) use explain::ExplainOptions;
pub(crate) use job::JobCommand;
pub(crate) use key::KeyCommand;
pub(crate) use project::ProjectCommand;
pub(crate) use repair::RepairOptions;
pub(crate) use server::ServerOptions;
pub(crate) use snapshot::SnapshotCommand;
pub(crate) use transfer::TransferCommand;
pub(crate) use trouble::Trouble;
pub(crate) use user::UserCommand;
pub(crate) use vm::VmCommand;
pub(crate) use volume::VolumeCommand;

use crate::Failure;
use clap::Args;
use session::Session;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// What every command of a client can be given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Print JSON instead of a table: the API's own documents (version 4), a list as an array.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

/// A command with its noun.
#[derive(Debug)]
pub(crate) enum Asked {
    Vm(VmCommand),
    Disk(DiskCommand),
    Snapshot(SnapshotCommand),
    Checkpoint(CheckpointCommand),
    Transfer(TransferCommand),
    Job(JobCommand),
    Event(EventCommand),
    Backup(ServerBackupCommand),
    Explain(ExplainOptions),
    Repair(RepairOptions),
}

/// A command of one of the nouns of OpenStack's APIs.
#[derive(Debug)]
pub(crate) enum CloudAsked {
    Volume(VolumeCommand),
    User(UserCommand),
    Project(ProjectCommand),
    Key(KeyCommand),
}

/// Runs one of the commands of OpenStack's APIs.
pub(crate) async fn execute_cloud(common: &CloudCommon, asked: CloudAsked) -> Result<ExitCode, Failure> {
    let mut talk = common.open().map_err(Trouble::into_failure)?;
    let is_administration = matches!(asked, CloudAsked::User(_) | CloudAsked::Project(_));
    if is_administration {
        talk = talk.for_administration().await.map_err(Trouble::into_failure)?;
    }
    let run = async {
        match asked {
            CloudAsked::Volume(command) => volume::run(&talk, command).await,
            CloudAsked::User(command) => user::run(&talk, command).await,
            CloudAsked::Project(command) => project::run(&talk, command).await,
            CloudAsked::Key(command) => key::run(&talk, command).await,
        }
    };
    let done = tokio::select! {
        done = Box::pin(run) => done,
        () = interrupted() => {
            secret::show_again();
            Err(talk.session.interrupt().await)
        }
    };
    talk.close().await;
    done.map_err(Trouble::into_failure)
}

/// Runs one of the commands.
pub(crate) async fn execute(common: &Common, asked: Asked) -> Result<ExitCode, Failure> {
    let session = Session::open(common).map_err(Trouble::into_failure)?;
    let done = tokio::select! {
        done = Box::pin(run(&session, asked)) => done,
        () = interrupted() => Err(session.interrupt().await),
    };
    session.close().await;
    done.map_err(Trouble::into_failure)
}

async fn run(session: &Session, asked: Asked) -> Result<ExitCode, Trouble> {
    match asked {
        Asked::Vm(command) => vm::run(session, command).await,
        Asked::Disk(command) => disk::run(session, command).await,
        Asked::Snapshot(command) => snapshot::run(session, command).await,
        Asked::Checkpoint(command) => checkpoint::run(session, command).await,
        Asked::Transfer(command) => transfer::run(session, command).await,
        Asked::Job(command) => job::run(session, command).await,
        Asked::Backup(command) => backup::run(session, command).await,
        Asked::Event(command) => event::run(session, command).await,
        Asked::Explain(options) => explain::run(session, &options).await,
        Asked::Repair(options) => repair::run(session, &options).await,
    }
}

/// Prints what a command was asked for, on standard output. Who reads it may have read enough, as `head` has: that is no
/// failure.
pub(crate) fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::of("it was done, but the result could not be printed", error))
        }
        _ => Ok(()),
    }
}

/// Waits until the user or the system asks this program to end.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        // Then the signal ends the program at once, as if nothing had been registered.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}
