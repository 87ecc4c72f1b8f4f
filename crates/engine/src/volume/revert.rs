//! Brings a volume back to a snapshot of it.
//!
//! The volume goes on in a new overlay on the snapshot's image. The snapshot, and those that are newer, stay as they are and
//! can be used again: they become a side branch of the tree ([`crate::graph`]). What was written since the newest one is
//! gone. A volume that was extended since has the snapshot's size again.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | the overlay's file on the snapshot's image, durable | the file is removed |
//! | `switch` **pivot** | rows only: the disk's active image and size | - |
//!
//! # Crash consistency
//! As a restore ([`crate::snapshot::restore`]): nothing but a new file before the pivot, which is one transaction. The states
//! of both are checked before either changes, and `reverting` and `restoring` are shown because of the job's locks, so
//! neither outlives it.

use crate::command::{
    Accepted, Origin,
    volume::{RevertRule, RevertVolume},
};
use crate::view::volume::Usage;
use crate::volume::{called, find, gib, message, quota, snapshot, wrong_status};
use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::SwitchDisk,
    snapshot::{preview, restore},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx, disk,
    image::{self, ImageState},
    job::JobRow,
    vm,
    volume::{self, VolumeRow},
    volume_snapshot::{self, VolumeSnapshotRow},
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, JobId, Need, VolumeSnapshotId, VolumeStatus};

pub(crate) const KIND: &str = "volume_revert";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// What the disk is called.
    name: String,
    snapshot: VolumeSnapshotId,
    /// Base: the snapshot's image; overlay: what becomes active.
    switch: SwitchDisk,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: RevertVolume,
) -> Result<Accepted<DiskId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| plan(&inner, tx, &who, &actor, command, space.available_bytes);
    let job = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted {
        id: command.volume,
        job: Some(job),
    })
}

/// What the dialect's rule says of the snapshot, whatever the states.
fn expect_rule(tx: &Tx, volume: &VolumeRow, row: &VolumeSnapshotRow, rule: RevertRule) -> Result<(), Fault> {
    let refuse = |code, text: String| Err(Fault::new(code, format!("Invalid snapshot: {text}")));
    if row.disk != volume.disk.id {
        let text = format!("snapshot {} is not one of volume {}.", row.id, volume.disk.id);
        return refuse(FaultCode::RelatedNotFound, text);
    }
    snapshot::expect_unprotected(row, "bring the volume back to the snapshot")?;
    if rule == RevertRule::Any {
        return Ok(());
    }
    if volume_snapshot::newest(tx, row.disk)?.is_none_or(|newest| newest.id != row.id) {
        let text = format!("snapshot {} is not the newest one of volume {}.", row.id, row.disk);
        return refuse(FaultCode::InvalidValue, text);
    }
    if row.size_bytes != volume.disk.size_bytes {
        let text = format!(
            "volume {} has {} bytes now, and had {} at snapshot {}.",
            row.disk, volume.disk.size_bytes, row.size_bytes, row.id
        );
        return refuse(FaultCode::InvalidValue, text);
    }
    Ok(())
}

/// Whether the volume's state allows it.
fn expect_free(tx: &Tx, volume: &VolumeRow, rule: RevertRule) -> Result<(), Fault> {
    let fits = matches!(
        (volume.status, rule),
        (VolumeStatus::Available, _) | (VolumeStatus::ErrorReverting, RevertRule::Any)
    );
    // A status can be said; what a VM has it has all the same.
    if !fits || !vm::attachments_of_disk(tx, volume.disk.id)?.is_empty() {
        return Err(wrong_status(volume, "bringing it back to a snapshot", "available"));
    }
    let (disk, name) = (&volume.disk, called(&volume.disk));
    crate::lock::expect_free(tx, Entity::Disk(disk.id), &name)
        .and_then(|()| preview::expect_none_keeps(tx, disk.id, "bring the volume back to a snapshot"))
        .and_then(|()| crate::backup::expect_none_of_disk(tx, disk.id, "bring the volume back to a snapshot"))
        .map_err(snapshot::create::refused)
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: RevertVolume,
    available_bytes: u64,
) -> Result<JobId, Fault> {
    let found = find(tx, who, command.volume, Need::Operate)?;
    let (row, status) = snapshot::named(tx, who, command.snapshot, Need::Operate)?;
    expect_rule(tx, &found, &row, command.rule)?;
    expect_free(tx, &found, command.rule)?;
    let image = snapshot::usable_image(tx, &row, status, "bringing its volume back to it")?;
    let growth = gib(row.size_bytes).saturating_sub(gib(found.disk.size_bytes));
    let more = Usage {
        gigabytes: growth,
        ..Usage::default()
    };
    quota::expect_room(tx, found.disk.project, more)?;
    // The smallest reserve, as for a restore: with a full disk it may be what is needed most.
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, limits::RESERVE_BYTES / 8)?;
    let job = job(engine, tx, &found, &row, image)?;
    // A failure of an earlier try is over.
    volume::set_stated(tx, found.disk.id, None)?;
    let text = format!(
        "Reverting disk '{}' to snapshot {} was initiated by {}.",
        called(&found.disk),
        row.id,
        actor.name
    );
    Event::new(What::RestoreStarted, text)
        .by(actor)
        .disk(found.disk.project, found.disk.id, &called(&found.disk))
        .write(tx)?;
    enqueue(tx, actor, job)
}

fn job(engine: &Inner, tx: &Tx, found: &VolumeRow, row: &VolumeSnapshotRow, image: ImageId) -> Result<NewJob, Fault> {
    let base = image::get(tx, image)?.ok_or_else(|| Fault::internal("the snapshot's image is gone"))?;
    let (disk, name) = (found.disk.id, called(&found.disk));
    let params = Params {
        name: name.clone(),
        snapshot: row.id,
        switch: restore::plan_overlay(engine, tx, disk, &base, row.size_bytes).map_err(snapshot::create::refused)?,
    };
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Reverting disk {name} to snapshot {}", row.id),
        project: found.disk.project,
        vm: None,
        locks: vec![
            Wanted::exclusive(Entity::Disk(disk), &name),
            Wanted::exclusive(Entity::VolumeSnapshot(row.id), &row.id.to_string()),
        ],
        steps: vec![
            NewStep::new("prepare", "Creating an overlay on the snapshot's image"),
            NewStep::new("switch", "Switching the disk to the snapshot").pivot(),
        ],
    })
}

/// The saga.
pub(crate) struct Revert {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Revert {
        params: from_json(&row.params)?,
    }))
}

impl Revert {
    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .disk(job.project, self.params.switch.disk, &self.params.name)
            .write(tx)
    }
}

#[async_trait]
impl Saga for Revert {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        let switch = self.params.switch.clone();
        if cx.step.name == "prepare" {
            crate::files::expect_chain_recorded(&cx.engine, &self.params.name, switch.base.id).await?;
            restore::make_overlays(cx, &[switch]).await?;
            return Ok(Done::nothing());
        }
        Ok(Done::nothing().and(move |tx| {
            image::set_state(tx, switch.overlay.id, ImageState::Live)?;
            disk::set_image(tx, switch.disk, switch.overlay.id)?;
            disk::set_size(tx, switch.disk, switch.size_bytes)?;
            Ok(volume::set_pristine(tx, switch.disk, true)?)
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.name == "prepare" {
            restore::withdraw_overlays(cx, std::slice::from_ref(&self.params.switch)).await?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let Params { name, snapshot, .. } = &self.params;
        let text = format!("Disk '{name}' has been reverted to snapshot {snapshot}.");
        self.tell(tx, job, What::RestoreDone, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let Params { name, snapshot, switch } = &self.params;
        image::delete(tx, switch.overlay.id)?;
        volume::set_stated(tx, switch.disk, Some(VolumeStatus::ErrorReverting))?;
        let (about, doing) = (message::About::Volume(switch.disk), message::Doing::Revert);
        message::write(tx, job.project, about, doing, message::UNKNOWN, &why.text)?;
        let text = format!("Failed to revert disk '{name}' to snapshot {snapshot}: {}", why.text);
        self.tell(tx, job, What::RestoreFailed, text)
    }
}
