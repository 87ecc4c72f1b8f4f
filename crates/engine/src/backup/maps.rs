//! The step that works out what changed, and makes the backup ready.

use super::{Backup, Moment, UNDECIDED, event, given_up, id_of, row_of};
use crate::{
    checkpoint::{seal, track},
    engine::Inner,
    event::What,
    fault::Fault,
    journal::{Cx, Done, StepError},
    ports::Frozen,
};
use stillpoint_store::{
    Conn, Tx,
    backup::{self, BackupDiskRow, BackupRow},
    checkpoint::{self, CheckpointDiskRow, CheckpointRow},
    job,
};
use stillpoint_types::{BackupKind, BackupMode, BackupPhase, CheckpointState, FaultCode, JobId, Micros, now_micros};

impl Backup {
    pub(super) async fn maps(&self, cx: &Cx) -> Result<Done, StepError> {
        let id = id_of(cx.job.id);
        let row = row_of(&cx.engine, id).await?;
        if !UNDECIDED.contains(&row.phase) {
            return Err(given_up(&row).into());
        }
        let moment: Moment = cx
            .output("switch")?
            .ok_or_else(|| Fault::internal("a backup without its moment"))?;
        self.expect_consistent(&moment)?;
        let read = move |conn: &Conn| -> Result<_, Fault> { Ok(backup::disks(conn, id)?) };
        let mut disks = cx.engine.store.read(read).await?;
        let mut seals = Vec::with_capacity(disks.len());
        {
            let _turn = cx.engine.maps.lock().await;
            for disk in &mut disks {
                // First: what somebody writes after this look is found by the next one.
                let found = seal::look(&cx.engine, disk.image).await?;
                let lost = row.from.and_then(|from| found.why(from, disk.disk));
                match lost {
                    Some(why) => (disk.mode, disk.why_full) = (BackupMode::Full, Some(why.to_owned())),
                    None => changes(&cx.engine, &row, disk).await?,
                }
                seals.push(found);
            }
        }
        let (kind, job, actor) = (self.params.kind, cx.job.id, cx.actor());
        Ok(Done::nothing().and(move |tx| {
            for disk in disks
                .iter()
                .filter(|disk| disk.mode == BackupMode::Full && row.from.is_some())
            {
                let why = disk.why_full.as_deref().unwrap_or("it is not known what changed");
                let text = format!("disk {} is backed up in full: {why}.", disk.disk);
                event(What::BackupFull, &row, &text).by(&actor).write(tx)?;
            }
            seals.iter().try_for_each(|found| seal::record(tx, found))?;
            make_ready(tx, &row, &disks, moment.at)?;
            release(tx, job, kind)
        }))
    }

    fn expect_consistent(&self, moment: &Moment) -> Result<(), Fault> {
        let frozen = &moment.switched.frozen;
        if !self.params.require_consistency || !self.params.switch.freezes() || matches!(frozen, Frozen::Yes(_)) {
            return Ok(());
        }
        let why = match frozen {
            Frozen::Failed(why) => why.as_str(),
            Frozen::NoAgent => "no guest agent answers",
            Frozen::NotAsked | Frozen::Yes(_) => "the daemon was restarted meanwhile",
        };
        let name = &self.params.switch.name;
        let text = format!("The guest file systems of VM {name} could not be frozen, which was required: {why}.");
        Err(Fault::new(FaultCode::GuestAgent, text))
    }
}

/// Works out one disk's changes, makes them durable, and notes its mode.
async fn changes(engine: &Inner, row: &BackupRow, disk: &mut BackupDiskRow) -> Result<(), Fault> {
    disk.mode = BackupMode::Full;
    let Some(from) = row.from else { return Ok(()) };
    match track::changes(engine, from, disk.disk, disk.image, disk.size_bytes).await? {
        Ok(map) => {
            let path = track::backup_path(engine, row.id, disk.disk);
            engine.images.store_map(&path, &map).await?;
            disk.mode = BackupMode::Incremental;
            tracing::debug!(backup = %row.id, disk = %disk.disk, bytes = map.marked_bytes(), "changes worked out");
        }
        Err(why) => disk.why_full = Some(why),
    }
    Ok(())
}

/// The checkpoint is there, and the disks can be downloaded. Given up meanwhile: the next step sees it.
fn make_ready(tx: &Tx, row: &BackupRow, disks: &[BackupDiskRow], moment: Micros) -> Result<(), Fault> {
    for disk in disks {
        backup::set_mode(tx, row.id, disk.disk, disk.mode, disk.why_full.as_deref())?;
    }
    let newest = checkpoint::of_vm(tx, row.vm)?.pop();
    let fresh = CheckpointRow {
        id: row.to,
        project: row.project,
        vm: row.vm,
        parent: newest.as_ref().map(|newest| newest.id),
        description: row.description.clone(),
        state: CheckpointState::Created,
        // Their order is the order of their moments, whatever becomes of the clock.
        created_at: newest.map_or(moment, |newest| moment.max(newest.created_at + 1)),
    };
    checkpoint::insert(tx, &fresh)?;
    for disk in disks {
        let anchor = CheckpointDiskRow {
            checkpoint: row.to,
            disk: disk.disk,
            image: disk.image,
            size_bytes: disk.size_bytes,
            map: false,
            moved: false,
        };
        checkpoint::add_disk(tx, &anchor)?;
    }
    let from = [BackupPhase::Initializing, BackupPhase::Starting];
    backup::set_phase(tx, row.id, &from, BackupPhase::Ready, None, now_micros())?;
    Ok(())
}

/// Gives the locks back that the moment needed.
fn release(tx: &Tx, id: JobId, kind: BackupKind) -> Result<(), Fault> {
    match kind {
        BackupKind::Snapshot => Ok(job::unlock(tx, id)?),
        BackupKind::Live | BackupKind::Cold => Ok(job::unlock_kind(tx, id, "disk")?),
    }
}
