//! The closed list of what can go wrong for a client, independent of any dialect.
//!
//! Each dialect's `fault.rs` maps every code to a status and a body, without a wildcard: a new code here breaks the
//! build there until it has been thought about.

use serde::{Deserialize, Serialize};

/// Why a request was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultCode {
    // --- who is asking
    /// No or bad credentials, or an expired token.
    Unauthorized,
    /// Visible, but the caller's role does not allow the operation.
    Forbidden,
    // --- the request itself
    /// The entity of the URL does not exist, or is not visible to the caller.
    NotFound,
    /// An entity that the body names does not exist, or is not visible.
    RelatedNotFound,
    /// A mandatory element is missing.
    Incomplete,
    /// An element has a value of the wrong kind.
    InvalidValue,
    /// A number is outside of its documented limits.
    OutOfRange,
    /// A text is longer than its documented limit.
    TooLong,
    /// The same thing is named twice in one request.
    Duplicate,
    /// The body is no well-formed document of the expected kind.
    Malformed,
    /// The request asks for something that this version does not do.
    Unsupported,
    /// The body is larger than the documented limit.
    TooLarge,
    // --- the state of things
    /// Another entity has that name.
    NameInUse,
    /// Another entity has that id.
    IdInUse,
    /// A job holds a lock on the entity.
    Locked,
    /// A snapshot of the VM is being taken, merged or restored.
    DuringSnapshot,
    /// The VM's status does not allow the operation.
    VmStatus,
    /// The snapshot is active or a preview: only regular ones can be operated on so.
    SnapshotNotRegular,
    /// A snapshot of the VM is being previewed.
    InPreview,
    /// The disk is not attached to the VM.
    DiskNotAttached,
    /// The disk is attached to a VM that stands in the way.
    DiskAttached,
    /// The disk or image is damaged or unusable.
    ImageIllegal,
    /// The snapshot's configuration cannot be used any more.
    SnapshotBroken,
    /// The chain would grow beyond its documented depth.
    ChainTooDeep,
    /// The storage has too little free space.
    NoSpace,
    /// An image file may not be adopted.
    ImageRefused,
    /// The phase of the image transfer does not allow the operation.
    TransferPhase,
    /// A backup of the VM is under way.
    DuringBackup,
    /// The phase of the backup, or a transfer of it that is under way, does not allow the operation.
    BackupPhase,
    /// A backup has that id (oVirt answers 400 here, not 409 as for other ids).
    BackupIdInUse,
    /// The disk is attached to the VM, but not plugged in.
    DiskNotActive,
    /// The status of the volume, or of its snapshot, does not allow the operation.
    VolumeStatus,
    /// A snapshot or volume belongs to something that stands in the way: a VM snapshot of several disks, snapshots of a
    /// volume that is to go.
    HasDependants,
    /// A snapshot that the daemon keeps for a backup: users look at it, and leave it alone.
    Protected,
    /// The project's quota would be exceeded.
    Quota,
    /// The disks or images that were chosen for a preview do not belong together, or not to the VM.
    DiskChoice,
    /// What the request goes by has changed since it was read.
    Changed,
    // --- the world
    /// The guest agent did not do what was asked within its deadline.
    GuestAgent,
    /// The VM's process or monitor does not answer.
    HostUnreachable,
    /// The hypervisor refused or failed an operation.
    Hypervisor,
    /// Reading or writing storage failed.
    Storage,
    /// The daemon is stopping, or too busy to take the request.
    Unavailable,
    /// A fault of our own; details are in the log.
    Internal,
}
