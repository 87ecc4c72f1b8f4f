//! Brings a VM back to a snapshot, in one command with one outcome.
//!
//! Each disk of the snapshot goes on in a new overlay on the snapshot's image. What was written since, and the newer
//! snapshots, are gone; the snapshot itself stays and can be restored again. The VM's configuration is the snapshot's.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | overlay files on the snapshot's images, durable | files removed |
//! | `switch` **pivot** | rows only: disks, attachments, configuration, newer snapshots, memory | - |
//!
//! # Crash consistency
//! Nothing but new files is made before the pivot, and the pivot is one transaction: the VM is wholly before it or wholly
//! after. The images of the branch that was left have no name after it; [`crate::reconcile::tidy`] unlinks them.
//!
//! A disk that is attached but not in the snapshot's configuration stays as a floating disk; one that was attached then
//! but left out of the snapshot keeps its present content.

use crate::{
    access::{self, Vm},
    command::{Accepted, Origin, RestoreSnapshot},
    config::{SnapshotConfig, VmConfig},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::SwitchDisk,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Tx,
    image::{self, ImageRow, ImageState},
    job::JobRow,
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{
    Caller, DiskId, FaultCode, ImageFormat, ImageId, MemoryId, Need, SnapshotId, SnapshotType, VmId, VmStatus,
    now_micros,
};

pub(crate) const KIND: &str = "snapshot_restore";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    snapshot: SnapshotId,
    description: String,
    /// The active snapshot's fresh id.
    active: SnapshotId,
    /// Base: the snapshot's image; overlay: the new active layer.
    disks: Vec<SwitchDisk>,
    memory: Option<MemoryId>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: RestoreSnapshot,
) -> Result<Accepted<SnapshotId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor, id) = (
        Arc::clone(engine),
        who.clone(),
        Actor::of(who, origin),
        command.snapshot,
    );
    let job = engine
        .store
        .write(move |tx| -> Result<_, Fault> { plan(&inner, tx, &who, &actor, &command, space.available_bytes) })
        .await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &RestoreSnapshot,
    available_bytes: u64,
) -> Result<stillpoint_types::JobId, Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let row = access::snapshot(tx, &found, command.snapshot)?;
    if !matches!(found.row.status, VmStatus::Down | VmStatus::Suspended) {
        let status = found.row.status;
        return Err(crate::vm::view::wrong_status(
            &found.row.name,
            status,
            "restoring a snapshot",
            "down",
        ));
    }
    crate::lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
    crate::backup::expect_none(tx, found.row.id, "restore Snapshot")?;
    super::preview::expect_none(tx, found.row.id, "restore Snapshot")?;
    if row.kind != SnapshotType::Regular {
        return Err(Fault::new(
            FaultCode::SnapshotNotRegular,
            format!(
                "Cannot restore Snapshot. Snapshot {} is {}; only regular ones can be restored.",
                row.id, row.kind
            ),
        ));
    }
    super::expect_whole(tx, &row, "restore Snapshot")?;
    let config = config(&row)?;
    // The smallest reserve: a restore is what somebody with a full disk may need most.
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, limits::RESERVE_BYTES / 8)?;
    let disks = overlays(engine, tx, &found, &row, &config)?;
    let params = Params {
        vm: found.row.id,
        name: found.row.name.clone(),
        snapshot: row.id,
        description: row.description.clone(),
        active: SnapshotId::fresh(),
        disks,
        memory: row.memory.filter(|_| command.memory),
    };
    Event::new(
        What::RestoreStarted,
        format!(
            "Restoring snapshot '{}' of VM '{}' was initiated by {}.",
            params.description, params.name, actor.name
        ),
    )
    .by(actor)
    .vm(found.row.project, found.row.id, &found.row.name)
    .write(tx)?;
    enqueue(tx, actor, job(tx, &found, &params)?)
}

fn config(row: &SnapshotRow) -> Result<SnapshotConfig, Fault> {
    let Some(text) = row.config.as_deref() else {
        let text = format!("Cannot restore Snapshot. Snapshot {} has no configuration.", row.id);
        return Err(Fault::new(FaultCode::SnapshotBroken, text));
    };
    from_json(text)
}

fn job(tx: &Tx, found: &Vm, params: &Params) -> Result<NewJob, Fault> {
    let mut locks = vec![
        Wanted::exclusive(Entity::Vm(found.row.id), &found.row.name),
        Wanted::exclusive(Entity::Snapshot(params.snapshot), &params.description),
    ];
    for disk in &params.disks {
        let row = stillpoint_store::disk::get(tx, disk.disk)?.ok_or_else(|| Fault::not_found("disk", disk.disk))?;
        locks.push(Wanted::exclusive(Entity::Disk(disk.disk), &row.alias));
    }
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(params)?,
        description: format!("Restoring VM Snapshot {} of VM {}", params.description, params.name),
        project: found.row.project,
        vm: Some(found.row.id),
        locks,
        steps: vec![
            NewStep::new("prepare", "Creating overlays on the snapshot's images"),
            NewStep::new("switch", "Switching the VM to the snapshot").pivot(),
        ],
    })
}

/// Plans one overlay on each image that the snapshot holds.
fn overlays(
    engine: &Inner,
    tx: &Tx,
    found: &Vm,
    row: &SnapshotRow,
    config: &SnapshotConfig,
) -> Result<Vec<SwitchDisk>, Fault> {
    let mut disks = Vec::new();
    for (disk, id) in snapshot::disks(tx, row.id)? {
        if let Some(other) = vm::attachments_of_disk(tx, disk)?.iter().find(|a| a.vm != found.row.id) {
            return Err(Fault::new(
                FaultCode::DiskAttached,
                format!(
                    "Cannot restore Snapshot. Disk {disk} is attached to VM {}; detach it there first.",
                    other.vm
                ),
            ));
        }
        if let Some(row) = stillpoint_store::disk::get(tx, disk)? {
            crate::volume::expect_unclaimed(tx, &row, "restore Snapshot", false)?;
        }
        if image::is_half_merged(tx, id)? {
            let text = format!(
                "Cannot restore Snapshot. The removal of snapshot '{}' was begun and failed, so its image of disk {disk} \
                 holds a part of what was written later. Remove the snapshot again.",
                row.description
            );
            return Err(Fault::new(FaultCode::SnapshotBroken, text));
        }
        let base = image::get(tx, id)?.ok_or_else(|| Fault::internal("the snapshot's image is gone"))?;
        let size_bytes = config
            .attachments
            .iter()
            .find(|a| a.disk == disk)
            .map_or(base.size_bytes, |a| a.size_bytes);
        disks.push(plan_overlay(engine, tx, disk, &base, size_bytes)?);
    }
    Ok(disks)
}

/// The saga.
pub(crate) struct Restore {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Restore {
        params: from_json(&row.params)?,
    }))
}

impl Restore {
    async fn prepare(&self, cx: &Cx) -> Result<Done, StepError> {
        make_overlays(cx, &self.params.disks).await?;
        Ok(Done::nothing())
    }
}

/// Writes the row of an overlay on an image of a snapshot, for a disk that goes on from there; [`make_overlays`] makes its
/// file. Refused, for as long as it takes, while a merge through another disk that stands there would take the image away.
pub(crate) fn plan_overlay(
    engine: &Inner,
    tx: &Tx,
    disk: DiskId,
    base: &ImageRow,
    size_bytes: u64,
) -> Result<SwitchDisk, Fault> {
    let row = overlay_row(tx, disk, base, size_bytes)?;
    Ok(SwitchDisk {
        disk,
        base: engine.image_ref(base),
        overlay: engine.image_ref(&row),
        size_bytes,
    })
}

/// The row alone.
pub(crate) fn overlay_row(tx: &Tx, disk: DiskId, base: &ImageRow, size_bytes: u64) -> Result<ImageRow, Fault> {
    super::delete::expect_unmerged(tx, base.id)?;
    let row = ImageRow {
        id: ImageId::fresh(),
        disk,
        parent: Some(base.id),
        domain: base.domain,
        format: ImageFormat::Cow,
        size_bytes,
        state: ImageState::Creating,
        created_at: now_micros(),
    };
    image::insert(tx, &row)?;
    Ok(row)
}

/// Ensures that the overlays' files are there, durable.
pub(crate) async fn make_overlays(cx: &Cx, disks: &[SwitchDisk]) -> Result<(), StepError> {
    let mut tasks = tokio::task::JoinSet::new();
    for disk in disks.iter().cloned() {
        let images = Arc::clone(&cx.engine.images);
        tasks.spawn(async move {
            images
                .create_overlay(&disk.overlay, &disk.base, disk.size_bytes, true)
                .await
        });
    }
    while let Some(made) = tasks.join_next().await {
        made.map_err(Fault::internal)??;
    }
    Ok(())
}

/// Ensures that they are not.
pub(crate) async fn withdraw_overlays(cx: &Cx, disks: &[SwitchDisk]) -> Result<(), StepError> {
    for SwitchDisk {
        overlay,
        base,
        size_bytes,
        ..
    } in disks
    {
        let withdrawn = cx.engine.images.withdraw_overlay(overlay, base, *size_bytes).await;
        withdrawn.map_err(StepError::later)?;
    }
    Ok(())
}

/// Rows only: the VM is the snapshot's from here on.
fn switch(tx: &Tx, params: &Params) -> Result<(), Fault> {
    let row = snapshot::get(tx, params.snapshot)?.ok_or_else(|| Fault::internal("the snapshot is gone"))?;
    let kept = config(&row)?;
    for disk in &params.disks {
        image::set_state(tx, disk.overlay.id, ImageState::Live)?;
        stillpoint_store::disk::set_image(tx, disk.disk, disk.overlay.id)?;
        // It may have been extended since.
        stillpoint_store::disk::set_size(tx, disk.disk, disk.size_bytes)?;
    }
    attach_as_kept(tx, params.vm, &kept)?;
    let now = vm::get(tx, params.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    let present: VmConfig = from_json(&now.config)?;
    // Names and protection are the present's: they are about the VM, not of what runs in it.
    let config = VmConfig {
        name: present.name.clone(),
        description: present.description,
        comment: present.comment,
        delete_protected: present.delete_protected,
        ..kept.config
    };
    vm::set_config(tx, params.vm, &present.name, &to_json(&config)?.to_string())?;
    vm::set_resume_memory(tx, params.vm, params.memory)?;
    let status = if params.memory.is_some() {
        VmStatus::Suspended
    } else {
        VmStatus::Down
    };
    vm::set_status(tx, params.vm, status, "")?;
    let mut active = None;
    for newer in snapshot::of_vm(tx, params.vm)?.into_iter().filter(|s| s.seq > row.seq) {
        snapshot::delete(tx, newer.id)?;
        if newer.kind == SnapshotType::Active {
            active = Some(newer);
        }
    }
    let active = active.ok_or_else(|| Fault::internal("a VM without active snapshot"))?;
    Ok(snapshot::insert(
        tx,
        &SnapshotRow {
            id: params.active,
            date: now_micros(),
            ..active
        },
    )?)
}

fn attach_as_kept(tx: &Tx, id: VmId, kept: &SnapshotConfig) -> Result<(), Fault> {
    let wanted: HashSet<_> = kept.attachments.iter().map(|a| a.disk).collect();
    for a in vm::attachments(tx, id)?.iter().filter(|a| !wanted.contains(&a.disk)) {
        vm::delete_attachment(tx, id, a.disk)?;
        stillpoint_store::checkpoint::forget_disk(tx, a.disk)?;
    }
    for (position, a) in (0..).zip(&kept.attachments) {
        let Some(disk) = stillpoint_store::disk::get(tx, a.disk)? else {
            continue;
        };
        let elsewhere = vm::attachments_of_disk(tx, a.disk)?.iter().any(|of| of.vm != id);
        if elsewhere || crate::volume::is_claimed(tx, &disk)? {
            continue;
        }
        vm::put_attachment(tx, &a.row(id, position))?;
    }
    Ok(())
}

#[async_trait]
impl Saga for Restore {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        if cx.step.name == "prepare" {
            return self.prepare(cx).await;
        }
        let params = self.params.clone();
        Ok(Done::nothing().and(move |tx| switch(tx, &params)))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.name == "prepare" {
            withdraw_overlays(cx, &self.params.disks).await?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let text = format!(
            "VM '{}' has been restored to snapshot '{}'.",
            params.name, params.description
        );
        Event::new(What::RestoreDone, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        for disk in &params.disks {
            image::delete(tx, disk.overlay.id)?;
        }
        let text = format!(
            "Failed to restore VM '{}' to snapshot '{}': {}",
            params.name, params.description, why.text
        );
        Event::new(What::RestoreFailed, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }
}
