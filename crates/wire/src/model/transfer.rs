//! Image transfers, and what they refer to: images, backups, checkpoints.

use super::*;
use crate::{Date, describe::describe};

describe! {
    /// The transfer of a disk's bytes to or from a client.
    ImageTransfer: "image_transfer" / "image_transfers", by head {
        flat head: Header,
        /// A request for data is being served.
        el active: bool,
        /// `download`, `upload`.
        el direction: String,
        /// `cow`, `raw`.
        el format: String,
        /// Seconds.
        el inactivity_timeout: i32,
        el phase: String,
        el proxy_url: String,
        el shallow: bool,
        /// `legacy`, `pause`, `cancel`.
        el timeout_policy: String,
        el transfer_url: String,
        /// Bytes.
        el transferred: u64,
        el backup: Box<Backup>,
        el disk: Box<Disk>,
        el host: Box<Host>,
        /// Deprecated in requests: means the disk, and its id is the disk's.
        el image: Box<Image>,
        el snapshot: Box<DiskSnapshot>,
    }

    /// An image, of which only the id is ever said.
    Image: "image" / "images", by head {
        flat head: Header,
    }

    /// A backup of a VM: one session, from its start to its finalization.
    Backup: "backup" / "backups", by head {
        flat head: Header,
        el creation_date: Date,
        el from_checkpoint_id: String,
        el modification_date: Date,
        /// `initializing`, `starting`, `ready`, `finalizing`, `succeeded`, `failed`.
        el phase: String,
        /// The same word as `phase`: the published documents show this one, SDKs read the other.
        el status: String,
        el to_checkpoint_id: String,
        el disks: Vec<Disk>,
        el host: Box<Host>,
        el snapshot: Box<Snapshot>,
        el vm: Box<Vm>,
    }

    /// A point in time that later backups of a VM can be incremental from.
    Checkpoint: "checkpoint" / "checkpoints", by head {
        flat head: Header,
        el creation_date: Date,
        el parent_id: String,
        /// `created`, `invalid`.
        el state: String,
        el disks: Vec<Disk>,
        el vm: Box<Vm>,
    }
}
