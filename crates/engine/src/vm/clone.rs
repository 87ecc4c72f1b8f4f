//! Makes a VM from a snapshot of another one: with its configuration and, for each disk, an overlay on its image.
//!
//! Nothing is copied, whatever the size of the disks. The new VM is its own: other ids, other MAC addresses, no snapshots,
//! no checkpoints, no memory. Images are a tree (ADR 0007), so neither VM keeps the other from anything: a snapshot that is
//! removed while a clone stands on it leaves its image hidden, and what only one disk needs any more is merged.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `create` **pivot** | overlay files on the snapshot's images, durable | files removed, then the VM's rows |
//!
//! # Crash consistency
//! The rows of VM and disks are written with the job, and locked by it; the images are in state `creating`, which keeps what
//! is below them in its place.

use super::configure::{fill, insert_vm, made_up_mac, name_in_use};
use crate::{
    access,
    command::{Accepted, CloneVm, Origin},
    config::{SnapshotConfig, VmConfig},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{self, Entity, Wanted},
    ports::SwitchDisk,
    snapshot::{preview, restore},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    image::{self, ImageState},
    job::JobRow,
    snapshot::{self, SnapshotRow},
    vm::{self, AttachmentRow},
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, Need, NicId, SnapshotId, SnapshotType, VmId, now_micros};

pub(crate) const KIND: &str = "vm_clone";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    /// The snapshot's description, and its VM's name.
    of: (String, String),
    disks: Vec<SwitchDisk>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CloneVm,
) -> Result<Accepted<VmId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    crate::disk::create::expect_space(&engine.domain.name, space.available_bytes, limits::RESERVE_BYTES)?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<_, Fault> { plan(&inner, tx, &who, &actor, &command) };
    let (id, job) = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn refuse(code: FaultCode, text: impl std::fmt::Display) -> Fault {
    Fault::new(code, format!("Cannot add VM. {text}"))
}

/// The snapshot that the body names: one that cannot be seen is answered as one that is not there.
fn source(tx: &Tx, who: &Caller, id: SnapshotId) -> Result<(access::Vm, SnapshotRow), Fault> {
    let absent = || refuse(FaultCode::RelatedNotFound, format!("The snapshot {id} does not exist."));
    let row = snapshot::get(tx, id)?.ok_or_else(absent)?;
    match access::vm(tx, who, row.vm, Need::Operate) {
        Ok(found) => Ok((found, row)),
        Err(fault) if fault.code == FaultCode::NotFound => Err(absent()),
        Err(fault) => Err(fault),
    }
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &CloneVm,
) -> Result<(VmId, stillpoint_types::JobId), Fault> {
    let (found, row) = source(tx, who, command.snapshot)?;
    lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
    preview::expect_none(tx, found.row.id, "add VM")?;
    if row.kind != SnapshotType::Regular {
        let text = format!("Snapshot {} is {}: name a regular one.", row.id, row.kind);
        return Err(refuse(FaultCode::SnapshotNotRegular, text));
    }
    let text = row.config.as_deref().ok_or_else(|| {
        refuse(
            FaultCode::SnapshotBroken,
            format!("Snapshot {} has no configuration.", row.id),
        )
    })?;
    let kept: SnapshotConfig = from_json(text)?;
    let id = VmId::fresh();
    let config = configuration(command, &kept)?;
    if vm::id_by_name(tx, &config.name)?.is_some() {
        return Err(name_in_use(&config.name));
    }
    insert_vm(tx, id, found.row.project, &config)?;
    let mut params = Params {
        vm: id,
        name: config.name.clone(),
        of: (row.description.clone(), found.row.name.clone()),
        disks: Vec::new(),
    };
    let mut locks = vec![Wanted::exclusive(Entity::Vm(id), &config.name)];
    add_disks(engine, tx, &found, (&row, &kept), &mut params)?;
    for switched in &params.disks {
        let alias = crate::disk::alias(tx, switched.disk)?;
        locks.push(Wanted::exclusive(Entity::Disk(switched.disk), &alias));
    }
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Creating VM {} from Snapshot {}", params.name, params.of.0),
        project: found.row.project,
        vm: Some(id),
        locks,
        steps: vec![NewStep::new("create", "Creating overlays on the snapshot's images").pivot()],
    };
    Ok((id, enqueue(tx, actor, job)?))
}

/// For each disk that the snapshot holds a new one, attached in the same way.
fn add_disks(
    engine: &Inner,
    tx: &Tx,
    found: &access::Vm,
    (of, kept): (&SnapshotRow, &SnapshotConfig),
    params: &mut Params,
) -> Result<(), Fault> {
    let held = snapshot::disks(tx, of.id)?;
    for a in &kept.attachments {
        let Some((_, base)) = held.iter().find(|(disk, _)| *disk == a.disk) else {
            continue;
        };
        let number = params.disks.len() + 1;
        let alias = format!("{}_Disk{number}", params.name);
        let switched = overlay(engine, tx, of, *base, a.size_bytes)?;
        disk::insert(
            tx,
            &DiskRow {
                id: switched.disk,
                project: found.row.project,
                domain: engine.domain.id,
                alias,
                description: a.description.clone(),
                size_bytes: a.size_bytes,
                sparse: true,
                image: switched.overlay.id,
                illegal: None,
                created_at: now_micros(),
            },
        )?;
        vm::put_attachment(
            tx,
            &AttachmentRow {
                disk: switched.disk,
                ..a.row(params.vm, u32::try_from(number).map_err(Fault::internal)?)
            },
        )?;
        params.disks.push(switched);
    }
    Ok(())
}

/// The snapshot's configuration with what the client wants otherwise, as a machine of its own.
fn configuration(command: &CloneVm, kept: &SnapshotConfig) -> Result<VmConfig, Fault> {
    let mut config = VmConfig {
        delete_protected: false,
        ..kept.config.clone()
    };
    fill(&mut config, &command.fields)?;
    for nic in &mut config.nics {
        nic.id = NicId::fresh();
        nic.mac = made_up_mac(nic.id);
    }
    Ok(config)
}

/// Plans one disk's overlay, for a disk with a fresh id.
fn overlay(engine: &Inner, tx: &Tx, of: &SnapshotRow, base: ImageId, size_bytes: u64) -> Result<SwitchDisk, Fault> {
    if image::is_half_merged(tx, base)? {
        let text = format!(
            "The removal of snapshot '{}' was begun and failed, so its image {base} holds a part of what was written later. \
             Remove the snapshot again.",
            of.description
        );
        return Err(refuse(FaultCode::SnapshotBroken, text));
    }
    let depth = image::chain(tx, base)?.len();
    if depth >= limits::CHAIN_MAX {
        let text = format!(
            "Image {base} of snapshot '{}' has {depth} layers already; at most {} are allowed. Remove a snapshot first.",
            of.description,
            limits::CHAIN_MAX
        );
        return Err(refuse(FaultCode::ChainTooDeep, text));
    }
    let base = image::get(tx, base)?.ok_or_else(|| Fault::internal("an image of a snapshot is gone"))?;
    restore::plan_overlay(engine, tx, DiskId::fresh(), &base, size_bytes)
}

/// The saga.
pub(crate) struct Clone {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Clone {
        params: from_json(&row.params)?,
    }))
}

#[async_trait]
impl Saga for Clone {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        restore::make_overlays(cx, &self.params.disks).await?;
        let overlays: Vec<_> = self.params.disks.iter().map(|disk| disk.overlay.id).collect();
        Ok(Done::nothing().and(move |tx| {
            for id in overlays {
                image::set_state(tx, id, ImageState::Live)?;
            }
            Ok(())
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        restore::withdraw_overlays(cx, &self.params.disks).await?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let (snapshot, of) = &params.of;
        let text = format!(
            "VM {} was created from snapshot '{snapshot}' of VM '{of}' by {}.",
            params.name, actor.name
        );
        Event::new(What::VmCloned, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let params = &self.params;
        for switched in &params.disks {
            vm::delete_attachment(tx, params.vm, switched.disk)?;
            disk::delete(tx, switched.disk)?;
            image::delete(tx, switched.overlay.id)?;
        }
        for row in snapshot::of_vm(tx, params.vm)? {
            snapshot::delete(tx, row.id)?;
        }
        vm::delete(tx, params.vm)?;
        let text = format!("Failed to complete the creation of VM {}: {}", params.name, why.text);
        Event::new(What::VmCloneFailed, text)
            .by(&Actor::of_job(job))
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }
}
