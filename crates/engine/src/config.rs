//! The configuration of a VM as it is stored: with the VM, and with each snapshot of it.
//!
//! One record, from which the oVirt elements, the OVF document and the machine's command line are all made.

use serde::{Deserialize, Serialize};
use stillpoint_store::vm::AttachmentRow;
use stillpoint_types::{DiskId, DiskInterface, ImageFormat, ImageId, NicId, VmId};

/// Everything about a VM that a snapshot keeps, its disks' content aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Name, unique among the VMs of the installation.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free text.
    pub comment: String,
    /// RAM in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Guaranteed RAM in bytes; kept and shown, not enforced.
    pub memory_guaranteed_bytes: u64,
    /// Sockets.
    pub sockets: u32,
    /// Cores a socket.
    pub cores: u32,
    /// Threads a core.
    pub threads: u32,
    /// oVirt's operating system name, such as `other_linux`.
    pub os_type: String,
    /// Kernel path as the client gave it, when the VM boots straight from a kernel.
    pub kernel: Option<String>,
    /// Initial RAM disk path as the client gave it.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// oVirt's VM type: `server`, `desktop` or `high_performance`.
    pub vm_type: String,
    /// Refuse removal while set.
    pub delete_protected: bool,
    /// Versioned QEMU machine type; fixed when the VM is made, so that a saved memory fits.
    pub machine: String,
    /// Its network interfaces.
    pub nics: Vec<NicConfig>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicConfig {
    /// Its id.
    pub id: NicId,
    /// Its name, unique in the VM.
    pub name: String,
    /// MAC address, lower case.
    pub mac: String,
    /// oVirt's interface name: `virtio`, `e1000` or `rtl8139`.
    pub interface: String,
    /// Whether the cable is in: the user-mode network; otherwise the interface has no peer.
    pub linked: bool,
    /// PCI slot.
    pub pci_slot: u8,
}

/// An attached disk as a snapshot's configuration keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentConfig {
    /// The disk.
    pub disk: DiskId,
    /// Its alias at that time.
    pub alias: String,
    /// Its description at that time.
    pub description: String,
    /// Virtual size in bytes at that time.
    pub size_bytes: u64,
    /// Where it is attached.
    pub interface: DiskInterface,
    /// Whether the firmware may boot from it.
    pub bootable: bool,
    /// Plugged.
    pub active: bool,
    /// The guest cannot write.
    pub read_only: bool,
    /// Device place; see [`crate::ports::DiskSpec::slot`].
    pub slot: u8,
    /// The image that held the disk's content at that time; `None` when the disk was not part of the snapshot.
    pub image: Option<ImageId>,
    /// That image's parent.
    pub parent: Option<ImageId>,
    /// That image's format.
    pub format: ImageFormat,
    /// Whether the disk was sparse.
    pub sparse: bool,
}

impl AttachmentConfig {
    /// The same attachment of a VM, at that position among its devices.
    pub(crate) fn row(&self, vm: VmId, position: u32) -> AttachmentRow {
        AttachmentRow {
            vm,
            disk: self.disk,
            interface: self.interface,
            bootable: self.bootable,
            active: self.active,
            read_only: self.read_only,
            slot: self.slot,
            position,
        }
    }
}

/// What a snapshot stores: the VM and its attachments as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotConfig {
    /// The VM's id.
    pub vm: VmId,
    /// The VM.
    pub config: VmConfig,
    /// All its attachments, in device order, those outside of the snapshot too (with `image` absent).
    pub attachments: Vec<AttachmentConfig>,
    /// When the VM was made, microseconds.
    pub created_at: i64,
    /// Counts the changes of the VM's configuration.
    pub generation: u64,
    /// What the guest's file systems were at the snapshot's instant; `None`: it is not known, or there was none yet.
    #[serde(default)]
    pub consistency: Option<Consistency>,
}

/// What a guest finds on disks that were held at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// The guest's file systems were frozen: nothing was half written.
    Frozen,
    /// The VM was down.
    Down,
    /// As after a power cut: file systems repair themselves from their journals.
    Crash,
}
