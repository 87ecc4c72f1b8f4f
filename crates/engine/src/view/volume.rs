//! What the volume APIs show: disks as volumes, snapshots of single volumes, quotas and types.

use crate::command::volume::{Limits, Maker, Metadata};
use std::collections::BTreeMap;
use stillpoint_types::{
    BackupId, DiskId, Micros, ProjectId, SnapshotId, VmId, VolumeSnapshotId, VolumeSnapshotStatus, VolumeStatus,
    VolumeTypeId,
};
use uuid::Uuid;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// Its id: the disk's.
    pub id: DiskId,
    /// Whose it is.
    pub project: ProjectId,
    /// Who made it, if that is known.
    pub user: Maker,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Bytes; not always whole GiB: an edge that shows GiB rounds up.
    pub size_bytes: u64,
    /// Status.
    pub status: VolumeStatus,
    /// Made.
    pub created_at: Micros,
    /// Last changed; `None`: never.
    pub updated_at: Option<Micros>,
    /// Its type.
    pub of_type: (VolumeTypeId, String),
    /// The snapshot it began as, which may be gone.
    pub from_snapshot: Option<VolumeSnapshotId>,
    /// The volume it began as, which may be gone.
    pub from_volume: Option<DiskId>,
    /// Metadata.
    pub metadata: Metadata,
    /// To boot from.
    pub bootable: bool,
    /// For reading only, if somebody has said so or not so.
    pub read_only: Option<bool>,
    /// Who has it.
    pub attachments: Vec<VolumeAttachmentView>,
}

/// Who has a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeAttachmentView {
    /// Of the attachment.
    pub id: Uuid,
    /// The server: a VM of ours, or another's.
    pub server: Option<VmId>,
    /// The server's host, if it was named.
    pub host: Option<String>,
    /// Where the server has it.
    pub device: String,
    /// Since when; `None`: not known.
    pub attached_at: Option<Micros>,
    /// For reading only.
    pub read_only: bool,
}

/// A snapshot of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshotView {
    /// Its id.
    pub id: VolumeSnapshotId,
    /// Its volume.
    pub volume: DiskId,
    /// Whose it is.
    pub project: ProjectId,
    /// Who made it, if that is known.
    pub user: Maker,
    /// Name: of a member of a VM snapshot, that one's description.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Status.
    pub status: VolumeSnapshotStatus,
    /// How much of it is made, in percent.
    pub progress: u8,
    /// The volume's bytes at that moment.
    pub size_bytes: u64,
    /// Made.
    pub created_at: Micros,
    /// Last changed; `None`: never.
    pub updated_at: Option<Micros>,
    /// Metadata, the daemon's own keys among them.
    pub metadata: Metadata,
    /// The VM snapshot that it is a member of.
    pub vm_snapshot: Option<SnapshotId>,
    /// The backup that it was made for: no user changes it, and it counts in no quota.
    pub backup: Option<BackupId>,
}

/// Which things a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one project.
    Project(ProjectId),
    /// All that the caller may see.
    All,
}

/// One condition of a list of volumes or snapshots. Fields: `id`, `name`, `description`, `status`, `volume_id`, `size` (GiB, rounded up),
/// `bootable`, `created_at`, `updated_at` (microseconds), `project_id`, `consumes_quota`, `metadata`, `server` …
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Equal to one of them.
    In(&'static str, Vec<String>),
    /// Contains the text.
    Like(&'static str, String),
    /// A comparison of instants or numbers: `<`, `<=`, `>`, `>=`, `=`, `<>`.
    Compare(&'static str, &'static str, i64),
    /// Has all these pairs.
    Metadata(Metadata),
    /// Nothing: a filter that fits no thing.
    Nothing,
}

/// A page of a list of the volume APIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeQuery {
    /// Of which projects.
    pub scope: Scope,
    /// All of these hold.
    pub matches: Vec<Match>,
    /// Keys, and whether each is descending; `id` is added. Empty: newest first.
    pub sort: Vec<(&'static str, bool)>,
    /// Begin after the thing of that id; `NotFound` if it is not there.
    pub marker: Option<Uuid>,
    /// Then pass over that many.
    pub offset: u64,
    /// At most that many.
    pub limit: u64,
    /// Count all that fit, too.
    pub count: bool,
}

/// Such a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// Its things.
    pub items: Vec<T>,
    /// How many fit in all, if that was asked.
    pub count: Option<u64>,
}

/// What a project has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Volumes.
    pub volumes: u64,
    /// Snapshots that count: not those of backups.
    pub snapshots: u64,
    /// GiB of both, each rounded up.
    pub gigabytes: u64,
    /// Backups of volumes.
    pub backups: u64,
}

/// A project's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaView {
    /// What it may have.
    pub limits: Limits,
    /// What it has.
    pub usage: Usage,
}

/// How much of one type a project may have, and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeQuotaView {
    /// `volumes`, `snapshots` or `gigabytes`, then `_` and the type's name.
    pub name: String,
    /// What it may have; `None`: as much as it likes.
    pub limit: Option<u64>,
    /// What it has.
    pub used: u64,
}

/// A type of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeTypeView {
    /// Its id.
    pub id: VolumeTypeId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// Seen by every project.
    pub is_public: bool,
    /// What it asks of storage.
    pub extra_specs: BTreeMap<String, String>,
    /// Which projects see one that is not public.
    pub projects: Vec<ProjectId>,
}

/// A volume that is offered to other projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferView {
    /// Its id.
    pub id: Uuid,
    /// The volume.
    pub volume: DiskId,
    /// Who offers it.
    pub project: ProjectId,
    /// Name.
    pub name: Option<String>,
    /// Its snapshots do not go with it.
    pub no_snapshots: bool,
    /// Made.
    pub created_at: Micros,
}

/// A new offer, with the key that accepts it: it is told this once.
#[derive(Clone, PartialEq, Eq)]
pub struct Offered {
    /// The offer.
    pub offer: OfferView,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Offered {
    /// Without the key: whoever reads a log must not be able to take the volume.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offered")
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

/// Why something went to `error`, for its project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Its id.
    pub id: Uuid,
    /// About a volume or a snapshot: its kind (`VOLUME`, `VOLUME_SNAPSHOT`) and id.
    pub about: (&'static str, Uuid),
    /// What was being done, as Cinder's action codes name it (`001` allocate, `002` attach …).
    pub action: &'static str,
    /// What happened, as Cinder's detail codes name it.
    pub detail: &'static str,
    /// For people.
    pub text: String,
    /// Written.
    pub created_at: Micros,
    /// It goes then.
    pub expires_at: Micros,
}

/// A backup of a volume that was asked for, and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeBackupView {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub project: ProjectId,
    /// Who asked for it.
    pub user: Maker,
    /// The volume, which may be gone.
    pub volume: DiskId,
    /// The snapshot that was to be read.
    pub snapshot: Option<VolumeSnapshotId>,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Where it was to be put.
    pub container: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// The volume's bytes at that moment.
    pub size_bytes: u64,
    /// The moment that it was to be of.
    pub moment: Micros,
    /// Why it failed.
    pub reason: String,
    /// Asked for.
    pub created_at: Micros,
    /// Last changed.
    pub updated_at: Option<Micros>,
}
