//! Attaches a disk as it was at a snapshot to a VM, as backup appliances ask for it: to be read there by the appliance.
//!
//! The VM gets a disk of its own, on an overlay over the snapshot's image: nothing is copied, and what the VM writes is in
//! the overlay. It goes when it is detached, or when its VM is removed. Its id is its own; at that VM the disk whose
//! snapshot it is may be named instead ([`named_at`]), as oVirt knows it by that one.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `create` **pivot** | the overlay's file, durable | the file removed, then the rows |
//!
//! # Crash consistency
//! As a clone of a VM ([`crate::vm::clone`]), of one disk. A VM that runs is given the disk by a job of its own
//! ([`super::plug`]), which this one's last transaction writes; if that fails, a disk is left that belongs to no VM.
//!
//! Images are a tree (ADR 0007): the snapshot may be removed meanwhile, and its image stays as long as it is read.

use super::create;
use crate::{
    access,
    command::{Accepted, AttachFields, ExposeSnapshot, Origin},
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
    Conn, Tx,
    disk::{self, DiskRow},
    exposed::{self, ExposedRow},
    image::{self, ImageState},
    job::JobRow,
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, JobId, Need, SnapshotType, VmId, now_micros};

pub(crate) const KIND: &str = "disk_expose";
const VERSION: u32 = 1;
/// As refusals say it.
const DOING: &str = "attach Virtual Disk";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    alias: String,
    overlay: SwitchDisk,
    /// How a running VM shall get it.
    plug: Option<AttachFields>,
}

/// The disk that is meant at a VM: the named one if the VM has it, or the one that shows a snapshot of it.
pub(crate) fn named_at(conn: &Conn, id: VmId, named: DiskId) -> Result<DiskId, Fault> {
    if vm::attachments_of_disk(conn, named)?.iter().any(|a| a.vm == id) {
        return Ok(named);
    }
    Ok(exposed::at_vm(conn, id, named)?.map_or(named, |row| row.disk))
}

/// Whether a disk goes when it is detached: it shows a snapshot, and none holds it.
pub(crate) fn goes_when_detached(conn: &Conn, id: DiskId) -> Result<bool, Fault> {
    Ok(exposed::get(conn, id)?.is_some() && snapshot::of_disk(conn, id)?.is_empty())
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: ExposeSnapshot,
) -> Result<Accepted<DiskId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    create::expect_space(&engine.domain.name, space.available_bytes, limits::RESERVE_BYTES)?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<_, Fault> { plan(&inner, tx, &who, &actor, &command) };
    let (id, job) = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn refuse(code: FaultCode, text: impl std::fmt::Display) -> Fault {
    Fault::new(code, format!("Cannot {DOING}. {text}"))
}

/// The snapshot that the body names, which must hold the disk. What cannot be seen is answered as what is not there.
fn source(tx: &Tx, who: &Caller, command: &ExposeSnapshot) -> Result<(DiskRow, SnapshotRow), Fault> {
    let of = access::named_disk(tx, who, command.disk, Need::Operate)?;
    let absent = || {
        let text = format!("The snapshot {} holds no disk {}.", command.snapshot, command.disk);
        refuse(FaultCode::RelatedNotFound, text)
    };
    let row = snapshot::get(tx, command.snapshot)?.ok_or_else(absent)?;
    match access::vm(tx, who, row.vm, Need::Operate) {
        Ok(found) => {
            lock::expect_free(tx, Entity::Vm(row.vm), &found.row.name)?;
            preview::expect_none(tx, row.vm, DOING)?;
        }
        Err(fault) if fault.code == FaultCode::NotFound => return Err(absent()),
        Err(fault) => return Err(fault),
    }
    if row.kind != SnapshotType::Regular {
        let text = format!("Snapshot {} is {}: name a regular one.", row.id, row.kind);
        return Err(refuse(FaultCode::SnapshotNotRegular, text));
    }
    Ok((of, row))
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &ExposeSnapshot,
) -> Result<(DiskId, JobId), Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let name = &found.row.name;
    lock::expect_free(tx, Entity::Vm(command.vm), name)?;
    let (of, row) = source(tx, who, command)?;
    let held = snapshot::disks(tx, row.id)?
        .into_iter()
        .find(|(disk, _)| *disk == of.id);
    let held = held.filter(|_| of.project == found.row.project);
    let (_, base) = held.ok_or_else(|| {
        let text = format!("The snapshot {} holds no disk {}.", row.id, of.id);
        refuse(FaultCode::RelatedNotFound, text)
    })?;
    if let Some(there) = exposed::at_vm(tx, command.vm, of.id)? {
        let text = format!("VM {name} has a snapshot of disk {} already: {}.", of.alias, there.disk);
        return Err(refuse(FaultCode::DiskAttached, text));
    }
    let depth = image::chain(tx, base)?.len();
    if depth >= limits::CHAIN_MAX {
        let text = format!("Image {base} has {depth} layers already, the most there may be. Remove a snapshot first.");
        return Err(refuse(FaultCode::ChainTooDeep, text));
    }
    let base = image::get(tx, base)?.ok_or_else(|| Fault::internal("an image of a snapshot is gone"))?;
    super::expect_whole(tx, &of, &base, DOING)?;
    let overlay = restore::plan_overlay(engine, tx, DiskId::fresh(), &base, base.size_bytes)?;
    let disk = DiskRow {
        id: overlay.disk,
        project: of.project,
        domain: engine.domain.id,
        alias: of.alias.clone(),
        description: row.description.clone(),
        size_bytes: base.size_bytes,
        sparse: true,
        image: overlay.overlay.id,
        illegal: None,
        created_at: now_micros(),
    };
    disk::insert(tx, &disk)?;
    exposed::insert(
        tx,
        &ExposedRow {
            disk: disk.id,
            vm: command.vm,
            of_disk: of.id,
            snapshot: row.id,
        },
    )?;
    let params = Params {
        vm: command.vm,
        name: name.clone(),
        alias: disk.alias.clone(),
        plug: create::attach_new(tx, &found, &disk, &command.fields)?,
        overlay,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!(
            "Attaching Snapshot {} of Disk {} to VM {name}",
            row.description, of.alias
        ),
        project: found.row.project,
        vm: Some(command.vm),
        locks: vec![
            Wanted::exclusive(Entity::Vm(command.vm), name),
            Wanted::exclusive(Entity::Disk(disk.id), &disk.alias),
        ],
        steps: vec![NewStep::new("create", "Creating an overlay on the snapshot's image").pivot()],
    };
    Ok((disk.id, enqueue(tx, actor, job)?))
}

/// The saga.
pub(crate) struct Expose {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Expose {
        params: from_json(&row.params)?,
    }))
}

#[async_trait]
impl Saga for Expose {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        restore::make_overlays(cx, std::slice::from_ref(&self.params.overlay)).await?;
        let id = self.params.overlay.overlay.id;
        Ok(Done::nothing().and(move |tx| Ok(image::set_state(tx, id, ImageState::Live)?)))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        restore::withdraw_overlays(cx, std::slice::from_ref(&self.params.overlay)).await?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let Params {
            vm,
            name,
            alias,
            overlay,
            plug,
        } = &self.params;
        if let Some(fields) = plug {
            return create::plug_made(tx, job, (overlay.disk, alias), *vm, fields);
        }
        let text = format!(
            "A snapshot of disk {alias} was attached to VM {name} by {}.",
            job.owner_name
        );
        self.tell(tx, job, What::DiskAttached, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let Params {
            vm,
            name,
            alias,
            overlay,
            ..
        } = &self.params;
        vm::delete_attachment(tx, *vm, overlay.disk)?;
        disk::delete(tx, overlay.disk)?;
        image::delete(tx, overlay.overlay.id)?;
        let text = format!("Failed to attach a snapshot of disk {alias} to VM {name}: {}", why.text);
        self.tell(tx, job, What::DiskPlugFailed, text)
    }
}

impl Expose {
    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        let params = &self.params;
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .vm(job.project, params.vm, &params.name)
            .disk(job.project, params.overlay.disk, &params.alias)
            .write(tx)
    }
}
