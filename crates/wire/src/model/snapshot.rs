//! The snapshot: a VM as it was, with a date and a state.

use super::*;
use crate::{Date, describe::describe};

describe! {
    /// A snapshot of a VM. It extends the VM type: `initialization`, `disk_attachments` (requests), `nics` and `cdroms`
    /// are members of `base`.
    Snapshot: "snapshot" / "snapshots", by base.head {
        flat base: Vm,
        el date: Date,
        /// Whether the memory is part of it.
        el persist_memorystate: bool,
        /// `ok`, `locked`, `in_preview`.
        el snapshot_status: String,
        /// `regular`, `active`, `stateless`, `preview`.
        el snapshot_type = "snapshot_type" | "type": String,
        el disks: Vec<Disk>,
        /// The whole VM as it was, without an href; for the active snapshot a reference to the VM.
        el vm: Box<Vm>,
    }
}
