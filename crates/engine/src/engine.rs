//! The core's front door, for every dialect: its [`views`] and its [`commands`].

mod commands;
mod views;
mod volume_jobs;
mod volumes;

use crate::{
    fault::Fault,
    journal::{self, executor::Journal},
    ports::{Chain, DataPlane, Hypervisor, ImageRef, Images, MemoryRef},
    reconcile,
    view::House,
};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stillpoint_store::{Store, disk::DomainRow, image::ImageRow};
use stillpoint_types::{
    Caller, DiskId, DomainId, FaultCode, ImageFormat, ImageId, JobId, JobState, MemoryId, VmId, now_micros,
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a process whose monitor closed may take to end before its job waits for it.
const GONE_LIMIT: Duration = Duration::from_secs(5);
/// How long a command waits for what passes by itself: less than any client waits for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

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
    /// How long a freeze lasts that a user asked for, if he does not thaw.
    pub user_freeze: Duration,
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
            user_freeze: Duration::from_secs(60),
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
    /// What is remembered of backups for those who watch them.
    pub(crate) watched: crate::backup::watch::Watched,
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
    /// Wakes who looks after the guests that their users have frozen.
    pub(crate) user_freezes: Notify,
    /// How long guests stood while disks were switched.
    pub(crate) stalls: crate::stalls::Stalls,
    /// What this start found.
    pub(crate) start: crate::explain::healing::Start,
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

    /// Begins a command, and again each time a job has ended for as long as what stands in its way passes by itself.
    async fn patiently<T, F>(&self, begin: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut ended = self.journal.watch();
        loop {
            ended.mark_unchanged();
            match begin().await {
                Err(fault) if fault.is_passing() => {
                    let again = tokio::select! {
                        changed = tokio::time::timeout_at(deadline, ended.changed()) => matches!(changed, Ok(Ok(()))),
                        () = self.stopping.cancelled() => false,
                    };
                    if !again {
                        return Err(fault);
                    }
                }
                other => return other,
            }
        }
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

    /// Waits until a job has ended, as [`Engine::wait`].
    pub(crate) async fn ended(&self, job: JobId, limit: Duration) -> Result<(), Fault> {
        let mut ended = self.journal.watch();
        let look = async {
            loop {
                ended.mark_unchanged();
                let row = self
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
            watched: crate::backup::watch::Watched::default(),
            maps: tokio::sync::Mutex::new(()),
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            tidy: Notify::new(),
            ending: Mutex::default(),
            unthawed: reconcile::thaw::Unthawed::default(),
            user_freezes: Notify::new(),
            stalls: crate::stalls::Stalls::default(),
            start: crate::explain::healing::Start::default(),
        });
        reconcile::thaw::find(&inner).await?;
        reconcile::supervise::start(&inner);
        reconcile::recover::run(&inner).await?;
        crate::transfer::served_again(&inner).await?;
        reconcile::thaw::start(&inner);
        crate::vm::freeze::start(&inner);
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
        self.inner.ended(job, limit).await
    }

    /// Changes after each commit to the catalogue: wakes what shows its contents live. The value says nothing by itself.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.store.changes()
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
