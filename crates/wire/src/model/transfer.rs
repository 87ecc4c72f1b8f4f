//! Image transfers, and what they refer to.

use super::*;
use crate::describe::describe;

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

    /// A backup, as other things refer to it.
    Backup: "backup" / "backups", by head {
        flat head: Header,
    }
}
