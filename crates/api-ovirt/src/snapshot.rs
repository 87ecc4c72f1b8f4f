//! Snapshots of a VM: take, look at, remove, restore.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    disk, domain,
    fault::Refused,
    follow::{Follow, Known, known},
    list::{self, Listing},
    nic, ovf,
    search::Search,
    v3, vm,
};
use std::time::Duration;
use stillpoint_engine::{
    Fault,
    command::{CreateSnapshot, DeleteSnapshot, RestoreSnapshot, SnapshotDisk},
    config::VmConfig,
    view::{Page, Paged, SnapshotDiskView, SnapshotStatus, SnapshotView},
};
use stillpoint_types::{DiskId, NicId, SnapshotId, SnapshotType, VmId};
use stillpoint_wire::{
    Date, Dialect,
    model::{self, Header, Identified},
};

/// How long a restore blocks before the answer is 202.
const RESTORE_WAIT: Duration = Duration::from_secs(600);

/// What can be followed from a snapshot.
pub(crate) static FOLLOW: &[Known] = &[
    known("disks", &[]),
    known("nics", &[]),
    known("cdroms", &[]),
    known("vm", &[]),
];

struct Snapshots {
    vm: VmId,
    follow: Follow,
}

impl Listing for Snapshots {
    type View = SnapshotView;
    type Item = model::Snapshot;

    async fn page(&self, call: &Call, _page: Page) -> Result<Paged<SnapshotView>, Fault> {
        Ok(list::whole(call.engine().snapshots(&call.who, self.vm).await?))
    }

    async fn show(&self, call: &Call, view: SnapshotView) -> Result<model::Snapshot, Refused> {
        show(call, &view, &self.follow).await
    }
}

/// `GET /vms/{vm}/snapshots`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let snapshots = Snapshots {
        vm: call.id(0)?,
        follow: call.follow(FOLLOW)?,
    };
    list::answer(call, snapshots, &Search::default()).await
}

/// `GET /vms/{vm}/snapshots/{snapshot}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = view(&call).await?;
    Ok(call.ok(&show(&call, &view, &follow).await?))
}

/// `POST /vms/{vm}/snapshots`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let body: model::Snapshot = call.read()?;
    let description = body.base.head.description.clone().unwrap_or_default();
    if description.is_empty() {
        return Err(Refused::incomplete("Snapshot", &["description"], "add"));
    }
    let command = CreateSnapshot {
        vm,
        description,
        memory: body.persist_memorystate.unwrap_or(true),
        disks: match call.dialect() {
            Dialect::V4 => body.base.disk_attachments.as_deref().map(chosen).transpose()?,
            Dialect::V3 => v3::snapshot::chosen(body.disks.as_deref())?,
        },
    };
    let accepted = call.engine().create_snapshot(&call.who, call.origin(), command).await?;
    let job = call.settle(&accepted).await?;
    let view = call.engine().snapshot(&call.who, vm, accepted.id).await?;
    Ok(call.added(represent(&call, &view), job))
}

/// The disks that a client chose. A choice that names no disk is refused: it must not become "no disk".
fn chosen(attachments: &[model::DiskAttachment]) -> Result<Vec<SnapshotDisk>, Refused> {
    let mut disks = Vec::with_capacity(attachments.len());
    for attachment in attachments {
        let disk = attachment.disk.as_deref();
        let id = disk
            .and_then(|disk| disk.head.id.as_ref())
            .or(attachment.head.id.as_ref());
        let id = id.ok_or_else(|| Refused::incomplete("DiskAttachment", &["disk.id"], "add"))?;
        disks.push(choice(id, disk.and_then(|disk| disk.image_id.as_deref()))?);
    }
    Ok(disks)
}

/// A disk that a client chose, and the id that he wants its new image to have.
pub(crate) fn choice(disk: &str, image: Option<&str>) -> Result<SnapshotDisk, Refused> {
    Ok(SnapshotDisk {
        disk: body_id(disk, "disk")?,
        image: image.map(|image| body_id(image, "image_id")).transpose()?,
    })
}

/// `DELETE /vms/{vm}/snapshots/{snapshot}`
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteSnapshot {
        vm: call.id(0)?,
        snapshot: call.id(1)?,
    };
    let accepted = call.engine().delete_snapshot(&call.who, call.origin(), command).await?;
    Ok(call.removed(accepted.job))
}

/// `POST /vms/{vm}/snapshots/{snapshot}/restore`
pub(crate) async fn restore(call: Call) -> Result<Answer, Refused> {
    let (vm, snapshot) = (call.id(0)?, call.id(1)?);
    let action: model::Action = call.read()?;
    if action.disks.as_ref().is_some_and(|disks| !disks.is_empty()) {
        return Err(Refused::unsupported(
            "Restoring some of the disks is not supported by this version",
        ));
    }
    let command = RestoreSnapshot {
        vm,
        snapshot,
        memory: action.restore_memory.unwrap_or(true),
    };
    let accepted = call
        .engine()
        .restore_snapshot(&call.who, call.origin(), command)
        .await?;
    call.acted(accepted.job, RESTORE_WAIT).await
}

/// `GET /vms/{vm}/snapshots/{snapshot}/disks`
pub(crate) async fn disks(call: Call) -> Result<Answer, Refused> {
    let view = view(&call).await?;
    Ok(call.items(&shown_disks(&call, &view).await?))
}

/// `GET /vms/{vm}/snapshots/{snapshot}/disks/{disk}`
pub(crate) async fn disk(call: Call) -> Result<Answer, Refused> {
    let disk: DiskId = call.id(2)?;
    let view = view(&call).await?;
    let views = call.engine().snapshot_disks(&call.who, view.vm, view.id).await?;
    let found = views.iter().find(|view| view.attachment.disk == disk);
    let found = found.ok_or_else(|| Refused::not_found(&disk.to_string()))?;
    Ok(call.ok(&represent_disk(&call, &view, found)))
}

/// `GET /vms/{vm}/snapshots/{snapshot}/nics`
pub(crate) async fn nics(call: Call) -> Result<Answer, Refused> {
    let view = view(&call).await?;
    Ok(call.items(&shown_nics(&call, &view).await?))
}

/// `GET /vms/{vm}/snapshots/{snapshot}/nics/{nic}`
pub(crate) async fn nic(call: Call) -> Result<Answer, Refused> {
    let nic: NicId = call.id(2)?;
    let view = view(&call).await?;
    let nics = shown_nics(&call, &view).await?;
    nic::one(&call, &nics, nic)
}

/// `GET /vms/{vm}/snapshots/{snapshot}/cdroms`: VMs have no optical drives.
pub(crate) async fn cdroms(call: Call) -> Result<Answer, Refused> {
    view(&call).await?;
    Ok(call.items::<model::Cdrom>(&[]))
}

async fn view(call: &Call) -> Result<SnapshotView, Refused> {
    let (vm, snapshot): (VmId, SnapshotId) = (call.id(0)?, call.id(1)?);
    Ok(call.engine().snapshot(&call.who, vm, snapshot).await?)
}

async fn shown_disks(call: &Call, view: &SnapshotView) -> Result<Vec<model::Disk>, Refused> {
    let views = call.engine().snapshot_disks(&call.who, view.vm, view.id).await?;
    Ok(views.iter().map(|disk| represent_disk(call, view, disk)).collect())
}

async fn shown_nics(call: &Call, view: &SnapshotView) -> Result<Vec<model::Nic>, Refused> {
    let config = config(call, view).await?;
    Ok(nic::represent_all(
        call.base(),
        &place(call, view),
        &call.house().await?,
        &config,
    ))
}

/// The configuration that a snapshot keeps; the active one has the VM's own.
async fn config(call: &Call, view: &SnapshotView) -> Result<VmConfig, Refused> {
    match &view.config {
        Some(record) => Ok(record.config.clone()),
        None => Ok(call.engine().vm(&call.who, view.vm).await?.config),
    }
}

/// A snapshot with what shall be inlined, and with its document if the full representation is wanted.
pub(crate) async fn show(call: &Call, view: &SnapshotView, follow: &Follow) -> Result<model::Snapshot, Refused> {
    let mut snapshot = represent(call, view);
    if let (true, Some(record)) = (call.all_content(), &view.config) {
        let house = call.house().await?;
        let document = ovf::document(&ovf::Subject {
            record,
            snapshot: Some(view.id),
            house: &house,
            generation: Some(record.generation),
            dialect: call.dialect(),
            now: call.engine().now(),
        });
        snapshot.base.initialization = Some(ovf::initialization(document));
    }
    if follow.below("disks").is_some() {
        snapshot.disks = Some(shown_disks(call, view).await?);
    }
    if follow.below("nics").is_some() {
        snapshot.base.nics = Some(shown_nics(call, view).await?);
    }
    if follow.below("cdroms").is_some() {
        snapshot.base.cdroms = Some(Vec::new());
    }
    if follow.below("vm").is_some() && view.config.is_none() {
        let house = call.house().await?;
        let now = call.engine().vm(&call.who, view.vm).await?;
        snapshot.vm = Some(Box::new(vm::represent(call.base(), &house, &now)));
    }
    Ok(snapshot)
}

/// The path of a snapshot.
pub(crate) fn place(call: &Call, view: &SnapshotView) -> String {
    format!("{}/vms/{}/snapshots/{}", call.base(), view.vm, view.id)
}

/// What a snapshot looks like.
pub(crate) fn represent(call: &Call, view: &SnapshotView) -> model::Snapshot {
    let mut head = Header::new(view.id.to_string(), place(call, view));
    head.description = Some(view.description.clone());
    if view.kind == SnapshotType::Regular {
        head.add_action("restore");
    }
    for path in ["cdroms", "disks", "nics"] {
        head.add_link(path);
    }
    let mut vm_head = Header::new(view.vm.to_string(), format!("{}/vms/{}", call.base(), view.vm));
    vm_head.name = Some(view.vm_name.clone());
    let vm = match &view.config {
        Some(record) => vm::configured(vm_head, &record.config),
        None => model::Vm {
            head: vm_head,
            ..model::Vm::default()
        },
    };
    let snapshot = model::Snapshot {
        base: model::Vm {
            head,
            ..model::Vm::default()
        },
        date: Some(Date(view.date)),
        persist_memorystate: Some(view.memory.is_some()),
        snapshot_status: Some(status(view.status).into()),
        snapshot_type: Some(view.kind.to_string()),
        disks: None,
        vm: Some(Box::new(vm)),
    };
    match call.dialect() {
        Dialect::V4 => snapshot,
        Dialect::V3 => v3::snapshot::represent(snapshot, call, view),
    }
}

fn status(status: SnapshotStatus) -> &'static str {
    match status {
        SnapshotStatus::Ok => "ok",
        SnapshotStatus::Locked => "locked",
        SnapshotStatus::InPreview => "in_preview",
    }
}

fn represent_disk(call: &Call, snapshot: &SnapshotView, view: &SnapshotDiskView) -> model::Disk {
    let attachment = &view.attachment;
    let place = place(call, snapshot);
    let mut head = Header::new(
        attachment.disk.to_string(),
        format!("{place}/disks/{}", attachment.disk),
    );
    head.name = Some(attachment.alias.clone());
    head.description = Some(attachment.description.clone());
    model::Disk {
        active: Some(attachment.active),
        actual_size: Some(view.actual_bytes),
        alias: Some(attachment.alias.clone()),
        bootable: Some(attachment.bootable),
        image_id: Some(view.image.to_string()),
        interface: Some(attachment.interface.to_string()),
        provisioned_size: Some(attachment.size_bytes),
        size: Some(attachment.size_bytes),
        read_only: Some(attachment.read_only),
        sparse: Some(attachment.sparse),
        status: Some(match snapshot.status {
            SnapshotStatus::Locked => "locked".into(),
            SnapshotStatus::Ok | SnapshotStatus::InPreview => "ok".into(),
        }),
        snapshot: model::Snapshot::reference(snapshot.id.to_string(), place),
        storage_domains: Some(vec![domain::reference(call.base(), view.domain)]),
        ..disk::image(head, view.format)
    }
}
