//! What the core needs of the world: a hypervisor, image files, a data plane. Everything here is plain data and
//! traits.
//!
//! The `qemu` room implements these traits. The core never sees QMP, a socket or a process; the driver never sees
//! SQL, HTTP or a snapshot. Every method is an *ensure*: it looks first, acts if needed, and may be called again
//! after a crash with the same arguments. "Already so" is success; "already gone" is success of a removal.
//!
//! Names: a file is `IMAGE-ID.qcow2` or `IMAGE-ID.raw` in its storage domain's directory; the block nodes of an image
//! are `f<base32 of the id>` (protocol) and `n<base32 of the id>` (format). So a step that runs twice finds its own
//! earlier work, and an observed graph names the recorded images without a map.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use stillpoint_types::{DiskId, DiskInterface, ImageFormat, ImageId, JobId, MemoryId, NicId, VmId};

mod data_plane;
mod dirty_map;
mod seal;
mod usage;
pub use data_plane::*;
pub use dirty_map::{BadMap, DirtyMap, GRANULE_BYTES};
pub use seal::Seal;
pub use usage::{DiskUsage, Usage};

// ------------------------------------------------------------------------------------------------ errors

/// What kind of failure a driver met; the core decides by this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriverErrorKind {
    /// The file, node or process is not there.
    NotFound,
    /// Something else is where a new thing should be.
    AlreadyExists,
    /// Held by something else: an image lock, a running block job.
    Busy,
    /// This QEMU, kernel or machine cannot do it.
    Unsupported,
    /// The image is damaged, hostile, or not what was recorded.
    InvalidImage,
    /// Storage is full.
    NoSpace,
    /// The deadline passed.
    Timeout,
    /// The process ended or its socket closed.
    Disconnected,
    /// QEMU refused the command, or answered what could not be understood.
    Protocol,
    /// Any other I/O error.
    Io,
}

/// A failure in a driver: its kind, what was being done to what, and the cause.
///
/// `Display` prints operation and context but not the cause; the reporter walks the chain.
#[derive(Debug, thiserror::Error)]
#[error("{op}: {context}")]
pub struct DriverError {
    /// What the core decides by.
    pub kind: DriverErrorKind,
    /// The operation, as a verb phrase: "create overlay".
    pub op: &'static str,
    /// The object and what was seen, fit for an operator (no secrets).
    pub context: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DriverError {
    /// An error without a cause.
    pub fn new(kind: DriverErrorKind, op: &'static str, context: impl fmt::Display) -> Self {
        Self {
            kind,
            op,
            context: context.to_string(),
            source: None,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The whole chain on one line, for the log and for events.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// What every port method answers.
pub type Driven<T> = Result<T, DriverError>;

// ------------------------------------------------------------------------------------------------ images

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// Its id; file and node names derive from it.
    pub id: ImageId,
    /// Its format.
    pub format: ImageFormat,
    /// Its file, absolute.
    pub path: PathBuf,
}

/// A disk's chain, base first, active layer last; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The disk.
    pub disk: DiskId,
    /// Its layers, base first.
    pub images: Vec<ImageRef>,
}

impl Chain {
    /// The layer that the guest writes to.
    ///
    /// # Panics
    /// Never for a chain that was made with at least one image, which is the type's contract.
    #[must_use]
    pub fn active(&self) -> &ImageRef {
        self.images.last().expect("a chain has at least one image")
    }
}

/// How a new base image takes its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// As it is written.
    Sparse,
    /// All of it now.
    Preallocated,
}

/// What a file turned out to be when it was looked at, read only and without following anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Its format, by its header (qcow2 magic) or by exclusion.
    pub format: ImageFormat,
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// Bytes that the file occupies.
    pub actual_bytes: u64,
    /// The backing file's name exactly as the header has it.
    pub backing_name: Option<String>,
    /// Whether any cluster of this very file holds data or explicit zeros (always true for raw).
    pub has_data: bool,
    /// The persistent dirty bitmaps that the header lists.
    pub bitmaps: Vec<StoredBitmap>,
}

/// A file that may be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoptable {
    /// What it is.
    pub facts: ImageFacts,
    /// The recorded image that it lies over.
    pub parent: Option<ImageId>,
}

/// What a name in a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The name.
    pub name: String,
    /// A regular file: no link, no directory, no device.
    pub is_regular: bool,
    /// Last written to, microseconds since the epoch.
    pub written_at: i64,
}

/// A persistent dirty bitmap as the file's bitmap directory has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity_bytes: u64,
    /// It was not stored cleanly (the process that had it open died): its content is lost.
    pub in_use: bool,
    /// It records while the image is open (the `auto` flag).
    pub recording: bool,
}

/// Free and used bytes of the file system below a storage domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes that a new file could take.
    pub available_bytes: u64,
    /// Bytes in use by anything.
    pub used_bytes: u64,
}

/// Two neighbours of a chain that shall become one: `top` is committed into `base`, which survives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// The disk through whose chain the merge is done.
    pub disk: DiskId,
    /// The whole chain, base first, with `base` and `top` in it.
    pub chain: Vec<ImageRef>,
    /// The image that survives, with the content of both.
    pub base: ImageRef,
    /// The image that goes; its file is left for the caller to unlink.
    pub top: ImageRef,
}

impl Merge {
    /// Whether `top` is the chain's active layer (then a mark on disk decides after a crash, else a header does).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.chain.last() == Some(&self.top)
    }

    /// The layer directly above `top`, whose header names `top` before the merge and `base` after it.
    #[must_use]
    pub fn above(&self) -> Option<&ImageRef> {
        let at = self.chain.iter().position(|image| image == &self.top)?;
        self.chain.get(at + 1)
    }
}

/// Image files at rest: made, looked at and removed without QEMU having them open for writing.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Makes a base image. Once it returns, file and directory are durable.
    ///
    /// Finds its own earlier work; another file in the way is [`DriverErrorKind::AlreadyExists`].
    async fn create_base(&self, image: &ImageRef, size_bytes: u64, allocation: Allocation) -> Driven<()>;

    /// Makes `target` a base image that shows what the chain `source` shows (base first): all layers in one file, without
    /// what reads as zeros where `allocation` is sparse. Once it returns, file and directory are durable.
    ///
    /// A file of that size under the target's own name is its own earlier work, for the name appears only when all is
    /// there; so the id must be one that nobody else could name. What a try left that was cut off is begun anew.
    /// `progress` is called with percents. The source is read without locks: the caller keeps it from being written to.
    async fn copy(
        &self,
        source: &[ImageRef],
        target: &ImageRef,
        size_bytes: u64,
        allocation: Allocation,
        progress: Progress<'_>,
    ) -> Driven<()>;

    /// Makes a qcow2 overlay whose header names `base` by its file name (same directory). Once it returns, file and
    /// directory are durable. An overlay that is there already is kept if it is empty and names the same base.
    ///
    /// `carry_bitmaps`: creates in it, empty and recording, a bitmap of the same name and granularity for each usable
    /// recording bitmap of `base` (for chains at rest; a live switch adds them in its transaction instead).
    async fn create_overlay(
        &self,
        overlay: &ImageRef,
        base: &ImageRef,
        size_bytes: u64,
        carry_bitmaps: bool,
    ) -> Driven<()>;

    /// Takes back an overlay of [`Self::create_overlay`] that nothing was written to, and what an interrupted try left.
    /// Whatever else bears its name is somebody's and is left as it is: other content, another base, no regular file.
    async fn withdraw_overlay(&self, overlay: &ImageRef, base: &ImageRef, size_bytes: u64) -> Driven<()>;

    /// Takes back what an interrupted [`Self::create_base`] or [`Self::copy`] left. A file under the image's own name is left as it is:
    /// one that was made whole is not withdrawn but used.
    async fn withdraw_base(&self, image: &ImageRef) -> Driven<()>;

    /// Gives a file its name as an image, in the same directory, durably: `from` is gone then, `to` is there, and nothing
    /// was replaced. Already so is success. The content is not looked at, and must be durable already.
    async fn rename(&self, from: &ImageRef, to: &ImageRef) -> Driven<()>;

    /// Every name in a directory, with what it is; nothing is opened. At most 10,000.
    async fn list(&self, directory: &std::path::Path) -> Driven<Vec<FoundFile>>;

    /// Takes a file out of the way: into another directory of the same file system, which is made if need be, under a
    /// name that is free there. Once it returns, that is durable. Done before (only the new name is there) is success;
    /// nothing is replaced, and the content is not looked at.
    async fn set_aside(&self, from: &std::path::Path, to: &std::path::Path) -> Driven<()>;

    /// Whether the chain `below` (base first) shows by itself all that `top`, which stood on it, has of its own. Both must
    /// be images that nobody writes to; all that the top holds is read and compared.
    async fn contains(&self, below: &[ImageRef], top: &ImageRef) -> Driven<bool>;

    /// Whether the image's file name is taken, by whatever it be.
    async fn is_taken(&self, image: &ImageRef) -> Driven<bool>;

    /// Looks at a file's header. Never follows a backing or data file name, never writes.
    /// Refuses (`InvalidImage`) what has an external data file, encryption, unknown incompatible features or absurd
    /// sizes; `format_hint` raw skips the header.
    async fn inspect(&self, path: &std::path::Path, format_hint: Option<ImageFormat>) -> Driven<ImageFacts>;

    /// Removes the image's file, its `.merged` mark, and makes that durable. Absent is success.
    async fn remove(&self, image: &ImageRef) -> Driven<()>;

    /// Whether a merge that was begun has happened, told from the disk alone (QEMU is dead or does not know):
    /// active: the mark `<top file>.merged` is there; middle: the header of the layer above names `base`.
    async fn is_merged(&self, merge: &Merge) -> Driven<bool>;

    /// Judges a file that somebody brought, by our own reader and before any QEMU tool sees it: whether it may become
    /// an image of the domain. `known` are the recorded images that its backing name may lead to, and the image of its
    /// own name if that is recorded.
    ///
    /// # Errors
    /// `InvalidImage` with a text that names object, cause and remedy; nothing was changed.
    async fn gate(
        &self,
        directory: &std::path::Path,
        file_name: &str,
        format: ImageFormat,
        known: &[ImageRef],
    ) -> Driven<Adoptable>;

    /// Marks in `map` what the image's own file holds (data, explicit zeros, compressed), whatever lies below it. Read
    /// from the file's tables, so the image must be one that nobody writes to; cost follows what is allocated.
    ///
    /// # Errors
    /// `InvalidImage` for a raw file (it holds all) and for one that cannot be read as what it should be: then nothing is
    /// known, and all must be taken for changed.
    async fn mark_allocated(&self, image: &ImageRef, map: DirtyMap) -> Driven<DirtyMap>;

    /// What the file of a frozen image is now, so that it can be told later whether somebody has written to it. With
    /// `durable`, no crash brings back older times once it returns.
    async fn seal(&self, image: &ImageRef, durable: bool) -> Driven<Seal>;

    /// Marks in `map` what the disk of these layers, base first, holds that does not read as zeros by their tables. They are
    /// read as a download reads them: nobody may write to them; cost follows what is allocated, and no data are read.
    ///
    /// # Errors
    /// `Unsupported` for files that only QEMU can read, or that another program writes to.
    async fn mark_data(&self, layers: &[ImageRef], map: DirtyMap) -> Driven<DirtyMap>;

    /// Reads a map. Absent is `NotFound`, damaged is `InvalidImage`.
    async fn load_map(&self, path: &std::path::Path) -> Driven<DirtyMap>;

    /// Writes a map, in place of one that may be there. Once it returns, file and directories are durable; a crash leaves
    /// the old one or the new one. The directory above the file, and the one above that, are made if they are not there.
    async fn store_map(&self, path: &std::path::Path, map: &DirtyMap) -> Driven<()>;

    /// Removes all directories with maps below `root` whose names are not among `keep`.
    async fn sweep_maps(&self, root: &std::path::Path, keep: std::collections::HashSet<String>) -> Driven<()>;

    /// Bytes on disk of a saved memory's file.
    async fn memory_bytes(&self, memory: &MemoryRef) -> Driven<u64>;

    /// Removes a saved memory's file, whole or partial, and makes that durable. Absent is success.
    async fn remove_memory(&self, memory: &MemoryRef) -> Driven<()>;

    /// Free space under a directory.
    async fn space(&self, directory: &std::path::Path) -> Driven<Space>;

    /// Bytes on disk of each image (allocated blocks), 0 for an absent file.
    async fn actual_bytes(&self, images: &[ImageRef]) -> Driven<Vec<u64>>;
}

// ------------------------------------------------------------------------------------------------ machines

/// How the guest boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// From its disks, the bootable ones first (BIOS).
    Disk,
    /// Straight from a kernel.
    Kernel {
        /// Kernel image, absolute and checked.
        kernel: PathBuf,
        /// Initial RAM disk.
        initrd: Option<PathBuf>,
        /// Kernel command line.
        cmdline: String,
    },
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// Its id; the device's name derives from it.
    pub id: NicId,
    /// `aa:bb:cc:dd:ee:ff`, checked.
    pub mac: String,
    /// QEMU device model: `virtio-net-pci`, `e1000` or `rtl8139`.
    pub model: String,
    /// User-mode network; otherwise the interface has no peer.
    pub user_mode: bool,
    /// PCI slot on bus 0, 4..=31, fixed for the life of the VM so that a saved memory fits.
    pub pci_slot: u8,
}

/// One disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// The chain.
    pub chain: Chain,
    /// Where it is attached.
    pub interface: DiskInterface,
    /// Whether the firmware may boot from it.
    pub bootable: bool,
    /// The guest cannot write.
    pub read_only: bool,
    /// Place: PCI slot 4..=31 for virtio; unit number (0-based) for ide, sata, virtio_scsi. Fixed like a NIC's.
    pub slot: u8,
}

/// Everything that a machine is started from. The same value starts the same machine, down to device addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The VM.
    pub vm: VmId,
    /// Its name, for the process list only.
    pub name: String,
    /// Versioned QEMU machine type (`pc-i440fx-7.2`), never an alias.
    pub machine: String,
    /// RAM in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Sockets, cores a socket, threads a core.
    pub topology: (u32, u32, u32),
    /// How it boots.
    pub boot: Boot,
    /// Its disks, in device order.
    pub disks: Vec<DiskSpec>,
    /// Its network interfaces, in device order.
    pub nics: Vec<NicSpec>,
    /// Resume this saved memory instead of booting.
    pub resume: Option<MemoryRef>,
}

/// A saved guest memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRef {
    /// Its id.
    pub id: MemoryId,
    /// Its file, absolute: `<directory>/<id>.memory`.
    pub path: PathBuf,
}

/// How a process is found again after a restart of the daemon; all of it must fit before a process is adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: ticks since boot.
    pub start_ticks: u64,
    /// The host's boot id, so that a pid from before a reboot is never taken for ours.
    pub boot_id: String,
}

/// What the monitor says the machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// vCPUs run.
    Running,
    /// vCPUs stopped by a command.
    Paused,
    /// vCPUs stopped because a disk answered with an error (ENOSPC and the like).
    IoError,
    /// vCPUs stopped for good: the accelerator could not go on (`internal-error`), or the guest's kernel panicked.
    Crashed,
    /// Loading a saved memory.
    Incoming,
    /// The guest has shut down, the process is about to end.
    Shutdown,
    /// Anything else that QEMU may say.
    Other,
}

/// What happened to a machine without our asking. Events may be lost while nobody was connected: they only wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEvent {
    /// The process ended.
    Exited(VmId),
    /// The run state changed.
    Changed(VmId, RunState),
    /// A disk answered the guest with an error: human text.
    IoError(VmId, String),
}

/// A disk, or one of its older images, to be served as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The layers whose content is served, base first. The lowest need not be the disk's base: what is below it is
    /// then read as not there.
    pub chain: Chain,
    /// Its top may be written to; nobody else has it open then.
    pub writable: bool,
}

/// Where an export is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The NBD server's unix socket.
    pub socket: PathBuf,
    /// The export's name.
    pub name: String,
    /// Who serves it. Another one than before: what was written and not flushed may be lost.
    pub process: ProcessRecord,
}

/// Starts, finds and ends machines. Processes outlive the daemon.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Starts the machine, or finds it running. Returns when its monitor answers; the vCPUs run unless `resume` is
    /// given: then the memory is loaded and the vCPUs are left stopped (call [`Machine::cont`]).
    async fn start(&self, spec: &MachineSpec) -> Driven<ProcessRecord>;

    /// Connects to a machine that an earlier daemon started. `Ok(false)`: that process is gone.
    /// A process that does not answer (stopped) is [`DriverErrorKind::Timeout`].
    async fn adopt(&self, vm: VmId, record: &ProcessRecord) -> Driven<bool>;

    /// The process of `vm` if one runs, whether it was recorded or not: found by pid file in the VM's run directory.
    /// Used when a crash fell between starting a process and recording it.
    async fn find(&self, vm: VmId) -> Driven<Option<ProcessRecord>>;

    /// Ends the process of `vm` by SIGKILL, connected or not; returns when it is gone. None there is success.
    async fn destroy(&self, vm: VmId) -> Driven<()>;

    /// The connected machine of `vm`; `None` when no process runs.
    fn machine(&self, vm: VmId) -> Option<Arc<dyn Machine>>;

    /// Opens the chains, read-write at their top, in a storage daemon that belongs to `owner`. Finds the daemon that an
    /// earlier try of the same job left. Chains whose disk has an interrupted active merge are given as they must be
    /// opened (the caller has asked [`Images::is_merged`] first).
    async fn open_at_rest(&self, owner: JobId, chains: &[Chain]) -> Driven<Arc<dyn Endpoint>>;

    /// Serves an export over NBD, in a storage daemon that belongs to `owner`; finds the one that an earlier daemon, or
    /// an earlier try, left. It lives until [`Self::close_at_rest`].
    async fn open_export(&self, owner: JobId, export: &Export) -> Driven<Exported>;

    /// Ends the storage daemon of `owner`, cleanly, so that bitmaps are stored. None there is success.
    async fn close_at_rest(&self, owner: JobId) -> Driven<()>;

    /// Ends storage daemons whose owner is not among `live` (left by crashes), by their pid files.
    async fn sweep_at_rest(&self, live: &[JobId]) -> Driven<()>;

    /// Events of all machines.
    fn events(&self) -> tokio::sync::broadcast::Receiver<MachineEvent>;

    /// The versioned machine type that new VMs get.
    fn default_machine(&self) -> String;

    /// Which accelerator is in use, as shown to people: `kvm` or `tcg`.
    fn accelerator(&self) -> &'static str;

    /// QEMU's version, as shown to people.
    fn version(&self) -> String;
}

/// The block graph as observed, in terms of recorded images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockGraph {
    /// Per disk that a device serves (or that was opened at rest): its layers, base first, as image ids.
    pub chains: Vec<(DiskId, Vec<ImageId>)>,
    /// Every image that has a format node, used by a disk or not.
    pub open: Vec<ImageId>,
    /// Nodes whose names are not ours.
    pub foreign: Vec<String>,
    /// Layers of disks' chains that are none of ours: image formats, not the filters of block jobs.
    pub strange: Vec<StrangeLayer>,
}

/// A layer that somebody else put into a disk's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrangeLayer {
    /// The disk.
    pub disk: DiskId,
    /// Its node.
    pub node: String,
    /// Its file, if it is one.
    pub file: Option<PathBuf>,
    /// How many layers of the chain lie below it, strange ones included.
    pub depth: usize,
}

impl BlockGraph {
    /// The layers of a disk, base first.
    #[must_use]
    pub fn chain(&self, disk: DiskId) -> Option<&[ImageId]> {
        self.chains
            .iter()
            .find(|(of, _)| *of == disk)
            .map(|(_, layers)| layers.as_slice())
    }

    /// The strange layers of a disk, lowest first.
    pub fn strange(&self, disk: DiskId) -> impl Iterator<Item = &StrangeLayer> {
        self.strange.iter().filter(move |layer| layer.disk == disk)
    }
}

/// One disk's part of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchDisk {
    /// The disk.
    pub disk: DiskId,
    /// Its active layer before.
    pub base: ImageRef,
    /// Its active layer after; the file is there, empty, and names `base`.
    pub overlay: ImageRef,
    /// Virtual size that both must have, in bytes.
    pub size_bytes: u64,
}

/// All disks of one snapshot, switched in ONE transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The disks.
    pub disks: Vec<SwitchDisk>,
    /// Freeze the guest's file systems around the transaction (ignored where there is no agent or no running guest).
    pub freeze: bool,
    /// Longest time that the agent may take to freeze.
    pub freeze_limit: Duration,
}

/// What became of the freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frozen {
    /// Not asked for, or nothing to freeze (at rest, paused).
    NotAsked,
    /// No agent has the channel open.
    NoAgent,
    /// That many file systems were frozen, and thawed again.
    Yes(u64),
    /// The agent refused or did not answer in time; the guest was thawed and the switch made all the same.
    Failed(String),
}

/// What a switch did. All disks are on their overlays when it returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchReport {
    /// The freeze.
    pub frozen: Frozen,
    /// Whether the thaw was confirmed (true when none was needed).
    pub thawed: bool,
    /// Time that the transaction took, microseconds.
    pub transaction_us: u64,
    /// Time from sending the freeze to the thaw's answer, microseconds; 0 without freeze.
    pub window_us: u64,
}

/// How a memory was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryMethod {
    /// QEMU's background snapshot: the guest runs on while its memory is written.
    Background,
    /// The guest was stopped until its memory was written.
    Stopped,
}

/// Where the saving of a memory stands, told by the monitor alone (so it works after a restart of the daemon).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemorySave {
    /// No save was ever begun in this process, or another one.
    None,
    /// Under way: bytes written, bytes expected.
    Running(u64, u64),
    /// All is written.
    Completed,
    /// It failed: QEMU's text.
    Failed(String),
}

/// Progress of a long operation: done and total, in the same unit.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Something with block nodes and a monitor: a machine, or a storage daemon with disks at rest.
#[async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// The graph as it is now.
    async fn graph(&self) -> Driven<BlockGraph>;

    /// Opens overlays' nodes, not yet used by any disk (`backing: null`). After a failure some may be open: close each.
    /// What [`Machine::begin_open`] began is waited for.
    async fn open_overlays(&self, overlays: &[ImageRef]) -> Driven<()>;

    /// The same for one.
    async fn open_overlay(&self, overlay: &ImageRef) -> Driven<()> {
        self.open_overlays(std::slice::from_ref(overlay)).await
    }

    /// Closes an image's nodes, if they are there and nothing uses them.
    async fn close_image(&self, image: ImageId) -> Driven<()>;

    /// Freeze, one transaction for all disks, thaw: with nothing else in between. Usable recording bitmaps of each
    /// base are created on its overlay in the same transaction. Disks that are on their overlays already are left.
    /// Either all disks are switched when it returns, or (`Err`) none. Thaws on every path.
    async fn switch(&self, switch: &Switch) -> Driven<SwitchReport>;

    /// Merges two layers and carries the dirty bitmaps exactly; goes on from whatever state an earlier try left the
    /// block job in. Once it returns: no chain of this endpoint has `top`, its nodes are closed; for an active merge
    /// the mark `<top file>.merged` is there and durable, for a middle one the header above names `base`.
    ///
    /// `Disconnected`: the process died; ask [`Images::is_merged`].
    /// `progress` is called with bytes. Cancelled by dropping nothing: call [`Endpoint::cancel_merge`].
    async fn merge(&self, merge: &Merge, progress: Progress<'_>) -> Driven<()>;

    /// Ends a merge's block job before its pivot, if it is there: the chain stays as it was.
    async fn cancel_merge(&self, merge: &Merge) -> Driven<()>;

    /// Makes a disk's active layer that large; the guest sees it at once. Once it returns, that is durable. Already as
    /// large is success; a layer that is larger is never made smaller, but [`DriverErrorKind::InvalidImage`].
    ///
    /// Dirty bitmaps of the layer grow with it; those that were not stored cleanly are removed, as QEMU would refuse.
    async fn grow(&self, disk: DiskId, active: &ImageRef, size_bytes: u64) -> Driven<()>;
}

/// A running machine.
#[async_trait]
pub trait Machine: Endpoint {
    /// What the monitor says now. `Timeout` when it does not answer.
    async fn run_state(&self) -> Driven<RunState>;

    /// Starts the vCPUs.
    async fn cont(&self) -> Driven<()>;

    /// Stops the vCPUs.
    async fn pause(&self) -> Driven<()>;

    /// Gives the guest a disk at its place, ready to be used. Plugged in already is success. After a failure nodes may be
    /// open: [`Self::unplug`] closes them.
    async fn plug(&self, disk: &DiskSpec) -> Driven<()>;

    /// Has the guest let go of a disk, if it has it, and closes the nodes of these images, base first, so that the files are
    /// free. `Busy`: the guest has not let go yet, but may at any time; call it again.
    async fn unplug(&self, disk: DiskId, images: &[ImageId]) -> Driven<()>;

    /// What it uses of its host.
    async fn usage(&self) -> Driven<Usage>;

    /// Asks the guest to shut down: through the agent if it listens, else by the power button.
    async fn shutdown(&self) -> Driven<()>;

    /// Ends the process: `quit`, then SIGKILL after `limit`. Returns when it is gone and its image locks are free.
    async fn kill(&self, limit: Duration) -> Driven<()>;

    /// Restarts the guest: through the agent if it listens and `force` is not wanted, else by a reset.
    async fn reboot(&self, force: bool) -> Driven<()>;

    /// A switch comes: begins to ask what it will have to know. Says nothing, changes nothing.
    fn expect_switch(&self);

    /// Begins to open an overlay's node: [`Endpoint::open_overlays`] tells how it went, [`Endpoint::close_image`] waits
    /// for it, too.
    fn begin_open(&self, overlay: &ImageRef);

    /// Freezes the guest's file systems until somebody thaws them; a frozen guest stays so. How many; `Ok(None)`: no agent.
    /// After any failure it may be frozen all the same.
    async fn freeze(&self, limit: Duration) -> Driven<Option<u64>>;

    /// Thaws the guest's file systems, whoever froze them; a thawed guest answers 0. `Ok(None)`: no agent.
    /// The first call after a connect synchronises with the agent first.
    async fn thaw(&self) -> Driven<Option<u64>>;

    /// Stops the guest, switches the disks, and begins to save memory to `memory.path` + `.part`: one instant for both.
    /// With [`MemoryMethod::Background`] the guest runs again when it returns; with [`MemoryMethod::Stopped`] it runs
    /// again once the save has ended. Never freezes. `Err`: no disk was switched and the guest runs (if it did before).
    /// If the disks switched but the save could not begin: `Ok` with the failure in the third member.
    async fn switch_and_save(
        &self,
        switch: &Switch,
        memory: &MemoryRef,
    ) -> Driven<(SwitchReport, MemoryMethod, Option<String>)>;

    /// Where the save stands.
    async fn memory_save(&self) -> Driven<MemorySave>;

    /// Waits until the save has ended, by the monitor's events. On success the file is fsynced and renamed to
    /// `memory.path`; on failure it is removed; the vCPUs run again in both cases.
    async fn finish_save(&self, memory: &MemoryRef, progress: Progress<'_>) -> Driven<MemorySave>;

    /// Cancels a save that is under way and waits for its end.
    async fn cancel_save(&self) -> Driven<()>;
}
