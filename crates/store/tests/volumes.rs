//! Lists of volumes: what they find, in which order, where a page begins, and that a page of many is not a scan of all.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::{collections::BTreeMap, time::Instant};
use stillpoint_store::{
    Listing, Store, StoreError, Test, Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    quota, usage,
    volume::{self, Beside, OutsideRow},
    volume_type,
};
use stillpoint_types::{DiskId, DomainId, ImageFormat, ImageId, ProjectId, VolumeStatus};
use uuid::Uuid;

const GIB: u64 = 1 << 30;

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("catalogue.db")).unwrap();
    (folder, store)
}

/// A disk with its base image, as a creation that has ended leaves it.
fn add(tx: &Tx, domain: DomainId, project: ProjectId, alias: &str, size_bytes: u64, at: i64) -> DiskId {
    let (id, image) = (DiskId::fresh(), ImageId::fresh());
    image::insert(
        tx,
        &ImageRow {
            id: image,
            disk: id,
            parent: None,
            domain,
            format: ImageFormat::Cow,
            size_bytes,
            state: ImageState::Live,
            created_at: at,
        },
    )
    .unwrap();
    disk::insert(
        tx,
        &DiskRow {
            id,
            project,
            domain,
            alias: alias.to_owned(),
            description: String::new(),
            size_bytes,
            sparse: true,
            image,
            illegal: None,
            created_at: at,
        },
    )
    .unwrap();
    id
}

fn of(project: ProjectId) -> Listing {
    Listing {
        projects: Some(vec![project]),
        limit: 100,
        ..Listing::default()
    }
}

async fn ids(store: &Store, asked: Listing) -> Option<Vec<DiskId>> {
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, StoreError> { volume::page(conn, &asked) };
    let found = store.read(read).await.unwrap();
    found.map(|found| found.rows.into_iter().map(|row| row.disk.id).collect())
}

/// Five volumes: a, b (2 GiB, said to be in use outside), c (to boot from, with metadata), d (in error), e of another project.
async fn five(store: &Store) -> (ProjectId, [DiskId; 5]) {
    let work = |tx: &Tx| -> Result<_, StoreError> {
        let domain = disk::ensure_domain(tx, "data", "/data", 1)?.id;
        let (mine, other) = (ProjectId::fresh(), ProjectId::fresh());
        let a = add(tx, domain, mine, "a", GIB, 10);
        let b = add(tx, domain, mine, "b", 2 * GIB, 20);
        let c = add(tx, domain, mine, "a 100%", GIB + 1, 20);
        let d = add(tx, domain, mine, "d", GIB, 30);
        let e = add(tx, domain, other, "a", GIB, 40);
        volume::set_stated(tx, b, Some(VolumeStatus::InUse))?;
        volume::attach_outside(
            tx,
            &OutsideRow {
                id: Uuid::new_v4(),
                disk: b,
                server: Some(stillpoint_types::VmId::fresh()),
                host: None,
                device: "/dev/vdb".to_owned(),
                read_only: false,
                attached_at: 21,
            },
        )?;
        let pairs = BTreeMap::from([("k/1".to_owned(), "v".to_owned()), ("l".to_owned(), String::new())]);
        let beside = Beside {
            disk: c,
            user: None,
            of_type: volume_type::DEFAULT,
            stated: None,
            empty_name: false,
            empty_description: true,
            bootable: Some(true),
            from_snapshot: None,
            from_volume: Some(a),
            metadata: pairs,
            pristine: true,
        };
        volume::insert(tx, &beside)?;
        disk::set_illegal(tx, d, Some("damaged"))?;
        Ok((mine, [a, b, c, d, e]))
    };
    store.write(work).await.unwrap()
}

#[tokio::test]
async fn volumes_are_found_by_every_field_status_among_them() {
    let (_folder, store) = open();
    let (mine, [a, b, c, d, e]) = five(&store).await;
    let newest = |mut two: [DiskId; 2]| {
        two.sort_by_key(|id| std::cmp::Reverse(id.to_string()));
        two
    };
    let [first, second] = newest([b, c]);
    assert_eq!(
        ids(&store, of(mine)).await.unwrap(),
        [d, first, second, a],
        "newest first, then by id"
    );
    let text = |field, text: &str| Test::In(field, vec![text.to_owned()]);
    for (test, wanted) in [
        (text("status", "available"), vec![c, a]),
        (text("status", "in-use"), vec![b]),
        (text("status", "error"), vec![d]),
        (text("name", "a"), vec![a]),
        (Test::Like("name", "00%".to_owned()), vec![c]),
        (Test::Like("name", "_".to_owned()), vec![]),
        (text("size", "2"), newest([b, c]).to_vec()),
        (text("size", "x"), vec![]),
        (text("bootable", "true"), vec![c]),
        (text("source_volid", &a.to_string()), vec![c]),
        (text("volume_type", "default"), vec![d, first, second, a]),
        (Test::Compare("created_at", "<", 20), vec![a]),
        (Test::Compare("created_at", ">=", 30), vec![d]),
        (
            Test::Pairs(vec![
                ("k/1".to_owned(), "v".to_owned()),
                ("l".to_owned(), String::new()),
            ]),
            vec![c],
        ),
        (Test::Pairs(vec![("k/1".to_owned(), "w".to_owned())]), vec![]),
        (Test::Nothing, vec![]),
    ] {
        let asked = Listing {
            tests: vec![test.clone()],
            ..of(mine)
        };
        assert_eq!(ids(&store, asked).await.unwrap(), wanted, "{test:?}");
    }
    let all = Listing {
        limit: 10,
        ..Listing::default()
    };
    assert_eq!(ids(&store, all).await.unwrap().first(), Some(&e), "of all projects");
    let unknown = Listing {
        tests: vec![text("colour", "red")],
        ..of(mine)
    };
    let read = store.read(move |conn| -> Result<_, StoreError> { volume::page(conn, &unknown) });
    assert!(matches!(read.await, Err(StoreError::BadValue(_))));
}

#[tokio::test]
async fn a_page_begins_after_its_marker_in_any_order_and_counts_all() {
    let (_folder, store) = open();
    let (mine, [a, b, c, d, e]) = five(&store).await;
    for sort in [
        vec![],
        vec![("size", false), ("name", true)],
        vec![("status", false)],
        vec![("updated_at", true), ("created_at", false)],
        vec![("id", false)],
    ] {
        let asked = Listing { sort, ..of(mine) };
        let whole = ids(&store, asked.clone()).await.unwrap();
        assert_eq!(whole.len(), 4);
        let mut walked = Vec::new();
        loop {
            let page = Listing {
                marker: walked.last().map(|id: &DiskId| id.to_string()),
                limit: 1,
                ..asked.clone()
            };
            let Some(next) = ids(&store, page).await.unwrap().pop() else {
                break;
            };
            walked.push(next);
        }
        assert_eq!(walked, whole, "{:?}", asked.sort);
    }
    let by_size = Listing {
        sort: vec![("size", false), ("name", true)],
        ..of(mine)
    };
    assert_eq!(ids(&store, by_size).await.unwrap(), [d, a, b, c]);
    let foreign = Listing {
        marker: Some(e.to_string()),
        ..of(mine)
    };
    assert_eq!(
        ids(&store, foreign).await,
        None,
        "a marker that the caller cannot see is not there"
    );
    let counted = |tests| Listing {
        tests,
        offset: 3,
        limit: 1,
        count: true,
        ..of(mine)
    };
    for (asked, many) in [
        (counted(vec![]), 4),
        (counted(vec![Test::In("status", vec!["available".to_owned()])]), 2),
    ] {
        let read = store.read(move |conn| -> Result<_, StoreError> { volume::page(conn, &asked) });
        assert_eq!(read.await.unwrap().unwrap().count, Some(many));
    }
}

#[tokio::test]
async fn whoever_gets_a_volume_may_have_written_to_it() {
    let (_folder, store) = open();
    let (_mine, [_a, b, c, ..]) = five(&store).await;
    let work = move |tx: &Tx| -> Result<_, StoreError> {
        let pristine = |tx: &Tx, id| volume::get(tx, id).unwrap().unwrap().pristine;
        assert!(pristine(tx, c) && !pristine(tx, b));
        let image = volume::get(tx, b)?.unwrap().disk.image;
        disk::set_image(tx, c, image)?;
        assert!(!pristine(tx, c), "another active image has another parent");
        volume::set_pristine(tx, c, true)?;
        volume::attach_outside(
            tx,
            &OutsideRow {
                id: Uuid::new_v4(),
                disk: c,
                server: None,
                host: Some("h".to_owned()),
                device: "/dev/vdb".to_owned(),
                read_only: false,
                attached_at: 21,
            },
        )?;
        assert!(!pristine(tx, c));
        Ok(())
    };
    store.write(work).await.unwrap();
}

#[tokio::test]
async fn limits_are_kept_for_everybody_and_for_one_and_use_follows_the_disks() {
    let (_folder, store) = open();
    let (mine, [a, ..]) = five(&store).await;
    let work = move |tx: &Tx| -> Result<_, StoreError> {
        quota::set(tx, None, "volumes", 5)?;
        quota::set(tx, Some(mine), "volumes", 7)?;
        quota::set(tx, Some(mine), "volumes", -1)?;
        assert_eq!(quota::limits(tx, None)?, [("volumes".to_owned(), 5)]);
        assert_eq!(quota::limits(tx, Some(mine))?, [("volumes".to_owned(), -1)]);
        quota::reset(tx, mine)?;
        assert!(quota::limits(tx, Some(mine))?.is_empty());
        let used = |tx: &Tx| usage::of_project(tx, mine).map(|used| (used.volumes, used.gigabytes));
        assert_eq!(used(tx)?, (4, 6));
        disk::set_size(tx, a, GIB + 1)?;
        assert_eq!(used(tx)?, (4, 7));
        disk::delete(tx, a)?;
        assert_eq!(used(tx)?, (3, 5));
        assert!(volume::get(tx, a)?.is_none());
        Ok(())
    };
    store.write(work).await.unwrap();
}

#[tokio::test]
async fn a_page_of_many_volumes_is_no_scan_of_all() {
    let (_folder, store) = open();
    let work = |tx: &Tx| -> Result<_, StoreError> {
        let domain = disk::ensure_domain(tx, "data", "/data", 1)?.id;
        let project = ProjectId::fresh();
        for at in 0..20_000 {
            add(tx, domain, project, &format!("disk {at}"), GIB, at);
        }
        Ok(project)
    };
    let project = store.write(work).await.unwrap();
    for asked in [
        of(project),
        Listing {
            projects: None,
            ..of(project)
        },
        Listing {
            sort: vec![("name", false)],
            ..of(project)
        },
        Listing {
            tests: vec![Test::In("status", vec!["available".to_owned()])],
            ..of(project)
        },
    ] {
        let page = asked.clone();
        // The middle of the list is as near as its beginning.
        let halfway = store
            .read(move |conn| -> Result<_, StoreError> {
                volume::page(
                    conn,
                    &Listing {
                        offset: 10_000,
                        limit: 1,
                        ..page
                    },
                )
            })
            .await
            .unwrap()
            .unwrap()
            .rows;
        let asked = Listing {
            marker: Some(halfway[0].disk.id.to_string()),
            count: asked.tests.is_empty(),
            ..asked
        };
        let best = async |asked: &Listing| {
            let mut best = std::time::Duration::MAX;
            for _ in 0..5 {
                let (asked, begun) = (asked.clone(), Instant::now());
                let read = store.read(move |conn| -> Result<_, StoreError> { volume::page(conn, &asked) });
                assert_eq!(read.await.unwrap().unwrap().rows.len(), 100);
                best = best.min(begun.elapsed());
            }
            best
        };
        let took = best(&asked).await;
        println!("{:?} {took:?}", asked.sort);
        assert!(took.as_millis() < 50, "a page took {took:?}");
    }
}
