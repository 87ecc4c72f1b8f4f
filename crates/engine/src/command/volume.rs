//! What a client of the volume APIs can ask of the core: disks as volumes, and snapshots of single volumes.
//!
//! | command | file | locks | volume states |
//! |---|---|---|---|
//! | `CreateVolume` | `volume/create.rs` | the new disk | source `available` or `in-use` |
//! | `UpdateVolume`, `ChangeMetadata` | `volume/update.rs`, `volume/metadata.rs` | none held over time | any |
//! | `DeleteVolume` | `volume/delete.rs` | the disk | `available`, errors |
//! | `ExtendVolume` | `volume/extend.rs` | the disk, its VM | `available`, `in-use` if asked |
//! | `ActOnVolume` | `volume/act.rs` | none held over time | as the action says |
//! | `RevertVolume` | `volume/revert.rs` | the disk | `available` |
//! | `OfferVolume`, `AcceptVolume` | `volume/offer.rs` | none held over time | `available`; `awaiting-transfer` |
//! | `CreateVolumeBackup`, `UpdateVolumeBackup` | `volume/backup.rs` | none held over time | `available`; `in-use` if asked |
//! | `CreateVolumeSnapshot` | `volume/snapshot/create.rs` | the disk; with a VM: as `CreateSnapshot` | as the dialect allows |
//! | `UpdateVolumeSnapshot` | `volume/snapshot/update.rs` | none held over time | any |
//! | `DeleteVolumeSnapshot` | `volume/snapshot/delete.rs` | the disk; with a VM: as `DeleteSnapshot` | `available`, `error` |
//! | `ResetVolumeSnapshot` | `volume/snapshot/update.rs` | none held over time | any |
//!
//! A volume is a disk: its id is the disk's. `who` is a caller whose roles are narrowed to the project of his token.

use std::collections::BTreeMap;
use stillpoint_types::{
    DiskId, ProjectId, UserId, VmId, VolumeSnapshotId, VolumeSnapshotStatus, VolumeStatus, VolumeTypeId,
};
use uuid::Uuid;

/// Text that clients hang on volumes and snapshots. Keys and values have 1..=255 and 0..=255 characters.
pub type Metadata = BTreeMap<String, String>;

/// What a new volume begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VolumeSource {
    /// Zeros.
    #[default]
    Blank,
    /// What a snapshot holds: an overlay, at once, whatever the size.
    Snapshot(VolumeSnapshotId),
    /// What another volume holds at this moment.
    Volume(DiskId),
}

/// How a client names a type of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeRef {
    /// Its id.
    Id(VolumeTypeId),
    /// Its name.
    Name(String),
}

/// Makes a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVolume {
    /// Whose it will be.
    pub project: ProjectId,
    /// Name; `None`: it has none. At most 255 characters.
    pub name: Option<String>,
    /// Description; at most 255 characters.
    pub description: Option<String>,
    /// Bytes, a multiple of a GiB; `None`: as large as its source. Never smaller than that.
    pub size_bytes: Option<u64>,
    /// What it begins with.
    pub source: VolumeSource,
    /// Its type; `None`: its source's, or the default one.
    pub of_type: Option<TypeRef>,
    /// Metadata.
    pub metadata: Metadata,
}

/// Changes a volume's names; `None`: as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateVolume {
    /// The volume.
    pub volume: DiskId,
    /// Name.
    pub name: Option<Option<String>>,
    /// Description.
    pub description: Option<Option<String>>,
}

/// A change of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataChange {
    /// These keys get these values; others stay.
    Merge(Metadata),
    /// Exactly these.
    Replace(Metadata),
    /// One key goes; `NotFound` if it is not there.
    Remove(String),
}

/// Removes a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteVolume {
    /// The volume.
    pub volume: DiskId,
    /// With its snapshots; without, `HasDependants` if it has some.
    pub cascade: bool,
    /// Whatever its stored status (an administrator's); an attached one is refused all the same.
    pub force: bool,
}

/// Makes a volume larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendVolume {
    /// The volume.
    pub volume: DiskId,
    /// Its new size in bytes, a multiple of a GiB, larger than now.
    pub size_bytes: u64,
    /// Also while it is in use.
    pub in_use: bool,
}

/// What a client of the volume API does to a volume besides its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeAction {
    /// `available` to `attaching`.
    Reserve,
    /// Back from it; of anything else: nothing happens.
    Unreserve,
    /// A server outside of our VMs has it: `in-use` until it is detached. No guest of ours is touched.
    Attach {
        /// The server's id, if it has one.
        server: Option<VmId>,
        /// Or its host's name.
        host: Option<String>,
        /// Where the server has it, as in `/dev/vdb`.
        device: String,
        /// Not for writing.
        read_only: bool,
    },
    /// `in-use` to `detaching`.
    BeginDetaching,
    /// Back from it.
    RollDetaching,
    /// The server has let go. Refused for one that a VM of ours has.
    Detach,
    /// Marks it as one to boot from.
    SetBootable(bool),
    /// Marks it as one for reading.
    SetReadOnly(bool),
    /// Says what its status is (an administrator's); `attached`: the attach status, likewise.
    ResetStatus {
        /// The status.
        status: Option<VolumeStatus>,
        /// Whether it counts as attached.
        attached: Option<bool>,
    },
    /// Changes its type.
    Retype(TypeRef),
}

/// Does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActOnVolume {
    /// The volume.
    pub volume: DiskId,
    /// What.
    pub action: VolumeAction,
}

/// Which snapshots a volume may be brought back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevertRule {
    /// The newest one, if the volume has its size still (Cinder).
    Newest,
    /// Any (EVS): newer ones stay usable.
    Any,
}

/// Brings a volume back to a snapshot of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevertVolume {
    /// The volume.
    pub volume: DiskId,
    /// The snapshot.
    pub snapshot: VolumeSnapshotId,
    /// Which are allowed.
    pub rule: RevertRule,
}

/// Takes a snapshot of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVolumeSnapshot {
    /// The volume.
    pub volume: DiskId,
    /// Name; at most 255 characters.
    pub name: Option<String>,
    /// Description; at most 255 characters.
    pub description: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// Statuses besides `available` in which the dialect allows it (evs-cinder-api 3.4).
    pub also_when: Vec<VolumeStatus>,
}

/// Changes a snapshot's names; `None`: as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateVolumeSnapshot {
    /// The snapshot.
    pub snapshot: VolumeSnapshotId,
    /// Name.
    pub name: Option<Option<String>>,
    /// Description.
    pub description: Option<Option<String>>,
}

/// Removes a snapshot of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteVolumeSnapshot {
    /// The snapshot.
    pub snapshot: VolumeSnapshotId,
    /// Whatever its status, and of a backup too (an administrator's).
    pub force: bool,
}

/// Says what a snapshot's status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetVolumeSnapshot {
    /// The snapshot.
    pub snapshot: VolumeSnapshotId,
    /// The status.
    pub status: VolumeSnapshotStatus,
    /// How much of it is made, in percent, if that is said, too.
    pub progress: Option<u8>,
}

/// How much a project may have; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Volumes.
    pub volumes: Option<u64>,
    /// Snapshots of volumes.
    pub snapshots: Option<u64>,
    /// GiB of volumes and snapshots.
    pub gigabytes: Option<u64>,
    /// Backups.
    pub backups: Option<u64>,
    /// GiB of backups.
    pub backup_gigabytes: Option<u64>,
    /// GiB of one volume.
    pub per_volume_gigabytes: Option<u64>,
    /// Groups of volumes.
    pub groups: Option<u64>,
}

/// Fields of a type of volumes; absent ones stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFields {
    /// Name, unique.
    pub name: Option<String>,
    /// Description.
    pub description: Option<Option<String>>,
    /// Seen by every project.
    pub is_public: Option<bool>,
}

/// Offers a volume to another project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferVolume {
    /// The volume.
    pub volume: DiskId,
    /// Name of the offer.
    pub name: Option<String>,
    /// Its snapshots do not go with it (then it must have none of its own).
    pub no_snapshots: bool,
}

/// Takes over a volume that another project offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptVolume {
    /// The offer.
    pub offer: Uuid,
    /// Its key, as [`crate::view::volume::Offered`] had it.
    pub key: String,
    /// Whose it will be.
    pub project: ProjectId,
}

/// Who a volume or snapshot was made by, as the volume API shows it.
pub type Maker = Option<UserId>;

/// Asks for a backup of a volume. There is no such service yet: it is kept, and has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVolumeBackup {
    /// The volume.
    pub volume: DiskId,
    /// A snapshot of it that is to be read instead.
    pub snapshot: Option<VolumeSnapshotId>,
    /// Name; at most 255 characters.
    pub name: Option<String>,
    /// Description; at most 255 characters.
    pub description: Option<String>,
    /// Where to put it.
    pub container: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// Only what changed since the backup before.
    pub incremental: bool,
    /// Also while the volume is in use.
    pub force: bool,
}

/// Changes what is said of a backup of a volume; `None`: as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateVolumeBackup {
    /// The backup.
    pub backup: Uuid,
    /// Name.
    pub name: Option<Option<String>>,
    /// Description.
    pub description: Option<Option<String>>,
    /// Metadata, whole.
    pub metadata: Option<Metadata>,
}
