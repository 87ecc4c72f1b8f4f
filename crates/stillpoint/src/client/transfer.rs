//! `stillpoint transfer ...`

use super::{
    Session, Trouble, find,
    plan::{Plan, Sure},
    shown::{Shown, Watch, or_dash},
    size,
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{
    GetOptions, ListOptions,
    types::{Identified, ImageTransfer},
};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TransferCommand {
    /// List the image transfers.
    #[command(after_help = "Examples:
  stillpoint transfer list --watch")]
    List(List),
    /// Show one image transfer.
    #[command(after_help = "Examples:
  stillpoint transfer show 0a5b...")]
    Show(One),
    /// Give an image transfer up, and free its disk.
    #[command(after_help = "Examples:
  stillpoint transfer cancel 0a5b... --yes")]
    Cancel(Cancel),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Id of the transfer.
    transfer: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    sure: Sure,
}

pub(crate) async fn run(session: &Session, command: TransferCommand) -> Result<ExitCode, Trouble> {
    match command {
        TransferCommand::List(options) => list(session, &options).await,
        TransferCommand::Show(options) => shown(&read(session, &options.transfer).await?)?.print(session),
        TransferCommand::Cancel(options) => cancel(session, &options).await,
    }
}

/// The id of the disk, or of the image, whose bytes they are.
fn subject(transfer: &ImageTransfer) -> Option<&str> {
    let disk = transfer.disk.as_deref().and_then(|disk| disk.head.id.as_deref());
    let image = || transfer.image.as_deref().and_then(|image| image.head().id.as_deref());
    disk.or_else(image)
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let transfers = session.system().image_transfers_service();
    let look = async || {
        let list = session.read(|| transfers.list(ListOptions::new())).await?;
        Shown::list(&list, &["DIRECTION", "PHASE", "TRANSFERRED", "DISK", "ID"], |one| {
            vec![
                or_dash(one.direction.as_deref()),
                or_dash(one.phase.as_deref()),
                size::shown(one.transferred),
                or_dash(subject(one)),
                or_dash(one.head.id.as_deref()),
            ]
        })
    };
    options.watch.show(session, look).await
}

async fn read(session: &Session, id: &str) -> Result<ImageTransfer, Trouble> {
    let service = session.system().image_transfers_service().image_transfer_service(id);
    let read = session.read(|| service.get(GetOptions::new())).await;
    read.map_err(|error| find::unread(error, "transfer", id, "stillpoint transfer list"))
}

fn shown(transfer: &ImageTransfer) -> Result<Shown, Trouble> {
    let timeout = transfer.inactivity_timeout.map(|seconds| format!("{seconds} s"));
    Shown::object(
        transfer,
        &[
            ("id", transfer.head.id.clone()),
            ("direction", transfer.direction.clone()),
            ("phase", transfer.phase.clone()),
            ("transferred", Some(size::shown(transfer.transferred))),
            ("disk", subject(transfer).map(str::to_owned)),
            ("format", transfer.format.clone()),
            ("idle limit", timeout),
        ],
    )
}

async fn cancel(session: &Session, options: &Cancel) -> Result<ExitCode, Trouble> {
    let id = &options.one.transfer;
    let transfer = read(session, id).await?;
    let phase = transfer.phase.as_deref().unwrap_or_default();
    let mut plan = Plan::new(format!("Give up the transfer {id}, which is {phase}"));
    plan = match transfer.direction.as_deref() {
        Some("upload") => plan.lose(format!(
            "what was uploaded so far, {}: the disk is no longer whole",
            size::shown(transfer.transferred)
        )),
        _ => plan.lose("the client's way to the rest of the bytes").keep("the disk"),
    };
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let service = session.system().image_transfers_service().image_transfer_service(id);
    let failure = format!("the transfer {id} was not given up");
    session.change(failure, |call| service.cancel(call)).await?;
    shown(&read(session, id).await?)?.print(session)
}
