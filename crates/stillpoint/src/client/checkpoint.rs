//! `stillpoint checkpoint ...`

use super::{
    Session, Trouble, find,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, moment, or_dash},
    vm::gone,
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{GetOptions, ListOptions};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints of a VM: what later backups can be incremental from.
    #[command(after_help = "Examples:
  stillpoint checkpoint list db1")]
    List(List),
    /// Delete a checkpoint: no backup can be incremental from it any more.
    #[command(after_help = "Examples:
  stillpoint checkpoint delete db1 7c0e... --dry-run")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Name or id of the VM.
    vm: String,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    /// Name or id of the VM.
    vm: String,
    /// Id of the checkpoint.
    checkpoint: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(session: &Session, command: CheckpointCommand) -> Result<ExitCode, Trouble> {
    match command {
        CheckpointCommand::List(options) => list(session, &options).await,
        CheckpointCommand::Delete(options) => delete(session, &options).await,
    }
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let (_, service) = find::vm(session, &options.vm).await?;
        let checkpoints = service.checkpoints_service();
        let list = session.read(|| checkpoints.list(ListOptions::new())).await?;
        Shown::list(&list, &["TIME", "STATE", "ID", "PARENT"], |one| {
            vec![
                one.creation_date.map_or_else(|| "-".to_owned(), |date| moment(date.0)),
                or_dash(one.state.as_deref()),
                or_dash(one.head.id.as_deref()),
                or_dash(one.parent_id.as_deref()),
            ]
        })
    };
    options.watch.show(session, look).await
}

async fn delete(session: &Session, options: &Delete) -> Result<ExitCode, Trouble> {
    let (_, service) = find::vm(session, &options.vm).await?;
    let service = service.checkpoints_service().checkpoint_service(&options.checkpoint);
    let read = session.read(|| service.get(GetOptions::new())).await;
    let list = format!("stillpoint checkpoint list {}", options.vm);
    read.map_err(|error| find::unread(error, "checkpoint", &options.checkpoint, &list))?;
    let plan = Plan::new(format!(
        "Delete the checkpoint {} of VM {:?}",
        options.checkpoint, options.vm
    ))
    .lose("the base of incremental backups that would begin at it: the next one from it is a full one")
    .keep("the other checkpoints, and backups that were taken");
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!(
        "the checkpoint {} of VM {:?} was not deleted",
        options.checkpoint, options.vm
    );
    let change = session.remove(failure, |call| service.remove(call)).await?;
    session.wait(&change, &options.waiting).await?;
    gone(session, "checkpoint", &options.checkpoint)
}
