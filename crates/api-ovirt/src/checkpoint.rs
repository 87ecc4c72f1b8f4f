//! Checkpoints of a VM: what backups can be incremental from. Backups make them; here they are looked at and removed.

use crate::{
    answer::Answer,
    call::Call,
    disk,
    fault::Refused,
    follow::{Follow, Known, known},
    list::{self, Listing},
    search::Search,
};
use stillpoint_engine::{
    Fault,
    command::DeleteCheckpoint,
    view::{CheckpointView, Page, Paged},
};
use stillpoint_types::{CheckpointId, DiskId, VmId};
use stillpoint_wire::{
    Date,
    model::{self, Header, Identified},
};

/// What can be followed from a checkpoint.
static FOLLOW: &[Known] = &[known("disks", disk::FOLLOW), known("vm", &[])];

struct Checkpoints {
    vm: VmId,
    follow: Follow,
}

impl Listing for Checkpoints {
    type View = CheckpointView;
    type Item = model::Checkpoint;

    async fn page(&self, call: &Call, _page: Page) -> Result<Paged<CheckpointView>, Fault> {
        Ok(list::whole(call.engine().checkpoints(&call.who, self.vm).await?))
    }

    async fn show(&self, call: &Call, view: CheckpointView) -> Result<model::Checkpoint, Refused> {
        show(call, &view, &self.follow).await
    }
}

/// `GET /vms/{vm}/checkpoints`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let checkpoints = Checkpoints {
        vm: call.id(0)?,
        follow: call.follow(FOLLOW)?,
    };
    list::answer(call, checkpoints, &Search::default()).await
}

/// `GET /vms/{vm}/checkpoints/{checkpoint}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = view(&call).await?;
    Ok(call.ok(&show(&call, &view, &follow).await?))
}

/// `DELETE /vms/{vm}/checkpoints/{checkpoint}`
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteCheckpoint {
        vm: call.id(0)?,
        checkpoint: call.id(1)?,
    };
    call.engine()
        .checkpoint_delete(&call.who, call.origin(), command)
        .await?;
    Ok(call.removed(None))
}

/// `GET /vms/{vm}/checkpoints/{checkpoint}/disks`
pub(crate) async fn disks(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(disk::FOLLOW)?;
    let view = view(&call).await?;
    Ok(call.items(&shown_disks(&call, &view, &follow).await?))
}

/// `GET /vms/{vm}/checkpoints/{checkpoint}/disks/{disk}`
pub(crate) async fn one_disk(call: Call) -> Result<Answer, Refused> {
    let (disk, follow): (DiskId, Follow) = (call.id(2)?, call.follow(disk::FOLLOW)?);
    let view = view(&call).await?;
    let found = view.disks.iter().find(|view| view.id == disk);
    let found = found.ok_or_else(|| Refused::not_found(&disk.to_string()))?;
    Ok(call.ok(&disk::show_at(&call, &place(&call, &view), found, &follow).await?))
}

async fn view(call: &Call) -> Result<CheckpointView, Refused> {
    let (vm, checkpoint): (VmId, CheckpointId) = (call.id(0)?, call.id(1)?);
    Ok(call.engine().checkpoint(&call.who, vm, checkpoint).await?)
}

fn place(call: &Call, view: &CheckpointView) -> String {
    format!("{}/vms/{}/checkpoints/{}", call.base(), view.vm, view.id)
}

async fn shown_disks(call: &Call, view: &CheckpointView, follow: &Follow) -> Result<Vec<model::Disk>, Refused> {
    let (place, mut shown) = (place(call, view), Vec::with_capacity(view.disks.len()));
    for disk in &view.disks {
        shown.push(disk::show_at(call, &place, disk, follow).await?);
    }
    Ok(shown)
}

async fn show(call: &Call, view: &CheckpointView, follow: &Follow) -> Result<model::Checkpoint, Refused> {
    let mut checkpoint = represent(call, view);
    if let Some(below) = follow.below("disks") {
        checkpoint.disks = Some(shown_disks(call, view, below).await?);
    }
    if follow.below("vm").is_some() {
        let house = call.house().await?;
        let vm = call.engine().vm(&call.who, view.vm).await?;
        checkpoint.vm = Some(Box::new(crate::vm::represent(call.base(), &house, &vm)));
    }
    Ok(checkpoint)
}

fn represent(call: &Call, view: &CheckpointView) -> model::Checkpoint {
    let vm = format!("{}/vms/{}", call.base(), view.vm);
    let mut head = Header::new(view.id.to_string(), place(call, view));
    head.description = Some(view.description.clone());
    head.add_link("disks");
    model::Checkpoint {
        head,
        creation_date: Some(Date(view.created_at)),
        parent_id: view.parent.map(|id| id.to_string()),
        state: Some(view.state.to_string()),
        disks: None,
        vm: model::Vm::reference(view.vm.to_string(), vm),
    }
}
