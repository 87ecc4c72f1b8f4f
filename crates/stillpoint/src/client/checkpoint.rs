//! `stillpoint checkpoint ...`

use super::{
    Session, Trouble, find,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, moment, or_dash},
    size,
    vm::gone,
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{GetOptions, ListOptions, VmCheckpointService, types::Checkpoint};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints of a VM: what later backups can be incremental from.
    #[command(after_help = "Examples:
  stillpoint checkpoint list db1")]
    List(List),
    /// Show one checkpoint and its disks.
    #[command(after_help = "Examples:
  stillpoint checkpoint show db1 7c0e...")]
    Show(One),
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
pub(crate) struct One {
    /// Name or id of the VM.
    vm: String,
    /// Id of the checkpoint.
    checkpoint: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(session: &Session, command: CheckpointCommand) -> Result<ExitCode, Trouble> {
    match command {
        CheckpointCommand::List(options) => list(session, &options).await,
        CheckpointCommand::Show(one) => show(session, &one).await,
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

impl One {
    async fn look(&self, session: &Session) -> Result<(VmCheckpointService, Checkpoint), Trouble> {
        let (_, service) = find::vm(session, &self.vm).await?;
        let service = service.checkpoints_service().checkpoint_service(&self.checkpoint);
        let read = session.read(|| service.get(GetOptions::new())).await;
        let list = format!("stillpoint checkpoint list {}", self.vm);
        let found = read.map_err(|error| find::unread(error, "checkpoint", &self.checkpoint, &list))?;
        Ok((service, found))
    }
}

async fn show(session: &Session, one: &One) -> Result<ExitCode, Trouble> {
    let (service, checkpoint) = one.look(session).await?;
    let disks = service.disks_service();
    let disks = session.read(|| disks.list(ListOptions::new())).await?;
    let disks = disks.iter().map(|disk| {
        let name = disk.head.name.as_deref().or(disk.head.id.as_deref());
        format!("{} ({})", or_dash(name), size::shown(disk.provisioned_size))
    });
    Shown::object(
        &checkpoint,
        &[
            ("id", checkpoint.head.id.clone()),
            ("time", checkpoint.creation_date.map(|date| moment(date.0))),
            ("state", checkpoint.state.clone()),
            ("parent", checkpoint.parent_id.clone()),
            ("description", checkpoint.head.description.clone()),
            ("disks", Some(disks.collect::<Vec<_>>().join(", "))),
        ],
    )?
    .print(session)
}

async fn delete(session: &Session, options: &Delete) -> Result<ExitCode, Trouble> {
    let One { vm, checkpoint } = &options.one;
    let (service, _) = options.one.look(session).await?;
    let plan = Plan::new(format!("Delete the checkpoint {checkpoint} of VM {vm:?}"))
        .lose("the base of incremental backups that would begin at it: the next one from it is a full one")
        .keep("the other checkpoints, and backups that were taken");
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the checkpoint {checkpoint} of VM {vm:?} was not deleted");
    let change = session.remove(failure, |call| service.remove(call)).await?;
    session.wait(&change, &options.waiting).await?;
    gone(session, "checkpoint", checkpoint)
}
