//! A core on a real QEMU in this process, and a machine without a guest system: the test writes to its disks through the
//! second monitor, as a guest's device would, and so knows what they must hold.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use stillpoint_engine::{
    Engine, Options,
    command::*,
    view::{BackupView, Page},
};
use stillpoint_qemu::{Accel, Config, Qemu, images::LocalImages, qmp::Qmp};
use stillpoint_store::Store;
use stillpoint_testkit::Api;
use stillpoint_transfer::Transfer;
use stillpoint_types::*;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const SIZE: u64 = 24 * MIB;
const LONG: Duration = Duration::from_secs(120);

/// Bytes of a disk.
pub(crate) type Bytes = Vec<u8>;

/// What a backup gave.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) view: BackupView,
    /// Bytes that had to be downloaded.
    pub(crate) dirty_bytes: Vec<u64>,
}

pub(crate) struct Rig {
    pub(crate) dir: Dir,
    pub(crate) engine: Running,
    pub(crate) store: Store,
    url: String,
    pub(crate) who: Caller,
    pub(crate) vm: VmId,
    pub(crate) disks: Vec<DiskId>,
    /// What the disks must hold now.
    pub(crate) now: Vec<Bytes>,
    /// What they held at each checkpoint.
    pub(crate) points: HashMap<CheckpointId, Vec<Bytes>>,
    /// A machine that died is to be started again.
    #[cfg(feature = "failpoints")]
    pub(crate) was_up: bool,
}

/// The core, while there is one: it must be gone before another one can have the monitors, which serve one client each.
pub(crate) struct Running(Option<Engine>);

impl std::ops::Deref for Running {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.0.as_ref().unwrap()
    }
}

/// A data directory: our own, or that of another rig.
pub(crate) enum Dir {
    Own(tempfile::TempDir),
    #[cfg(feature = "failpoints")]
    Other(PathBuf),
}

impl Dir {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            #[cfg(feature = "failpoints")]
            Self::Other(path) => path,
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if matches!(self.dir, Dir::Own(_)) {
            self.kill_all();
            // Where there is nothing mounted, that is what is said.
            let images = self.dir.path().join("images");
            let _nothing = Command::new("umount").arg("--lazy").arg(images).output();
        }
    }
}

/// Asks until it answers something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        done.status.success() && !said.contains("failed"),
        "{program} {arguments:?}: {said}"
    );
}

fn admin() -> Caller {
    Caller {
        user: UserId::fresh(),
        name: "admin@internal".into(),
        is_admin: true,
        roles: vec![],
        home_project: ProjectId::fresh(),
    }
}

async fn open(dir: &Path, store: &Store, lease: Duration) -> (Engine, String) {
    let mut config = Config::new(dir.to_owned(), Accel::Tcg);
    config.command_limit = Duration::from_secs(60);
    let qemu = Qemu::new(config).await.unwrap().0;
    let plane = Transfer::new();
    let options = Options {
        backup_lease: lease,
        ..Options::in_data_dir(dir)
    };
    let images = Arc::new(LocalImages::new("qemu-img"));
    let opened = Engine::open(store.clone(), Arc::new(qemu), images, Arc::new(plane.clone()), options).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, stillpoint_transfer::router(plane, None)).await });
    (opened.unwrap(), url)
}

impl Rig {
    pub(crate) async fn new(formats: &[ImageFormat]) -> Self {
        Self::with_lease(formats, Duration::from_secs(3600)).await
    }

    pub(crate) async fn with_lease(formats: &[ImageFormat], lease: Duration) -> Self {
        Self::with(formats, lease, None).await
    }

    /// With a storage domain of so many MiB. Needs root: it is a file system of its own.
    pub(crate) async fn with_storage(formats: &[ImageFormat], mib: u64) -> Self {
        Self::with(formats, Duration::from_secs(3600), Some(mib)).await
    }

    async fn with(formats: &[ImageFormat], lease: Duration, storage_mib: Option<u64>) -> Self {
        let dir = tempfile::Builder::new().prefix("sp").tempdir().unwrap();
        let images = dir.path().join("images");
        std::fs::create_dir(&images).unwrap();
        if let Some(mib) = storage_mib {
            let size = format!("size={mib}m");
            run(
                "mount",
                &["-t", "tmpfs", "-o", &size, "tmpfs", images.to_str().unwrap()],
            );
        }
        let store = Store::open(&dir.path().join("stillpoint.db")).unwrap();
        let (engine, url) = open(dir.path(), &store, lease).await;
        let who = admin();
        let fields = VmFields {
            name: Some("vm".into()),
            memory_bytes: Some(64 * MIB),
            ..VmFields::default()
        };
        let command = CreateVm {
            fields,
            ..CreateVm::default()
        };
        let vm = engine.create_vm(&who, &Origin::default(), command).await.unwrap().id;
        let mut rig = Self {
            dir: Dir::Own(dir),
            engine: Running(Some(engine)),
            store,
            url,
            who,
            vm,
            disks: vec![],
            now: vec![],
            points: HashMap::new(),
            #[cfg(feature = "failpoints")]
            was_up: false,
        };
        for format in formats {
            rig.add_disk(*format).await;
        }
        rig
    }

    /// Another daemon on the directory of a rig whose own has stopped.
    #[cfg(feature = "failpoints")]
    pub(crate) async fn take_over(dir: &Path, vm: VmId, lease: Duration) -> Self {
        let store = Store::open(&dir.join("stillpoint.db")).unwrap();
        let (engine, url) = open(dir, &store, lease).await;
        let who = admin();
        let attached = engine.attachments(&who, vm).await.unwrap();
        Self {
            dir: Dir::Other(dir.to_owned()),
            engine: Running(Some(engine)),
            store,
            url,
            who,
            vm,
            disks: attached.into_iter().map(|a| a.disk.id).collect(),
            now: vec![],
            points: HashMap::new(),
            was_up: false,
        }
    }

    /// Ends all QEMU processes, as the end of the host does.
    pub(crate) fn kill_all(&self) {
        for kind in ["vm", "rest"] {
            let Ok(entries) = std::fs::read_dir(self.dir.path().join("run").join(kind)) else {
                continue;
            };
            for entry in entries.flatten() {
                if let Ok(pid) = std::fs::read_to_string(entry.path().join("pid")) {
                    let _gone = Command::new("kill").arg("-KILL").arg(pid.trim()).output();
                }
            }
        }
    }

    pub(crate) async fn add_disk(&mut self, format: ImageFormat) {
        let command = CreateDisk {
            id: None,
            image: None,
            alias: Some(format!("disk{}", self.disks.len())),
            description: String::new(),
            domain: DomainRef::Name("data".into()),
            size_bytes: SIZE,
            format,
            sparse: Some(true),
            attach: Some((self.vm, AttachFields::default())),
        };
        let made = self.engine.create_disk(&self.who, &Origin::default(), command).await;
        let made = made.unwrap();
        if let Some(job) = made.job {
            self.engine.wait(job, LONG).await.unwrap();
        }
        self.disks.push(made.id);
        self.now.push(vec![0; usize::try_from(SIZE).unwrap()]);
    }

    pub(crate) async fn stop_daemon(&mut self) {
        if let Some(engine) = self.engine.0.take() {
            engine.stop(Duration::from_secs(20)).await;
        }
    }

    /// A new daemon takes over from the one that is gone.
    pub(crate) async fn restart(&mut self, lease: Duration) {
        self.stop_daemon().await;
        let (engine, url) = open(self.dir.path(), &self.store, lease).await;
        (self.engine, self.url) = (Running(Some(engine)), url);
    }

    pub(crate) async fn status(&self) -> VmStatus {
        self.engine.vm(&self.who, self.vm).await.unwrap().status
    }

    pub(crate) async fn wait_status(&self, wanted: VmStatus) {
        eventually(wanted.label(), || async {
            (self.status().await == wanted).then_some(())
        })
        .await;
    }

    pub(crate) async fn start(&self) {
        let command = StartVm {
            vm: self.vm,
            paused: false,
        };
        let origin = Origin::default();
        self.engine.start_vm(&self.who, &origin, command).await.unwrap();
        self.wait_status(VmStatus::Up).await;
    }

    pub(crate) async fn stop(&self) {
        let command = StopVm { vm: self.vm };
        let origin = Origin::default();
        self.engine.stop_vm(&self.who, &origin, command).await.unwrap();
        self.wait_status(VmStatus::Down).await;
    }

    /// QEMU dies as by the OOM killer.
    pub(crate) async fn kill9(&self) {
        let pid = std::fs::read_to_string(self.run_dir().join("pid")).unwrap();
        run("kill", &["-KILL", pid.trim()]);
        self.wait_status(VmStatus::Down).await;
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run/vm").join(self.vm.to_string())
    }

    /// A device of the running machine writes, and flushes.
    ///
    /// A command that waits for the write's end keeps QEMU's main loop from all else, the end of the merge included that
    /// the write itself has to wait for. So the end is looked for in the device's count, which has no explicit zeros.
    async fn write_live(&self, disk: DiskId, what: &str, is_zero: bool) {
        let limit = Duration::from_secs(60);
        let path = self.run_dir().join("qmp2");
        // One client at a time: the one before may be about to go.
        let monitor = eventually("the second monitor", || async { Qmp::connect(&path, limit).await.ok() }).await;
        let device = format!("/machine/peripheral/d{}/virtio-backend", disk.base32());
        if is_zero {
            let jobs = || async { monitor.call::<Vec<Value>>("query-jobs", json!({})).await.unwrap() };
            eventually("no merge", || async { jobs().await.is_empty().then_some(()) }).await;
        }
        let before = count_writes(&monitor, &device).await;
        let how = if is_zero { "write" } else { "aio_write" };
        let line = format!("qemu-io -d {device} \"{how} -f {what}\"");
        let said: String = monitor
            .call("human-monitor-command", json!({"command-line": line}))
            .await
            .unwrap();
        assert_eq!(said, "", "{line}");
        eventually("the write's end", || async {
            let now = count_writes(&monitor, &device).await;
            assert_eq!(now.1, before.1, "{line} failed");
            (is_zero || now.0 > before.0).then_some(())
        })
        .await;
    }

    pub(crate) async fn active_file(&self, disk: DiskId) -> PathBuf {
        let view = self.engine.disk(&self.who, disk).await.unwrap();
        let ending = if view.format == ImageFormat::Cow {
            "qcow2"
        } else {
            "raw"
        };
        self.dir.path().join("images").join(format!("{}.{ending}", view.image))
    }

    /// The guest, or a tool while the VM is down, writes one pattern; 0: as explicit zeros.
    pub(crate) async fn write(&mut self, disk: usize, pattern: u8, offset: u64, length: u64) {
        let what = match pattern {
            0 => format!("-z -u {offset} {length}"),
            pattern => format!("-P {pattern} {offset} {length}"),
        };
        let id = self.disks[disk];
        if self.status().await == VmStatus::Up {
            self.write_live(id, &what, pattern == 0).await;
        } else {
            let file = self.active_file(id).await;
            let format = if file.extension().is_some_and(|end| end == "raw") {
                "raw"
            } else {
                "qcow2"
            };
            // A merge may have the file for a moment.
            eventually("the image's lock", || async {
                let done = Command::new("qemu-io")
                    .args(["-f", format, "-c", &format!("write {what}")])
                    .arg(&file)
                    .output()
                    .unwrap();
                done.status.success().then_some(())
            })
            .await;
        }
        let (offset, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        self.now[disk][offset..offset + length].fill(pattern);
    }

    pub(crate) async fn wait_job(&self, job: Option<JobId>) {
        if let Some(job) = job {
            self.engine.wait(job, LONG).await.unwrap();
        }
    }

    pub(crate) async fn snapshot(&self) -> SnapshotId {
        let command = CreateSnapshot {
            vm: self.vm,
            description: "mine".into(),
            memory: false,
            disks: None,
        };
        let origin = Origin::default();
        let made = self.engine.create_snapshot(&self.who, &origin, command).await.unwrap();
        self.wait_job(made.job).await;
        made.id
    }

    pub(crate) async fn delete_snapshot(&self, snapshot: SnapshotId) {
        let command = DeleteSnapshot { vm: self.vm, snapshot };
        let origin = Origin::default();
        let made = self.engine.delete_snapshot(&self.who, &origin, command).await.unwrap();
        self.wait_job(made.job).await;
    }

    pub(crate) async fn restore(&self, snapshot: SnapshotId) {
        let command = RestoreSnapshot {
            vm: self.vm,
            snapshot,
            memory: false,
        };
        let origin = Origin::default();
        let made = self.engine.restore_snapshot(&self.who, &origin, command).await.unwrap();
        self.wait_job(made.job).await;
    }

    /// Makes a disk a MiB larger.
    pub(crate) async fn extend(&mut self, disk: usize) {
        let larger = self.now[disk].len() + usize::try_from(MIB).unwrap();
        let command = UpdateDisk {
            disk: self.disks[disk],
            fields: DiskFields {
                size_bytes: Some(larger as u64),
                ..DiskFields::default()
            },
        };
        let made = self
            .engine
            .update_disk(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        self.wait_job(made.job).await;
        self.now[disk].resize(larger, 0);
    }

    pub(crate) fn command(&self, from: Option<CheckpointId>) -> CreateBackup {
        CreateBackup {
            vm: self.vm,
            id: None,
            from,
            disks: self.disks.clone(),
            description: "nightly".into(),
            require_consistency: false,
            use_active: false,
        }
    }

    pub(crate) async fn begin(&self, command: CreateBackup) -> BackupId {
        let origin = Origin::default();
        self.engine.backup_create(&self.who, &origin, command).await.unwrap().id
    }

    pub(crate) async fn view(&self, id: BackupId) -> BackupView {
        self.engine.backup(&self.who, self.vm, id).await.unwrap()
    }

    pub(crate) async fn wait_phase(&self, id: BackupId, wanted: BackupPhase) -> BackupView {
        eventually(wanted.label(), || async {
            let view = self.view(id).await;
            let is_wanted = view.phase == wanted;
            assert!(is_wanted || !view.phase.is_end(), "{view:?}");
            is_wanted.then_some(view)
        })
        .await
    }

    pub(crate) async fn open_transfer(&self, backup: BackupId, disk: DiskId) -> (TransferId, String) {
        let command = CreateTransfer {
            of: TransferOf::Backup { backup, disk },
            direction: TransferDirection::Download,
            format: None,
            shallow: false,
            inactivity_s: None,
            policy: TimeoutPolicy::Legacy,
        };
        let made = self
            .engine
            .create_transfer(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        let ticket = eventually("the ticket", || async {
            let view = self.engine.transfer(&self.who, made.id).await.unwrap();
            assert!(!view.phase.is_end(), "{view:?}");
            view.ticket.filter(|_| view.phase == TransferPhase::Transferring)
        })
        .await;
        (made.id, ticket.0.hyphenated().to_string())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Bytes) {
        let (url, path) = (self.url.clone(), path.to_owned());
        let asked = tokio::task::spawn_blocking(move || Api::anonymous(&url).send("GET", &path, &[], None));
        let answer = asked.await.unwrap().unwrap();
        (answer.status, answer.body)
    }

    /// Downloads one disk: its whole content, and its changes, if only those are wanted.
    async fn download(&self, backup: BackupId, disk: DiskId, mode: BackupMode) -> (Bytes, Option<Vec<Value>>) {
        let (transfer, ticket) = self.open_transfer(backup, disk).await;
        let (status, whole) = self.get(&format!("/images/{ticket}")).await;
        assert_eq!(status, 200);
        let (status, extents) = self.get(&format!("/images/{ticket}/extents?context=dirty")).await;
        let extents = match mode {
            BackupMode::Full => {
                assert_eq!(status, 404, "a full disk has no changes to tell");
                None
            }
            BackupMode::Incremental => {
                assert_eq!(status, 200);
                Some(serde_json::from_slice(&extents).unwrap())
            }
        };
        let done = ControlTransfer {
            transfer,
            action: TransferAction::Finalize,
        };
        self.engine
            .control_transfer(&self.who, &Origin::default(), done)
            .await
            .unwrap();
        eventually("the transfer's end", || async {
            let view = self.engine.transfer(&self.who, transfer).await.unwrap();
            view.phase.is_end().then_some(())
        })
        .await;
        (whole, extents)
    }

    /// Downloads all of a backup that is ready, and proves it: what is whole is what was written, and what changed, laid
    /// over what was held at the checkpoint, is that too.
    pub(crate) async fn prove(&mut self, id: BackupId, then: &[Bytes]) -> Given {
        let view = self.view(id).await;
        assert_eq!(view.phase, BackupPhase::Ready);
        let mut dirty_bytes = Vec::new();
        for disk in &view.disks {
            let (whole, extents) = self.download(id, disk.disk.id, disk.mode).await;
            let at = self.disks.iter().position(|id| *id == disk.disk.id).unwrap();
            assert!(whole == then[at], "disk {at} is not what it was at the moment");
            match extents {
                None => dirty_bytes.push(SIZE),
                Some(extents) => {
                    let base = &self.points[&view.from.unwrap()][at];
                    let (rebuilt, dirty) = rebuild(base, &extents, &whole);
                    assert!(rebuilt == whole, "disk {at}: a change is missing in {extents:?}");
                    dirty_bytes.push(dirty);
                }
            }
        }
        self.points.insert(view.to.unwrap(), then.to_vec());
        Given { view, dirty_bytes }
    }

    pub(crate) async fn cancel(&self, transfer: TransferId) {
        let command = ControlTransfer {
            transfer,
            action: TransferAction::Cancel,
        };
        let origin = Origin::default();
        self.engine.control_transfer(&self.who, &origin, command).await.unwrap();
        eventually("the transfer's end", || async {
            let view = self.engine.transfer(&self.who, transfer).await.unwrap();
            view.phase.is_end().then_some(())
        })
        .await;
    }

    pub(crate) async fn finalize(&self, backup: BackupId) {
        let command = FinalizeBackup { vm: self.vm, backup };
        self.engine
            .backup_finalize(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        self.wait_phase(backup, BackupPhase::Succeeded).await;
    }

    /// A whole backup: begun, downloaded, proved, ended.
    pub(crate) async fn backup(&mut self, command: CreateBackup) -> Given {
        let then = self.now.clone();
        let id = self.begin(command).await;
        self.wait_phase(id, BackupPhase::Ready).await;
        let given = self.prove(id, &then).await;
        self.finalize(id).await;
        given
    }

    pub(crate) async fn checkpoints(&self) -> Vec<CheckpointId> {
        let views = self.engine.checkpoints(&self.who, self.vm).await.unwrap();
        views.into_iter().map(|view| view.id).collect()
    }

    pub(crate) async fn delete_checkpoint(&self, checkpoint: CheckpointId) {
        let command = DeleteCheckpoint {
            vm: self.vm,
            checkpoint,
        };
        let origin = Origin::default();
        self.engine
            .checkpoint_delete(&self.who, &origin, command)
            .await
            .unwrap();
    }

    /// Waits until so many files are in the images directory: what nobody needs is merged and removed in its own time.
    pub(crate) async fn wait_files(&self, count: usize) {
        let list = || std::fs::read_dir(self.dir.path().join("images")).unwrap().count();
        eventually(&format!("{count} image files"), || async {
            (list() == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn events(&self, code: u32) -> Vec<String> {
        let page = Page {
            limit: 1000,
            ..Page::default()
        };
        let all = self.engine.events(&self.who, &Default::default(), &page).await.unwrap();
        all.items
            .into_iter()
            .filter(|event| event.code == code)
            .map(|event| event.text)
            .collect()
    }
}

/// Writes of a device that succeeded and that failed.
async fn count_writes(monitor: &Qmp, device: &str) -> (u64, u64) {
    let all: Vec<Value> = monitor.call("query-blockstats", json!({})).await.unwrap();
    let is_it = |entry: &&Value| entry["qdev"].as_str() == Some(device);
    let stats = &all.iter().find(is_it).unwrap()["stats"];
    let count = |name: &str| stats[name].as_u64().unwrap();
    (count("wr_operations"), count("failed_wr_operations"))
}

/// What a client keeps: the base, with what changed laid over it; and how many bytes that took.
fn rebuild(base: &[u8], extents: &[Value], whole: &[u8]) -> (Bytes, u64) {
    let mut rebuilt = base.to_vec();
    // It may have been extended, or brought back to a smaller size.
    rebuilt.resize(whole.len(), 0);
    let mut dirty = 0;
    for extent in extents.iter().filter(|extent| extent["dirty"] == true) {
        let (start, length) = (extent["start"].as_u64().unwrap(), extent["length"].as_u64().unwrap());
        let range = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
        if extent["zero"] == true {
            rebuilt[range].fill(0);
        } else {
            dirty += length;
            rebuilt[range.clone()].copy_from_slice(&whole[range]);
        }
    }
    (rebuilt, dirty)
}
