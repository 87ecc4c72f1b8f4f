//! What the edges show: plain values, read in one transaction, that know no dialect.
//!
//! Statuses are derived, never stored beside their cause: an entity is `locked` exactly while a job holds its lock row.

pub mod explain;
pub mod volume;
pub mod volume_job;
pub mod watch;

use crate::{
    config::{AttachmentConfig, SnapshotConfig, VmConfig},
    ports::TicketId,
};
use std::collections::HashMap;
use stillpoint_types::{
    BackupId, BackupKind, BackupMode, BackupPhase, CheckpointId, CheckpointState, DiskId, DiskInterface, DomainId,
    ImageFormat, ImageId, JobId, MemoryId, Micros, ProjectId, Severity, SnapshotId, SnapshotType, StepId, StepState,
    TimeoutPolicy, TransferDirection, TransferId, TransferPhase, UserId, VmId, VmStatus,
};

pub use stillpoint_store::{Find, Op, Sort, Value};

/// A page of a list: at most `limit` items after the place where the page before ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Where the page before ended; see [`Paged::next`].
    pub after: Option<(String, String)>,
    /// Items to pass over first.
    pub skip: usize,
    /// Most items; 0 gives an empty page.
    pub limit: usize,
}

/// A page as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paged<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<(String, String)>,
}

impl<T> Paged<T> {
    /// The same page of something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Paged<U> {
        Paged {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
        }
    }
}

/// Which items of a list, and in which order. Fields are words of the store's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// What must hold.
    pub find: Find,
    /// Another order than the list's own.
    pub sort: Option<Sort>,
}

/// The job that holds an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The job.
    pub job: JobId,
    /// What it does, as shown to people.
    pub what: String,
    /// Since when.
    pub since: Micros,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmView {
    /// Its id.
    pub id: VmId,
    /// Whose it is.
    pub project: ProjectId,
    /// Its configuration.
    pub config: VmConfig,
    /// What it does.
    pub status: VmStatus,
    /// More about the status, such as `EIO` or `ENOSPC` for a VM paused by its disks; empty if nothing.
    pub status_detail: String,
    /// Who holds it, if a job does.
    pub holder: Option<Holder>,
    /// When it was made.
    pub created_at: Micros,
    /// Last start.
    pub started_at: Option<Micros>,
    /// Last stop.
    pub stopped_at: Option<Micros>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskView {
    /// Its id.
    pub id: DiskId,
    /// Whose it is.
    pub project: ProjectId,
    /// Name and alias in one.
    pub alias: String,
    /// Free text.
    pub description: String,
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// Format of its active image.
    pub format: ImageFormat,
    /// Whether its base takes space as it is written.
    pub sparse: bool,
    /// Its active image.
    pub image: ImageId,
    /// Storage domain.
    pub domain: DomainId,
    /// Bytes on disk of the active image.
    pub actual_bytes: u64,
    /// Bytes on disk of all images of the disk.
    pub total_bytes: u64,
    /// The image is damaged: why; the disk's status is then `illegal`.
    pub illegal: Option<String>,
    /// Who holds it, if a job does; the status is then `locked`.
    pub holder: Option<Holder>,
    /// The VMs that it is attached to.
    pub vms: Vec<VmId>,
    /// When it was made.
    pub created_at: Micros,
}

/// A disk as a VM has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentView {
    /// The VM.
    pub vm: VmId,
    /// The disk.
    pub disk: DiskView,
    /// Bus.
    pub interface: DiskInterface,
    /// Whether the firmware may boot from it.
    pub bootable: bool,
    /// Plugged.
    pub active: bool,
    /// The guest cannot write.
    pub read_only: bool,
    /// Place on the bus; see [`crate::ports::DiskSpec::slot`].
    pub slot: u8,
}

/// Status of a snapshot (oVirt API `snapshot_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// Usable.
    Ok,
    /// A job holds it.
    Locked,
    /// It is being previewed.
    InPreview,
}

/// A VM snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotView {
    /// Its id.
    pub id: SnapshotId,
    /// Its VM.
    pub vm: VmId,
    /// The VM's present name.
    pub vm_name: String,
    /// Free text; `Active VM` for the active one.
    pub description: String,
    /// Kind.
    pub kind: SnapshotType,
    /// Status.
    pub status: SnapshotStatus,
    /// Who holds it.
    pub holder: Option<Holder>,
    /// When it was taken (the instant of the switch once that has happened).
    pub date: Micros,
    /// The saved memory; `None`: disks only.
    pub memory: Option<MemoryId>,
    /// What it keeps; `None` for the active one.
    pub config: Option<SnapshotConfig>,
    /// The snapshot before it.
    pub previous: Option<SnapshotId>,
}

/// What the snapshots of a VM take on disk, in bytes. The active one is not among them: its images are the disks' own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotSizes {
    /// The images that each holds: what was written between the one before it and itself. None for one without disks.
    pub disks: HashMap<SnapshotId, u64>,
    /// The saved memory of those that have one.
    pub memory: HashMap<SnapshotId, u64>,
}

/// A disk in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDiskView {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The disk as it was.
    pub attachment: AttachmentConfig,
    /// The image that holds its content now (a merge may have changed it).
    pub image: ImageId,
    /// That image's format.
    pub format: ImageFormat,
    /// Bytes on disk of that image.
    pub actual_bytes: u64,
    /// Storage domain.
    pub domain: DomainId,
}

/// One image of a disk (oVirt API `disk_snapshot`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSnapshotView {
    /// The image.
    pub image: ImageId,
    /// Its parent.
    pub parent: Option<ImageId>,
    /// The disk that owns it.
    pub disk: DiskId,
    /// The disk's alias.
    pub alias: String,
    /// The disk's description.
    pub description: String,
    /// The VM snapshot that names it, if one does; for the active image the VM's active snapshot.
    pub snapshot: Option<SnapshotId>,
    /// Whether it is the disk's active image.
    pub active: bool,
    /// Format.
    pub format: ImageFormat,
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// Bytes on disk.
    pub actual_bytes: u64,
    /// Whether a job holds the disk.
    pub locked: bool,
    /// Storage domain.
    pub domain: DomainId,
}

/// A storage domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainView {
    /// Its id.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// Free bytes.
    pub available_bytes: u64,
    /// Used bytes.
    pub used_bytes: u64,
    /// Bytes promised to disks (sum of virtual sizes).
    pub committed_bytes: u64,
}

/// State of a job or step as the oVirt API has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// Under way.
    Started,
    /// Ended well.
    Finished,
    /// Ended badly; everything is as it was, or it waits for an operator.
    Failed,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// What it does, as shown to people.
    pub description: String,
    /// State.
    pub status: RunStatus,
    /// Who asked.
    pub owner: UserId,
    /// His name.
    pub owner_name: String,
    /// The request's correlation id.
    pub correlation_id: String,
    /// Begin.
    pub started_at: Micros,
    /// End.
    pub ended_at: Option<Micros>,
    /// Last change.
    pub updated_at: Micros,
    /// Why it failed, as the client may read it.
    pub failure: Option<String>,
    /// A client added it, and ends it.
    pub external: bool,
    /// It goes by itself some time after its end.
    pub auto_cleared: bool,
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// Its id.
    pub id: StepId,
    /// Its job.
    pub job: JobId,
    /// What it does, as shown to people.
    pub description: String,
    /// Place in the job, from 0.
    pub number: u32,
    /// State.
    pub state: StepState,
    /// oVirt's kind of step.
    pub kind: String,
    /// A client added it, and ends it.
    pub external: bool,
    /// Percent, 0 to 100.
    pub progress: u8,
    /// Begin.
    pub started_at: Option<Micros>,
    /// End.
    pub ended_at: Option<Micros>,
}

/// An event: what users read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// Growing number, also its id.
    pub index: i64,
    /// oVirt's event code.
    pub code: u32,
    /// Severity.
    pub severity: Severity,
    /// Text.
    pub text: String,
    /// When.
    pub at: Micros,
    /// The request's correlation id.
    pub correlation_id: Option<String>,
    /// Who.
    pub user: Option<(UserId, String)>,
    /// The VM concerned.
    pub vm: Option<(VmId, String)>,
    /// The disk concerned.
    pub disk: Option<(DiskId, String)>,
    /// The client that wrote it, as it calls itself, with its own number; `None`: this daemon did.
    pub client: Option<(String, i32)>,
}

/// An image transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Its id.
    pub id: TransferId,
    /// The disk.
    pub disk: DiskId,
    /// The disk has not been removed since.
    pub disk_is_there: bool,
    /// The image, if the client named that and not the disk, and if it has not been removed since.
    pub image: Option<ImageId>,
    /// The backup that it reads from.
    pub backup: Option<BackupId>,
    /// Which way.
    pub direction: TransferDirection,
    /// Format of what goes over the wire.
    pub format: ImageFormat,
    /// Only the named image.
    pub shallow: bool,
    /// Seconds that the client may be idle; 0: any time.
    pub inactivity_s: u32,
    /// What becomes of an idle one.
    pub policy: TimeoutPolicy,
    /// Where it stands.
    pub phase: TransferPhase,
    /// A request is being served now.
    pub active: bool,
    /// Distinct bytes moved.
    pub transferred_bytes: u64,
    /// The secret of its URL: only while it has one, and only for who may use it.
    pub ticket: Option<TicketId>,
    /// Why it was paused, cancelled or failed.
    pub reason: Option<String>,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupView {
    /// Its id.
    pub id: BackupId,
    /// The VM.
    pub vm: VmId,
    /// Free text.
    pub description: String,
    /// How it holds its moment.
    pub kind: BackupKind,
    /// Where it stands.
    pub phase: BackupPhase,
    /// The checkpoint since which changes are wanted, if they are.
    pub from: Option<CheckpointId>,
    /// The checkpoint that it makes: known at once, usable from `ready` on, gone if the backup fails.
    pub to: Option<CheckpointId>,
    /// The snapshot that users see, while there is one.
    pub snapshot: Option<SnapshotId>,
    /// The guest's file systems were frozen at the moment, or the VM was down.
    pub consistent: bool,
    /// Why it failed, or is failing.
    pub reason: Option<String>,
    /// When it began.
    pub created_at: Micros,
    /// Last change of its phase.
    pub modified_at: Micros,
    /// Its disks that are still there, in device order. Modes are final from `ready` on.
    pub disks: Vec<BackupDiskView>,
}

/// A disk of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupDiskView {
    /// The disk as it is now.
    pub disk: DiskView,
    /// What is to be downloaded.
    pub mode: BackupMode,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    /// Its id.
    pub id: CheckpointId,
    /// The VM.
    pub vm: VmId,
    /// The checkpoint before it.
    pub parent: Option<CheckpointId>,
    /// Free text: the backup's.
    pub description: String,
    /// State.
    pub state: CheckpointState,
    /// Its moment.
    pub created_at: Micros,
    /// The disks whose changes since are known.
    pub disks: Vec<DiskView>,
}

/// The fixed surroundings that clients navigate: one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct House {
    /// Id of this installation.
    pub instance: String,
    /// Data center: id, name.
    pub data_center: (String, String),
    /// Cluster: id, name.
    pub cluster: (String, String),
    /// Host: id, name.
    pub host: (String, String),
    /// Network: id, name.
    pub network: (String, String),
    /// vNIC profile: id, name.
    pub vnic_profile: (String, String),
    /// Number of CPUs of the host.
    pub host_cpus: u32,
    /// RAM of the host in bytes.
    pub host_memory_bytes: u64,
    /// QEMU's version.
    pub qemu_version: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
}

/// An image file in a storage domain that belongs to no disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnregisteredView {
    /// The image id in its file name.
    pub image: ImageId,
    /// Format by its file name's ending.
    pub format: ImageFormat,
    /// Virtual size in bytes, 0 if the header cannot be read.
    pub size_bytes: u64,
    /// Bytes on disk.
    pub actual_bytes: u64,
    /// Why it cannot be adopted, if it cannot.
    pub refused: Option<String>,
}

/// What kind of damage a finding of `repair` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// QEMU runs a disk on a layer that nobody recorded.
    OrphanOverlay,
    /// An image file that no row names.
    OrphanImage,
    /// A merge has happened that rows do not know of.
    HalfMerge,
    /// What changed since a checkpoint cannot be read any more.
    LostMap,
    /// A disk is marked illegal, and the cause is gone.
    IllegalMark,
    /// A chain is not what is recorded, and nothing that is seen says why.
    BrokenChain,
}

impl FindingKind {
    /// As programs know it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::OrphanOverlay => "orphan_overlay",
            Self::OrphanImage => "orphan_image",
            Self::HalfMerge => "half_merge",
            Self::LostMap => "lost_map",
            Self::IllegalMark => "illegal_mark",
            Self::BrokenChain => "broken_chain",
        }
    }
}

/// Damage that no job explains, with what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingView {
    /// Made of what it is about and what was seen: another one as soon as either changes.
    pub id: String,
    /// Kind.
    pub kind: FindingKind,
    /// `disk`, `file` or `checkpoint`.
    pub object_kind: &'static str,
    /// Its id; a file's is its name.
    pub object_id: String,
    /// What people call it.
    pub object_name: String,
    /// What was seen.
    pub seen: Vec<String>,
    /// What is recorded.
    pub recorded: Vec<String>,
    /// What a repair would do, in its order.
    pub plan: Vec<String>,
    /// What would be gone for good, or is already.
    pub loses: Vec<String>,
    /// What was seen proves that the plan is right: only such a finding is repaired.
    pub safe: bool,
}

/// A repair that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairView {
    /// The finding.
    pub id: String,
    /// What carries it out.
    pub job: JobId,
}
