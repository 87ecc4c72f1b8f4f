//! Changes a disk, or an attachment and the disk in it. Texts and attachments are rows; a larger size is a job
//! ([`super::extend`]). All that one request asks for is decided in one transaction.
//!
//! Clients send back whole objects with one member changed, so what is as it was counts as not named: it asks for no
//! lock, needs no VM that is down, and is told to nobody.

use super::{
    attach::{attachment as find, changeable, expect_no_boot_disk},
    extend,
};
use crate::{
    access,
    command::{Accepted, AttachFields, DiskFields, Origin, UpdateAttachment, UpdateDisk},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor},
    limits,
    lock::{self, Entity},
    ports::Space,
    vm::{configure::no_slot, spec},
};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    image,
    vm::{self, AttachmentRow},
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageFormat, JobId, Need, VmId};

pub(crate) async fn disk(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: UpdateDisk,
) -> Result<Accepted<DiskId>, Fault> {
    let space = space(engine, &command.fields).await?;
    let (inner, who, actor, id) = (Arc::clone(engine), who.clone(), Actor::of(who, origin), command.disk);
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = access::disk(tx, &who, id, Need::Operate)?;
        change(&inner, tx, &actor, row, command.fields, space)
    };
    let job = engine.store.write(write).await?;
    Ok(accepted(engine, id, job))
}

pub(crate) async fn attachment(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: UpdateAttachment,
) -> Result<Accepted<DiskId>, Fault> {
    let space = space(engine, &command.disk_fields).await?;
    let (inner, who, actor, id) = (Arc::clone(engine), who.clone(), Actor::of(who, origin), command.disk);
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        let id = super::expose::named_at(tx, command.vm, id)?;
        let row = find(tx, &found, id)?;
        if differs(&row, &command.fields) {
            put(tx, &who, &actor, command.vm, row, &command.fields)?;
        }
        if command.disk_fields == DiskFields::default() {
            return Ok(None);
        }
        let row = access::disk(tx, &who, id, Need::Operate)?;
        change(&inner, tx, &actor, row, command.disk_fields, space)
    };
    let job = engine.store.write(write).await?;
    Ok(accepted(engine, id, job))
}

fn accepted(engine: &Arc<Inner>, id: DiskId, job: Option<JobId>) -> Accepted<DiskId> {
    if let Some(job) = job {
        journal::executor::drive(engine, job, false);
    }
    Accepted { id, job }
}

/// The domain's room, where the size shall change.
async fn space(engine: &Inner, fields: &DiskFields) -> Result<Option<Space>, Fault> {
    if fields.size_bytes.is_none() {
        return Ok(None);
    }
    Ok(Some(engine.images.space(&engine.domain_path()).await?))
}

fn differs(row: &AttachmentRow, fields: &AttachFields) -> bool {
    let of = |wanted: Option<bool>, now: bool| wanted.is_some_and(|wanted| wanted != now);
    fields.interface.is_some_and(|wanted| wanted != row.interface)
        || of(fields.bootable, row.bootable)
        || of(fields.active, row.active)
        || of(fields.read_only, row.read_only)
}

/// Changes the attachment of a VM that is down.
fn put(
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    id: VmId,
    mut row: AttachmentRow,
    fields: &AttachFields,
) -> Result<(), Fault> {
    let found = changeable(tx, who, id, "changing an attachment")?;
    let all = vm::attachments(tx, id)?;
    if let Some(interface) = fields.interface.filter(|interface| *interface != row.interface) {
        let others: Vec<_> = all.iter().filter(|a| a.disk != row.disk).cloned().collect();
        row.slot = spec::free_slot(&found.config, &others, interface).ok_or_else(|| no_slot(&found.row.name))?;
        row.interface = interface;
    }
    if fields.bootable == Some(true) {
        expect_no_boot_disk(&found, &all, row.disk)?;
    }
    row.bootable = fields.bootable.unwrap_or(row.bootable);
    row.active = fields.active.unwrap_or(row.active);
    row.read_only = fields.read_only.unwrap_or(row.read_only);
    vm::put_attachment(tx, &row)?;
    vm::touch(tx, id)?;
    let name = &found.row.name;
    let text = format!(
        "The attachment of disk {} to VM {name} was changed by {}.",
        row.disk, actor.name
    );
    Event::new(What::VmUpdated, text)
        .by(actor)
        .vm(found.row.project, id, name)
        .write(tx)
}

/// Changes the disk: texts now, the size by the job that is returned.
fn change(
    engine: &Inner,
    tx: &Tx,
    actor: &Actor,
    mut row: DiskRow,
    fields: DiskFields,
    space: Option<Space>,
) -> Result<Option<JobId>, Fault> {
    if fields.incremental == Some(true)
        && image::get(tx, row.image)?.is_some_and(|image| image.format == ImageFormat::Raw)
    {
        let text = format!(
            "Cannot edit Virtual Disk. Incremental backup is not supported for disk {}, which is raw: copy it into a qcow2 disk.",
            row.alias
        );
        return Err(Fault::new(FaultCode::Unsupported, text));
    }
    let alias = fields.alias.unwrap_or_else(|| row.alias.clone());
    let description = fields.description.unwrap_or_else(|| row.description.clone());
    if alias != row.alias || description != row.description {
        lock::expect_free(tx, Entity::Disk(row.id), &row.alias)?;
        limits::name("alias", &alias)?;
        limits::text("description", &description, limits::TEXT_MAX)?;
        disk::set_texts(tx, row.id, &alias, &description)?;
        let text = format!("Disk {alias} was updated by {}.", actor.name);
        Event::new(What::DiskUpdated, text)
            .by(actor)
            .disk(row.project, row.id, &alias)
            .write(tx)?;
        (row.alias, row.description) = (alias, description);
    }
    match fields.size_bytes.zip(space) {
        Some((size_bytes, _)) if size_bytes != row.size_bytes => {
            crate::volume::expect_unclaimed(tx, &row, "edit Virtual Disk", false)?;
        }
        _ => {}
    }
    match fields.size_bytes.zip(space) {
        Some((size_bytes, space)) => extend::plan(engine, tx, actor, &row, size_bytes, space.available_bytes),
        None => Ok(None),
    }
}
