//! Every command, for every dialect: each is a line that leads to its room.
//!
//! Those that take locks are begun [`super::Inner::patiently`].

use super::Engine;
use crate::{
    command::{
        Accepted, AddEvent, AddJob, AddNic, AddStep, AdoptDisk, Attach, CloneVm, ControlTransfer, CopyDisk,
        CreateBackup, CreateDisk, CreateSnapshot, CreateTransfer, CreateVm, DeleteCheckpoint, DeleteDisk,
        DeleteSnapshot, DeleteVm, Detach, EndJob, EndPreview, EndStep, ExposeSnapshot, FinalizeBackup, FreezeVm,
        MoveDisk, Origin, PreviewSnapshot, RebootVm, ReduceDisk, RemoveNic, RestoreSnapshot, ShutdownVm, SparsifyDisk,
        StartVm, StopVm, UpdateAttachment, UpdateDisk, UpdateNic, UpdateVm,
    },
    fault::Fault,
    snapshot, vm,
};
use stillpoint_types::{BackupId, Caller, DiskId, JobId, NicId, SnapshotId, StepId, TransferId, VmId};

/// Commands: validated and begun when they return; a job, if there is one, goes on.
///
/// # Errors
/// The fault of the first check that fails; nothing has been changed then.
impl Engine {
    /// Makes a VM from the Blank template.
    pub async fn create_vm(&self, who: &Caller, origin: &Origin, command: CreateVm) -> Result<Accepted<VmId>, Fault> {
        vm::configure::create(&self.inner, who, origin, command).await
    }

    /// Makes a VM from a snapshot of another one.
    pub async fn clone_vm(&self, who: &Caller, origin: &Origin, command: CloneVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::clone::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Repairs what a finding of [`Engine::repairs`] is about, if that is still as it was; for administrators.
    pub async fn repair(&self, who: &Caller, origin: &Origin, id: &str) -> Result<crate::view::RepairView, Fault> {
        let begin = || crate::repair::submit(&self.inner, who, origin, id);
        self.inner.patiently(begin).await
    }

    /// Changes a VM.
    pub async fn update_vm(&self, who: &Caller, origin: &Origin, command: UpdateVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::configure::update(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Removes a VM that is down, with its snapshots.
    pub async fn delete_vm(&self, who: &Caller, origin: &Origin, command: DeleteVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::configure::delete(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Adds a network interface.
    pub async fn add_nic(&self, who: &Caller, origin: &Origin, command: AddNic) -> Result<Accepted<NicId>, Fault> {
        let begin = || vm::configure::add_nic(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Changes a network interface.
    pub async fn update_nic(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateNic,
    ) -> Result<Accepted<NicId>, Fault> {
        let begin = || vm::configure::update_nic(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Removes a network interface.
    pub async fn remove_nic(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RemoveNic,
    ) -> Result<Accepted<NicId>, Fault> {
        let begin = || vm::configure::remove_nic(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Starts or resumes a VM.
    pub async fn start_vm(&self, who: &Caller, origin: &Origin, command: StartVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::start::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Ends a VM's process at once.
    pub async fn stop_vm(&self, who: &Caller, origin: &Origin, command: StopVm) -> Result<Accepted<VmId>, Fault> {
        vm::stop::stop(&self.inner, who, origin, command).await
    }

    /// Asks the guest to shut down.
    pub async fn shutdown_vm(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ShutdownVm,
    ) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::stop::shutdown(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Freezes a guest's file systems.
    pub async fn freeze_vm(&self, who: &Caller, origin: &Origin, command: FreezeVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::freeze::freeze(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Thaws a guest's file systems.
    pub async fn thaw_vm(&self, who: &Caller, origin: &Origin, command: FreezeVm) -> Result<Accepted<VmId>, Fault> {
        let begin = || vm::freeze::thaw(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Restarts a guest.
    pub async fn reboot_vm(&self, who: &Caller, origin: &Origin, command: RebootVm) -> Result<Accepted<VmId>, Fault> {
        vm::freeze::reboot(&self.inner, who, origin, command).await
    }

    /// Makes a disk.
    pub async fn create_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Adopts an image file as a disk.
    pub async fn adopt_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: AdoptDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::adopt::adopt(&self.inner, who, origin, command).await
    }

    /// Changes a disk's texts, or extends it.
    pub async fn update_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::update::disk(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Copies a disk, or one of its images, into a new disk; that one's id.
    pub async fn copy_disk(&self, who: &Caller, origin: &Origin, command: CopyDisk) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::copy::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Gives back the space of what a disk holds of zeros.
    pub async fn sparsify_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: SparsifyDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::sparsify::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Gives back what is allocated beyond the end of a disk's image: in a domain of files, nothing ever is.
    pub async fn reduce_disk(&self, who: &Caller, command: ReduceDisk) -> Result<(), Fault> {
        crate::disk::place::reduce(&self.inner, who, command).await
    }

    /// Moves a disk to another storage domain: there is none but its own.
    pub async fn move_disk(&self, who: &Caller, command: MoveDisk) -> Result<(), Fault> {
        crate::disk::place::relocate(&self.inner, who, command).await
    }

    /// Removes a disk that no VM and no snapshot has.
    pub async fn delete_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::delete::delete(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Attaches a disk to a VM.
    pub async fn attach(&self, who: &Caller, origin: &Origin, command: Attach) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::attach::attach(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Attaches a disk as it was at a snapshot; the id of the disk that shows it.
    pub async fn expose_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ExposeSnapshot,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::expose::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Changes an attachment and the disk that is attached.
    pub async fn update_attachment(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateAttachment,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::update::attachment(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Detaches a disk from a VM.
    pub async fn detach(&self, who: &Caller, origin: &Origin, command: Detach) -> Result<Accepted<DiskId>, Fault> {
        let begin = || crate::disk::attach::detach(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Takes a snapshot.
    pub async fn create_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        let begin = || snapshot::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Removes a snapshot.
    pub async fn delete_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        let begin = || snapshot::delete::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Brings a VM back to a snapshot.
    pub async fn restore_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RestoreSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        let begin = || snapshot::restore::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Runs a VM on a snapshot, on trial.
    pub async fn preview_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: PreviewSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        let begin = || snapshot::preview::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Keeps what a preview shows.
    pub async fn commit_preview(
        &self,
        who: &Caller,
        origin: &Origin,
        command: EndPreview,
    ) -> Result<Accepted<VmId>, Fault> {
        let begin = || snapshot::preview::end::commit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Goes back to what was there before a preview.
    pub async fn undo_preview(
        &self,
        who: &Caller,
        origin: &Origin,
        command: EndPreview,
    ) -> Result<Accepted<VmId>, Fault> {
        let begin = || snapshot::preview::end::undo(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Begins an image transfer.
    pub async fn create_transfer(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateTransfer,
    ) -> Result<Accepted<TransferId>, Fault> {
        let begin = || crate::transfer::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Does something to an image transfer.
    pub async fn control_transfer(&self, who: &Caller, origin: &Origin, command: ControlTransfer) -> Result<(), Fault> {
        crate::transfer::control::act(&self.inner, who, origin, command).await
    }

    /// Begins a backup. Its job lasts as long as the backup does, so none is in the answer.
    pub async fn backup_create(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateBackup,
    ) -> Result<Accepted<BackupId>, Fault> {
        let begin = || crate::backup::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Ends a backup. One that is ending or has ended well stays as it is.
    pub async fn backup_finalize(&self, who: &Caller, origin: &Origin, command: FinalizeBackup) -> Result<(), Fault> {
        crate::backup::finalize::submit(&self.inner, who, origin, command).await
    }

    /// Removes a checkpoint.
    pub async fn checkpoint_delete(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteCheckpoint,
    ) -> Result<(), Fault> {
        let begin = || crate::checkpoint::delete::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Adds a job of a client's.
    pub async fn add_job(&self, who: &Caller, origin: &Origin, command: AddJob) -> Result<JobId, Fault> {
        crate::client::add_job(&self.inner, who, origin, command).await
    }

    /// Ends a job of a client's.
    pub async fn end_job(&self, who: &Caller, command: EndJob) -> Result<(), Fault> {
        crate::client::end_job(&self.inner, who, command).await
    }

    /// Removes a job of a client's that has ended.
    pub async fn clear_job(&self, who: &Caller, job: JobId) -> Result<(), Fault> {
        crate::client::clear_job(&self.inner, who, job).await
    }

    /// Adds a step to a job of a client's.
    pub async fn add_step(&self, who: &Caller, command: AddStep) -> Result<StepId, Fault> {
        crate::client::add_step(&self.inner, who, command).await
    }

    /// Ends a step of a job of a client's.
    pub async fn end_step(&self, who: &Caller, command: EndStep) -> Result<(), Fault> {
        crate::client::end_step(&self.inner, who, command).await
    }

    /// Writes an event of a client's; its index.
    pub async fn add_event(&self, who: &Caller, origin: &Origin, command: AddEvent) -> Result<i64, Fault> {
        crate::client::add_event(&self.inner, who, origin, command).await
    }

    /// Removes an event that a client wrote.
    pub async fn remove_event(&self, who: &Caller, index: i64) -> Result<(), Fault> {
        crate::client::remove_event(&self.inner, who, index).await
    }
}
