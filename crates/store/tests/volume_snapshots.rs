//! What can be relied on of the rows of volume snapshots: what a project has is never counted wrong, lists are exact in any
//! order and from any place, and none costs more because there are many.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]
#![expect(clippy::too_many_lines, reason = "each test is one story")]

use std::{collections::BTreeMap, path::Path, time::Instant};
use stillpoint_store::{
    Conn, Listing, Store, StoreError, Test, Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    snapshot::{self, SnapshotRow},
    usage::{self, UsageRow},
    vm::{self, VmRow},
    volume_snapshot::{self, Texts, VolumeSnapshotRow},
};
use stillpoint_types::{
    BackupId, DiskId, DomainId, ImageFormat, ImageId, ProjectId, SnapshotId, SnapshotType, UserId, VmId, VmStatus,
    VolumeSnapshotId, VolumeSnapshotStatus,
};

const GIB: u64 = 1 << 30;

/// Numbers without an outside: the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("catalogue.db")).unwrap()
}

async fn write<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Tx) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.write(work).await.unwrap()
}

async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Conn) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.read(work).await.unwrap()
}

fn add_image(tx: &Tx, domain: DomainId, disk: DiskId) -> Result<ImageId, StoreError> {
    let id = ImageId::fresh();
    let row = ImageRow {
        id,
        disk,
        parent: None,
        domain,
        format: ImageFormat::Cow,
        size_bytes: GIB,
        state: ImageState::Live,
        created_at: 1,
    };
    image::insert(tx, &row)?;
    Ok(id)
}

fn add_disk(tx: &Tx, domain: DomainId, project: ProjectId, size_bytes: u64) -> Result<DiskId, StoreError> {
    let id = DiskId::fresh();
    let row = DiskRow {
        id,
        project,
        domain,
        alias: String::new(),
        description: String::new(),
        size_bytes,
        sparse: true,
        image: add_image(tx, domain, id)?,
        illegal: None,
        created_at: 1,
    };
    disk::insert(tx, &row)?;
    Ok(id)
}

fn own(disk: DiskId, project: ProjectId, size_bytes: u64, at: i64) -> VolumeSnapshotRow {
    VolumeSnapshotRow {
        id: VolumeSnapshotId::fresh(),
        disk,
        project,
        user: None,
        name: Some(format!("n{}", at % 7)),
        description: None,
        metadata: BTreeMap::from([("k".into(), format!("v{}", at % 3))]),
        size_bytes,
        status: VolumeSnapshotStatus::Available,
        progress: 100,
        reason: None,
        created_at: at,
        updated_at: (at % 2 == 0).then_some(at),
        vm_snapshot: None,
        image: None,
        backup: None,
        by_volume: true,
    }
}

fn add_vm(tx: &Tx, project: ProjectId) -> Result<VmId, StoreError> {
    let id = VmId::fresh();
    let row = VmRow {
        id,
        project,
        name: id.to_string(),
        config: "{}".into(),
        status: VmStatus::Down,
        status_detail: String::new(),
        process: None,
        resume_memory: None,
        generation: 1,
        created_at: 1,
        started_at: None,
        stopped_at: None,
    };
    vm::insert(tx, &row)?;
    Ok(id)
}

fn add_vm_snapshot(tx: &Tx, vm: VmId, kind: SnapshotType, seq: u64) -> Result<SnapshotId, StoreError> {
    let id = SnapshotId::fresh();
    let row = SnapshotRow {
        id,
        vm,
        kind,
        description: "monday".into(),
        date: 5,
        seq,
        memory: None,
        config: None,
    };
    snapshot::insert(tx, &row)?;
    Ok(id)
}

/// What is there, counted by the rows themselves, with a connection of the test's own.
fn recount(path: &Path, project: ProjectId) -> UsageRow {
    let sql = rusqlite::Connection::open(path.join("catalogue.db")).unwrap();
    let sizes = |text: &str| -> Vec<u64> {
        let mut statement = sql.prepare(text).unwrap();
        let rows = statement
            .query_map([project.to_string()], |row| row.get::<_, i64>(0))
            .unwrap();
        rows.map(|size| u64::try_from(size.unwrap()).unwrap()).collect()
    };
    let volumes = sizes("SELECT size_bytes FROM disk WHERE project_id = ?1");
    let snapshots = sizes("SELECT size_bytes FROM volume_snapshot WHERE project_id = ?1 AND backup_id IS NULL");
    UsageRow {
        volumes: volumes.len() as u64,
        snapshots: snapshots.len() as u64,
        gigabytes: volumes.iter().chain(&snapshots).map(|size| size.div_ceil(GIB)).sum(),
    }
}

#[tokio::test]
async fn what_a_project_has_is_what_a_recount_finds_after_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let domain = write(&store, |tx| disk::ensure_domain(tx, "data", "/data", 1)).await.id;
    let projects = [ProjectId::fresh(), ProjectId::fresh()];
    let mut dice = Dice(7);
    let (mut disks, mut owned, mut members): (Vec<DiskId>, Vec<VolumeSnapshotId>, Vec<SnapshotId>) = Default::default();
    let vm = write(&store, move |tx| add_vm(tx, projects[0])).await;
    for turn in 0..600_i64 {
        let project = projects[dice.below(2)];
        let size = (dice.below(5) as u64) * GIB / 2 + 1;
        let disk = (!disks.is_empty()).then(|| disks[dice.below(disks.len())]);
        match (dice.below(10), disk) {
            (0 | 1, _) | (_, None) => disks.push(write(&store, move |tx| add_disk(tx, domain, project, size)).await),
            (2 | 3, Some(disk)) => {
                let row = own(disk, project, size, turn);
                owned.push(row.id);
                write(&store, move |tx| volume_snapshot::insert(tx, &row)).await;
            }
            (4, Some(disk)) => {
                let kind = if turn % 3 == 0 {
                    SnapshotType::Preview
                } else {
                    SnapshotType::Regular
                };
                let id = write(&store, move |tx| {
                    let id = add_vm_snapshot(tx, vm, kind, u64::try_from(turn).unwrap())?;
                    let held = disk::get(tx, disk)?.unwrap().image;
                    snapshot::add_disk(tx, id, disk, held)?;
                    if turn % 2 == 0 {
                        volume_snapshot::mark_backup(tx, id, BackupId::fresh(), "autobk", &BTreeMap::new())?;
                    }
                    Ok(id)
                });
                members.push(id.await);
            }
            (5, Some(disk)) => {
                // A disk goes with its snapshots; members of VM snapshots leave before it.
                disks.retain(|id| *id != disk);
                let gone = write(&store, move |tx| {
                    let gone = snapshot::of_disk(tx, disk)?;
                    for id in &gone {
                        snapshot::delete(tx, *id)?;
                    }
                    disk::delete(tx, disk)?;
                    Ok(gone)
                });
                let gone = gone.await;
                members.retain(|id| !gone.contains(id));
            }
            (6, Some(disk)) => write(&store, move |tx| disk::set_size(tx, disk, size)).await,
            (7, Some(disk)) => {
                write(&store, move |tx| {
                    volume_snapshot::set_project_of_disk(tx, disk, project)
                })
                .await;
            }
            (8, _) if !owned.is_empty() => {
                let id = owned.swap_remove(dice.below(owned.len()));
                write(&store, move |tx| volume_snapshot::delete(tx, id)).await;
            }
            (9, _) if !members.is_empty() => {
                let id = members.swap_remove(dice.below(members.len()));
                write(&store, move |tx| snapshot::delete(tx, id)).await;
            }
            _ => {}
        }
        if turn % 50 == 49 {
            for project in projects {
                let known = read(&store, move |conn| usage::of_project(conn, project)).await;
                assert_eq!(known, recount(folder.path(), project), "turn {turn}");
            }
        }
    }
    assert!(disks.len() > 5 && !members.is_empty(), "the work was none");
}

#[tokio::test]
async fn a_member_of_a_vm_snapshot_comes_and_goes_with_it_and_can_be_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let project = ProjectId::fresh();
    let (claimed, user) = (VolumeSnapshotId::fresh(), UserId::fresh());
    write(&store, move |tx| {
        let domain = disk::ensure_domain(tx, "data", "/data", 1)?.id;
        let (vm, disk) = (add_vm(tx, project)?, add_disk(tx, domain, project, GIB)?);
        let held = disk::get(tx, disk)?.unwrap().image;
        let seen = add_vm_snapshot(tx, vm, SnapshotType::Regular, 1)?;
        snapshot::add_disk(tx, seen, disk, held)?;
        let kept = add_vm_snapshot(tx, vm, SnapshotType::Preview, 2)?;
        snapshot::add_disk(tx, kept, disk, held)?;
        assert_eq!(
            volume_snapshot::count_of_disk(tx, disk)?,
            1,
            "what a preview keeps is no snapshot"
        );
        let texts = Texts {
            name: Some("mine".into()),
            ..Texts::default()
        };
        volume_snapshot::claim_member(tx, seen, disk, claimed, user, &texts)?;
        let row = volume_snapshot::get(tx, claimed)?.unwrap();
        assert_eq!(
            (row.name.as_deref(), row.user, row.vm_snapshot),
            (Some("mine"), Some(user), Some(seen))
        );
        assert_eq!(volume_snapshot::image_of(tx, &row)?, Some(held));
        assert_eq!(image::names(tx, held)?, (vec![disk], 2));

        // Not made: the row stays, in error; a second one goes with its VM snapshot.
        volume_snapshot::fail_member(tx, seen, "no space", 9)?;
        snapshot::remove_disk(tx, seen, disk)?;
        let row = volume_snapshot::get(tx, claimed)?.unwrap();
        assert_eq!((row.status, row.vm_snapshot), (VolumeSnapshotStatus::Error, None));
        snapshot::add_disk(tx, seen, disk, held)?;
        assert_eq!(volume_snapshot::count_of_disk(tx, disk)?, 2);
        assert!(volume_snapshot::newest(tx, disk)?.unwrap().created_at > row.created_at);
        snapshot::delete(tx, seen)?;
        assert_eq!(volume_snapshot::count_of_disk(tx, disk)?, 1);

        // What waits is settled together, once.
        let mut waiting = own(disk, project, GIB, 20);
        waiting.status = VolumeSnapshotStatus::Creating;
        volume_snapshot::insert(tx, &waiting)?;
        assert_eq!(volume_snapshot::settle(tx, disk, held)?, 1);
        assert_eq!(volume_snapshot::settle(tx, disk, held)?, 0);
        assert_eq!(volume_snapshot::get(tx, waiting.id)?.unwrap().image, Some(held));
        let next = add_image(tx, domain, disk)?;
        image::merged(tx, next, held)?;
        assert_eq!(
            volume_snapshot::get(tx, waiting.id)?.unwrap().image,
            Some(next),
            "a merge takes its names along"
        );
        Ok(())
    })
    .await;
}

/// All pages, by markers.
async fn walk(store: &Store, mut asked: Listing) -> Vec<VolumeSnapshotRow> {
    let mut all = Vec::new();
    loop {
        let listing = asked.clone();
        let page = read(store, move |conn| volume_snapshot::page(conn, &listing, &[]))
            .await
            .unwrap();
        let Some(last) = page.rows.last() else { return all };
        asked.marker = Some(last.id.to_string());
        all.extend(page.rows);
    }
}

#[tokio::test]
async fn lists_are_exact_in_any_order_and_cost_the_same_when_there_are_many() {
    const MANY: i64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let project = ProjectId::fresh();
    let (disks, mut rows) = write(&store, move |tx| {
        let domain = disk::ensure_domain(tx, "data", "/data", 1)?.id;
        let disks = [
            add_disk(tx, domain, project, GIB)?,
            add_disk(tx, domain, project, 3 * GIB)?,
        ];
        let mut rows = Vec::new();
        for n in 0..60 {
            let mut row = own(
                disks[usize::from(n % 4 == 0)],
                project,
                GIB * (1 + u64::try_from(n).unwrap() % 3),
                n / 2,
            );
            row.status = VolumeSnapshotStatus::ALL[usize::try_from(n).unwrap() % 3];
            volume_snapshot::insert(tx, &row)?;
            rows.push(row);
        }
        Ok((disks, rows))
    })
    .await;
    let asked = |tests: Vec<Test>, sort: Vec<(&'static str, bool)>| Listing {
        projects: Some(vec![project]),
        tests,
        sort,
        limit: 7,
        ..Listing::default()
    };
    rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id.to_string())));
    assert_eq!(walk(&store, asked(vec![], vec![])).await, rows, "newest first");
    let mut sorted = rows.clone();
    sorted.sort_by_key(|row| {
        (
            row.updated_at.unwrap_or(0),
            std::cmp::Reverse(row.size_bytes),
            row.id.to_string(),
        )
    });
    let mut found = walk(
        &store,
        asked(vec![], vec![("updated_at", false), ("size", true), ("id", false)]),
    )
    .await;
    assert_eq!(found, sorted, "several keys, in different directions");
    let of_disk = Test::In("volume_id", vec![disks[0].to_string()]);
    let pairs = Test::Pairs(vec![("k".into(), "v1".into())]);
    let tests = vec![
        of_disk,
        pairs,
        Test::Like("name", "N".into()),
        Test::Compare("created_at", ">=", 5),
    ];
    found = walk(&store, asked(tests, vec![])).await;
    let fits = |row: &&VolumeSnapshotRow| row.disk == disks[0] && row.metadata["k"] == "v1" && row.created_at >= 5;
    assert_eq!(found, rows.iter().filter(fits).cloned().collect::<Vec<_>>());
    let creating = asked(vec![Test::In("status", vec!["creating".into()])], vec![]);
    assert_eq!(walk(&store, creating).await.len(), 20);
    let lost = Listing {
        marker: Some(VolumeSnapshotId::fresh().to_string()),
        ..asked(vec![], vec![])
    };
    assert_eq!(
        read(&store, move |conn| volume_snapshot::page(conn, &lost, &[])).await,
        None
    );

    let timed = |disk: Option<DiskId>| {
        let listing = Listing {
            limit: 100,
            count: true,
            ..asked(
                disk.map(|id| Test::In("volume_id", vec![id.to_string()]))
                    .into_iter()
                    .collect(),
                vec![],
            )
        };
        let store = store.clone();
        async move {
            let mut best = u128::MAX;
            for _ in 0..20 {
                let (begun, listing) = (Instant::now(), listing.clone());
                read(&store, move |conn| volume_snapshot::page(conn, &listing, &[]))
                    .await
                    .unwrap();
                best = best.min(begun.elapsed().as_micros());
            }
            best
        }
    };
    let few = (timed(None).await, timed(Some(disks[1])).await);
    write(&store, move |tx| {
        (0..MANY).try_for_each(|n| volume_snapshot::insert(tx, &own(disks[0], project, GIB, 100 + n)))
    })
    .await;
    let many = (timed(None).await, timed(Some(disks[1])).await);
    assert!(
        many.0 < 4 * few.0 + 2000,
        "a page with its count: {few:?} µs, then {many:?} µs"
    );
    assert!(many.1 < 4 * few.1 + 2000, "of one volume: {few:?} µs, then {many:?} µs");
    let listing = Listing {
        count: true,
        ..asked(vec![], vec![])
    };
    let page = read(&store, move |conn| volume_snapshot::page(conn, &listing, &[]))
        .await
        .unwrap();
    assert_eq!(page.count, Some(60 + u64::try_from(MANY).unwrap()));
}

#[tokio::test]
async fn what_an_older_daemon_left_has_its_rows_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let (project, disk, backup) = (ProjectId::fresh(), DiskId::fresh(), BackupId::fresh());
    let [mine, kept, of_backup] = [(); 3].map(|()| SnapshotId::fresh());
    {
        let sql = rusqlite::Connection::open(folder.path().join("catalogue.db")).unwrap();
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
        let mut files: Vec<_> = std::fs::read_dir(migrations)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        for file in files.iter().take(7) {
            sql.execute_batch(&std::fs::read_to_string(file).unwrap()).unwrap();
        }
        let (domain, image, vm) = (DomainId::fresh(), ImageId::fresh(), VmId::fresh());
        sql.execute_batch(&format!(
            "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT;
             INSERT INTO schema_version VALUES (7, 'clients', 1);
             INSERT INTO storage_domain VALUES ('{domain}', 'data', '/data', 1);
             INSERT INTO image VALUES ('{image}', '{disk}', NULL, '{domain}', 'cow', 1073741825, 'live', 1);
             INSERT INTO disk VALUES ('{disk}', '{project}', '{domain}', 'd', '', 2147483648, 1, '{image}', NULL, 1);
             INSERT INTO vm VALUES ('{vm}', '{project}', 'vm', '{{}}', 'down', '', NULL, NULL, 1, 1, NULL, NULL);
             INSERT INTO snapshot VALUES ('{mine}', '{vm}', 'regular', 'monday', 7, 1, NULL, NULL);
             INSERT INTO snapshot VALUES ('{kept}', '{vm}', 'preview', 'kept', 8, 2, NULL, NULL);
             INSERT INTO snapshot VALUES ('{of_backup}', '{vm}', 'regular', 'auto', 9, 3, NULL, NULL);
             INSERT INTO backup VALUES ('{backup}', '{project}', '{vm}', 'vm', '', 'snapshot', NULL, '{backup}', '{of_backup}',
                                        'ready', 1, NULL, 9, 9, 9, NULL);
             INSERT INTO backup_disk VALUES ('{backup}', '{disk}', '{image}', 1, 'full', NULL, 0);
             INSERT INTO snapshot_disk SELECT id, '{disk}', '{image}' FROM snapshot;"
        ))
        .unwrap();
    }
    let store = open(folder.path());
    let all = Listing {
        limit: 10,
        count: true,
        ..Listing::default()
    };
    let live = read(&store, volume_snapshot::live).await;
    let found = read(&store, move |conn| volume_snapshot::page(conn, &all, &[]))
        .await
        .unwrap();
    assert_eq!(found.count, Some(2));
    let [auto, monday] = found.rows.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (monday.vm_snapshot, monday.name.as_deref(), monday.size_bytes),
        (Some(mine), Some("monday"), GIB + 1)
    );
    assert_eq!(
        (auto.backup, auto.name.clone()),
        (Some(backup), Some(format!("autobk_snapshot_vbs_{backup}")))
    );
    assert_eq!(live, [(auto.id, VolumeSnapshotStatus::BackingUp)]);
    let counted = read(&store, move |conn| usage::of_project(conn, project)).await;
    assert_eq!(counted, recount(folder.path(), project));
    assert_eq!((counted.snapshots, counted.gigabytes), (1, 4));
}
