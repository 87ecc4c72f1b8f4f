//! `stillpoint backup ...`: points of a VM in a directory, made and restored over the public API only.
//!
//! Nothing here knows the daemon: it works against any server of the oVirt API, and a directory of points can be
//! verified and read without any server.
//!
//! * `run`: a point from a backup of the server. `restore`: a new VM from a point. `verify`, `list`: the directory.
//! * `folder`, `point`: what a directory and its points are. `qcow2`: the files.
//! * `session`, `ticket`: what is open on the server, and is closed in every outcome. `download`, `upload`: the bytes.
//! * `progress`, `table`: what people see; everything else that is said goes to standard error.

mod connect;
mod download;
mod folder;
mod list;
mod options;
mod point;
mod progress;
mod qcow2;
mod reading;
mod restore;
mod retry;
mod run;
mod session;
mod table;
mod ticket;
mod trouble;
mod upload;
mod verify;

use crate::Failure;
pub(crate) use options::BackupCommand;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};
use trouble::Trouble;

/// Runs one of the commands.
pub(crate) async fn execute(command: BackupCommand) -> Result<ExitCode, Failure> {
    let done = match command {
        BackupCommand::Run(options) => Box::pin(run::run(&options)).await,
        BackupCommand::Restore(options) => Box::pin(restore::restore(&options)).await,
        BackupCommand::Verify(options) => blocking(move || verify::verify(&options)).await,
        BackupCommand::List(options) => blocking(move || list::list(&options)).await,
    };
    done.map_err(Trouble::into_failure)
}

/// Runs what blocks on a disk where it stops nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Trouble::of("work on the disk was ended", error)),
    }
}

/// Prints what a command was asked for, on standard output. Who reads it may have read enough, as `head` has: that is no
/// failure.
fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::of("it was done, but the result could not be printed", error))
        }
        _ => Ok(()),
    }
}

/// Waits until the user or the system asks this program to end.
async fn interrupted() {
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
