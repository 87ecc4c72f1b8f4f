//! Runs a VM on a snapshot, on trial: what it had is kept until somebody decides ([`end`]).
//!
//! The active snapshot becomes one of kind preview, with its id, and keeps the images that the disks had and the VM's
//! configuration. *Every* disk that the VM has now, or gets, goes on in a new overlay: on the image of the snapshot, or on
//! its own present one where the snapshot has none or the client chose it. So nothing that is kept is ever written to, and
//! going back is exact, whatever was done meanwhile.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | overlay files, durable | files removed |
//! | `switch` **pivot** | rows only: snapshots, disks, attachments, configuration, memory | - |
//!
//! # Crash consistency
//! As a restore ([`super::restore`]): nothing but new files before the pivot, which is one transaction. The two ways out are
//! one transaction each, without any effect outside of it; images that have no name then are removed by
//! [`crate::reconcile::tidy`].
//!
//! # What changed, for backups
//! Nothing is backed up while a preview lasts, so no checkpoint is anchored at its overlays. The kept images stay where they
//! were, above the anchors of the checkpoints: after an undo the chain is the one from before, and after a commit what
//! differs is found as after a restore ([`crate::graph::Tree::between`]).

pub(crate) mod end;
mod plan;

pub(crate) use plan::submit;

use super::create;
use crate::{
    access::Vm,
    config::{AttachmentConfig, SnapshotConfig, VmConfig},
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, Saga, StepError, Undo, from_json, to_json},
    lock::moment,
    ports::SwitchDisk,
    vm::configure::ACTIVE_DESCRIPTION,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx, disk,
    image::{self, ImageState},
    job::JobRow,
    preview::{self, PreviewRow},
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{DiskId, FaultCode, MemoryId, SnapshotId, SnapshotType, VmId, VmStatus, now_micros};

pub(crate) const KIND: &str = "snapshot_preview";
const VERSION: u32 = 1;
/// What the snapshot is called that keeps the former state (oVirt's words, by which clients know it).
const FORMER_DESCRIPTION: &str = "Active VM before the preview";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    snapshot: SnapshotId,
    description: String,
    /// The active snapshot's fresh id.
    active: SnapshotId,
    /// Base: what the disk shall show; overlay: its new active layer.
    disks: Vec<SwitchDisk>,
    /// What is attached while the preview lasts.
    attached: Vec<AttachmentConfig>,
    memory: Option<MemoryId>,
    /// Disks that the VM has now and not in the preview, by alias.
    left: Vec<String>,
}

/// Refuses what must not be done to a VM while it previews a snapshot.
pub(crate) fn expect_none(conn: &Conn, id: VmId, doing: &str) -> Result<(), Fault> {
    preview::of_vm(conn, id)?.map_or(Ok(()), |row| Err(refused(conn, &row, doing)?))
}

fn refused(conn: &Conn, row: &PreviewRow, doing: &str) -> Result<Fault, Fault> {
    let name = vm::get(conn, row.vm)?.map(|vm| vm.name).unwrap_or_default();
    let description = snapshot::get(conn, row.snapshot)?.map(|s| s.description);
    let text = format!(
        "Cannot {doing}. VM {name} is previewing snapshot '{}' ({}) since {}: commit or undo the preview first.",
        description.unwrap_or_default(),
        row.snapshot,
        moment(row.created_at)
    );
    Ok(Fault::new(FaultCode::InPreview, text))
}

/// Refuses to give a disk to another VM that belongs to what a preview keeps.
pub(crate) fn expect_not_kept(conn: &Conn, disk: DiskId, by: VmId, doing: &str) -> Result<(), Fault> {
    match preview::of_disk(conn, disk)? {
        Some(row) if row.vm != by => Err(refused(conn, &row, doing)?),
        _ => Ok(()),
    }
}

/// Refuses to remove a disk that belongs to what a preview keeps.
pub(crate) fn expect_none_keeps(conn: &Conn, disk: DiskId, doing: &str) -> Result<(), Fault> {
    preview::of_disk(conn, disk)?.map_or(Ok(()), |row| Err(refused(conn, &row, doing)?))
}

fn kept(row: &SnapshotRow) -> Result<SnapshotConfig, Fault> {
    let text = row.config.as_deref();
    from_json(text.ok_or_else(|| Fault::internal(format!("snapshot {} has no configuration", row.id)))?)
}

/// The kept configuration with what is about the VM and not about what runs in it: names and protection stay.
fn with_present_names(kept: VmConfig, present: VmConfig) -> VmConfig {
    VmConfig {
        name: present.name,
        description: present.description,
        comment: present.comment,
        delete_protected: present.delete_protected,
        ..kept
    }
}

/// Makes exactly these the VM's disks.
fn attach_exactly(tx: &Tx, id: VmId, wanted: &[AttachmentConfig]) -> Result<(), Fault> {
    for a in vm::attachments(tx, id)? {
        vm::delete_attachment(tx, id, a.disk)?;
    }
    for (position, a) in (0..).zip(wanted) {
        vm::put_attachment(tx, &a.row(id, position))?;
    }
    Ok(())
}

/// Rows only: the VM is on trial from here on.
fn switch(tx: &Tx, params: &Params) -> Result<(), Fault> {
    let id = params.vm;
    let gone = |what: &str| Fault::internal(format!("the {what} is gone"));
    let row = vm::get(tx, id)?.ok_or_else(|| gone("VM"))?;
    let present: VmConfig = from_json(&row.config)?;
    let found = Vm { row, config: present };
    let previewed = snapshot::get(tx, params.snapshot)?.ok_or_else(|| gone("snapshot"))?;
    let active = snapshot::active(tx, id)?.ok_or_else(|| gone("active snapshot"))?;
    let record = SnapshotConfig {
        vm: id,
        config: found.config.clone(),
        attachments: create::attachments(tx, &found)?,
        created_at: found.row.created_at,
        generation: found.row.generation,
        consistency: None,
    };
    let (former, seq) = (active.id, active.seq + 1);
    snapshot::update(
        tx,
        &SnapshotRow {
            kind: SnapshotType::Preview,
            description: FORMER_DESCRIPTION.into(),
            config: Some(to_json(&record)?.to_string()),
            ..active
        },
    )?;
    preview::insert(
        tx,
        &PreviewRow {
            vm: id,
            snapshot: params.snapshot,
            former,
            created_at: now_micros(),
        },
    )?;
    for switched in &params.disks {
        let disk = disk::get(tx, switched.disk)?.ok_or_else(|| gone("disk"))?;
        snapshot::add_disk(tx, former, disk.id, disk.image)?;
        image::set_state(tx, switched.overlay.id, ImageState::Live)?;
        disk::set_image(tx, disk.id, switched.overlay.id)?;
        disk::set_size(tx, disk.id, switched.size_bytes)?;
    }
    attach_exactly(tx, id, &params.attached)?;
    let config = with_present_names(kept(&previewed)?.config, found.config);
    vm::set_config(tx, id, &config.name, &to_json(&config)?.to_string())?;
    vm::set_resume_memory(tx, id, params.memory)?;
    let status = if params.memory.is_some() {
        VmStatus::Suspended
    } else {
        VmStatus::Down
    };
    vm::set_status(tx, id, status, "")?;
    Ok(snapshot::insert(
        tx,
        &SnapshotRow {
            id: params.active,
            vm: id,
            kind: SnapshotType::Active,
            description: ACTIVE_DESCRIPTION.into(),
            date: now_micros(),
            seq,
            memory: None,
            config: None,
        },
    )?)
}

/// The saga.
pub(crate) struct Preview {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Preview {
        params: from_json(&row.params)?,
    }))
}

#[async_trait]
impl Saga for Preview {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        if cx.step.name == "prepare" {
            super::restore::make_overlays(cx, &self.params.disks).await?;
            return Ok(Done::nothing());
        }
        let params = self.params.clone();
        Ok(Done::nothing().and(move |tx| switch(tx, &params)))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.name == "prepare" {
            super::restore::withdraw_overlays(cx, &self.params.disks).await?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let mut text = format!(
            "Previewing of snapshot '{}' of VM '{}' has begun.",
            params.description, params.name
        );
        if !params.left.is_empty() {
            let left = params.left.join(", ");
            text.push_str(&format!(
                " Not attached meanwhile, and left out for good by a commit: {left}."
            ));
        }
        Event::new(What::PreviewDone, text)
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
            "Failed to preview snapshot '{}' of VM '{}': {}",
            params.description, params.name, why.text
        );
        Event::new(What::PreviewFailed, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }
}
