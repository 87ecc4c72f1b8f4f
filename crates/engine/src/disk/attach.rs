//! Attaches disks to a VM, and detaches them. Of a VM that is down it is rows only; a running one is given and deprived of
//! disks by jobs ([`super::plug`]).

use super::{expose, plug};
use crate::{
    access,
    command::{Accepted, Attach, AttachFields, Detach, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor},
    lock::{self, Entity},
    vm::{configure::no_slot, spec, view::wrong_status},
};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::DiskRow,
    image,
    vm::{self, AttachmentRow},
};
use stillpoint_types::{Caller, DiskId, DiskInterface, FaultCode, JobId, Need, VmStatus};

/// A VM whose devices may change: down, and held by no job.
pub(super) fn changeable(tx: &Tx, who: &Caller, id: stillpoint_types::VmId, what: &str) -> Result<access::Vm, Fault> {
    let found = access::vm(tx, who, id, Need::Operate)?;
    lock::expect_free(tx, Entity::Vm(id), &found.row.name)?;
    expect_down(&found, what)?;
    Ok(found)
}

fn expect_down(found: &access::Vm, what: &str) -> Result<(), Fault> {
    match found.row.status {
        VmStatus::Down => Ok(()),
        status => Err(wrong_status(&found.row.name, status, what, "down")),
    }
}

/// Writes a new attachment, checked but for the disk's own state.
pub(crate) fn put(tx: &Tx, found: &access::Vm, disk: &DiskRow, fields: &AttachFields) -> Result<(), Fault> {
    expect_down(found, "attaching a disk")?;
    vm::put_attachment(tx, &row_for(tx, found, disk, fields)?)?;
    Ok(vm::touch(tx, found.row.id)?)
}

/// A new attachment, at a free place.
pub(super) fn row_for(
    tx: &Tx,
    found: &access::Vm,
    disk: &DiskRow,
    fields: &AttachFields,
) -> Result<AttachmentRow, Fault> {
    let attached = vm::attachments(tx, found.row.id)?;
    let interface = fields.interface.unwrap_or(DiskInterface::Virtio);
    let slot = spec::slot(&found.config, &attached, interface, fields.slot).ok_or_else(|| no_slot(&found.row.name))?;
    let position = attached.iter().map(|a| a.position + 1).max().unwrap_or(0);
    if fields.bootable == Some(true) {
        expect_no_boot_disk(found, &attached, disk.id)?;
    }
    expect_no_common_image(tx, found, &attached, disk)?;
    Ok(AttachmentRow {
        vm: found.row.id,
        disk: disk.id,
        interface,
        bootable: fields.bootable.unwrap_or(false),
        active: fields.active.unwrap_or(true),
        read_only: fields.read_only.unwrap_or(false),
        slot,
        position,
    })
}

/// Disks of clones stand on one image. One machine has an image open once, for one disk.
fn expect_no_common_image(
    tx: &Tx,
    found: &access::Vm,
    attached: &[AttachmentRow],
    disk: &DiskRow,
) -> Result<(), Fault> {
    let chain = |image| -> Result<Vec<_>, Fault> { Ok(image::chain(tx, image)?.iter().map(|row| row.id).collect()) };
    let mine = chain(disk.image)?;
    for a in attached.iter().filter(|a| a.disk != disk.id) {
        let Some(other) = stillpoint_store::disk::get(tx, a.disk)? else {
            continue;
        };
        if chain(other.image)?.iter().any(|id| mine.contains(id)) {
            let text = format!(
                "Cannot attach Virtual Disk. Disks {} and {} were cloned from one another and share an image, so VM {} cannot \
                 have both: attach it to another VM.",
                disk.alias, other.alias, found.row.name
            );
            return Err(Fault::new(FaultCode::DiskAttached, text));
        }
    }
    Ok(())
}

/// One bootable disk a VM, as in oVirt.
pub(super) fn expect_no_boot_disk(found: &access::Vm, attached: &[AttachmentRow], but: DiskId) -> Result<(), Fault> {
    match attached.iter().find(|a| a.bootable && a.disk != but) {
        None => Ok(()),
        Some(other) => Err(Fault::new(
            FaultCode::DiskAttached,
            format!(
                "Disk {} is already the bootable disk of VM {}: make it not bootable first.",
                other.disk, found.row.name
            ),
        )),
    }
}

pub(crate) async fn attach(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: Attach,
) -> Result<Accepted<DiskId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.disk);
    let write = move |tx: &Tx| -> Result<Option<JobId>, Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        lock::expect_free(tx, Entity::Vm(command.vm), &found.row.name)?;
        if found.row.status != VmStatus::Up || command.fields.active == Some(false) {
            expect_down(&found, "attaching a disk")?;
            take(tx, &who, &actor, &found, id, &command.fields)?;
            return Ok(None);
        }
        let row = free_disk(tx, &who, &found, id)?;
        Ok(Some(plug::plan_plug(tx, &actor, &found, &row, &command.fields)?))
    };
    let job = engine.store.write(write).await?;
    if let Some(job) = job {
        journal::executor::drive(engine, job, false);
    }
    Ok(Accepted { id, job })
}

/// A disk that may be attached to the VM: there, visible, of its project, and nobody's.
fn free_disk(tx: &Tx, who: &Caller, found: &access::Vm, id: DiskId) -> Result<DiskRow, Fault> {
    let row = access::named_disk(tx, who, id, Need::Operate)?;
    lock::expect_free(tx, Entity::Disk(id), &row.alias)?;
    if row.project != found.row.project {
        return Err(Fault::new(
            FaultCode::RelatedNotFound,
            format!("The disk {id} does not exist."),
        ));
    }
    if let Some(other) = vm::attachments_of_disk(tx, id)?.first() {
        let text = format!(
            "Cannot attach Virtual Disk. Disk {} is attached to VM {} already.",
            row.alias, other.vm
        );
        return Err(Fault::new(FaultCode::DiskAttached, text));
    }
    crate::snapshot::preview::expect_not_kept(tx, id, found.row.id, "attach Virtual Disk")?;
    crate::volume::expect_unclaimed(tx, &row, "attach Virtual Disk", false)?;
    Ok(row)
}

/// Attaches a disk that is there and free to a VM whose devices may change.
pub(crate) fn take(
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    found: &access::Vm,
    id: DiskId,
    fields: &AttachFields,
) -> Result<(), Fault> {
    let row = free_disk(tx, who, found, id)?;
    put(tx, found, &row, fields)?;
    let (project, name) = (found.row.project, &found.row.name);
    let text = format!(
        "Disk {} was successfully attached to VM {name} by {}.",
        row.alias, actor.name
    );
    Event::new(What::DiskAttached, text)
        .by(actor)
        .vm(project, found.row.id, name)
        .disk(project, id, &row.alias)
        .write(tx)
}

pub(super) fn attachment(tx: &Tx, found: &access::Vm, disk: DiskId) -> Result<AttachmentRow, Fault> {
    let all = vm::attachments(tx, found.row.id)?;
    all.into_iter()
        .find(|a| a.disk == disk)
        .ok_or_else(|| Fault::not_found("disk attachment", disk))
}

pub(crate) async fn detach(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: Detach,
) -> Result<Accepted<DiskId>, Fault> {
    let (who, actor, named) = (who.clone(), Actor::of(who, origin), command.disk);
    let write = move |tx: &Tx| -> Result<Option<JobId>, Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        lock::expect_free(tx, Entity::Vm(command.vm), &found.row.name)?;
        let id = expose::named_at(tx, command.vm, named)?;
        let is_live = found.row.status == VmStatus::Up;
        if !is_live {
            expect_down(&found, "detaching a disk")?;
        }
        let attached = attachment(tx, &found, id)?;
        let row = access::disk(tx, &who, id, Need::Operate)?;
        lock::expect_free(tx, Entity::Disk(id), &row.alias)?;
        crate::backup::expect_none_of_disk(tx, id, "detach Virtual Disk")?;
        let delete = command.delete || expose::goes_when_detached(tx, id)?;
        if is_live {
            if delete {
                super::delete::expect_in_no_snapshot(tx, &row)?;
            }
            let job = plug::plan_unplug(tx, &actor, &found, &row, &attached, delete)?;
            return Ok(Some(job));
        }
        vm::delete_attachment(tx, command.vm, id)?;
        stillpoint_store::checkpoint::forget_disk(tx, id)?;
        vm::touch(tx, command.vm)?;
        if delete {
            super::delete::forget(tx, &actor, &row)?;
        }
        let (project, name) = (found.row.project, &found.row.name);
        let text = format!(
            "Disk {} was successfully detached from VM {name} by {}.",
            row.alias, actor.name
        );
        Event::new(What::DiskDetached, text)
            .by(&actor)
            .vm(project, found.row.id, name)
            .disk(project, id, &row.alias)
            .write(tx)?;
        Ok(None)
    };
    let job = engine.store.write(write).await?;
    match job {
        Some(job) => journal::executor::drive(engine, job, false),
        None => engine.tidy.notify_one(),
    }
    Ok(Accepted { id: named, job })
}
