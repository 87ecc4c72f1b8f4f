//! A virtual machine: its page, and what can be done with it.

pub(crate) mod act;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod page;

use crate::{trouble::Trouble, visit::Visit};
use stillpoint_engine::{
    Fault,
    view::{AttachmentView, Holder, SnapshotSizes, SnapshotStatus, SnapshotView, StepView, VmView},
};
use stillpoint_types::{Access, FaultCode, Need, SnapshotId, SnapshotType, StepState, VmId, VmStatus};

/// A VM with all that its pages tell of it: read by the same number of questions whatever it has.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) vm: VmView,
    /// Oldest first, the active one last.
    pub(crate) snapshots: Vec<SnapshotView>,
    pub(crate) sizes: SnapshotSizes,
    /// In device order.
    pub(crate) disks: Vec<AttachmentView>,
    /// Whether the visitor may change it.
    pub(crate) may_operate: bool,
}

/// The id in a path; what is none names nothing.
pub(crate) fn vm_id(text: &str) -> Result<VmId, Trouble> {
    text.parse().map_err(|_bad| Trouble::Nowhere)
}

impl Scene {
    /// Reads it.
    pub(crate) async fn look(visit: &Visit, id: &str) -> Result<Self, Trouble> {
        let (engine, who, id) = (visit.engine(), &visit.who, vm_id(id)?);
        let vm = engine.vm(who, id).await?;
        Ok(Self {
            may_operate: who.may(vm.project, Need::Operate) == Access::Allowed,
            vm,
            snapshots: engine.snapshots(who, id).await?,
            sizes: engine.snapshot_sizes(who, id).await?,
            disks: engine.attachments(who, id).await?,
        })
    }

    /// The same for somebody who wants to change it.
    pub(crate) async fn change(visit: &Visit, id: &str) -> Result<Self, Trouble> {
        let scene = Self::look(visit, id).await?;
        if scene.may_operate {
            return Ok(scene);
        }
        let text = format!(
            "User {} may read VM {} but not change it: ask an administrator for the role member.",
            visit.who.name, scene.vm.config.name
        );
        Err(Fault::new(FaultCode::Forbidden, text).into())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.vm.config.name
    }

    /// Its page.
    pub(crate) fn place(&self) -> String {
        place(self.vm.id)
    }

    /// The page of one of its snapshots.
    pub(crate) fn snapshot_place(&self, id: SnapshotId) -> String {
        format!("{}/snapshots/{id}", self.place())
    }

    /// The snapshot that a path names.
    pub(crate) fn snapshot(&self, id: &str) -> Result<&SnapshotView, Trouble> {
        let id: SnapshotId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
        let found = self.snapshots.iter().find(|one| one.id == id);
        found.ok_or(Trouble::Nowhere)
    }

    /// The one that is being previewed.
    pub(crate) fn previewed(&self) -> Option<&SnapshotView> {
        self.snapshots
            .iter()
            .find(|one| one.status == SnapshotStatus::InPreview)
    }

    /// What was there before a preview.
    pub(crate) fn former(&self) -> Option<&SnapshotView> {
        self.snapshots.iter().find(|one| one.kind == SnapshotType::Preview)
    }

    /// The one that the VM runs on.
    pub(crate) fn active(&self) -> Option<&SnapshotView> {
        self.snapshots.iter().find(|one| one.kind == SnapshotType::Active)
    }

    /// Whether a process runs it.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.vm.status, VmStatus::Down | VmStatus::Suspended)
    }

    /// Bytes of the layers that the guest writes to now.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.disks.iter().map(|one| one.disk.actual_bytes).sum()
    }
}

/// A VM's page.
pub(crate) fn place(id: VmId) -> String {
    format!("/console/vms/{id}")
}

/// Where the job of a holder stands; `None`: it has gone meanwhile, or has no step under way.
pub(crate) async fn step(visit: &Visit, holder: Option<&Holder>) -> Result<Option<StepView>, Trouble> {
    let Some(holder) = holder else { return Ok(None) };
    let steps = match visit.engine().steps(&visit.who, holder.job).await {
        Ok(steps) => steps,
        Err(fault) if fault.code == FaultCode::NotFound => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    Ok(steps.into_iter().find(|step| step.state == StepState::Started))
}
