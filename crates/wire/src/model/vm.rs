//! The VM and what it is made of, as far as Stillpoint knows them.

use super::*;
use crate::{Date, describe::describe};

describe! {
    /// A virtual machine. Base class members first, then those of the running machine.
    Vm: "vm" / "vms", by head {
        flat head: Header,
        el bios: Bios,
        el cpu: Cpu,
        el cpu_shares: i32,
        el creation_time: Date,
        el delete_protected: bool,
        el display: Display,
        el high_availability: HighAvailability,
        el initialization: Initialization,
        el io: Io,
        el lease: StorageDomainLease,
        /// Bytes.
        el memory: u64,
        el memory_policy: MemoryPolicy,
        el migration: MigrationOptions,
        /// Milliseconds.
        el migration_downtime: i32,
        el multi_queues_enabled: bool,
        el origin: String,
        el os: OperatingSystem,
        el placement_policy: PlacementPolicy,
        el sso: Sso,
        el start_paused: bool,
        el stateless: bool,
        el storage_error_resume_behaviour: String,
        el time_zone: TimeZone,
        /// `desktop`, `server`, `high_performance`.
        el kind = "type": String,
        el usb: Usb,
        el virtio_scsi: VirtioScsi,
        el cluster: Box<Cluster>,
        el cpu_profile: Box<CpuProfile>,
        el quota: Box<Quota>,
        el fqdn: String,
        el has_illegal_images: bool,
        el next_run_configuration_exists: bool,
        el numa_tune_mode: String,
        el run_once: bool,
        el start_time: Date,
        el status: State,
        el4 status_detail: String,
        el stop_reason: String,
        el stop_time: Date,
        el use_latest_template_version: bool,
        el cdroms: Vec<Cdrom>,
        el disk_attachments: Vec<DiskAttachment>,
        el host: Box<Host>,
        el nics: Vec<Nic>,
        el4 original_template: Box<Template>,
        el permissions: Vec<Permission>,
        el snapshots: Vec<Snapshot>,
        el statistics: Vec<Statistic>,
        el tags: Vec<Tag>,
        el template: Box<Template>,
    }

    /// A template; the contract needs little more than the blank one.
    Template: "template" / "templates", by base.head {
        flat base: Vm,
        el version: TemplateVersion,
    }

    /// Which version of a template this is.
    TemplateVersion: "version" {
        el version_name: String,
        el version_number: i32,
    }

    /// The firmware.
    Bios: "bios" {
        el boot_menu: BootMenu,
        /// `q35_sea_bios`, `q35_ovmf`, `i440fx_sea_bios`, ...
        el4 kind = "type": String,
    }

    /// The firmware's boot menu.
    BootMenu: "boot_menu" {
        el enabled: bool,
    }

    /// Processors.
    Cpu: "cpu" {
        el architecture: String,
        el topology: CpuTopology,
        el kind = "type": String,
    }

    /// How the virtual processors are arranged.
    CpuTopology: "cpu_topology" {
        attr3 cores: i32,
        attr3 sockets: i32,
        attr3 threads: i32,
    }

    /// Graphics.
    Display: "display" {
        el address: String,
        el monitors: i32,
        el port: i32,
        el kind = "type": String,
    }

    /// Restart elsewhere after a failure.
    HighAvailability: "high_availability" {
        el enabled: bool,
        el priority: i32,
    }

    /// First boot settings; of them only the configuration document is used.
    Initialization: "initialization" {
        el configuration: Configuration,
    }

    /// The VM as a document.
    Configuration: "configuration" {
        /// The OVF document, as text.
        el data: String,
        /// `ovf` or `ova`.
        el kind = "type": String,
    }

    /// I/O threads.
    Io: "io" {
        el threads: i32,
    }

    /// What the hypervisor may do with the memory. All sizes in bytes.
    MemoryPolicy: "memory_policy" {
        el ballooning: bool,
        el guaranteed: u64,
        el4 max: u64,
    }

    /// The guest's operating system and how it is booted.
    OperatingSystem: "os" {
        el4 boot: Boot,
        /// The devices in their order, as version 3 has them.
        many3 boot_order = "boot": BootDevice,
        el cmdline: String,
        el initrd: String,
        el kernel: String,
        attr3 kind = "type": String,
        el version: Version,
    }

    /// How the guest is booted.
    Boot: "boot" {
        el devices: BootDevices,
    }

    /// Boot devices in the order in which they are tried.
    BootDevices: "devices" {
        /// `hd`, `cdrom`, `network`.
        many device: String,
    }

    /// A device that is booted from, of version 3.
    BootDevice: "boot" {
        /// `hd`, `cdrom`, `network`.
        attr dev: String,
    }

    /// How the VM moves between hosts; `inherit`, `true` or `false` each.
    MigrationOptions: "migration" {
        el auto_converge: String,
        el compressed: String,
        el encrypted: String,
    }

    /// How users are signed on in the guest.
    Sso: "sso" {
        el methods: Vec<SsoMethod>,
    }

    /// One way to sign on; its id is its name.
    SsoMethod: "method" {
        attr id: String,
    }

    /// A lease that keeps the VM from running twice.
    StorageDomainLease: "lease" {
        el storage_domain: Box<StorageDomain>,
    }

    /// Which hosts the VM may run on.
    PlacementPolicy: "placement_policy" {
        el affinity: String,
        el hosts: Vec<Host>,
    }

    /// The guest clock's zone.
    TimeZone: "time_zone" {
        el name: String,
        el utc_offset: String,
    }

    /// USB redirection.
    Usb: "usb" {
        el enabled: bool,
    }

    /// The virtio-scsi controller.
    VirtioScsi: "virtio_scsi" {
        el enabled: bool,
    }

    /// A network card.
    Nic: "nic" / "nics", by head {
        flat head: Header,
        /// Plugged, as version 3 has it.
        el3 active: bool,
        el interface: String,
        el linked: bool,
        el mac: Mac,
        el on_boot: bool,
        el plugged: bool,
        el4 synced: bool,
        el network: Box<Network>,
        el statistics: Vec<Statistic>,
        el template: Box<Template>,
        el vm: Box<Vm>,
        el vnic_profile: Box<VnicProfile>,
    }

    /// A hardware address.
    Mac: "mac" {
        attr3 address: String,
    }

    /// An optical drive.
    Cdrom: "cdrom" / "cdroms", by head {
        flat head: Header,
        el file: File,
        el vm: Box<Vm>,
    }

    /// An image file in a drive; its id is its name.
    File: "file" / "files", by head {
        flat head: Header,
        el content: String,
        el kind = "type": String,
        el storage_domain: Box<StorageDomain>,
    }
}
