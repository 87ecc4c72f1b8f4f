//! Every view, for every dialect: each is a line that leads to its room.

use super::Engine;
use crate::{
    explain,
    fault::Fault,
    news::{self, News},
    snapshot,
    view::{
        AttachmentView, BackupView, CheckpointView, DiskSnapshotView, DiskView, DomainView, EventView, Filter, JobView,
        Page, Paged, SnapshotDiskView, SnapshotSizes, SnapshotView, StepView, TransferView, UnregisteredView, VmView,
        explain::{Explanation, Healing, JobDetail, Kind, LockView},
        watch::{BackupWatch, Stall},
    },
    vm,
};
use std::collections::HashMap;
use stillpoint_types::{BackupId, Caller, CheckpointId, DiskId, DomainId, JobId, Micros, SnapshotId, TransferId, VmId};

/// Views: what a caller may see, read in one transaction each.
///
/// # Errors
/// `NotFound` for what is not there or not visible; `Internal` for the store's own faults.
impl Engine {
    /// A page of the VMs, by name.
    pub async fn vms(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Paged<VmView>, Fault> {
        vm::view::page(&self.inner, who, filter, page).await
    }

    /// One VM.
    pub async fn vm(&self, who: &Caller, vm: VmId) -> Result<VmView, Fault> {
        vm::view::get(&self.inner, who, vm).await
    }

    /// Damage that no job explains, each with what would mend it; for administrators.
    pub async fn repairs(&self, who: &Caller) -> Result<Vec<crate::view::FindingView>, Fault> {
        crate::repair::list(&self.inner, who).await
    }

    /// What a VM uses of its host now.
    pub async fn usage(&self, who: &Caller, vm: VmId) -> Result<crate::ports::Usage, Fault> {
        vm::usage::get(&self.inner, who, vm).await
    }

    /// Until when a VM's guest is frozen by its user, if it is.
    pub async fn frozen_until(&self, who: &Caller, vm: VmId) -> Result<Option<Micros>, Fault> {
        vm::freeze::until(&self.inner, who, vm).await
    }

    /// How many VMs there are, and how many have a process.
    pub async fn vm_counts(&self, who: &Caller) -> Result<(u64, u64), Fault> {
        vm::view::counts(&self.inner, who).await
    }

    /// How long guests' writes have stood at each switch of disks since this was last asked.
    #[must_use]
    pub fn take_stalls(&self) -> Vec<std::time::Duration> {
        self.inner.stalls.take()
    }

    /// The disks of a VM, in device order.
    pub async fn attachments(&self, who: &Caller, vm: VmId) -> Result<Vec<AttachmentView>, Fault> {
        crate::disk::view::attachments(&self.inner, who, vm).await
    }

    /// The disks of each of the VMs that the caller may see, in device order: asked for together.
    pub async fn attachments_of_all(
        &self,
        who: &Caller,
        vms: Vec<VmId>,
    ) -> Result<HashMap<VmId, Vec<AttachmentView>>, Fault> {
        crate::disk::view::attachments_of_all(&self.inner, who, vms).await
    }

    /// The snapshots of each of the VMs that the caller may see, oldest first: asked for together.
    pub async fn snapshots_of_all(
        &self,
        who: &Caller,
        vms: Vec<VmId>,
    ) -> Result<HashMap<VmId, Vec<SnapshotView>>, Fault> {
        snapshot::view::of_all(&self.inner, who, vms).await
    }

    /// How many snapshots each of these VMs has, which the caller has seen; one that has none is not named.
    pub async fn snapshot_counts(&self, vms: Vec<VmId>) -> Result<HashMap<VmId, u64>, Fault> {
        snapshot::view::counts(&self.inner, vms).await
    }

    /// One disk of a VM.
    pub async fn attachment(&self, who: &Caller, vm: VmId, disk: DiskId) -> Result<AttachmentView, Fault> {
        crate::disk::view::attachment(&self.inner, who, vm, disk).await
    }

    /// A page of the disks, by alias.
    pub async fn disks(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Paged<DiskView>, Fault> {
        crate::disk::view::page(&self.inner, who, filter, page).await
    }

    /// One disk.
    pub async fn disk(&self, who: &Caller, disk: DiskId) -> Result<DiskView, Fault> {
        crate::disk::view::get(&self.inner, who, disk).await
    }

    /// The snapshots of a VM, oldest first, the active one last.
    pub async fn snapshots(&self, who: &Caller, vm: VmId) -> Result<Vec<SnapshotView>, Fault> {
        snapshot::view::of_vm(&self.inner, who, vm).await
    }

    /// One snapshot.
    pub async fn snapshot(&self, who: &Caller, vm: VmId, snapshot: SnapshotId) -> Result<SnapshotView, Fault> {
        snapshot::view::get(&self.inner, who, vm, snapshot).await
    }

    /// What the snapshots of a VM take on disk: asked for together.
    pub async fn snapshot_sizes(&self, who: &Caller, vm: VmId) -> Result<SnapshotSizes, Fault> {
        snapshot::view::sizes(&self.inner, who, vm).await
    }

    /// The disks that a snapshot holds; for the active one the disks as they are.
    pub async fn snapshot_disks(
        &self,
        who: &Caller,
        vm: VmId,
        snapshot: SnapshotId,
    ) -> Result<Vec<SnapshotDiskView>, Fault> {
        snapshot::view::disks(&self.inner, who, vm, snapshot).await
    }

    /// The images of a disk, oldest first.
    pub async fn disk_snapshots(
        &self,
        who: &Caller,
        disk: DiskId,
        include_active: bool,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        crate::disk::view::images(&self.inner, who, disk, include_active).await
    }

    /// A page of the images of a storage domain, by id.
    pub async fn domain_disk_snapshots(
        &self,
        who: &Caller,
        domain: DomainId,
        include_active: bool,
        page: &Page,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        crate::disk::view::images_of_domain(&self.inner, who, domain, include_active, page).await
    }

    /// The storage domains.
    pub async fn domains(&self, who: &Caller) -> Result<Vec<DomainView>, Fault> {
        crate::disk::view::domains(&self.inner, who).await
    }

    /// One storage domain.
    pub async fn domain(&self, who: &Caller, domain: DomainId) -> Result<DomainView, Fault> {
        crate::disk::view::domain(&self.inner, who, domain).await
    }

    /// A page of the disks of a storage domain, by alias.
    pub async fn domain_disks(
        &self,
        who: &Caller,
        domain: DomainId,
        filter: &Filter,
        page: &Page,
    ) -> Result<Paged<DiskView>, Fault> {
        crate::disk::view::page_of_domain(&self.inner, who, domain, filter, page).await
    }

    /// Image files in a storage domain that belong to no disk.
    pub async fn unregistered(&self, who: &Caller, domain: DomainId) -> Result<Vec<UnregisteredView>, Fault> {
        crate::disk::adopt::unregistered(&self.inner, who, domain).await
    }

    /// A page of the jobs, newest first.
    pub async fn jobs(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Paged<JobView>, Fault> {
        crate::job::jobs(&self.inner, who, filter, page).await
    }

    /// One job.
    pub async fn job(&self, who: &Caller, job: JobId) -> Result<JobView, Fault> {
        crate::job::job(&self.inner, who, job).await
    }

    /// The steps of a job.
    pub async fn steps(&self, who: &Caller, job: JobId) -> Result<Vec<StepView>, Fault> {
        crate::job::steps(&self.inner, who, job).await
    }

    /// A page of the image transfers, newest first.
    pub async fn transfers(&self, who: &Caller, page: &Page) -> Result<Vec<TransferView>, Fault> {
        crate::transfer::view::page(&self.inner, who, page).await
    }

    /// One image transfer.
    pub async fn transfer(&self, who: &Caller, transfer: TransferId) -> Result<TransferView, Fault> {
        crate::transfer::view::get(&self.inner, who, transfer).await
    }

    /// The backups of a VM, oldest first; those that ended stay for a while.
    pub async fn backups(&self, who: &Caller, vm: VmId) -> Result<Vec<BackupView>, Fault> {
        crate::backup::view::of_vm(&self.inner, who, vm).await
    }

    /// One backup.
    pub async fn backup(&self, who: &Caller, vm: VmId, backup: BackupId) -> Result<BackupView, Fault> {
        crate::backup::view::get(&self.inner, who, vm, backup).await
    }

    /// How far a backup is, disk by disk, with a map of each while it is ready.
    pub async fn backup_watch(&self, who: &Caller, vm: VmId, backup: BackupId) -> Result<BackupWatch, Fault> {
        crate::backup::watch::look(&self.inner, who, vm, backup).await
    }

    /// What a job holds.
    pub async fn held(&self, who: &Caller, job: JobId) -> Result<Vec<LockView>, Fault> {
        crate::job::held(&self.inner, who, job).await
    }

    /// How long a guest's writes stood still when the job switched its disks; `None`: it did not, or it was not measured.
    pub async fn stall(&self, who: &Caller, job: JobId) -> Result<Option<Stall>, Fault> {
        crate::job::stall(&self.inner, who, job).await
    }

    /// The checkpoints of a VM, oldest first.
    pub async fn checkpoints(&self, who: &Caller, vm: VmId) -> Result<Vec<CheckpointView>, Fault> {
        crate::checkpoint::view::of_vm(&self.inner, who, vm).await
    }

    /// One checkpoint.
    pub async fn checkpoint(&self, who: &Caller, vm: VmId, checkpoint: CheckpointId) -> Result<CheckpointView, Fault> {
        crate::checkpoint::view::get(&self.inner, who, vm, checkpoint).await
    }

    /// A page of the events, newest first.
    pub async fn events(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Paged<EventView>, Fault> {
        crate::job::events(&self.inner, who, filter, page).await
    }

    /// One event.
    pub async fn event(&self, who: &Caller, index: i64) -> Result<EventView, Fault> {
        crate::job::event(&self.inner, who, index).await
    }

    /// Why a thing is in its state: what is recorded, who holds it, what is seen of it now, and what would help.
    ///
    /// # Errors
    /// `NotFound`, also for what the caller may not see.
    pub async fn explain(&self, who: &Caller, kind: Kind, id: &str) -> Result<Explanation, Fault> {
        explain::explain(&self.inner, who, kind, id).await
    }

    /// One job with its steps, their times, and what keeps it from going on.
    ///
    /// # Errors
    /// `NotFound`, also for what the caller may not see.
    pub async fn job_detail(&self, who: &Caller, job: JobId) -> Result<JobDetail, Fault> {
        explain::job(&self.inner, who, job).await
    }

    /// What the last start of the daemon found and did, as far as the caller may see it.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn healing(&self, who: &Caller) -> Result<Healing, Fault> {
        explain::healing::healing(&self.inner, who).await
    }

    /// The events after one, and the jobs that run or have ended since an instant: what whoever shows them live asks after each
    /// wake of [`Engine::changes`].
    ///
    /// # Errors
    /// What the store answers.
    pub async fn news(&self, who: &Caller, after: i64, ended_since: Micros) -> Result<News, Fault> {
        news::news(&self.inner, who, after, ended_since).await
    }

    /// The number of the newest event, whoever may see it; 0: there is none.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn newest_event(&self) -> Result<i64, Fault> {
        news::newest(&self.inner).await
    }
}
