//! What a machine uses of its host, as numbers that can be shown.

use serde::{Deserialize, Serialize};
use stillpoint_types::DiskId;

/// What a machine uses. The zero value is that of one that does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time of the host's processors in user mode, in hundredths of a percent of one: the guest's own work.
    pub user: u64,
    /// The same in the kernel: what is done for it.
    pub system: u64,
    /// Bytes of its memory that the host holds.
    pub resident_bytes: u64,
    /// Of each disk that it has.
    pub disks: Vec<(DiskId, DiskUsage)>,
}

/// What a machine does with a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Bytes a second.
    pub read_bytes: u64,
    /// Bytes a second.
    pub written_bytes: u64,
    /// Nanoseconds that a read takes.
    pub read_ns: u64,
    /// Nanoseconds that a write takes.
    pub write_ns: u64,
    /// Nanoseconds that a flush takes.
    pub flush_ns: u64,
}
