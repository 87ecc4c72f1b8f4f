//! The step that lasts until the client is done: looks after the lease and the free space, and ends when somebody has
//! decided. And its undoing: what still reads is ended before anything is let go.
//!
//! It is woken by every word about a backup, and looks by itself every [`TICK`]: no event tells of free space.

use super::{Backup, UNDECIDED, given_up, id_of, row_of};
use crate::{
    engine::Inner,
    fault::Fault,
    journal::{Cx, Done, StepError, Undo},
    limits, transfer as transfers,
};
use std::time::Duration;
use stillpoint_store::{
    Conn, Tx,
    backup::{self, BackupRow},
    transfer,
};
use stillpoint_types::{BackupId, BackupPhase, FaultCode, Micros, TransferPhase, now_micros};

/// How often a backup is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A lease is written anew when this part of it has passed: a row a minute, not a row a second.
const RENEW_PART: Micros = 1_000;

impl Backup {
    /// No failure of a look fails the backup: what it looks at may answer the next time.
    pub(super) async fn hold(&self, cx: &Cx) -> Result<Done, StepError> {
        let id = id_of(cx.job.id);
        let mut changes = cx.engine.backups.subscribe();
        loop {
            changes.mark_unchanged();
            let row = row_of(&cx.engine, id).await.map_err(StepError::later)?;
            match (row.phase, &row.reason) {
                (BackupPhase::Ready, _) => {
                    if let Some(why) = look(&cx.engine, &row).await.map_err(StepError::later)? {
                        give_up(&cx.engine, id, why).await.map_err(StepError::later)?;
                        continue;
                    }
                }
                (phase, reason) => {
                    cx.engine.watched.forget(id);
                    return match (phase, reason) {
                        (BackupPhase::Finalizing, None) => Ok(Done::nothing()),
                        _ => Err(given_up(&row).into()),
                    };
                }
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(Fault::internal)?,
                () = tokio::time::sleep(TICK) => {}
                () = cx.engine.stopping.cancelled() => {
                    return Err(StepError::later(Fault::new(FaultCode::Unavailable, "The daemon is stopping.")));
                }
            }
        }
    }

    /// Ends the transfers that read it; once it returns, nobody does.
    pub(super) async fn let_go(&self, cx: &Cx) -> Result<Undo, StepError> {
        let id = id_of(cx.job.id);
        let write = move |tx: &Tx| -> Result<usize, Fault> {
            // First, so that no transfer begins any more.
            backup::set_phase(
                tx,
                id,
                UNDECIDED,
                BackupPhase::Finalizing,
                Some("It was given up."),
                now_micros(),
            )?;
            let live = transfer::live_of_backup(tx, id)?;
            for row in &live {
                let (to, why) = (TransferPhase::CancelledSystem, "Its backup has failed.");
                transfer::set_phase(tx, row.id, transfers::OPEN, to, Some(why), now_micros())?;
            }
            Ok(live.len())
        };
        let left = cx.engine.store.write(write).await.map_err(StepError::later)?;
        if left == 0 {
            return Ok(Undo::Undone);
        }
        cx.engine.transfers.send_modify(|count| *count += 1);
        let text = format!("{left} transfers of backup {id} are being ended.");
        Err(StepError::later(Fault::new(FaultCode::BackupPhase, text)))
    }
}

/// One look at a backup that is ready. Returns why it must be given up, if it must.
async fn look(engine: &Inner, row: &BackupRow) -> Result<Option<String>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    if space.available_bytes < limits::BACKUP_RESERVE_BYTES {
        return Ok(Some(format!(
            "Storage domain {} has {} bytes left, less than the {} that guests need to go on: the backup was given up so \
             that no more is held apart.",
            engine.house.domain_name(),
            space.available_bytes,
            limits::BACKUP_RESERVE_BYTES
        )));
    }
    let id = row.id;
    // One that is paused waits for a client that may never come back: it keeps nothing.
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let live = transfer::live_of_backup(conn, id)?;
        Ok(live
            .iter()
            .any(|row| !matches!(row.phase, TransferPhase::PausedUser | TransferPhase::PausedSystem)))
    };
    let now = now_micros();
    let lease = super::lease(engine);
    if engine.store.read(read).await? {
        let until = now.saturating_add(lease);
        if until.saturating_sub(row.lease_until) > lease / RENEW_PART {
            let write = move |tx: &Tx| -> Result<(), Fault> { Ok(backup::extend_lease(tx, id, until)?) };
            engine.store.write(write).await?;
        }
        return Ok(None);
    }
    if now <= row.lease_until {
        return Ok(None);
    }
    Ok(Some(format!(
        "Its client did nothing with it for {} s: the backup was given up.",
        engine.options.backup_lease.as_secs()
    )))
}

/// The daemon's own decision; that of a client who was faster stands.
async fn give_up(engine: &Inner, id: BackupId, why: String) -> Result<(), Fault> {
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let from = [BackupPhase::Ready];
        backup::set_phase(tx, id, &from, BackupPhase::Finalizing, Some(&why), now_micros())?;
        Ok(())
    };
    engine.store.write(write).await
}
