//! The disks of a VM in version 3: disk and attachment in one, where version 4 has two things.

use crate::{
    answer::Answer,
    attachment,
    call::{Call, body_id},
    disk,
    fault::Refused,
};
use std::time::Duration;
use stillpoint_engine::{
    command::{AttachFields, Detach, UpdateAttachment},
    view::AttachmentView,
};
use stillpoint_types::{DiskId, VmId};
use stillpoint_wire::model::{self, Header, Identified};

/// How long a change waits for its job.
const CHANGE_WAIT: Duration = Duration::from_secs(30);

/// `GET /vms/{vm}/disks`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let views = call.engine().attachments(&call.who, call.id(0)?).await?;
    let shown: Vec<_> = views.iter().map(|view| represent(call.base(), view)).collect();
    Ok(call.items(&shown))
}

/// `GET /vms/{vm}/disks/{disk}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().attachment(&call.who, call.id(0)?, call.id(1)?).await?;
    Ok(call.ok(&represent(call.base(), &view)))
}

/// `POST /vms/{vm}/disks`: attaches a disk that exists, or makes one.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let vm: VmId = call.id(0)?;
    let body: model::Disk = call.read()?;
    attachment::make(&call, vm, &body, fields(&body)?, (represent, promised)).await
}

/// `PUT /vms/{vm}/disks/{disk}`
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let (vm, disk): (VmId, DiskId) = (call.id(0)?, call.id(1)?);
    let body: model::Disk = call.read()?;
    if let Some(id) = &body.head.id
        && body_id::<DiskId>(id, "disk")? != disk
    {
        return Err(Refused::immutable("id"));
    }
    let command = UpdateAttachment {
        vm,
        disk,
        fields: fields(&body)?,
        disk_fields: disk::fields(&body),
    };
    attachment::change(&call, command, represent).await
}

/// `DELETE /vms/{vm}/disks/{disk}`: the disk is removed, unless the body says `<detach>true</detach>`.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = Detach {
        vm: call.id(0)?,
        disk: call.id(1)?,
        delete: !call.params().flag("detach").unwrap_or(false),
    };
    let accepted = call.engine().detach(&call.who, call.origin(), command).await?;
    Ok(call.removed(accepted.job))
}

/// `POST /vms/{vm}/disks/{disk}/activate`
pub(crate) async fn activate(call: Call) -> Result<Answer, Refused> {
    plug(call, true).await
}

/// `POST /vms/{vm}/disks/{disk}/deactivate`
pub(crate) async fn deactivate(call: Call) -> Result<Answer, Refused> {
    plug(call, false).await
}

async fn plug(call: Call, active: bool) -> Result<Answer, Refused> {
    let command = UpdateAttachment {
        vm: call.id(0)?,
        disk: call.id(1)?,
        fields: AttachFields {
            active: Some(active),
            ..AttachFields::default()
        },
        disk_fields: stillpoint_engine::command::DiskFields::default(),
    };
    let _parameters: model::Action = call.read()?;
    let accepted = call
        .engine()
        .update_attachment(&call.who, call.origin(), command)
        .await?;
    call.acted(accepted.job, CHANGE_WAIT).await
}

fn fields(body: &model::Disk) -> Result<AttachFields, Refused> {
    Ok(AttachFields {
        interface: attachment::interface(body.interface.as_deref())?,
        bootable: body.bootable,
        active: body.active,
        read_only: body.read_only,
        slot: None,
    })
}

fn head(base: &str, vm: VmId, disk: DiskId) -> Header {
    let mut head = Header::new(disk.to_string(), format!("{base}/vms/{vm}/disks/{disk}"));
    head.add_action("activate");
    head.add_action("deactivate");
    head
}

fn promised(base: &str, vm: VmId, disk: DiskId) -> model::Disk {
    model::Disk {
        head: head(base, vm, disk),
        vm: model::Vm::reference(vm.to_string(), format!("{base}/vms/{vm}")),
        ..model::Disk::default()
    }
}

fn represent(base: &str, view: &AttachmentView) -> model::Disk {
    let whole = disk::represent(base, &view.disk);
    let promised = promised(base, view.vm, view.disk.id);
    model::Disk {
        head: Header {
            name: whole.head.name,
            description: whole.head.description,
            ..promised.head
        },
        vm: promised.vm,
        active: Some(view.active),
        bootable: Some(view.bootable),
        interface: Some(view.interface.to_string()),
        read_only: Some(view.read_only),
        ..whole
    }
}
