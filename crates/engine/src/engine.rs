//! The core's front door: every view and every command, for every dialect.

use crate::{
    command::{
        Accepted, AddNic, AdoptDisk, Attach, ControlTransfer, CreateBackup, CreateDisk, CreateSnapshot, CreateTransfer,
        CreateVm, DeleteCheckpoint, DeleteDisk, DeleteSnapshot, DeleteVm, Detach, FinalizeBackup, Origin, RemoveNic,
        RestoreSnapshot, ShutdownVm, StartVm, StopVm, UpdateAttachment, UpdateDisk, UpdateVm,
    },
    fault::Fault,
    journal::{self, executor::Journal},
    ports::{Chain, DataPlane, Hypervisor, ImageRef, Images, MemoryRef},
    reconcile, snapshot,
    view::{
        AttachmentView, BackupView, CheckpointView, DiskSnapshotView, DiskView, DomainView, EventView, Filter, House,
        JobView, Page, SnapshotDiskView, SnapshotView, StepView, TransferView, UnregisteredView, VmView,
    },
    vm,
};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stillpoint_store::{Store, disk::DomainRow, image::ImageRow};
use stillpoint_types::{
    BackupId, Caller, CheckpointId, DiskId, DomainId, FaultCode, ImageFormat, ImageId, JobId, JobState, MemoryId,
    NicId, SnapshotId, TransferId, VmId, now_micros,
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a process whose monitor closed may take to end before its job waits for it.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the embedded storage domain.
    pub images_dir: PathBuf,
    /// Directory of kernels that any user may name.
    pub boot_dir: PathBuf,
    /// Further directories from which kernels may be named by absolute path.
    pub boot_dirs_allowed: Vec<PathBuf>,
    /// Longest time that a guest agent may take to freeze.
    pub freeze_limit: Duration,
    /// Longest time that saving a memory may take.
    pub memory_limit: Duration,
    /// How long ended jobs stay readable: those that ended well, those that failed.
    pub job_keep: (Duration, Duration),
    /// The same of image transfers.
    pub transfer_keep: (Duration, Duration),
    /// The same of backups.
    pub backup_keep: (Duration, Duration),
    /// How long a backup waits for a client who does nothing with it.
    pub backup_lease: Duration,
    /// Directory of the maps of changes since checkpoints.
    pub maps_dir: PathBuf,
}

impl Options {
    /// The defaults, with everything below one data directory.
    #[must_use]
    pub fn in_data_dir(data_dir: &std::path::Path) -> Self {
        Self {
            images_dir: data_dir.join("images"),
            boot_dir: data_dir.join("boot"),
            boot_dirs_allowed: Vec::new(),
            // The promise is 10 s from freeze to thaw (product promise 1); the thaw needs its share of it.
            freeze_limit: Duration::from_secs(8),
            memory_limit: Duration::from_secs(30 * 60),
            job_keep: (Duration::from_secs(10 * 60), Duration::from_secs(60 * 60)),
            transfer_keep: (Duration::from_secs(15 * 60), Duration::from_secs(30 * 60)),
            backup_keep: (Duration::from_secs(15 * 60), Duration::from_secs(30 * 60)),
            backup_lease: Duration::from_secs(24 * 60 * 60),
            maps_dir: data_dir.join("maps"),
        }
    }
}

/// What every command and job works with.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) data_plane: Arc<dyn DataPlane>,
    pub(crate) options: Options,
    pub(crate) house: House,
    pub(crate) domain: DomainRow,
    pub(crate) journal: Journal,
    /// Changes whenever somebody has done something to an image transfer.
    pub(crate) transfers: watch::Sender<u64>,
    /// Changes whenever a ticket has been given to the data plane.
    pub(crate) served: watch::Sender<u64>,
    /// Changes whenever somebody has done something to a backup.
    pub(crate) backups: watch::Sender<u64>,
    /// Whoever reads a checkpoint's anchors and maps to go by them, or changes them, has the turn.
    pub(crate) maps: tokio::sync::Mutex<()>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stopping: CancellationToken,
    /// Wakes the tidying loop.
    pub(crate) tidy: Notify,
    /// VMs whose process a command is ending: it writes that itself.
    pub(crate) ending: Mutex<HashSet<VmId>>,
    /// Guests that may still be frozen.
    pub(crate) unthawed: reconcile::thaw::Unthawed,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn domain_path(&self) -> PathBuf {
        PathBuf::from(&self.domain.path)
    }

    pub(crate) fn domain_id(&self) -> DomainId {
        self.domain.id
    }

    pub(crate) fn image_ref(&self, row: &ImageRow) -> ImageRef {
        self.image_file(row.id, row.format)
    }

    /// The file of an image: its name holds its id, which is what an operator looks for.
    pub(crate) fn image_file(&self, id: ImageId, format: ImageFormat) -> ImageRef {
        let ending = match format {
            ImageFormat::Cow => "qcow2",
            ImageFormat::Raw => "raw",
        };
        ImageRef {
            id,
            format,
            path: self.domain_path().join(format!("{id}.{ending}")),
        }
    }

    pub(crate) fn memory_ref(&self, id: MemoryId) -> MemoryRef {
        MemoryRef {
            id,
            path: self.domain_path().join(format!("{id}.memory")),
        }
    }

    /// The chains that end in the given images.
    pub(crate) async fn chains(&self, tops: Vec<(DiskId, ImageId)>) -> Result<Vec<Chain>, Fault> {
        let rows = self
            .store
            .read(move |conn| -> Result<Vec<_>, Fault> {
                tops.into_iter()
                    .map(|(disk, top)| Ok((disk, stillpoint_store::image::chain(conn, top)?)))
                    .collect()
            })
            .await?;
        let chain = |(disk, rows): (DiskId, Vec<ImageRow>)| {
            let images: Vec<_> = rows.iter().map(|row| self.image_ref(row)).collect();
            if images.is_empty() {
                Err(Fault::internal("an empty chain"))
            } else {
                Ok(Chain { disk, images })
            }
        };
        rows.into_iter().map(chain).collect()
    }

    /// Whether a VM's process is on record, and lives, although no monitor is connected.
    pub(crate) async fn is_unreachable(&self, id: VmId) -> Result<bool, Fault> {
        if self.hypervisor.machine(id).is_some() {
            return Ok(false);
        }
        Ok(self.hypervisor.find(id).await?.is_some())
    }

    pub(crate) fn unreachable(&self, name: &str) -> Fault {
        Fault::new(
            FaultCode::HostUnreachable,
            format!("The QEMU process of VM {name} lives but its monitor does not answer; waiting for it."),
        )
    }

    /// Whether a command is ending the VM's process.
    pub(crate) fn is_ending(&self, id: VmId) -> bool {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// After a lost connection: waits for the end of the process, within a deadline.
    pub(crate) async fn hypervisor_gone(&self, id: VmId) -> Result<(), journal::StepError> {
        // Subscribed before the first look, so that an end in between is not missed.
        let mut events = self.hypervisor.events();
        let deadline = tokio::time::Instant::now() + GONE_LIMIT;
        while self.hypervisor.find(id).await?.is_some() {
            if tokio::time::timeout_at(deadline, events.recv()).await.is_err() {
                return Err(journal::StepError::later(self.unreachable(&id.to_string())));
            }
        }
        Ok(())
    }
}

/// The core. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// Opens the core over an open store: finds the machines of earlier daemons, thaws what they left frozen, and drives
    /// every unfinished job on. Returns as soon as requests can be served.
    ///
    /// # Errors
    /// What the store or the images directory answer.
    pub async fn open(
        store: Store,
        hypervisor: Arc<dyn Hypervisor>,
        images: Arc<dyn Images>,
        data_plane: Arc<dyn DataPlane>,
        options: Options,
    ) -> Result<Self, Fault> {
        let path = options.images_dir.to_string_lossy().into_owned();
        let (accelerator, version) = (hypervisor.accelerator(), hypervisor.version());
        let (house, domain) = store
            .write(move |tx| crate::house::ensure(tx, &path, accelerator, &version))
            .await?;
        let inner = Arc::new(Inner {
            store,
            hypervisor,
            images,
            data_plane,
            options,
            house,
            domain,
            journal: Journal::new(),
            transfers: watch::Sender::new(0),
            served: watch::Sender::new(0),
            backups: watch::Sender::new(0),
            maps: tokio::sync::Mutex::new(()),
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            tidy: Notify::new(),
            ending: Mutex::default(),
            unthawed: reconcile::thaw::Unthawed::default(),
        });
        reconcile::thaw::find(&inner).await?;
        reconcile::supervise::start(&inner);
        reconcile::recover::run(&inner).await?;
        crate::transfer::served_again(&inner).await?;
        reconcile::thaw::start(&inner);
        reconcile::tidy::start(&inner);
        Ok(Self { inner })
    }

    /// Stops: no new steps are begun, running steps may end within `limit`; guests run on. What is left over goes on at
    /// the next start.
    pub async fn stop(&self, limit: Duration) {
        self.inner.stopping.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(limit, self.inner.tracker.wait()).await.is_err() {
            tracing::info!("jobs are still under way; they go on at the next start");
        }
    }

    /// Waits until a job has ended; its failure is the answer's.
    ///
    /// # Errors
    /// The job's own fault; `Unavailable` when it has not ended within `limit` (it goes on).
    pub async fn wait(&self, job: JobId, limit: Duration) -> Result<(), Fault> {
        let mut ended = self.inner.journal.watch();
        let look = async {
            loop {
                ended.mark_unchanged();
                let row = self
                    .inner
                    .store
                    .read(move |conn| -> Result<_, Fault> { Ok(stillpoint_store::job::get(conn, job)?) })
                    .await?
                    .ok_or_else(|| Fault::not_found("job", job))?;
                match row.state {
                    JobState::Done => return Ok(()),
                    JobState::Undone | JobState::Stuck => {
                        let failure = row.failure.as_deref().map(journal::from_json::<Fault>);
                        return Err(failure
                            .transpose()?
                            .unwrap_or_else(|| Fault::internal("no reason was recorded")));
                    }
                    JobState::Queued | JobState::Running | JobState::Unwinding => {}
                }
                if ended.changed().await.is_err() {
                    return Err(Fault::new(
                        FaultCode::Unavailable,
                        "The daemon is stopping; the job goes on at its next start.",
                    ));
                }
            }
        };
        tokio::time::timeout(limit, look).await.unwrap_or_else(|_elapsed| {
            Err(Fault::new(
                FaultCode::Unavailable,
                format!("Job {job} has not ended yet; it goes on. Look at it again later."),
            ))
        })
    }

    /// Number of rows that would mean that something stays locked without a live job: always zero.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn orphaned_locks(&self) -> Result<usize, Fault> {
        self.inner
            .store
            .read(|conn| -> Result<_, Fault> { Ok(stillpoint_store::job::orphaned_locks(conn)?.len()) })
            .await
    }

    /// Whether the catalogue answers: what `/health/ready` asks.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn ready(&self) -> Result<(), Fault> {
        self.inner
            .store
            .read(|conn| -> Result<_, Fault> { Ok(stillpoint_store::vm::count(conn).map(|_| ())?) })
            .await
    }

    /// The surroundings that clients navigate; everybody who has a token may see them.
    ///
    /// # Errors
    /// None today; a later house may have to be asked for.
    #[expect(clippy::unused_async, reason = "like every other view")]
    pub async fn house(&self, _who: &Caller) -> Result<House, Fault> {
        Ok(self.inner.house.clone())
    }

    /// The present instant as the core has it, microseconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        now_micros()
    }
}

/// Views: what a caller may see, read in one transaction each.
///
/// # Errors
/// `NotFound` for what is not there or not visible; `Internal` for the store's own faults.
impl Engine {
    /// A page of the VMs, by name.
    pub async fn vms(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<VmView>, Fault> {
        vm::view::page(&self.inner, who, filter, page).await
    }

    /// One VM.
    pub async fn vm(&self, who: &Caller, vm: VmId) -> Result<VmView, Fault> {
        vm::view::get(&self.inner, who, vm).await
    }

    /// How many VMs there are, and how many have a process.
    pub async fn vm_counts(&self, who: &Caller) -> Result<(u64, u64), Fault> {
        vm::view::counts(&self.inner, who).await
    }

    /// The disks of a VM, in device order.
    pub async fn attachments(&self, who: &Caller, vm: VmId) -> Result<Vec<AttachmentView>, Fault> {
        crate::disk::view::attachments(&self.inner, who, vm).await
    }

    /// One disk of a VM.
    pub async fn attachment(&self, who: &Caller, vm: VmId, disk: DiskId) -> Result<AttachmentView, Fault> {
        crate::disk::view::attachment(&self.inner, who, vm, disk).await
    }

    /// A page of the disks, by alias.
    pub async fn disks(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<DiskView>, Fault> {
        crate::disk::view::page(&self.inner, who, filter, page).await
    }

    /// One disk.
    pub async fn disk(&self, who: &Caller, disk: DiskId) -> Result<DiskView, Fault> {
        crate::disk::view::get(&self.inner, who, disk).await
    }

    /// The snapshots of a VM, oldest first, the active one last.
    pub async fn snapshots(&self, who: &Caller, vm: VmId) -> Result<Vec<SnapshotView>, Fault> {
        snapshot::view::of_vm(&self.inner, who, vm).await
    }

    /// One snapshot.
    pub async fn snapshot(&self, who: &Caller, vm: VmId, snapshot: SnapshotId) -> Result<SnapshotView, Fault> {
        snapshot::view::get(&self.inner, who, vm, snapshot).await
    }

    /// The disks that a snapshot holds; for the active one the disks as they are.
    pub async fn snapshot_disks(
        &self,
        who: &Caller,
        vm: VmId,
        snapshot: SnapshotId,
    ) -> Result<Vec<SnapshotDiskView>, Fault> {
        snapshot::view::disks(&self.inner, who, vm, snapshot).await
    }

    /// The images of a disk, oldest first.
    pub async fn disk_snapshots(
        &self,
        who: &Caller,
        disk: DiskId,
        include_active: bool,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        crate::disk::view::images(&self.inner, who, disk, include_active).await
    }

    /// A page of the images of a storage domain, by id.
    pub async fn domain_disk_snapshots(
        &self,
        who: &Caller,
        domain: DomainId,
        include_active: bool,
        page: &Page,
    ) -> Result<Vec<DiskSnapshotView>, Fault> {
        crate::disk::view::images_of_domain(&self.inner, who, domain, include_active, page).await
    }

    /// The storage domains.
    pub async fn domains(&self, who: &Caller) -> Result<Vec<DomainView>, Fault> {
        crate::disk::view::domains(&self.inner, who).await
    }

    /// One storage domain.
    pub async fn domain(&self, who: &Caller, domain: DomainId) -> Result<DomainView, Fault> {
        crate::disk::view::domain(&self.inner, who, domain).await
    }

    /// A page of the disks of a storage domain, by alias.
    pub async fn domain_disks(&self, who: &Caller, domain: DomainId, page: &Page) -> Result<Vec<DiskView>, Fault> {
        crate::disk::view::page_of_domain(&self.inner, who, domain, page).await
    }

    /// Image files in a storage domain that belong to no disk.
    pub async fn unregistered(&self, who: &Caller, domain: DomainId) -> Result<Vec<UnregisteredView>, Fault> {
        crate::disk::adopt::unregistered(&self.inner, who, domain).await
    }

    /// A page of the jobs, newest first.
    pub async fn jobs(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<JobView>, Fault> {
        crate::job::jobs(&self.inner, who, filter, page).await
    }

    /// One job.
    pub async fn job(&self, who: &Caller, job: JobId) -> Result<JobView, Fault> {
        crate::job::job(&self.inner, who, job).await
    }

    /// The steps of a job.
    pub async fn steps(&self, who: &Caller, job: JobId) -> Result<Vec<StepView>, Fault> {
        crate::job::steps(&self.inner, who, job).await
    }

    /// A page of the image transfers, newest first.
    pub async fn transfers(&self, who: &Caller, page: &Page) -> Result<Vec<TransferView>, Fault> {
        crate::transfer::view::page(&self.inner, who, page).await
    }

    /// One image transfer.
    pub async fn transfer(&self, who: &Caller, transfer: TransferId) -> Result<TransferView, Fault> {
        crate::transfer::view::get(&self.inner, who, transfer).await
    }

    /// The backups of a VM, oldest first; those that ended stay for a while.
    pub async fn backups(&self, who: &Caller, vm: VmId) -> Result<Vec<BackupView>, Fault> {
        crate::backup::view::of_vm(&self.inner, who, vm).await
    }

    /// One backup.
    pub async fn backup(&self, who: &Caller, vm: VmId, backup: BackupId) -> Result<BackupView, Fault> {
        crate::backup::view::get(&self.inner, who, vm, backup).await
    }

    /// The checkpoints of a VM, oldest first.
    pub async fn checkpoints(&self, who: &Caller, vm: VmId) -> Result<Vec<CheckpointView>, Fault> {
        crate::checkpoint::view::of_vm(&self.inner, who, vm).await
    }

    /// One checkpoint.
    pub async fn checkpoint(&self, who: &Caller, vm: VmId, checkpoint: CheckpointId) -> Result<CheckpointView, Fault> {
        crate::checkpoint::view::get(&self.inner, who, vm, checkpoint).await
    }

    /// A page of the events, newest first.
    pub async fn events(&self, who: &Caller, filter: &Filter, page: &Page) -> Result<Vec<EventView>, Fault> {
        crate::job::events(&self.inner, who, filter, page).await
    }

    /// One event.
    pub async fn event(&self, who: &Caller, index: i64) -> Result<EventView, Fault> {
        crate::job::event(&self.inner, who, index).await
    }
}

/// Commands: validated and begun when they return; a job, if there is one, goes on.
///
/// # Errors
/// The fault of the first check that fails; nothing has been changed then.
impl Engine {
    /// Makes a VM from the Blank template.
    pub async fn create_vm(&self, who: &Caller, origin: &Origin, command: CreateVm) -> Result<Accepted<VmId>, Fault> {
        vm::configure::create(&self.inner, who, origin, command).await
    }

    /// Changes a VM.
    pub async fn update_vm(&self, who: &Caller, origin: &Origin, command: UpdateVm) -> Result<Accepted<VmId>, Fault> {
        vm::configure::update(&self.inner, who, origin, command).await
    }

    /// Removes a VM that is down, with its snapshots.
    pub async fn delete_vm(&self, who: &Caller, origin: &Origin, command: DeleteVm) -> Result<Accepted<VmId>, Fault> {
        vm::configure::delete(&self.inner, who, origin, command).await
    }

    /// Adds a network interface.
    pub async fn add_nic(&self, who: &Caller, origin: &Origin, command: AddNic) -> Result<Accepted<NicId>, Fault> {
        vm::configure::add_nic(&self.inner, who, origin, command).await
    }

    /// Removes a network interface.
    pub async fn remove_nic(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RemoveNic,
    ) -> Result<Accepted<NicId>, Fault> {
        vm::configure::remove_nic(&self.inner, who, origin, command).await
    }

    /// Starts or resumes a VM.
    pub async fn start_vm(&self, who: &Caller, origin: &Origin, command: StartVm) -> Result<Accepted<VmId>, Fault> {
        vm::start::submit(&self.inner, who, origin, command).await
    }

    /// Ends a VM's process at once.
    pub async fn stop_vm(&self, who: &Caller, origin: &Origin, command: StopVm) -> Result<Accepted<VmId>, Fault> {
        vm::stop::stop(&self.inner, who, origin, command).await
    }

    /// Asks the guest to shut down.
    pub async fn shutdown_vm(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ShutdownVm,
    ) -> Result<Accepted<VmId>, Fault> {
        vm::stop::shutdown(&self.inner, who, origin, command).await
    }

    /// Makes a disk.
    pub async fn create_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::create::submit(&self.inner, who, origin, command).await
    }

    /// Adopts an image file as a disk.
    pub async fn adopt_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: AdoptDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::adopt::adopt(&self.inner, who, origin, command).await
    }

    /// Changes a disk's texts.
    pub async fn update_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::attach::update_disk(&self.inner, who, origin, command).await
    }

    /// Removes a disk that no VM and no snapshot has.
    pub async fn delete_disk(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteDisk,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::delete::delete(&self.inner, who, origin, command).await
    }

    /// Attaches a disk to a VM that is down.
    pub async fn attach(&self, who: &Caller, origin: &Origin, command: Attach) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::attach::attach(&self.inner, who, origin, command).await
    }

    /// Changes an attachment.
    pub async fn update_attachment(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateAttachment,
    ) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::attach::update(&self.inner, who, origin, command).await
    }

    /// Detaches a disk from a VM that is down.
    pub async fn detach(&self, who: &Caller, origin: &Origin, command: Detach) -> Result<Accepted<DiskId>, Fault> {
        crate::disk::attach::detach(&self.inner, who, origin, command).await
    }

    /// Takes a snapshot.
    pub async fn create_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        snapshot::create::submit(&self.inner, who, origin, command).await
    }

    /// Removes a snapshot.
    pub async fn delete_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        snapshot::delete::submit(&self.inner, who, origin, command).await
    }

    /// Brings a VM back to a snapshot.
    pub async fn restore_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RestoreSnapshot,
    ) -> Result<Accepted<SnapshotId>, Fault> {
        snapshot::restore::submit(&self.inner, who, origin, command).await
    }

    /// Begins an image transfer.
    pub async fn create_transfer(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateTransfer,
    ) -> Result<Accepted<TransferId>, Fault> {
        crate::transfer::create::submit(&self.inner, who, origin, command).await
    }

    /// Does something to an image transfer.
    pub async fn control_transfer(&self, who: &Caller, origin: &Origin, command: ControlTransfer) -> Result<(), Fault> {
        crate::transfer::control::act(&self.inner, who, origin, command).await
    }

    /// Begins a backup. Its job lasts as long as the backup does, so none is in the answer.
    pub async fn backup_create(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateBackup,
    ) -> Result<Accepted<BackupId>, Fault> {
        crate::backup::create::submit(&self.inner, who, origin, command).await
    }

    /// Ends a backup. One that is ending or has ended well stays as it is.
    pub async fn backup_finalize(&self, who: &Caller, origin: &Origin, command: FinalizeBackup) -> Result<(), Fault> {
        crate::backup::finalize::submit(&self.inner, who, origin, command).await
    }

    /// Removes a checkpoint.
    pub async fn checkpoint_delete(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteCheckpoint,
    ) -> Result<(), Fault> {
        crate::checkpoint::delete::submit(&self.inner, who, origin, command).await
    }
}
