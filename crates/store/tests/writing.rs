//! What a caller of the catalogue can rely on: batching, isolation of failures, consistent reads, refused files.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};
use stillpoint_store::{Store, StoreError, Tx, known_version, meta, project, user};
use stillpoint_types::{ProjectId, UserId};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.db");
    (folder, path)
}

async fn value(store: &Store, key: &'static str) -> Option<String> {
    store
        .read(move |conn| -> Result<_, StoreError> { meta::value(conn, key) })
        .await
        .unwrap()
}

/// On a current-thread runtime: afterwards each write that was spawned has been queued. One turn may run 61 tasks only.
async fn let_tasks_run() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

/// Keeps the writer busy until the sender is used or dropped, so that a test decides what lies in one batch.
async fn hold_writer(store: &Store) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, gate) = mpsc::channel::<()>();
    let (begun, mut running) = tokio::sync::mpsc::channel(1);
    let held = store.write(move |_tx| -> Result<(), StoreError> {
        begun.blocking_send(()).unwrap();
        // Dropped or sent: both open the gate.
        assert_ne!(gate.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Timeout));
        Ok(())
    });
    let task = tokio::spawn(async move { held.await.unwrap() });
    running.recv().await.unwrap();
    (release, task)
}

#[tokio::test]
async fn writes_that_wait_together_share_one_commit() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let (release, held) = hold_writer(&store).await;
    let mut writes = JoinSet::new();
    for n in 0..64 {
        writes.spawn(store.write(move |tx| -> Result<_, StoreError> { meta::put(tx, &format!("k{n}"), "v") }));
    }
    let_tasks_run().await;
    release.send(()).unwrap();
    held.await.unwrap();
    while let Some(done) = writes.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(store.commits(), 2, "one for the held write, one for the 64");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_need_fewer_commits_than_writes() {
    const WRITES: u32 = 64;
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let put = |n: u32| store.write(move |tx| -> Result<_, StoreError> { meta::put(tx, &format!("k{n}"), "v") });

    let start = Instant::now();
    for n in 0..WRITES {
        put(n).await.unwrap();
    }
    let (one_by_one, commits_one_by_one) = (start.elapsed(), store.commits());

    let start = Instant::now();
    let mut writes = JoinSet::new();
    for n in 0..WRITES {
        writes.spawn(put(n));
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap().unwrap();
    }
    let (together, commits_together) = (start.elapsed(), store.commits() - commits_one_by_one);
    println!(
        "{WRITES} writes: one by one {one_by_one:?} in {commits_one_by_one} commits, together {together:?} in \
         {commits_together} commits, ratio {:.1}",
        one_by_one.as_secs_f64() / together.as_secs_f64()
    );
    assert_eq!(commits_one_by_one, u64::from(WRITES));
    assert!(commits_together < u64::from(WRITES), "{commits_together}");
}

#[tokio::test]
async fn a_failed_or_panicking_write_takes_nothing_of_its_batch_with_it() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let (release, held) = hold_writer(&store).await;
    let first = tokio::spawn(store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "first", "kept") }));
    let refused = tokio::spawn(store.write(|tx| -> Result<(), StoreError> {
        meta::put(tx, "refused", "must vanish")?;
        Err(StoreError::BadValue("on purpose".to_owned()))
    }));
    let panicked = tokio::spawn(store.write(|tx| -> Result<(), StoreError> {
        meta::put(tx, "panicked", "must vanish")?;
        panic!("on purpose");
    }));
    let last = tokio::spawn(store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "last", "kept") }));
    let_tasks_run().await;
    drop(release);
    held.await.unwrap();

    first.await.unwrap().unwrap();
    assert!(matches!(refused.await.unwrap(), Err(StoreError::BadValue(_))));
    assert!(matches!(panicked.await.unwrap(), Err(StoreError::Panicked(text)) if text == "on purpose"));
    last.await.unwrap().unwrap();
    assert_eq!(store.commits(), 2);
    assert_eq!(value(&store, "first").await.as_deref(), Some("kept"));
    assert_eq!(value(&store, "last").await.as_deref(), Some("kept"));
    assert_eq!(value(&store, "refused").await, None);
    assert_eq!(value(&store, "panicked").await, None);
}

#[tokio::test]
async fn a_read_sees_one_state_while_writes_go_on_and_survives_panics() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    store
        .write(|tx| -> Result<_, StoreError> { meta::put(tx, "n", "1") })
        .await
        .unwrap();
    let (begun, mut running) = tokio::sync::mpsc::channel(1);
    let (resume, gate) = mpsc::channel::<()>();
    let reading = tokio::spawn(store.read(move |conn| -> Result<_, StoreError> {
        let before = meta::value(conn, "n")?;
        begun.blocking_send(()).unwrap();
        gate.recv_timeout(SOON).unwrap();
        Ok((before, meta::value(conn, "n")?))
    }));
    running.recv().await.unwrap();
    store
        .write(|tx| -> Result<_, StoreError> { meta::put(tx, "n", "2") })
        .await
        .unwrap();
    resume.send(()).unwrap();
    let (before, after) = reading.await.unwrap().unwrap();
    assert_eq!(before, after);
    assert_eq!(
        value(&store, "n").await.as_deref(),
        Some("2"),
        "a read after an answered write sees it"
    );

    for _ in 0..16 {
        let gone = store.read(|_conn| -> Result<(), StoreError> { panic!("reader") }).await;
        assert!(matches!(gone, Err(StoreError::Panicked(_))));
    }
    assert_eq!(value(&store, "n").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let (release, held) = hold_writer(&store).await;
    let queued = tokio::spawn(store.write(|tx| -> Result<_, StoreError> { meta::put(tx, "queued", "v") }));
    let_tasks_run().await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    let_tasks_run().await;
    drop(release);
    held.await.unwrap();
    queued.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    store.close().await.unwrap();
    let late = store
        .write(|tx: &Tx| -> Result<_, StoreError> { meta::put(tx, "late", "v") })
        .await;
    assert!(matches!(late, Err(StoreError::Closed)));
    let late = store
        .read(|conn| -> Result<_, StoreError> { meta::value(conn, "late") })
        .await;
    assert!(matches!(late, Err(StoreError::Closed)));
    assert!(
        !path.with_extension("db-wal").exists(),
        "the WAL was moved into the file"
    );

    let store = Store::open(&path).unwrap();
    assert_eq!(value(&store, "queued").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn dropping_the_last_handle_inside_a_write_neither_hangs_nor_loses_it() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let captured = store.clone();
    let write = store.write(move |tx| -> Result<_, StoreError> {
        drop(captured);
        meta::put(tx, "k", "v")
    });
    drop(store);
    tokio::time::timeout(SOON, write)
        .await
        .unwrap()
        .unwrap_or_else(|error| {
            // The stop may overtake the queueing: then the write is refused, which is as true.
            assert!(matches!(error, StoreError::Closed), "{error}");
        });
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_unchanged() {
    let (_folder, path) = fresh();
    Store::open(&path).unwrap().close().await.unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute("INSERT INTO schema_version VALUES (9999, 'future', 0)", [])
        .unwrap();
    sql.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = Store::open(&path).unwrap_err();
    assert!(
        matches!(refused, StoreError::Newer { found: 9999, known } if known == known_version()),
        "{refused}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused_unchanged() {
    let (folder, path) = fresh();
    let noise: Vec<u8> = (0..65536_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&path, &noise).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Corrupt { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), noise);

    let other = folder.path().join("other.db");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    let before = std::fs::read(&other).unwrap();
    assert!(matches!(Store::open(&other).unwrap_err(), StoreError::NotOurs(_)));
    assert_eq!(std::fs::read(&other).unwrap(), before);

    assert!(matches!(
        Store::open(folder.path()).unwrap_err(),
        StoreError::Open { .. }
    ));
    assert!(matches!(
        Store::open(&folder.path().join("no/such/x.db")).unwrap_err(),
        StoreError::Open { .. }
    ));
}

#[tokio::test]
async fn a_truncated_database_is_refused_not_repaired_into_an_empty_one() {
    let (_folder, path) = fresh();
    Store::open(&path).unwrap().close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Corrupt { .. }));
}

#[tokio::test]
async fn no_other_user_of_the_host_can_read_the_files() {
    let (folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    store
        .write(|tx| -> Result<_, StoreError> { meta::put(tx, "k", "v") })
        .await
        .unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            entry.file_name()
        );
        seen += 1;
    }
    assert_eq!(seen, 3, "database, WAL, its index");
}

#[tokio::test]
async fn hostile_names_are_only_names_and_doubles_are_said() {
    let (_folder, path) = fresh();
    let store = Store::open(&path).unwrap();
    let names = [
        "'; DROP TABLE app_user; --",
        "\" OR 1=1",
        "%_",
        "a\u{0}b",
        "ünï\u{202e}",
        "x@y@z",
    ];
    for name in names {
        let row = user::User {
            id: UserId::fresh(),
            name: name.to_owned(),
            domain: "internal".to_owned(),
            password_hash: None,
            is_admin: false,
            enabled: true,
            profile: user::Profile::default(),
            created_at: 1,
        };
        let found = store
            .write(move |tx| -> Result<_, StoreError> {
                user::insert(tx, &row)?;
                Ok((row, user::by_name(tx, name, "internal")?))
            })
            .await
            .unwrap();
        assert_eq!(Some(found.0), found.1);
    }
    let all = store
        .read(|conn| -> Result<_, StoreError> { user::page(conn, ("", ""), 100) })
        .await
        .unwrap();
    assert_eq!(all.len(), names.len());
    let after = (all[1].name.clone(), all[1].domain.clone());
    let rest = store
        .read(move |conn| -> Result<_, StoreError> { user::page(conn, (&after.0, &after.1), 2) })
        .await
        .unwrap();
    assert_eq!(rest, all[2..4]);

    let double = store
        .write(|tx| -> Result<_, StoreError> {
            for _ in 0..2 {
                project::insert(tx, &project::Project::fresh(ProjectId::fresh(), "p"))?;
            }
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(double.is_duplicate(), "{double}");
    let left = store
        .read(|conn| -> Result<_, StoreError> { project::page(conn, "", 10) })
        .await
        .unwrap();
    assert!(left.is_empty(), "the failed write left nothing");
}
