//! What a client can ask of the core. Each command is parsed at an edge into one of these values.
//!
//! | command | file | locks | VM states |
//! |---|---|---|---|
//! | `CreateVm`, `UpdateVm`, `AddNic`, `UpdateNic`, `RemoveNic` | `vm/configure.rs` | none held over time | down (update of devices) |
//! | `CloneVm` | `vm/clone.rs` | the new VM and its disks | - |
//! | `DeleteVm` | `vm/configure.rs` | none held over time | down, suspended |
//! | `StartVm` | `vm/start.rs` | VM | down, suspended, paused |
//! | `StopVm` | `vm/stop.rs` | none held over time | any with a process, suspended |
//! | `ShutdownVm` | `vm/stop.rs` | none held over time | up |
//! | `FreezeVm`, `RebootVm` | `vm/freeze.rs` | none held over time | up |
//! | `CreateDisk` | `disk/create.rs` | the disk, the VM that it is attached to | - |
//! | `AdoptDisk` | `disk/adopt.rs` | none held over time | - |
//! | `CopyDisk` | `disk/copy.rs` | the new disk; the copied one, with other readers | down, if the disk's active image is meant |
//! | `SparsifyDisk` | `disk/sparsify.rs` | the disk, its VM | down |
//! | `ReduceDisk`, `MoveDisk` | `disk/place.rs` | none | down |
//! | `DeleteDisk` | `disk/delete.rs` | none held over time | attached to no VM, in no snapshot |
//! | `Attach`, `UpdateAttachment`, `Detach` | `disk/attach.rs` | none held over time | down |
//! | `Attach`, `Detach` | `disk/plug.rs` | VM, the disk | up |
//! | `ExposeSnapshot` | `disk/expose.rs` | the VM, the new disk | up, down |
//! | `CreateSnapshot` | `snapshot/create/` | VM, snapshot, its disks | up, paused, down |
//! | `DeleteSnapshot` | `snapshot/delete.rs` | VM, snapshot, its disks | up, paused, down |
//! | `CreateTransfer` | `transfer/create.rs` | the disk, until the transfer ends | down, if the disk's active image is meant |
//! | `ControlTransfer` | `transfer/control.rs` | none of its own | - |
//! | `RestoreSnapshot` | `snapshot/restore.rs` | VM, snapshot, its disks | down, suspended |
//! | `PreviewSnapshot` | `snapshot/preview/plan.rs` | VM, snapshot, its disks | down |
//! | `EndPreview` | `snapshot/preview/end.rs` | none held over time | down, suspended |
//! | `CreateBackup` | `backup/create.rs` | VM, its disks; then as its kind says (`lock.rs`) | up, down |
//! | `FinalizeBackup` | `backup/finalize.rs` | none of its own | - |
//! | `DeleteCheckpoint` | `checkpoint/delete.rs` | none held over time | - |
//! | `AddJob`, `EndJob`, `ClearJob`, `AddStep`, `EndStep`, `AddEvent`, `RemoveEvent` | `client.rs` | none | - |

pub mod volume;

use serde::{Deserialize, Serialize};
use stillpoint_types::{
    BackupId, CheckpointId, DiskId, DiskInterface, DomainId, ImageFormat, ImageId, JobId, NicId, Severity, SnapshotId,
    StepId, TimeoutPolicy, TransferDirection, TransferId, VmId,
};

/// Where a request came from, for the log, jobs and events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Correlation id, sanitised.
    pub correlation_id: String,
}

/// What an accepted command answers: the entity, and the job that goes on in the background, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<I> {
    /// The entity made or operated on.
    pub id: I,
    /// The job; `None` when all is done.
    pub job: Option<JobId>,
}

/// Fields of a VM that a client gives; absent ones take defaults (create) or stay (update).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmFields {
    /// Name, 1 to 255 characters of letters, digits, `-`, `_`, `.` and any script's letters.
    pub name: Option<String>,
    /// Description, at most 4000 characters.
    pub description: Option<String>,
    /// Comment, at most 4000 characters.
    pub comment: Option<String>,
    /// RAM in bytes.
    pub memory_bytes: Option<u64>,
    /// Guaranteed RAM in bytes.
    pub memory_guaranteed_bytes: Option<u64>,
    /// Sockets.
    pub sockets: Option<u32>,
    /// Cores a socket.
    pub cores: Option<u32>,
    /// Threads a core.
    pub threads: Option<u32>,
    /// Operating system name.
    pub os_type: Option<String>,
    /// Kernel path; an empty text takes it away.
    pub kernel: Option<String>,
    /// Initial RAM disk path; an empty text takes it away.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// VM type.
    pub vm_type: Option<String>,
    /// Refuse removal.
    pub delete_protected: Option<bool>,
}

/// Makes a VM from the Blank template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateVm {
    /// Its fields; `name` is mandatory.
    pub fields: VmFields,
    /// Network interfaces to make with it.
    pub nics: Vec<NicFields>,
    /// Disks to attach to it, in this order: each must be there and free, and all of one project, which is then the VM's.
    pub disks: Vec<(DiskId, AttachFields)>,
    /// QEMU machine type that it had before; taken if this host's QEMU has it, else the VM gets the newest.
    pub machine: Option<String>,
}

/// Makes a VM from a snapshot of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneVm {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// `name` is mandatory; what else is given differs from the snapshot's configuration.
    pub fields: VmFields,
}

/// Fields of a network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NicFields {
    /// Name, unique in the VM; mandatory.
    pub name: Option<String>,
    /// MAC address; made up when absent.
    pub mac: Option<String>,
    /// `virtio` (default), `e1000`, `rtl8139`.
    pub interface: Option<String>,
    /// Cable in (default true).
    pub linked: Option<bool>,
    /// PCI slot, if it is free (default: any free one).
    pub pci_slot: Option<u8>,
}

/// Changes a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateVm {
    /// The VM.
    pub vm: VmId,
    /// What changes.
    pub fields: VmFields,
}

/// Adds a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddNic {
    /// The VM.
    pub vm: VmId,
    /// The interface.
    pub nic: NicFields,
}

/// Removes a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveNic {
    /// The VM.
    pub vm: VmId,
    /// The interface.
    pub nic: NicId,
}

/// Changes a network interface; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateNic {
    /// The VM.
    pub vm: VmId,
    /// The interface.
    pub nic: NicId,
    /// What shall be.
    pub fields: NicFields,
}

/// Removes a VM with its snapshots and, unless `detach_only`, its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteVm {
    /// The VM.
    pub vm: VmId,
    /// Keep the disks.
    pub detach_only: bool,
}

/// Starts a VM, or resumes it (paused: lets the vCPUs run; suspended: loads the saved memory).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartVm {
    /// The VM.
    pub vm: VmId,
    /// Leave the vCPUs stopped.
    pub paused: bool,
}

/// Ends a VM's process at once, as pulling the plug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopVm {
    /// The VM.
    pub vm: VmId,
}

/// Asks the guest to shut down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownVm {
    /// The VM.
    pub vm: VmId,
}

/// Freezes a guest's file systems, or thaws them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezeVm {
    /// The VM.
    pub vm: VmId,
}

/// Restarts the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebootVm {
    /// The VM.
    pub vm: VmId,
    /// At once, without asking the guest.
    pub force: bool,
}

/// How a disk is attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachFields {
    /// Bus (default virtio).
    pub interface: Option<DiskInterface>,
    /// Bootable (default false).
    pub bootable: Option<bool>,
    /// Plugged (default true).
    pub active: Option<bool>,
    /// The guest cannot write (default false).
    pub read_only: Option<bool>,
    /// Place on the bus, if it is free (default: any free one). Only where a disk is attached anew.
    pub slot: Option<u8>,
}

/// Makes a disk with an empty base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDisk {
    /// The disk's id, if the client chose one.
    pub id: Option<DiskId>,
    /// The base image's id, if the client chose one.
    pub image: Option<ImageId>,
    /// Alias; made from the VM's name or the id when absent.
    pub alias: Option<String>,
    /// Description.
    pub description: String,
    /// Storage domain: id or name.
    pub domain: DomainRef,
    /// Virtual size in bytes; rounded up to a multiple of 512.
    pub size_bytes: u64,
    /// Format of the base.
    pub format: ImageFormat,
    /// Takes space as it is written (default: true for cow, false for raw).
    pub sparse: Option<bool>,
    /// Attach it to a VM once it is made.
    pub attach: Option<(VmId, AttachFields)>,
}

/// Names a storage domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRef {
    /// By id.
    Id(DomainId),
    /// By name.
    Name(String),
    /// The only one there is.
    Default,
}

/// Adopts an image file that lies in a storage domain's directory as a new disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptDisk {
    /// The disk's id, if the client chose one.
    pub id: Option<DiskId>,
    /// The image: the file is `IMAGE.qcow2`, or `IMAGE.raw` where `format` is raw.
    pub image: ImageId,
    /// Alias.
    pub alias: Option<String>,
    /// Description.
    pub description: String,
    /// The storage domain.
    pub domain: DomainId,
    /// `raw` only when the client says so: a raw file's content can look like anything.
    pub format: ImageFormat,
}

/// What can be changed of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFields {
    /// Alias.
    pub alias: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Virtual size in bytes, never less than before; rounded up to a multiple of 512.
    pub size_bytes: Option<u64>,
    /// Incremental backups are wanted. They are possible for every qcow2 disk, without being switched on.
    pub incremental: Option<bool>,
}

/// Changes a disk: its texts at once, its size by a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateDisk {
    /// The disk.
    pub disk: DiskId,
    /// What changes.
    pub fields: DiskFields,
}

/// Makes a disk with what another one holds, all in one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDisk {
    /// The disk that is copied.
    pub disk: DiskId,
    /// One of its images: an oVirt disk snapshot. Absent: what it holds now.
    pub image: Option<ImageId>,
    /// Alias of the new disk; absent: that of the copied one.
    pub alias: Option<String>,
    /// Where it shall lie.
    pub domain: DomainRef,
}

/// Writes a disk's image anew without what reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparsifyDisk {
    /// The disk.
    pub disk: DiskId,
}

/// Gives back what a storage domain of volumes has allocated beyond the end of an image. In one of files there is no such
/// thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReduceDisk {
    /// The disk.
    pub disk: DiskId,
}

/// Moves a disk to another storage domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveDisk {
    /// The disk.
    pub disk: DiskId,
    /// Where it shall lie.
    pub domain: DomainRef,
}

/// Removes a disk that no VM has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteDisk {
    /// The disk.
    pub disk: DiskId,
}

/// Attaches a disk to a VM that is down, or plugs it into one that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The VM.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskId,
    /// How.
    pub fields: AttachFields,
}

/// Attaches a disk as it was at a snapshot to a VM, for reading: as a disk of its own, which goes when it is detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposeSnapshot {
    /// The VM that gets it.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskId,
    /// The snapshot of another VM, which holds the disk.
    pub snapshot: SnapshotId,
    /// How.
    pub fields: AttachFields,
}

/// Changes an attachment, for which the VM must be down, and the attached disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateAttachment {
    /// The VM.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskId,
    /// What changes of the attachment.
    pub fields: AttachFields,
    /// What changes of the disk.
    pub disk_fields: DiskFields,
}

/// Detaches a disk from a VM that is down, or unplugs it from one that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detach {
    /// The VM.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskId,
    /// Remove the disk too.
    pub delete: bool,
}

/// Takes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// The VM.
    pub vm: VmId,
    /// Mandatory, 1 to 4000 characters.
    pub description: String,
    /// Save the memory of a running VM (the API's default is true).
    pub memory: bool,
    /// Which disks: absent all, empty none.
    pub disks: Option<Vec<SnapshotDisk>>,
}

/// One disk that a snapshot shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDisk {
    /// The disk.
    pub disk: DiskId,
    /// Id of the new active image, if the client chose one.
    pub image: Option<ImageId>,
}

/// Removes a snapshot, merging what only it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteSnapshot {
    /// The VM.
    pub vm: VmId,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// Brings a VM back to a snapshot; newer snapshots and what was written since are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSnapshot {
    /// The VM.
    pub vm: VmId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Bring the memory back too, if the snapshot has one (the API's default is true).
    pub memory: bool,
}

/// Runs a VM on a snapshot, on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSnapshot {
    /// The VM.
    pub vm: VmId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Bring the memory back too. Absent: if the snapshot has one, and it fits the chosen disks.
    pub memory: Option<bool>,
    /// Which disks; absent: all that the snapshot holds.
    pub disks: Option<Vec<PreviewDisk>>,
}

/// One disk of a preview; an image or a snapshot, or both, say what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDisk {
    /// The disk.
    pub disk: DiskId,
    /// An image of it: its present one, or one that any snapshot of the VM holds.
    pub image: Option<ImageId>,
    /// The snapshot that holds the image.
    pub snapshot: Option<SnapshotId>,
}

/// Ends a preview: commits or undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndPreview {
    /// The VM.
    pub vm: VmId,
}

/// What an image transfer moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferOf {
    /// A disk's present content.
    Disk(DiskId),
    /// One image of a disk: an oVirt disk snapshot.
    Image(ImageId),
    /// A disk as it was at a backup's moment.
    Backup {
        /// The backup: it must be ready.
        backup: BackupId,
        /// The disk: it must be in the backup.
        disk: DiskId,
    },
}

/// Begins an image transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTransfer {
    /// What is moved.
    pub of: TransferOf,
    /// Which way.
    pub direction: TransferDirection,
    /// Format of what goes over the wire; absent: the image's own.
    pub format: Option<ImageFormat>,
    /// Only the named image, not what lies below it.
    pub shallow: bool,
    /// Seconds that the client may be idle, 0 for any time; absent: 60.
    pub inactivity_s: Option<u64>,
    /// What becomes of an idle one.
    pub policy: TimeoutPolicy,
}

/// What can be done to an image transfer that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferAction {
    /// Gives it up.
    Cancel,
    /// The client is still there.
    Extend,
    /// The client is done.
    Finalize,
    /// Waits for a resume; uploads only.
    Pause,
    /// Goes on after a pause.
    Resume,
}

/// Does something to an image transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTransfer {
    /// The transfer.
    pub transfer: TransferId,
    /// What.
    pub action: TransferAction,
}

/// Holds one moment of a VM's disks for download, and remembers it as a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateBackup {
    /// The VM.
    pub vm: VmId,
    /// The backup's id, if the client chose one.
    pub id: Option<BackupId>,
    /// Only what changed since that checkpoint is wanted; disks that are not in it are given in full.
    pub from: Option<CheckpointId>,
    /// Which disks: at least one, all plugged into the VM.
    pub disks: Vec<DiskId>,
    /// At most 1024 characters.
    pub description: String,
    /// Fail if the guest's file systems cannot be frozen.
    pub require_consistency: bool,
    /// No snapshot that users see; the VM is locked until the backup ends.
    pub use_active: bool,
}

/// The client is done with a backup; before it is ready: gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalizeBackup {
    /// The VM.
    pub vm: VmId,
    /// The backup.
    pub backup: BackupId,
}

/// Removes a checkpoint: no backup can start from it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteCheckpoint {
    /// The VM.
    pub vm: VmId,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
}

/// Adds a job that a client works on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddJob {
    /// What it does, at most 4000 characters.
    pub description: String,
    /// It goes by itself some time after its end.
    pub auto_cleared: bool,
}

/// Ends a client's job, and those of its steps that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndJob {
    /// The job.
    pub job: JobId,
    /// Well.
    pub succeeded: bool,
}

/// Adds a step to a client's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddStep {
    /// The job.
    pub job: JobId,
    /// What it does, at most 4000 characters.
    pub description: String,
    /// oVirt's kind of step.
    pub kind: String,
}

/// Ends a step of a client's job. One that fails fails the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndStep {
    /// The job.
    pub job: JobId,
    /// The step.
    pub step: StepId,
    /// Well.
    pub succeeded: bool,
}

/// Writes an event of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddEvent {
    /// What the client calls itself, at most 255 characters.
    pub origin: String,
    /// Its own number for the event, used once.
    pub custom_id: i32,
    /// Severity.
    pub severity: Severity,
    /// Text, at most 4000 characters.
    pub text: String,
    /// The VM that it is about.
    pub vm: Option<VmId>,
}
