//! The Rust client's calls, one by one as the published page of `VmBackupsService` has them, then the same shape for the
//! other collections; and the crate's examples, whose source is run here on a guest that writes.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]
#![expect(
    clippy::duplicate_mod,
    reason = "each example is a program of its own, with the same helper beside it"
)]

#[path = "../../crates/sdk/examples/changed_extents.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod changed_extents;
#[path = "../../crates/sdk/examples/incremental_backup.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod incremental_backup;
#[path = "../../crates/sdk/examples/snapshot_and_wait.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod snapshot_and_wait;

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::FileExt as _,
    path::Path,
    time::Duration,
};
use stillpoint_sdk::{
    AddBackupOptions, CallOptions, Connection, Error, GetOptions, ListOptions, RemoveOptions, Service, SystemService,
    VmBackupsService, VmService, by_id,
    types::{Action, Backup, Disk, Event, Identified, ImageTransfer, Job, Snapshot, Step},
};
use stillpoint_testkit::{Daemon, Guest, Password, VmSpec, records::Checker};

const LONG: Duration = Duration::from_secs(180);
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Asks again until there is an answer.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn id<T: Identified>(object: &T) -> String {
    object.head().id.clone().unwrap()
}

fn connect(daemon: &Daemon) -> Connection {
    let builder = Connection::builder(daemon.url()).user("admin@internal", Password::of("admin").unwrap().0);
    builder.build().unwrap()
}

/// A VM that runs, without a guest that would answer a freeze.
struct Stage {
    connection: Connection,
    vm: VmService,
    vm_id: String,
    disk: String,
}

impl Stage {
    fn system(&self) -> SystemService {
        self.connection.system_service()
    }

    fn backups(&self) -> VmBackupsService {
        self.vm.backups_service()
    }

    fn wanted(&self) -> Backup {
        Backup {
            disks: Some(vec![by_id::<Disk>(&self.disk)]),
            ..Backup::default()
        }
    }

    /// The backup when its phase is this one.
    async fn in_phase(&self, backup: &str, phase: &str) -> Backup {
        let service = self.backups().backup_service(backup);
        eventually(phase, async || {
            let now = service.get(GetOptions::new()).await.unwrap();
            (now.phase.as_deref() == Some(phase)).then_some(now)
        })
        .await
    }

    /// Finalizes it; as it was when it was ready.
    async fn end(&self, backup: &Backup) -> Backup {
        let ready = self.in_phase(&id(backup), "ready").await;
        let service = self.backups().backup_service(&id(backup));
        service.finalize(CallOptions::new()).await.unwrap();
        self.in_phase(&id(backup), "succeeded").await;
        ready
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_the_published_service_does_what_its_page_says() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::start().unwrap()).await.unwrap();
    let (vm_id, disk) = tokio::task::block_in_place(|| {
        let api = daemon.api("admin").unwrap();
        let vm = api
            .create_vm(&VmSpec::new("db1").without_guest().memory_mib(32))
            .unwrap();
        let disk = api.create_disk("db1_1", 4 << 20).unwrap();
        api.attach(&vm, &disk, "virtio", true).unwrap();
        api.start(&vm).unwrap();
        (vm, disk)
    });
    let connection = connect(&daemon);
    connection.test().await.unwrap();
    let vm = connection.system_service().vms_service().vm_service(&vm_id);
    let stage = Stage {
        connection,
        vm,
        vm_id,
        disk,
    };
    let first = add_a_full_and_an_incremental_backup(&stage).await;
    add_with_an_id(&stage).await;
    add_require_consistency(&stage).await;
    add_use_active(&stage).await;
    add_wait(&stage).await;
    headers_query_and_timeout(&stage, &daemon).await;
    list_follow_and_max(&stage).await;
    backup_service_and_service(&stage, &first).await;
    checkpoints(&stage).await;
    snapshots_and_nics(&stage).await;
    disks(&stage).await;
    transfers(&stage).await;
    jobs_and_events(&stage).await;
    stage.connection.close().await.unwrap();
    // The freeze that nobody answers is told.
    daemon.scan_log(&["freeze", "agent"]).unwrap();
}

/// `add(backup)`: the page's example, a full one and one since a checkpoint.
async fn add_a_full_and_an_incremental_backup(stage: &Stage) -> Backup {
    let full = stage
        .backups()
        .add(&stage.wanted(), AddBackupOptions::new())
        .await
        .unwrap();
    assert!(full.phase.is_some() && full.creation_date.is_some(), "{full:?}");
    let full = stage.end(&full).await;
    assert!(full.from_checkpoint_id.is_none() && full.to_checkpoint_id.is_some());
    let since = Backup {
        from_checkpoint_id: full.to_checkpoint_id.clone(),
        ..stage.wanted()
    };
    let next = stage.backups().add(&since, AddBackupOptions::new()).await.unwrap();
    let next = stage.end(&next).await;
    assert_eq!(next.from_checkpoint_id, full.to_checkpoint_id);
    assert!(next.to_checkpoint_id.is_some() && next.to_checkpoint_id != full.to_checkpoint_id);
    let unknown = Backup {
        from_checkpoint_id: Some(NOBODY.into()),
        ..stage.wanted()
    };
    let refused = stage
        .backups()
        .add(&unknown, AddBackupOptions::new())
        .await
        .unwrap_err();
    let Error::Refused(refusal) = &refused else {
        unreachable!("{refused:?}")
    };
    assert_eq!(refusal.status, 400);
    assert!(
        refusal.detail.as_deref().is_some_and(|text| text.contains(NOBODY)),
        "{refusal:?}"
    );
    assert!(
        refusal.reason.is_some() && refusal.correlation_id.is_some(),
        "{refusal:?}"
    );
    assert!(!refused.is_transient());
    full
}

/// `add(backup)` with the id that the backup shall have.
async fn add_with_an_id(stage: &Stage) {
    let mut named = stage.wanted();
    named.head.id = Some("5d9a1f6e-0c3b-4a52-9d6e-7c1f6a6f2b11".into());
    let made = stage.backups().add(&named, AddBackupOptions::new()).await.unwrap();
    assert_eq!(made.head.id, named.head.id);
    // One backup of a VM at a time; what stands in the way is named.
    let second = stage
        .backups()
        .add(&stage.wanted(), AddBackupOptions::new())
        .await
        .unwrap_err();
    assert_eq!(second.status(), Some(409), "{second:?}");
    stage.end(&made).await;
}

/// `:require_consistency`: no agent answers here, so what demands a freeze fails, and what does not is made.
async fn add_require_consistency(stage: &Stage) {
    let options = AddBackupOptions::new().require_consistency(true);
    let made = stage.backups().add(&stage.wanted(), options).await.unwrap();
    let failed = stage.in_phase(&id(&made), "failed").await;
    assert!(failed.head.comment.is_some(), "why: {failed:?}");
    let options = AddBackupOptions::new().require_consistency(false);
    let made = stage.backups().add(&stage.wanted(), options).await.unwrap();
    stage.end(&made).await;
}

/// `:use_active`: with it there is no snapshot of the backup, without it there is one.
async fn add_use_active(stage: &Stage) {
    for use_active in [true, false] {
        let options = AddBackupOptions::new().use_active(use_active);
        let made = stage.backups().add(&stage.wanted(), options).await.unwrap();
        let ready = stage.end(&made).await;
        assert_eq!(ready.snapshot.is_none(), use_active, "{ready:?}");
    }
}

/// `:wait`: `false` returns a request that is already sent, and can be waited for later.
async fn add_wait(stage: &Stage) {
    let mut wanted = stage.wanted();
    wanted.head.id = Some("5d9a1f6e-0c3b-4a52-9d6e-7c1f6a6f2b22".into());
    let later = stage.backups().add(&wanted, AddBackupOptions::new().wait(false));
    eventually("the backup that nobody waits for yet", async || {
        let list = stage.backups().list(ListOptions::new()).await.unwrap();
        list.iter().any(|one| one.head.id == wanted.head.id).then_some(())
    })
    .await;
    let made = later.await.unwrap();
    assert_eq!(made.head.id, wanted.head.id);
    stage.end(&made).await;
    let not_sent = stage.backups().add(&stage.wanted(), AddBackupOptions::new().wait(true));
    drop(not_sent);
    let now = stage.backups().list(ListOptions::new().wait(false)).await.unwrap();
    assert!(now.iter().all(|one| one.phase.as_deref() != Some("ready")), "{now:?}");
}

/// `:headers`, `:query`, `:timeout` (default: the connection's).
async fn headers_query_and_timeout(stage: &Stage, daemon: &Daemon) {
    let options = CallOptions::new().header("Correlation-Id", "from-a-header");
    let mut wanted = Snapshot {
        persist_memorystate: Some(false),
        ..Snapshot::default()
    };
    wanted.base.head.description = Some("by header".into());
    stage.vm.snapshots_service().add(&wanted, options).await.unwrap();
    let search = ListOptions::new().search("correlation_id=from-a-header");
    let events = stage.system().events_service().list(search).await.unwrap();
    assert!(
        events
            .iter()
            .any(|event| event.correlation_id.as_deref() == Some("from-a-header"))
    );

    let one = stage
        .backups()
        .list(ListOptions::new().query("max", "1"))
        .await
        .unwrap();
    assert_eq!(one.len(), 1);
    let wrong = ListOptions::new().header("not a header", "x");
    assert!(matches!(stage.backups().list(wrong).await, Err(Error::Usage(_))));

    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let hurried = Connection::builder(url)
        .token("a token")
        .timeout(Duration::from_millis(60));
    let backups = hurried
        .build()
        .unwrap()
        .system_service()
        .vms_service()
        .vm_service("1")
        .backups_service();
    for (options, expected) in [
        (ListOptions::new(), 60),
        (ListOptions::new().timeout(Duration::from_millis(20)), 20),
    ] {
        let late = backups.list(options).await.unwrap_err();
        let Error::Timeout { limit, .. } = late else {
            unreachable!("{late:?}")
        };
        assert_eq!(limit, Duration::from_millis(expected));
    }
    let given = Password::of("admin").unwrap().0;
    let wrong = Connection::builder(daemon.url()).user("admin@internal", format!("{given}x"));
    assert!(matches!(wrong.build().unwrap().test().await, Err(Error::Auth(_))));
}

/// `list(:follow, :max)`.
async fn list_follow_and_max(stage: &Stage) {
    let all = stage.backups().list(ListOptions::new()).await.unwrap();
    assert!(all.len() > 3);
    assert_eq!(stage.backups().list(ListOptions::new().max(2)).await.unwrap().len(), 2);
    let followed = stage
        .backups()
        .list(ListOptions::new().follow("disks,vm").max(1))
        .await
        .unwrap();
    let disk = followed[0].disks.as_ref().unwrap().first().unwrap();
    assert_eq!(disk.provisioned_size, Some(4 << 20));
    assert_eq!(followed[0].vm.as_ref().unwrap().head.name.as_deref(), Some("db1"));
}

/// `backup_service(id)`, and `service(path)` with no path, an empty, a plain and a nested one.
async fn backup_service_and_service(stage: &Stage, backup: &Backup) {
    let backups = stage.backups();
    let shown = backups
        .backup_service(&id(backup))
        .get(GetOptions::new())
        .await
        .unwrap();
    assert_eq!(shown.head.id, backup.head.id);
    for nothing in [None, Some("")] {
        let Ok(Service::VmBackups(same)) = backups.service(nothing) else {
            unreachable!("{nothing:?}")
        };
        assert!(!same.list(ListOptions::new().max(1)).await.unwrap().is_empty());
    }
    let Ok(Service::VmBackup(one)) = backups.service(id(backup).as_str()) else {
        unreachable!()
    };
    assert_eq!(
        one.get(GetOptions::new().follow("disks")).await.unwrap().head.id,
        backup.head.id
    );
    let Ok(Service::VmBackupDisks(disks)) = backups.service(format!("{}/disks", id(backup)).as_str()) else {
        unreachable!()
    };
    assert_eq!(id(&disks.list(ListOptions::new()).await.unwrap()[0]), stage.disk);
    let nested = format!("vms/{}/backups/{}/disks/{}", stage.vm_id, id(backup), stage.disk);
    let Ok(Service::VmBackupDisk(disk)) = stage.connection.service(nested.as_str()) else {
        unreachable!()
    };
    assert_eq!(
        disk.get(GetOptions::new()).await.unwrap().backup_mode.as_deref(),
        Some("full")
    );
    assert!(matches!(backups.service("1/nowhere"), Err(Error::Usage(_))));
    let gone = backups.backup_service(NOBODY).get(GetOptions::new()).await.unwrap_err();
    assert!(
        matches!(&gone, Error::NotFound(refusal) if refusal.status == 404),
        "{gone:?}"
    );
}

async fn checkpoints(stage: &Stage) {
    let checkpoints = stage.vm.checkpoints_service();
    let list = checkpoints.list(ListOptions::new()).await.unwrap();
    let (first, second) = (&list[0], &list[1]);
    assert_eq!(second.parent_id, first.head.id);
    let service = checkpoints.checkpoint_service(&id(first));
    assert_eq!(service.get(GetOptions::new()).await.unwrap().head.id, first.head.id);
    let disks = service.disks_service().list(ListOptions::new()).await.unwrap();
    assert_eq!(id(&disks[0]), stage.disk);
    let Ok(Service::VmCheckpointDisk(disk)) = service.service(format!("disks/{}", stage.disk).as_str()) else {
        unreachable!()
    };
    disk.get(GetOptions::new()).await.unwrap();
    service.remove(RemoveOptions::new()).await.unwrap();
    eventually("the checkpoint to be gone", async || {
        matches!(service.get(GetOptions::new()).await, Err(Error::NotFound(_))).then_some(())
    })
    .await;
}

async fn snapshots_and_nics(stage: &Stage) {
    let snapshots = stage.vm.snapshots_service();
    let made = eventually("the snapshot", async || {
        let list = snapshots.list(ListOptions::new().follow("disks")).await.unwrap();
        list.into_iter().find(|one| {
            one.base.head.description.as_deref() == Some("by header") && one.snapshot_status.as_deref() == Some("ok")
        })
    })
    .await;
    assert!(!made.disks.as_deref().unwrap_or_default().is_empty(), "{made:?}");
    let service = snapshots.snapshot_service(made.base.head.id.as_deref().unwrap());
    let disk = service.disks_service().disk_service(&stage.disk);
    assert_eq!(id(&disk.get(GetOptions::new()).await.unwrap()), stage.disk);
    assert!(
        service
            .nics_service()
            .list(ListOptions::new())
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        stage
            .vm
            .nics_service()
            .list(ListOptions::new())
            .await
            .unwrap()
            .is_empty()
    );
    // Restoring wants the VM down: the fault comes inside of the action, and out as an error.
    let refused = service
        .restore(&Action::default(), CallOptions::new())
        .await
        .unwrap_err();
    assert!(refused.status() == Some(409) && refused.refusal().unwrap().detail.is_some());
    let refused = stage.vm.freeze_filesystems(CallOptions::new()).await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "no agent: {refused:?}");
    service.remove(RemoveOptions::new()).await.unwrap();
    eventually("the snapshot to be gone", async || {
        matches!(service.get(GetOptions::new()).await, Err(Error::NotFound(_))).then_some(())
    })
    .await;
}

async fn disks(stage: &Stage) {
    let disks = stage.system().disks_service();
    let service = disks.disk_service(&stage.disk);
    let domains = stage
        .system()
        .storage_domains_service()
        .list(ListOptions::new())
        .await
        .unwrap();
    let domain = domains
        .iter()
        .find(|domain| domain.kind.as_deref() == Some("data"))
        .unwrap();
    stage.vm.stop(CallOptions::new()).await.unwrap();
    eventually("the VM to be down", async || {
        let now = stage.vm.get(GetOptions::new()).await.unwrap();
        (now.status.as_deref() == Some("down")).then_some(())
    })
    .await;
    let mut copy = Disk::default();
    copy.head.name = Some("copied".into());
    let action = Action {
        storage_domain: Some(Box::new(by_id(&id(domain)))),
        disk: Some(Box::new(copy)),
        ..Action::default()
    };
    service.copy(&action, CallOptions::new()).await.unwrap();
    let copied = eventually("the copy", async || {
        let found = disks.list(ListOptions::new().search("name=copied")).await.unwrap();
        found.into_iter().find(|disk| disk.status.as_deref() == Some("ok"))
    })
    .await;
    let here = stage
        .system()
        .storage_domains_service()
        .storage_domain_service(&id(domain));
    let held = here.disks_service().list(ListOptions::new()).await.unwrap();
    assert!(held.iter().any(|disk| disk.head.id == copied.head.id));
    let copied = disks.disk_service(&id(&copied));
    copied.sparsify(CallOptions::new()).await.unwrap();
    assert!(
        !copied
            .statistics_service()
            .list(ListOptions::new())
            .await
            .unwrap()
            .is_empty()
    );
}

async fn transfers(stage: &Stage) {
    let wanted = ImageTransfer {
        disk: Some(Box::new(by_id(&stage.disk))),
        direction: Some("upload".into()),
        format: Some("raw".into()),
        ..ImageTransfer::default()
    };
    let transfers = stage.system().image_transfers_service();
    let transfer = id(&transfers.add(&wanted, CallOptions::new()).await.unwrap());
    assert_eq!(transfers.list(ListOptions::new()).await.unwrap().len(), 1);
    let transfer = transfers.image_transfer_service(&transfer);
    let phase = async |wanted: &str| {
        eventually(wanted, async || {
            let now = transfer.get(GetOptions::new()).await.unwrap().phase;
            (now.as_deref() == Some(wanted)).then_some(())
        })
        .await;
    };
    phase("transferring").await;
    transfer.extend(CallOptions::new()).await.unwrap();
    transfer.pause(CallOptions::new()).await.unwrap();
    phase("paused_user").await;
    transfer.resume(CallOptions::new()).await.unwrap();
    phase("transferring").await;
    transfer.finalize(CallOptions::new()).await.unwrap();
    phase("finished_success").await;
}

async fn jobs_and_events(stage: &Stage) {
    let jobs = stage.system().jobs_service();
    let mut mine = Job::default();
    mine.head.description = Some("Nightly backup".into());
    let job = jobs.job_service(&id(&jobs.add(&mine, CallOptions::new()).await.unwrap()));
    let mut step = Step {
        kind: Some("executing".into()),
        ..Step::default()
    };
    step.head.description = Some("db1".into());
    let step = job.steps_service().add(&step, CallOptions::new()).await.unwrap();
    let step = job.steps_service().step_service(&id(&step));
    step.end(true, CallOptions::new()).await.unwrap();
    let ended = step.get(GetOptions::new()).await.unwrap().status;
    assert_eq!(ended.as_deref(), Some("finished"));
    job.end(false, CallOptions::new()).await.unwrap();
    assert_eq!(
        job.get(GetOptions::new()).await.unwrap().status.as_deref(),
        Some("failed")
    );
    job.clear(CallOptions::new()).await.unwrap();
    assert!(matches!(job.get(GetOptions::new()).await, Err(Error::NotFound(_))));

    let events = stage.system().events_service();
    let newest = events
        .list(ListOptions::new().max(1))
        .await
        .unwrap()
        .remove(0)
        .index
        .unwrap();
    let mut told = Event {
        origin: Some("nightly".into()),
        severity: Some("normal".into()),
        custom_id: Some(7),
        ..Event::default()
    };
    told.head.description = Some("all is stored".into());
    let told = events.add(&told, CallOptions::new()).await.unwrap();
    let later = ListOptions::new()
        .from(u64::try_from(newest).unwrap())
        .case_sensitive(false);
    let later = events.list(later).await.unwrap();
    assert!(later.iter().any(|event| event.head.id == told.head.id), "{later:?}");
    let service = events.event_service(&id(&told));
    service.remove(RemoveOptions::new()).await.unwrap();
    assert!(matches!(service.get(GetOptions::new()).await, Err(Error::NotFound(_))));
}

/// Puts what changed over what was there.
fn apply(base: &Path, delta: &Path) {
    let file = File::options().write(true).open(base).unwrap();
    let (list, data) = (delta.with_extension("extents"), delta.with_extension("data"));
    let (list, data) = (fs::read_to_string(list).unwrap(), fs::read(data).unwrap());
    let mut rest = data.as_slice();
    for line in list.lines() {
        let (start, length) = line.split_once(' ').unwrap();
        let (bytes, after) = rest.split_at(length.parse().unwrap());
        file.write_all_at(bytes, start.parse().unwrap()).unwrap();
        rest = after;
    }
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_client_back_up_a_guest_that_writes() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::start().unwrap()).await.unwrap();
    let (console, disk) = tokio::task::block_in_place(|| {
        let (api, guest) = (daemon.api("admin").unwrap(), Guest::build().unwrap());
        guest.install(daemon.data_dir()).unwrap();
        let spec = VmSpec::new("db1").cmdline(&guest.cmdline("sp.every=10").unwrap());
        let vm = api.create_vm(&spec).unwrap();
        let disk = api.create_disk("db1_1", 32 << 20).unwrap();
        api.attach(&vm, &disk, "virtio", true).unwrap();
        api.start(&vm).unwrap();
        (daemon.console(&vm), disk)
    });
    let written_on =
        |more: u64| tokio::task::block_in_place(|| console.wait_record(console.last_record() + more, LONG).unwrap());
    let connection = connect(&daemon);
    let folder = tempfile::tempdir().unwrap();
    let stored = folder.path().join(format!("{disk}.raw"));
    let moment = || Checker::new().check(&[&stored]).unwrap().complete();

    let before = written_on(30);
    incremental_backup::run(&connection, "db1", folder.path())
        .await
        .unwrap();
    let full = moment();
    assert!(
        full >= before,
        "what the guest knew to be durable is in the backup: {before}, {full}"
    );
    snapshot_and_wait::run(&connection, "db1", "between").await.unwrap();
    let before = written_on(30);
    let checkpoint = incremental_backup::run(&connection, "db1", folder.path())
        .await
        .unwrap();
    let changed = moment();
    assert!(changed >= before && before > full, "{full}, {before}, {changed}");
    let before = written_on(30);
    let bytes = changed_extents::run(&connection, "db1", &checkpoint, folder.path())
        .await
        .unwrap();
    apply(&stored, &folder.path().join(&disk));
    assert!(bytes > 0 && bytes < 16 << 20 && moment() >= before, "{bytes}");

    // The server's no is told with its words.
    let twice = snapshot_and_wait::run(&connection, "nobody", "x").await.unwrap_err();
    assert!(twice.to_string().contains("there is no VM nobody"));
    let unknown = changed_extents::run(&connection, "db1", NOBODY, folder.path())
        .await
        .unwrap_err();
    assert!(matches!(unknown.downcast_ref(), Some(Error::NotFound(_))), "{unknown}");
    connection.close().await.unwrap();
    tokio::task::block_in_place(|| console.fail_on_trouble()).unwrap();
    daemon.scan_log(&[]).unwrap();
}
