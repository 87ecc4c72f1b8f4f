//! What a guest is asked for: to restart, to freeze its file systems, to thaw them.

use super::{Start, told};
use crate::client::{Session, Trouble, find};
use std::process::ExitCode;

pub(super) async fn reboot(session: &Session, options: &Start) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let failure = format!("the VM {:?} was not asked to restart", options.vm);
    let (_, change) = session.change(failure, |call| service.reboot(call)).await?;
    session.wait(&change, &options.waiting).await?;
    told(session, &service, "was asked to restart").await
}

pub(super) async fn freeze(session: &Session, options: &Start) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let failure = format!("the file systems of VM {:?} were not frozen", options.vm);
    let (_, change) = session.change(failure, |call| service.freeze_filesystems(call)).await?;
    let thaw = format!(
        "the guest stands still until it is thawed: stillpoint vm thaw {}",
        options.vm
    );
    session.leaves(thaw.clone());
    session.wait(&change, &options.waiting).await?;
    crate::client::shown::note(&thaw);
    told(session, &service, "has frozen file systems").await
}

pub(super) async fn thaw(session: &Session, options: &Start) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let failure = format!("the file systems of VM {:?} were not thawed", options.vm);
    let (_, change) = session.change(failure, |call| service.thaw_filesystems(call)).await?;
    session.wait(&change, &options.waiting).await?;
    told(session, &service, "has thawed file systems").await
}
