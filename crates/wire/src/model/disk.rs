//! Disks, their attachments to VMs and their snapshots (images).

use super::*;
use crate::describe::describe;

describe! {
    /// A virtual disk. Sizes in bytes.
    Disk: "disk" / "disks", by head {
        flat head: Header,
        el template: Box<Template>,
        el vm: Box<Vm>,
        el vms: Vec<Vm>,
        /// Requests only.
        el active: bool,
        el actual_size: u64,
        /// Always equal to the name.
        el alias: String,
        /// `none`, `incremental`.
        el4 backup: String,
        /// `full`, `incremental`; only during a backup.
        el backup_mode: String,
        el bootable: bool,
        el4 content_type: String,
        el external_disk: String,
        /// `cow` (qcow2), `raw`.
        el format: String,
        /// The id of the active image.
        el image_id: String,
        /// Requests only.
        el initial_size: u64,
        el interface: String,
        el logical_name: String,
        el propagate_errors: bool,
        el provisioned_size: u64,
        /// The same in version 3, which has both.
        el3 size: u64,
        /// `qcow2_v2`, `qcow2_v3`.
        el4 qcow_version: String,
        el read_only: bool,
        el sgio: String,
        el shareable: bool,
        el sparse: bool,
        /// `ok`, `locked`, `illegal`.
        el status: State,
        el storage_type: String,
        /// All images together.
        el4 total_size: u64,
        el uses_scsi_reservation: bool,
        el wipe_after_delete: bool,
        el disk_profile: Box<DiskProfile>,
        el disk_snapshots: Vec<DiskSnapshot>,
        el permissions: Vec<Permission>,
        el quota: Box<Quota>,
        el snapshot: Box<Snapshot>,
        el statistics: Vec<Statistic>,
        el storage_domain: Box<StorageDomain>,
        el storage_domains: Vec<StorageDomain>,
    }

    /// One image of a disk's chain; it extends the disk type. Its id is the image's id.
    DiskSnapshot: "disk_snapshot" / "disk_snapshots", by base.head {
        flat base: Disk,
        /// The disk that the image belongs to.
        el disk: Box<Disk>,
        /// The image below; absent for the lowest one.
        el parent: Box<DiskSnapshot>,
    }

    /// How a disk is attached to a VM. Its id is the disk's id.
    DiskAttachment: "disk_attachment" / "disk_attachments", by head {
        flat head: Header,
        el active: bool,
        el bootable: bool,
        /// `ide`, `sata`, `virtio`, `virtio_scsi`.
        el interface: String,
        el logical_name: String,
        el pass_discard: bool,
        el read_only: bool,
        el uses_scsi_reservation: bool,
        el disk: Box<Disk>,
        el template: Box<Template>,
        el vm: Box<Vm>,
    }
}
