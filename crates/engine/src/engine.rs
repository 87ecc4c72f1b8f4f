//! The core's front door: every view and every command, for every dialect.

use crate::{command::*, fault::Fault, view::*};
use std::time::Duration;
use stillpoint_types::{Caller, DiskId, DomainId, JobId, NicId, SnapshotId, VmId};

/// The core. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Engine {}

#[expect(
    unused_variables,
    clippy::unused_async,
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "signatures first"
)]
impl Engine {
    pub async fn house(&self, who: &Caller) -> Result<House, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn vms(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<VmView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn vm(&self, who: &Caller, vm: VmId) -> Result<VmView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn attachments(&self, who: &Caller, vm: VmId) -> Result<Vec<AttachmentView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn attachment(&self, who: &Caller, vm: VmId, disk: DiskId) -> Result<AttachmentView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn disks(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<DiskView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn disk(&self, who: &Caller, disk: DiskId) -> Result<DiskView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn snapshots(&self, who: &Caller, vm: VmId) -> Result<Vec<SnapshotView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn snapshot(&self, who: &Caller, vm: VmId, snapshot: SnapshotId) -> Result<SnapshotView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn snapshot_disks(
        &self,
        who: &Caller,
        vm: VmId,
        snapshot: SnapshotId,
    ) -> Result<Vec<SnapshotDiskView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn disk_snapshots(
        &self,
        who: &Caller,
        disk: DiskId,
        include_active: bool,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn domain_disk_snapshots(
        &self,
        who: &Caller,
        domain: DomainId,
        include_active: bool,
        page: &Page,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn domains(&self, who: &Caller) -> Result<Vec<DomainView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn domain(&self, who: &Caller, domain: DomainId) -> Result<DomainView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn domain_disks(&self, who: &Caller, domain: DomainId, page: &Page) -> Result<Vec<DiskView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn unregistered(&self, who: &Caller, domain: DomainId) -> Result<Vec<UnregisteredView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn jobs(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<JobView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn job(&self, who: &Caller, job: JobId) -> Result<JobView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn steps(&self, who: &Caller, job: JobId) -> Result<Vec<StepView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn events(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<EventView>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn event(&self, who: &Caller, index: i64) -> Result<EventView, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn create_vm(&self, who: &Caller, origin: &Origin, command: CreateVm) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn update_vm(&self, who: &Caller, origin: &Origin, command: UpdateVm) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn delete_vm(&self, who: &Caller, origin: &Origin, command: DeleteVm) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn add_nic(&self, who: &Caller, origin: &Origin, command: AddNic) -> Result<Accepted<NicId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn remove_nic(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RemoveNic,
    ) -> Result<Accepted<NicId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn start_vm(&self, who: &Caller, origin: &Origin, command: StartVm) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn stop_vm(&self, who: &Caller, origin: &Origin, command: StopVm) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn shutdown_vm(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ShutdownVm,
    ) -> Result<Accepted<VmId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn create_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn adopt_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: AdoptDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn update_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn delete_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn attach(&self, who: &Caller, origin: &Origin, command: Attach) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn update_attachment(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateAttachment,
    ) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn detach(&self, who: &Caller, origin: &Origin, command: Detach) -> Result<Accepted<DiskId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn create_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn delete_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    pub async fn restore_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RestoreSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        Err(Fault::internal("not built yet"))
    }
    /// Waits until a job has ended; its failure is the answer's.
    pub async fn wait(&self, job: JobId, limit: Duration) -> Result<(), Fault> {
        Err(Fault::internal("not built yet"))
    }
}
