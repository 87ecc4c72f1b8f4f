//! The nouns of Stillpoint: ids, names with their limits, quantities, states and fault codes.
//!
//! Every other room speaks in these words. This room does no I/O, knows no dialect, no SQL and no QEMU.

pub mod caller;
pub mod crash;
pub mod fault;
pub mod id;
pub mod state;

pub use caller::{Access, Caller, Need};
pub use crash::{crash_point, test_limit};
pub use fault::FaultCode;
pub use id::{
    BackupId, CheckpointId, DiskId, DomainId, ImageId, JobId, MemoryId, NicId, ProjectId, SnapshotId, StepId, TicketId,
    TransferId, UserId, VmId, VolumeSnapshotId, VolumeTypeId,
};
pub use state::{
    BackupKind, BackupMode, BackupPhase, CheckpointState, DiskInterface, ImageFormat, JobState, LockMode, Role,
    Severity, SnapshotType, StepState, TimeoutPolicy, TransferDirection, TransferPhase, VmStatus, VolumeSnapshotStatus,
    VolumeStatus,
};

/// Microseconds since the Unix epoch, UTC: how every instant is stored.
pub type Micros = i64;

/// The present instant, in microseconds since the Unix epoch, UTC.
#[must_use]
pub fn now_micros() -> Micros {
    jiff::Timestamp::now().as_microsecond()
}
