//! Image transfers: a disk's bytes, to a client or from him, over HTTP.
//!
//! A transfer is a job (same UUID) whose second step lasts as long as the transfer does. So its lock on the disk lives
//! and dies with it, and a restart drives it on like any other job:
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `serve` | opens the image (for an upload a storage daemon's NBD export; for a download its files), adds the ticket; phase `transferring` | ticket removed, daemon ended |
//! | `transfer` | waits for the client: looks after idle ones, tickets, failures; ends when he is done or gives up | - |
//! | `flush` | removes the ticket: not a byte moves any more, what was written is durable | - |
//! | `close` | ends the daemon; an upload is verified | - |
//!
//! A transfer that is cancelled or fails unwinds, which ends it as `finished_failure`. A disk that was written to by an
//! upload which did not end well stays, illegal, until another upload has ended well.
//!
//! # Crash consistency
//! Tickets are in the memory of the data plane: after a restart `transfer` adds its own anew, under the same name, so that
//! the client's URL lives on. Storage daemons outlive ours, and are found by the job's id. Should an upload's storage
//! daemon end before the flush, then what it had told us was written may be lost: the upload is given up.

pub(crate) mod control;
pub(crate) mod create;
mod expire;
mod finalize;
mod serve;
pub(crate) mod view;
mod watch;

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, Saga, StepError, Undo, from_json},
    ports::{ImageRef, ProcessRecord},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    job::{self, JobRow},
    transfer::{self, TransferRow},
};
use stillpoint_types::{FaultCode, JobId, TransferDirection, TransferId, TransferPhase, now_micros};

pub(crate) const KIND: &str = "image_transfer";
/// How long the daemon's start waits for transfers that were under way.
const SERVED_LIMIT: Duration = Duration::from_secs(10);
const VERSION: u32 = 1;
/// How long a ticket lives without being renewed (oVirt's value): what remains of access when this daemon's loop stops.
const TICKET_VALID: Duration = Duration::from_secs(300);
/// How long requests that run may take to end once their ticket is to go.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);
/// Phases in which a transfer is under way and its end is not decided.
pub(crate) const OPEN: &[TransferPhase] = &[
    TransferPhase::Initializing,
    TransferPhase::Transferring,
    TransferPhase::Resuming,
    TransferPhase::PausedSystem,
    TransferPhase::PausedUser,
];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// The layers to serve, base first.
    layers: Vec<ImageRef>,
    /// An upload of a file as such: the image that it becomes.
    fresh: Option<ImageRef>,
    /// The same file until it has been verified, as the plain bytes that it is.
    staging: Option<ImageRef>,
    /// The map of what of a backup's disk is to be downloaded, if not all is.
    #[serde(default)]
    dirty: Option<PathBuf>,
}

/// What `serve` leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Served {
    /// Who has the image open; none for a file that the data plane reads itself.
    process: Option<ProcessRecord>,
}

/// How the reason of a disk begins that is illegal by an upload.
const HALF_UPLOADED: &str = "Image transfer ";

/// Whether a disk is illegal by an upload that did not end well: another one makes it whole.
fn is_half_uploaded(row: &DiskRow) -> bool {
    row.illegal.as_deref().is_some_and(|why| why.starts_with(HALF_UPLOADED))
}

/// The saga.
struct Transfer {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Transfer {
        params: from_json(&row.params)?,
    }))
}

fn id_of(job: JobId) -> TransferId {
    TransferId(job.0)
}

/// All phases of a transfer that is not over.
fn unfinished() -> Vec<TransferPhase> {
    TransferPhase::ALL
        .iter()
        .copied()
        .filter(|phase| !phase.is_end())
        .collect()
}

/// The row of a transfer whose job runs.
async fn row_of(engine: &Inner, id: TransferId) -> Result<TransferRow, Fault> {
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(transfer::get(conn, id)?) };
    let found = engine.store.read(read).await?;
    found.ok_or_else(|| Fault::internal(format!("image transfer {id} is gone")))
}

/// An event about a transfer: its id is in each, so that they can be found.
fn event(what: What, row: &TransferRow, text: &str) -> Event {
    let way = match row.direction {
        TransferDirection::Download => "download",
        TransferDirection::Upload => "upload",
    };
    let text = format!("Image transfer {} ({way} of disk {}): {text}", row.id, row.alias);
    Event::new(what, text).disk(row.project, row.disk, &row.alias)
}

#[async_trait]
impl Saga for Transfer {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        match cx.step.name.as_str() {
            "serve" => self.serve(cx).await,
            "transfer" => self.watch(cx).await,
            "flush" => self.flush(cx).await,
            "close" => self.close(cx).await,
            other => Err(Fault::internal(format!("an image transfer has no step {other}")).into()),
        }
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.name == "serve" {
            self.withdraw(cx).await?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let id = id_of(job.id);
        let row = transfer::get(tx, id)?.ok_or_else(|| Fault::internal("the transfer's row is gone"))?;
        let is_upload = row.direction == TransferDirection::Upload;
        if is_upload && disk::get(tx, row.disk)?.is_some_and(|disk| is_half_uploaded(&disk)) {
            disk::set_illegal(tx, row.disk, None)?;
        }
        let from = [TransferPhase::FinalizingSuccess];
        transfer::set_phase(tx, id, &from, TransferPhase::FinishedSuccess, None, now_micros())?;
        event(What::TransferDone, &row, "it was successfully finished.")
            .by(&Actor::of_job(job))
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let id = id_of(job.id);
        let row = transfer::get(tx, id)?.ok_or_else(|| Fault::internal("the transfer's row is gone"))?;
        let by_user = row.phase == TransferPhase::FinalizingCleanup;
        let steps = job::steps(tx, job.id)?;
        let was_served = steps.iter().any(|step| step.name == "serve" && step.output.is_some());
        if row.direction == TransferDirection::Upload && was_served {
            let text = format!("{HALF_UPLOADED}{id} into it did not end well: {}", why.text);
            disk::set_illegal(tx, row.disk, Some(&text))?;
        }
        self.forget_fresh(tx)?;
        let reason = row.reason.as_deref().unwrap_or(&why.text).to_owned();
        let to = TransferPhase::FinishedFailure;
        transfer::set_phase(tx, id, &unfinished(), to, Some(&reason), now_micros())?;
        let (what, text) = if by_user {
            (What::TransferCancelled, "it was cancelled by its user.".to_owned())
        } else {
            (What::TransferFailed, format!("it failed: {reason}"))
        };
        event(what, &row, &text).by(&Actor::of_job(job)).write(tx)
    }
}

/// The fault of a transfer whose phase does not allow something.
fn wrong_phase(row: &TransferRow, doing: &str, needed: &str) -> Fault {
    Fault::new(
        FaultCode::TransferPhase,
        format!(
            "Cannot {doing} image transfer {} now: its phase is {}, it must be {needed}.",
            row.id, row.phase
        ),
    )
}

/// Waits, at start, until the transfers that were under way can be reached again: a client that kept its URL must not be
/// told that nobody knows it. What takes longer than [`SERVED_LIMIT`] does not keep the daemon from its other work.
pub(crate) async fn served_again(engine: &Inner) -> Result<(), Fault> {
    let (mut served, mut ended) = (engine.served.subscribe(), engine.journal.watch());
    let limit = tokio::time::sleep(SERVED_LIMIT);
    tokio::pin!(limit);
    loop {
        let rows = engine.store.read(transfer::transferring).await?;
        let mut missing = 0;
        for row in &rows {
            missing += usize::from(engine.data_plane.status(&row.ticket).await?.is_none());
        }
        if missing == 0 {
            return Ok(());
        }
        tokio::select! {
            Ok(()) = served.changed() => {}
            Ok(()) = ended.changed() => {}
            () = &mut limit => {
                tracing::warn!(missing, "image transfers are not served again yet");
                return Ok(());
            }
        }
    }
}
