//! Why a thing is in its state: what is recorded, who holds it, what is seen of it in the world, and what would help.

use super::{EventView, JobView};
use crate::ports::{ImageFacts, ProcessRecord, RunState};
use stillpoint_types::{
    DiskId, ImageFormat, ImageId, JobId, JobState, LockMode, Micros, ProjectId, SnapshotId, StepId, StepState, VmId,
};

/// What can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A VM, with the disks that it has.
    Vm,
    /// A disk, which is a volume of the volume APIs.
    Disk,
    /// A snapshot of a VM.
    Snapshot,
    /// A backup.
    Backup,
    /// A checkpoint.
    Checkpoint,
    /// An image transfer.
    Transfer,
    /// A job.
    Job,
    /// A snapshot of one volume.
    VolumeSnapshot,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Vm,
        Self::Disk,
        Self::Snapshot,
        Self::Backup,
        Self::Checkpoint,
        Self::Transfer,
        Self::Job,
        Self::VolumeSnapshot,
    ];

    /// Its word, as paths have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Disk => "disk",
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
            Self::Checkpoint => "checkpoint",
            Self::Transfer => "transfer",
            Self::Job => "job",
            Self::VolumeSnapshot => "volume_snapshot",
        }
    }
}

/// The explanation of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// As people call it.
    pub name: String,
    /// Whose it is.
    pub project: ProjectId,
    /// Its status, in the words of the oVirt API, or Cinder's for a volume's snapshot.
    pub status: String,
    /// How the status comes about: sentences, the most important one first.
    pub why: Vec<String>,
    /// The lock rows on it, and on what it is made of.
    pub locks: Vec<LockView>,
    /// The jobs that hold these, and the thing's own.
    pub jobs: Vec<JobDetail>,
    /// The VM's process, as it is now.
    pub machine: Option<MachineSeen>,
    /// The image chains that it stands on, as recorded and as seen now.
    pub chains: Vec<ChainSeen>,
    /// Where what was seen is not what is recorded.
    pub differences: Vec<Difference>,
    /// What would unblock or repair it.
    pub remedies: Vec<Remedy>,
    /// What the event log said about it lately, newest first.
    pub events: Vec<EventView>,
    /// When all this was looked at.
    pub at: Micros,
}

/// A lock row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// Kind of what is locked: `vm`, `disk`, `snapshot`, `volume_snapshot`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Whether others may hold it beside.
    pub mode: LockMode,
    /// The job that holds it.
    pub job: JobId,
    /// What that does, for people.
    pub what: String,
    /// Since when.
    pub since: Micros,
}

/// A job with its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDetail {
    /// As every list shows it.
    pub job: JobView,
    /// Which saga; `client` for one that a client added.
    pub kind: String,
    /// As it is recorded.
    pub state: JobState,
    /// It can only go forward: what it does has happened and cannot be taken back.
    pub only_forward: bool,
    /// The VM that it works on.
    pub vm: Option<VmId>,
    /// Its steps, in order.
    pub steps: Vec<StepDetail>,
    /// What keeps it from going on, if something does.
    pub waits: Option<Waits>,
}

/// A step as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDetail {
    /// Its id.
    pub id: StepId,
    /// Place in the job, from 0.
    pub number: u32,
    /// Which step of the saga.
    pub name: String,
    /// What it does, for people.
    pub description: String,
    /// State.
    pub state: StepState,
    /// After it the job can only go forward.
    pub pivot: bool,
    /// Percent.
    pub progress: u8,
    /// Begin.
    pub started_at: Option<Micros>,
    /// End.
    pub ended_at: Option<Micros>,
}

/// Why a step is being tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// The step's place in the job.
    pub step: u32,
    /// Tries in vain since the daemon runs.
    pub tries: u32,
    /// Why the last one was.
    pub reason: String,
    /// When that was.
    pub at: Micros,
}

/// A VM's process as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSeen {
    /// The VM.
    pub vm: VmId,
    /// The process on record.
    pub recorded: Option<ProcessRecord>,
    /// The process that lives.
    pub process: Option<ProcessRecord>,
    /// The daemon has its monitor.
    pub connected: bool,
    /// What the monitor says the machine does.
    pub run_state: Option<RunState>,
    /// Why its guest may be frozen, if it may.
    pub frozen: Option<Frozen>,
    /// Block nodes in QEMU that are not the daemon's.
    pub foreign_nodes: Vec<String>,
    /// What could not be found out, and why.
    pub trouble: Option<String>,
}

/// Why a guest's file systems stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// Its user wanted it: thawed at that time at the latest.
    ByUser(Micros),
    /// A thaw was not confirmed; it is tried again and again.
    ThawUnconfirmed,
}

/// A chain of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSeen {
    /// The disk.
    pub disk: DiskId,
    /// Its alias.
    pub alias: String,
    /// The recorded images, base first.
    pub images: Vec<ImageSeen>,
    /// The layers that the VM's QEMU has for that disk, base first; `None`: no QEMU has it, or it was not asked.
    pub qemu: Option<Vec<ImageId>>,
}

/// An image: recorded and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// Its id.
    pub id: ImageId,
    /// Its file's name in the storage domain.
    pub file: String,
    /// Recorded state: `creating`, `live`, `doomed`.
    pub state: &'static str,
    /// Recorded format.
    pub format: ImageFormat,
    /// Recorded virtual size in bytes.
    pub size_bytes: u64,
    /// The name that its header must have for what it stands on.
    pub backing: Option<String>,
    /// The guest writes to it.
    pub active: bool,
    /// The snapshots of VMs that hold it.
    pub snapshots: Vec<SnapshotId>,
    /// Its content was being merged when that was given up.
    pub half_merged: bool,
    /// What its file is.
    pub seen: Seen,
}

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Not there.
    Missing,
    /// Read.
    Facts(ImageFacts),
    /// There, but it cannot be read: why.
    Unreadable(String),
}

/// Something that is not as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What is not as recorded: `vm`, `disk` or `image`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// For people.
    pub text: String,
    /// A job is at work on it, which may well be the reason; it makes it good by itself.
    pub job_at_work: bool,
}

/// Something that would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// In words.
    pub text: String,
    /// The command line to type; `None`: there is none.
    pub command: Option<String>,
}

/// What the last start of the daemon found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// When the daemon started.
    pub started_at: Micros,
    /// The VMs that had, or may have had, a process, with what was found.
    pub machines: Vec<MachineFound>,
    /// The jobs that it went on with, as they are now; those that ended long ago are gone.
    pub jobs: Vec<JobDetail>,
    /// What was told of it since: jobs gone on with, differences, lost and silent processes, thaws. Oldest first.
    pub events: Vec<EventView>,
}

/// What the start found of a VM's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFound {
    /// The VM.
    pub vm: VmId,
    /// Its name then.
    pub name: String,
    /// `connected`, `silent` or `gone`.
    pub found: &'static str,
}
