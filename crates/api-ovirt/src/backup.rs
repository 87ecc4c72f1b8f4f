//! Backups of a VM: begin, look at, finalize. Their data goes through image transfers that name them.

use crate::{
    answer::{Answer, action},
    call::{Call, body_id},
    disk,
    fault::Refused,
    follow::{Follow, Known, known},
    list::{self, Listing},
    search::Search,
};
use stillpoint_engine::{
    Fault,
    command::{CreateBackup, FinalizeBackup},
    view::{BackupDiskView, BackupView, Page, Paged},
};
use stillpoint_types::{BackupId, BackupKind, DiskId, VmId};
use stillpoint_wire::{
    Date,
    model::{self, Header, Identified},
};

/// What can be followed from a backup.
static FOLLOW: &[Known] = &[known("disks", disk::FOLLOW), known("vm", &[])];

struct Backups {
    vm: VmId,
    host: String,
    follow: Follow,
}

impl Listing for Backups {
    type View = BackupView;
    type Item = model::Backup;

    async fn page(&self, call: &Call, _page: Page) -> Result<Paged<BackupView>, Fault> {
        Ok(list::whole(call.engine().backups(&call.who, self.vm).await?))
    }

    async fn show(&self, call: &Call, view: BackupView) -> Result<model::Backup, Refused> {
        show(call, &self.host, &view, &self.follow).await
    }
}

/// `GET /vms/{vm}/backups`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let backups = Backups {
        vm: call.id(0)?,
        host: call.house().await?.host.0.clone(),
        follow: call.follow(FOLLOW)?,
    };
    list::answer(call, backups, &Search::default()).await
}

/// `GET /vms/{vm}/backups/{backup}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = view(&call).await?;
    let host = call.house().await?.host.0.clone();
    Ok(call.ok(&show(&call, &host, &view, &follow).await?))
}

/// `POST /vms/{vm}/backups`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let body: model::Backup = call.read()?;
    let command = creation(&call, vm, &body)?;
    let accepted = call.engine().backup_create(&call.who, call.origin(), command).await?;
    let view = call.engine().backup(&call.who, vm, accepted.id).await?;
    let host = call.house().await?.host.0.clone();
    Ok(call.added(represent(&call, &host, &view), None))
}

fn creation(call: &Call, vm: VmId, body: &model::Backup) -> Result<CreateBackup, Refused> {
    let disks = body.disks.as_deref().unwrap_or_default();
    if disks.is_empty() {
        return Err(Refused::incomplete("Backup", &["disks"], "add"));
    }
    let disk = |disk: &model::Disk| {
        let id = disk.head.id.as_deref();
        body_id::<DiskId>(id.ok_or_else(|| Refused::incomplete("Disk", &["id"], "add"))?, "disk")
    };
    let flag = |name: &str| call.params().flag(name).unwrap_or(false);
    let from = body.from_checkpoint_id.as_deref();
    Ok(CreateBackup {
        vm,
        id: body.head.id.as_deref().map(|id| body_id(id, "backup")).transpose()?,
        from: from.map(|id| body_id(id, "from_checkpoint_id")).transpose()?,
        disks: disks.iter().map(disk).collect::<Result<_, _>>()?,
        description: body.head.description.clone().unwrap_or_default(),
        require_consistency: flag("require_consistency"),
        // `legacy` is what oVirt's engine really looks at; both words mean the same.
        use_active: flag("use_active") || flag("legacy"),
    })
}

/// `POST /vms/{vm}/backups/{backup}/finalize`
pub(crate) async fn finalize(call: Call) -> Result<Answer, Refused> {
    let command = FinalizeBackup {
        vm: call.id(0)?,
        backup: call.id(1)?,
    };
    let _parameters: model::Action = call.read()?;
    call.engine().backup_finalize(&call.who, call.origin(), command).await?;
    // The phase tells how it goes on: clients look at it, not at the action.
    Ok(call.ok(&action("complete", None)))
}

/// `GET /vms/{vm}/backups/{backup}/disks`
pub(crate) async fn disks(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(disk::FOLLOW)?;
    let view = view(&call).await?;
    Ok(call.items(&shown_disks(&call, &view, &follow).await?))
}

/// `GET /vms/{vm}/backups/{backup}/disks/{disk}`
pub(crate) async fn one_disk(call: Call) -> Result<Answer, Refused> {
    let (disk, follow): (DiskId, Follow) = (call.id(2)?, call.follow(disk::FOLLOW)?);
    let view = view(&call).await?;
    let found = view.disks.iter().find(|view| view.disk.id == disk);
    let found = found.ok_or_else(|| Refused::not_found(&disk.to_string()))?;
    Ok(call.ok(&show_disk(&call, &place(&call, &view), found, &follow).await?))
}

async fn view(call: &Call) -> Result<BackupView, Refused> {
    let (vm, backup): (VmId, BackupId) = (call.id(0)?, call.id(1)?);
    Ok(call.engine().backup(&call.who, vm, backup).await?)
}

fn place(call: &Call, view: &BackupView) -> String {
    format!("{}/vms/{}/backups/{}", call.base(), view.vm, view.id)
}

async fn show_disk(call: &Call, place: &str, view: &BackupDiskView, follow: &Follow) -> Result<model::Disk, Refused> {
    let mut disk = disk::show_at(call, place, &view.disk, follow).await?;
    disk.backup_mode = Some(view.mode.to_string());
    Ok(disk)
}

async fn shown_disks(call: &Call, view: &BackupView, follow: &Follow) -> Result<Vec<model::Disk>, Refused> {
    let (place, mut shown) = (place(call, view), Vec::with_capacity(view.disks.len()));
    for disk in &view.disks {
        shown.push(show_disk(call, &place, disk, follow).await?);
    }
    Ok(shown)
}

async fn show(call: &Call, host: &str, view: &BackupView, follow: &Follow) -> Result<model::Backup, Refused> {
    let mut backup = represent(call, host, view);
    if let Some(below) = follow.below("disks") {
        backup.disks = Some(shown_disks(call, view, below).await?);
    }
    if follow.below("vm").is_some() {
        let house = call.house().await?;
        let vm = call.engine().vm(&call.who, view.vm).await?;
        backup.vm = Some(Box::new(crate::vm::represent(call.base(), &house, &vm)));
    }
    Ok(backup)
}

fn reference(base: &str, view: &BackupDiskView) -> model::Disk {
    let id = view.disk.id.to_string();
    let href = format!("{base}/disks/{id}");
    model::Disk::of(id, href)
}

fn represent(call: &Call, host: &str, view: &BackupView) -> model::Backup {
    let base = call.base();
    let vm = format!("{base}/vms/{}", view.vm);
    let mut head = Header::new(view.id.to_string(), place(call, view));
    head.description = Some(view.description.clone());
    head.comment = view.reason.clone();
    head.add_action("finalize");
    head.add_link("disks");
    let mut snapshot = model::Snapshot::default();
    snapshot.head_mut().id = view.snapshot.map(|id| id.to_string());
    model::Backup {
        head,
        creation_date: Some(Date(view.created_at)),
        from_checkpoint_id: view.from.map(|id| id.to_string()),
        modification_date: Some(Date(view.modified_at)),
        phase: Some(view.phase.to_string()),
        status: Some(view.phase.to_string()),
        to_checkpoint_id: view.to.map(|id| id.to_string()),
        // Beside the link: the published examples show them in the answer.
        disks: Some(view.disks.iter().map(|disk| reference(base, disk)).collect()),
        // Whoever backs up a VM that is down does not go through a host.
        host: (view.kind != BackupKind::Cold)
            .then(|| model::Host::reference(host, format!("{base}/hosts/{host}")))
            .flatten(),
        snapshot: view.snapshot.map(|_| Box::new(snapshot)),
        vm: model::Vm::reference(view.vm.to_string(), vm),
    }
}
