//! `stillpoint backup ...`: points of a VM in a directory, made and restored over the public API only.
//!
//! Nothing here knows the daemon: it works against any server of the oVirt API, and a directory of points can be
//! verified and read without any server.
//!
//! * `start`, `show`, `finalize`: a backup of the server, without a directory: `crate::client`.
//! * `run`: a point from a backup of the server. `restore`: a new VM from a point. `verify`, `list`: the directory.
//! * `folder`, `point`: what a directory and its points are. `qcow2`: the files.
//! * `session`, `ticket`: what is open on the server, and is closed in every outcome. `download`, `upload`: the bytes.
//! * What it shares with the other commands of a client is in [`crate::client`].

mod download;
mod folder;
mod list;
mod options;
mod point;
mod qcow2;
mod reading;
mod restore;
mod run;
mod session;
mod ticket;
mod upload;
mod verify;

use crate::{
    Failure,
    client::{self, Asked, ServerBackupCommand, Trouble, connect, interrupted, print, progress, retry, table},
};
pub(crate) use options::BackupCommand;
use std::process::ExitCode;

/// Runs one of the commands.
pub(crate) async fn execute(command: BackupCommand) -> Result<ExitCode, Failure> {
    let done = match command {
        BackupCommand::Run(options) => Box::pin(run::run(&options)).await,
        BackupCommand::Restore(options) => Box::pin(restore::restore(&options)).await,
        BackupCommand::Verify(options) => blocking(move || verify::verify(&options)).await,
        BackupCommand::List(options) => Box::pin(list::list(options)).await,
        BackupCommand::Start { common, options } => {
            return Box::pin(client::execute(
                &common,
                Asked::Backup(ServerBackupCommand::Start(options)),
            ))
            .await;
        }
        BackupCommand::Show { common, options } => {
            return Box::pin(client::execute(
                &common,
                Asked::Backup(ServerBackupCommand::Show(options)),
            ))
            .await;
        }
        BackupCommand::Finalize { common, options } => {
            return Box::pin(client::execute(
                &common,
                Asked::Backup(ServerBackupCommand::Finalize(options)),
            ))
            .await;
        }
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

impl From<qcow2::Qcow2Error> for Trouble {
    fn from(error: qcow2::Qcow2Error) -> Self {
        let full =
            matches!(&error, qcow2::Qcow2Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
        let trouble = Self::of("a file of the point cannot be used", error);
        if full {
            trouble.hint("make room in that directory, and run again")
        } else {
            trouble
        }
    }
}
