//! Ends a backup: at its client's word, and what is done then.

use super::{UNDECIDED, event, id_of};
use crate::{
    access,
    command::{FinalizeBackup, Origin},
    engine::Inner,
    event::What,
    fault::Fault,
    journal::Actor,
    snapshot::delete,
};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    backup::{self, BackupRow},
    job::{self, JobRow},
    snapshot, transfer,
};
use stillpoint_types::{BackupId, BackupPhase, Caller, FaultCode, Need, now_micros};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: FinalizeBackup,
) -> Result<(), Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<(), Fault> {
        access::vm(tx, &who, command.vm, Need::Operate)?;
        let row = super::view::find(tx, command.vm, command.backup)?;
        decide(tx, &actor, &row)
    };
    engine.store.write(write).await?;
    engine.backups.send_modify(|count| *count += 1);
    Ok(())
}

fn decide(tx: &Tx, actor: &Actor, row: &BackupRow) -> Result<(), Fault> {
    let refuse = |text: String| {
        Err(Fault::new(
            FaultCode::BackupPhase,
            format!("Cannot stop VM backup. {text}"),
        ))
    };
    match row.phase {
        BackupPhase::Ready => {
            if let Some(transfer) = transfer::live_of_backup(tx, row.id)?.first() {
                return refuse(format!(
                    "Image transfer {} of disk {} is under way: finalize or cancel it first.",
                    transfer.id, transfer.alias
                ));
            }
            backup::set_phase(
                tx,
                row.id,
                &[BackupPhase::Ready],
                BackupPhase::Finalizing,
                None,
                now_micros(),
            )?;
            event(What::BackupFinalized, row, "it was finalized.")
                .by(actor)
                .write(tx)
        }
        BackupPhase::Initializing | BackupPhase::Starting => {
            let why = "It was given up by its client before it was ready.";
            backup::set_phase(tx, row.id, UNDECIDED, BackupPhase::Finalizing, Some(why), now_micros())?;
            Ok(())
        }
        BackupPhase::Finalizing | BackupPhase::Succeeded => Ok(()),
        BackupPhase::Failed => refuse(format!(
            "Backup {} has failed: {}",
            row.id,
            row.reason.as_deref().unwrap_or("no reason was recorded")
        )),
    }
}

/// The rows of a backup whose client is done: its snapshot's name goes, and a job merges what it held apart. Without
/// anything to merge, or if somebody else has the VM just now (then it is merged later), it has succeeded already.
pub(super) fn finish(tx: &Tx, job: &JobRow) -> Result<(), Fault> {
    let id = id_of(job.id);
    let row = backup::get(tx, id)?.ok_or_else(|| Fault::internal("the backup's row is gone"))?;
    if let Some(snapshot) = row.snapshot {
        snapshot::delete(tx, snapshot)?;
        backup::forget_snapshot(tx, id)?;
        stillpoint_store::vm::touch(tx, row.vm)?;
    }
    // The locks go with this job; the merges take their own in the same transaction.
    job::unlock(tx, job.id)?;
    let frozen: Vec<_> = backup::disks(tx, id)?
        .iter()
        .map(|disk| (disk.disk, disk.image))
        .collect();
    let actor = Actor::of_job(job);
    let settling = tx.nested(|tx| delete::enqueue_settling(tx, &actor, row.vm, &frozen, id));
    match settling {
        Ok(Some(_)) => Ok(()),
        Ok(None) => succeed(tx, job, id),
        Err(fault) if matches!(fault.code, FaultCode::Locked | FaultCode::DuringSnapshot) => succeed(tx, job, id),
        Err(fault) => Err(fault),
    }
}

/// The last row of a backup that ended well.
pub(crate) fn succeed(tx: &Tx, job: &JobRow, id: BackupId) -> Result<(), Fault> {
    let from = [BackupPhase::Finalizing];
    if !backup::set_phase(tx, id, &from, BackupPhase::Succeeded, None, now_micros())? {
        return Ok(());
    }
    let row = backup::get(tx, id)?.ok_or_else(|| Fault::internal("the backup's row is gone"))?;
    let text = format!("it has been completed; checkpoint {} stays.", row.to);
    event(What::BackupDone, &row, &text).by(&Actor::of_job(job)).write(tx)
}

/// What the backup held apart could not be merged now.
pub(crate) fn tell_leftover(tx: &Tx, job: &JobRow, id: BackupId, why: &str) -> Result<(), Fault> {
    let Some(row) = backup::get(tx, id)? else { return Ok(()) };
    let text = format!("its images could not be merged yet, which is tried again: {why}");
    event(What::BackupLeftover, &row, &text)
        .by(&Actor::of_job(job))
        .write(tx)
}
