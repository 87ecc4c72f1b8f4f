//! Storage domains and the disk profiles that go with them.

use super::*;
use crate::describe::describe;

describe! {
    /// A place where disks are kept. Sizes in bytes.
    StorageDomain: "storage_domain" / "storage_domains", by head {
        flat head: Header,
        el available: u64,
        el backup: bool,
        el4 block_size: i32,
        el committed: u64,
        /// GiB below which operations are refused.
        el critical_space_action_blocker: i32,
        el4 discard_after_delete: bool,
        el external_status: State,
        el master: bool,
        el status: State,
        el storage: HostStorage,
        /// `v1` to `v5`.
        el storage_format: String,
        el supports_discard: bool,
        el supports_discard_zeroes_data: bool,
        /// `data`, `iso`, `export`, `image`.
        el kind = "type": String,
        el used: u64,
        /// Per cent of free space below which a warning is due.
        el warning_low_space_indicator: i32,
        el wipe_after_delete: bool,
        el data_center: Box<DataCenter>,
        el data_centers: Vec<DataCenter>,
        el disk_profiles: Vec<DiskProfile>,
        el disk_snapshots: Vec<DiskSnapshot>,
        el disks: Vec<Disk>,
        el host: Box<Host>,
        el permissions: Vec<Permission>,
        el templates: Vec<Template>,
        el vms: Vec<Vm>,
    }

    /// Where the storage of a domain is.
    HostStorage: "storage" {
        el address: String,
        el path: String,
        /// `nfs`, `localfs`, `posixfs`, ...
        el kind = "type": String,
    }

    /// Limits for the disks of a domain.
    DiskProfile: "disk_profile" / "disk_profiles", by head {
        flat head: Header,
        el storage_domain: Box<StorageDomain>,
    }
}
