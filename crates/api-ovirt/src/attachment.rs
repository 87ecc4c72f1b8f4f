//! How disks are attached to VMs. An attachment's id is its disk's id.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    disk, domain,
    fault::Refused,
    follow::{Follow, Known, known},
};
use std::time::Duration;
use stillpoint_engine::{
    command::{Accepted, Attach, AttachFields, Detach, ExposeSnapshot, UpdateAttachment},
    config::AttachmentConfig,
    view::AttachmentView,
};
use stillpoint_types::{DiskId, DiskInterface, FaultCode, ImageId, VmId};
use stillpoint_wire::{
    Wire,
    model::{self, Header, Identified},
};

/// How long a change waits for its job.
const CHANGE_WAIT: Duration = Duration::from_secs(30);

/// How long giving a disk to a running guest is waited for.
const PLUG_WAIT: Duration = Duration::from_secs(30);

/// How long a guest is waited for to let go of a disk before the answer.
const UNPLUG_WAIT: Duration = Duration::from_secs(10);

/// What can be followed from an attachment.
pub(crate) static FOLLOW: &[Known] = &[known("disk", disk::FOLLOW), known("vm", &[])];

/// `GET /vms/{vm}/diskattachments`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let views = call.engine().attachments(&call.who, call.id(0)?).await?;
    let mut shown = Vec::with_capacity(views.len());
    for view in &views {
        shown.push(show(&call, view, &follow).await?);
    }
    Ok(call.items(&shown))
}

/// `GET /vms/{vm}/diskattachments/{disk}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = call.engine().attachment(&call.who, call.id(0)?, call.id(1)?).await?;
    Ok(call.ok(&show(&call, &view, &follow).await?))
}

/// `POST /vms/{vm}/diskattachments`: attaches a disk that exists, or makes one.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let vm: VmId = call.id(0)?;
    let body: model::DiskAttachment = call.read()?;
    let disk = body.disk.as_deref();
    let disk = disk.ok_or_else(|| Refused::incomplete("DiskAttachment", &["disk"], "add"))?;
    make(&call, vm, disk, fields(&body)?, (represent, promised)).await
}

/// How an attachment is shown, and how one is that is still being made.
pub(crate) type Shown<T> = (fn(&str, &AttachmentView) -> T, fn(&str, VmId, DiskId) -> T);

/// Attaches the disk that a client names, or makes the one that he describes; the answer.
pub(crate) async fn make<T: Wire + Identified>(
    call: &Call,
    vm: VmId,
    disk: &model::Disk,
    fields: AttachFields,
    (represent, promised): Shown<T>,
) -> Result<Answer, Refused> {
    let accepted = put(call, vm, disk, fields).await?;
    let job = call.settle(&accepted).await?;
    let value = match call.engine().attachment(&call.who, vm, accepted.id).await {
        Ok(view) => represent(call.base(), &view),
        // The disk is attached at the end of its making: until then the attachment is only promised.
        Err(_) if job.is_some() => promised(call.base(), vm, accepted.id),
        Err(fault) => return Err(fault.into()),
    };
    Ok(call.added(value, job))
}

/// Changes an attachment; the answer.
pub(crate) async fn change<T: Wire>(
    call: &Call,
    command: UpdateAttachment,
    represent: fn(&str, &AttachmentView) -> T,
) -> Result<Answer, Refused> {
    let (vm, disk) = (command.vm, command.disk);
    let accepted = call
        .engine()
        .update_attachment(&call.who, call.origin(), command)
        .await?;
    call.acted(accepted.job, CHANGE_WAIT).await?;
    let view = call.engine().attachment(&call.who, vm, disk).await?;
    Ok(call.ok(&represent(call.base(), &view)))
}

async fn put(call: &Call, vm: VmId, disk: &model::Disk, fields: AttachFields) -> Result<Accepted<DiskId>, Refused> {
    let id = match disk.head.id.as_deref() {
        Some(id) if is_there(call, disk, id).await? => Some(id),
        _ => None,
    };
    let Some(id) = id else {
        let mut command = disk::creation(disk, domain::named(disk)?)?;
        command.attach = Some((vm, fields));
        return Ok(call.engine().create_disk(&call.who, call.origin(), command).await?);
    };
    let id = body_id(id, "disk")?;
    if let Some(of) = disk.snapshot.as_deref() {
        return expose(call, vm, id, of, fields).await;
    }
    let command = Attach { vm, disk: id, fields };
    let accepted = call.engine().attach(&call.who, call.origin(), command).await?;
    // A guest that runs has its disk in no time; what fails shall be told at once.
    Ok(match accepted.job {
        Some(job) if call.await_job(job, PLUG_WAIT).await? => Accepted { job: None, ..accepted },
        _ => accepted,
    })
}

/// Attaches a disk as it was at a snapshot.
async fn expose(
    call: &Call,
    vm: VmId,
    disk: DiskId,
    of: &model::Snapshot,
    fields: AttachFields,
) -> Result<Accepted<DiskId>, Refused> {
    let id = of.head().id.as_deref();
    let id = id.ok_or_else(|| Refused::incomplete("Snapshot", &["id"], "add"))?;
    let command = ExposeSnapshot {
        vm,
        disk,
        snapshot: body_id(id, "snapshot")?,
        fields,
    };
    let accepted = call.engine().expose_snapshot(&call.who, call.origin(), command).await?;
    if let Some(job) = accepted.job
        && call.await_job(job, PLUG_WAIT).await?
        // A VM that runs is given the disk by a job that follows.
        && call.engine().attachment(&call.who, vm, accepted.id).await.is_ok()
    {
        return Ok(Accepted { job: None, ..accepted });
    }
    Ok(accepted)
}

/// Whether a disk that is named by id is one to attach: clients send the whole disk that they mean. One that is not there,
/// with all that a new one needs, is made with that id.
async fn is_there(call: &Call, disk: &model::Disk, id: &str) -> Result<bool, Refused> {
    if disk::size_bytes(disk).is_none() {
        return Ok(true);
    }
    match call.engine().disk(&call.who, body_id(id, "disk")?).await {
        Ok(_) => Ok(true),
        Err(fault) if fault.code == FaultCode::NotFound => Ok(false),
        Err(fault) => Err(fault.into()),
    }
}

/// `PUT /vms/{vm}/diskattachments/{disk}`
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let (vm, disk): (VmId, DiskId) = (call.id(0)?, call.id(1)?);
    let body: model::DiskAttachment = call.read()?;
    let named = body.disk.as_deref().and_then(|disk| disk.head.id.as_deref());
    for id in body.head.id.as_deref().into_iter().chain(named) {
        if body_id::<DiskId>(id, "disk")? != disk {
            return Err(Refused::immutable("id"));
        }
    }
    let command = UpdateAttachment {
        vm,
        disk,
        fields: fields(&body)?,
        disk_fields: body.disk.as_deref().map(disk::fields).unwrap_or_default(),
    };
    change(&call, command, represent).await
}

/// `DELETE /vms/{vm}/diskattachments/{disk}`: the disk survives unless `detach_only=false`.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = Detach {
        vm: call.id(0)?,
        disk: call.id(1)?,
        delete: !call.params().flag("detach_only").unwrap_or(true),
    };
    let accepted = call.engine().detach(&call.who, call.origin(), command).await?;
    if let Some(job) = accepted.job {
        // Most guests let go of a disk at once. One that does not is waited for by the job alone.
        call.await_job(job, UNPLUG_WAIT).await?;
    }
    Ok(call.removed(accepted.job))
}

fn fields(body: &model::DiskAttachment) -> Result<AttachFields, Refused> {
    Ok(AttachFields {
        interface: interface(body.interface.as_deref())?,
        bootable: body.bootable,
        active: body.active,
        read_only: body.read_only,
        slot: None,
    })
}

/// The interface that a client names.
pub(crate) fn interface(text: Option<&str>) -> Result<Option<DiskInterface>, Refused> {
    let interface = text.map(|text| {
        text.trim()
            .parse()
            .map_err(|_unknown: stillpoint_types::state::BadLabel| disk::no_member(text, "DiskInterface"))
    });
    interface.transpose()
}

/// An attachment with what shall be inlined.
pub(crate) async fn show(
    call: &Call,
    view: &AttachmentView,
    follow: &Follow,
) -> Result<model::DiskAttachment, Refused> {
    let mut attachment = represent(call.base(), view);
    if let Some(below) = follow.below("disk") {
        attachment.disk = Some(Box::new(disk::show(call, &view.disk, below).await?));
    }
    if follow.below("vm").is_some() {
        let house = call.house().await?;
        let vm = call.engine().vm(&call.who, view.vm).await?;
        attachment.vm = Some(Box::new(crate::vm::represent(call.base(), &house, &vm)));
    }
    Ok(attachment)
}

fn promised(base: &str, vm: VmId, disk: DiskId) -> model::DiskAttachment {
    model::DiskAttachment {
        head: Header::new(disk.to_string(), format!("{base}/vms/{vm}/diskattachments/{disk}")),
        disk: model::Disk::reference(disk.to_string(), format!("{base}/disks/{disk}")),
        vm: model::Vm::reference(vm.to_string(), format!("{base}/vms/{vm}")),
        ..model::DiskAttachment::default()
    }
}

fn represent(base: &str, view: &AttachmentView) -> model::DiskAttachment {
    model::DiskAttachment {
        active: Some(view.active),
        bootable: Some(view.bootable),
        interface: Some(view.interface.to_string()),
        read_only: Some(view.read_only),
        uses_scsi_reservation: Some(false),
        ..promised(base, view.vm, view.disk.id)
    }
}

/// The attachment as a snapshot taken now would keep it.
pub(crate) fn as_config(view: &AttachmentView, parent: Option<ImageId>) -> AttachmentConfig {
    AttachmentConfig {
        disk: view.disk.id,
        alias: view.disk.alias.clone(),
        description: view.disk.description.clone(),
        size_bytes: view.disk.size_bytes,
        interface: view.interface,
        bootable: view.bootable,
        active: view.active,
        read_only: view.read_only,
        slot: view.slot,
        image: Some(view.disk.image),
        parent,
        format: view.disk.format,
        sparse: view.disk.sparse,
    }
}
