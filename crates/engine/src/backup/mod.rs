//! Backups: one moment of a VM's disks, held for a client that downloads it, and remembered as a checkpoint.
//!
//! At the moment each disk gets a new overlay, all in one transaction, as for a snapshot. What was written to before is
//! frozen then: it *is* the moment, and is read while the guest writes to the overlay. No copy before writing, no scratch
//! disk: the guest never waits for a client, and QEMU may be stopped, started or killed meanwhile.
//!
//! A backup is a job (same UUID) whose last step lasts until its client is done:
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | overlay files, durable; their nodes opened in the running QEMU | nodes closed, files removed |
//! | `switch` | freeze, ONE transaction for all disks, thaw | not switched: nothing to do. Switched: the overlays stay, and are merged later |
//! | `maps` | works out what changed since `from`; phase `ready`, the checkpoint is there | with the job: the checkpoint goes |
//! | `hold` | waits for the client; looks after the lease, the free space, and who gives it up | its transfers are ended |
//!
//! Ended well: the snapshot's name goes, the checkpoint stays, and a job of its own merges what the backups before held
//! apart; with that the backup has succeeded ([`finalize`]). Ended badly: snapshot and checkpoint go, and
//! [`crate::reconcile::tidy`] merges.
//!
//! | kind | of a VM that | users see a snapshot | locked until the end |
//! |---|---|---|---|
//! | `snapshot` | runs | yes | nothing; what would touch the moment is refused ([`expect_none`]) |
//! | `live` | runs | no | the VM |
//! | `cold` | is down | no | the VM |
//!
//! # Crash consistency
//! Until `switch` has begun nothing but new files was made. A switch that may have happened is looked up in QEMU's graph
//! or on disk, never guessed ([`crate::snapshot::create`]). From then on the frozen images are in the tree under the
//! backup's own rows, which pin them ([`crate::graph`]) until the transaction that ends it.

pub(crate) mod create;
pub(crate) mod finalize;
mod hold;
mod maps;
pub(crate) mod view;
pub(crate) mod watch;

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, Saga, StepError, Undo, from_json},
    lock::moment,
    ports::Frozen,
    snapshot::create::{self as switching, Create, Switched},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    backup::{self, BackupRow},
    checkpoint,
    job::{self, JobRow, StepRow},
    snapshot,
};
use stillpoint_types::{
    BackupId, BackupKind, BackupPhase, DiskId, FaultCode, JobId, Micros, StepState, VmId, now_micros,
};

pub(crate) const KIND: &str = "backup";
const VERSION: u32 = 1;
/// Phases in which a backup is under way.
const OPEN: &[BackupPhase] = &[
    BackupPhase::Initializing,
    BackupPhase::Starting,
    BackupPhase::Ready,
    BackupPhase::Finalizing,
];
/// Phases before the end is decided.
const UNDECIDED: &[BackupPhase] = &[BackupPhase::Initializing, BackupPhase::Starting, BackupPhase::Ready];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// How its moment is made. Its snapshot and active ids are of rows only for kind `snapshot`.
    switch: switching::Params,
    kind: BackupKind,
    require_consistency: bool,
}

/// What the step `switch` leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Moment {
    switched: Switched,
    at: Micros,
}

/// The saga.
struct Backup {
    params: Params,
    create: Create,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    let params: Params = from_json(&row.params)?;
    let create = Create {
        params: params.switch.clone(),
    };
    Ok(Arc::new(Backup { params, create }))
}

/// Whether a backup's job may have frozen its guest.
pub(crate) fn freezes(job: &JobRow) -> bool {
    from_json(&job.params).is_ok_and(|params: Params| params.switch.freezes())
}

/// Whether a job is a backup that only waits for its client.
pub(crate) fn is_waiting(job: &JobRow, steps: &[StepRow]) -> bool {
    job.kind == KIND
        && steps
            .iter()
            .any(|step| step.name == "maps" && step.state == StepState::Done)
}

fn id_of(job: JobId) -> BackupId {
    BackupId(job.0)
}

/// How long a client may do nothing, as rows have it.
fn lease(engine: &Inner) -> Micros {
    Micros::try_from(engine.options.backup_lease.as_micros()).unwrap_or(Micros::MAX)
}

/// The row of a backup whose job runs.
async fn row_of(engine: &Inner, id: BackupId) -> Result<BackupRow, Fault> {
    let read = move |conn: &Conn| -> Result<_, Fault> { Ok(backup::get(conn, id)?) };
    let found = engine.store.read(read).await?;
    found.ok_or_else(|| Fault::internal(format!("backup {id} is gone")))
}

fn refused(row: &BackupRow, doing: &str) -> Fault {
    let text = format!(
        "Cannot {doing}. VM {} is being backed up by backup {} since {}. Finalize the backup first.",
        row.vm_name,
        row.id,
        moment(row.created_at)
    );
    Fault::new(FaultCode::DuringBackup, text)
}

/// Refuses what must not be done to a VM while it is being backed up.
pub(crate) fn expect_none(conn: &Conn, vm: VmId, doing: &str) -> Result<(), Fault> {
    backup::live_of_vm(conn, vm)?.map_or(Ok(()), |row| Err(refused(&row, doing)))
}

/// The same of a disk.
pub(crate) fn expect_none_of_disk(conn: &Conn, disk: DiskId, doing: &str) -> Result<(), Fault> {
    backup::live_of_disk(conn, disk)?.map_or(Ok(()), |row| Err(refused(&row, doing)))
}

/// An event about a backup: its id is in each, so that they can be found.
fn event(what: What, row: &BackupRow, text: &str) -> Event {
    let text = format!("Backup {} of VM {}: {text}", row.id, row.vm_name);
    Event::new(what, text).vm(row.project, row.vm, &row.vm_name)
}

/// Why a backup that somebody gave up ends.
fn given_up(row: &BackupRow) -> Fault {
    let reason = row.reason.as_deref().unwrap_or("It was given up.");
    Fault::new(FaultCode::BackupPhase, reason)
}

/// Whether the disks of a job were switched, by the step that records it.
fn was_switched(steps: &[StepRow]) -> bool {
    steps.iter().any(|step| step.name == "switch" && step.output.is_some())
}

impl Backup {
    async fn switch(&self, cx: &Cx) -> Result<Done, StepError> {
        let switched = self.create.ensure_switched(cx).await?;
        let (id, project, actor) = (id_of(cx.job.id), cx.job.project, cx.actor());
        let params = self.params.switch.clone();
        let frozen = self.params.switch.held || matches!(switched.frozen, Frozen::Yes(_));
        let consistent = self.params.kind == BackupKind::Cold || frozen;
        let at = now_micros();
        let moment = Moment { switched, at };
        let done = Done::output(&moment)?;
        Ok(done.and(move |tx| {
            switching::record_switched(tx, &params, &moment.switched, &actor, project)?;
            backup::set_consistent(tx, id, consistent)?;
            backup::set_phase(tx, id, &[BackupPhase::Initializing], BackupPhase::Starting, None, at)?;
            Ok(())
        }))
    }

    async fn undo_prepare(&self, cx: &Cx) -> Result<Undo, StepError> {
        let id = cx.job.id;
        let read = move |conn: &Conn| -> Result<_, Fault> { Ok(job::steps(conn, id)?) };
        let steps = cx.engine.store.read(read).await.map_err(StepError::later)?;
        if was_switched(&steps) {
            // The guest writes to the overlays.
            return Ok(Undo::Undone);
        }
        self.create.undo_prepare(cx).await
    }
}

#[async_trait]
impl Saga for Backup {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        match cx.step.name.as_str() {
            "prepare" => self.create.prepare(cx).await,
            "switch" => self.switch(cx).await,
            "maps" => self.maps(cx).await,
            "hold" => self.hold(cx).await,
            other => Err(Fault::internal(format!("a backup has no step {other}")).into()),
        }
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        match cx.step.name.as_str() {
            "prepare" => self.undo_prepare(cx).await,
            // A switch that is recorded stays: the rows of the end see to it.
            "switch" if cx.step.state != StepState::Done => self.create.undo_switch(cx).await,
            "hold" => self.let_go(cx).await,
            _ => Ok(Undo::Undone),
        }
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        finalize::finish(tx, job)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let id = id_of(job.id);
        let row = backup::get(tx, id)?.ok_or_else(|| Fault::internal("the backup's row is gone"))?;
        if was_switched(&job::steps(tx, job.id)?) {
            if let Some(snapshot) = row.snapshot {
                snapshot::delete(tx, snapshot)?;
            }
        } else {
            switching::record_unswitched(tx, &self.params.switch, why)?;
        }
        checkpoint::delete(tx, row.to)?;
        backup::forget_snapshot(tx, id)?;
        backup::set_phase(tx, id, OPEN, BackupPhase::Failed, Some(&why.text), now_micros())?;
        let reason = row.reason.as_deref().unwrap_or(&why.text);
        event(What::BackupFailed, &row, &format!("it failed: {reason}"))
            .by(&Actor::of_job(job))
            .write(tx)
    }
}
