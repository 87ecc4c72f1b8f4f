//! An acknowledged write survives `kill -9` of the process that made it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};
use stillpoint_store::{Store, StoreError, meta};
use tokio::task::JoinSet;

const PATH: &str = "STILLPOINT_TEST_DATABASE";
const ACKNOWLEDGED_MIN: usize = 300;

/// The child: writes from eight tasks without end, and says each row on standard output once it was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test of this file runs it in a process of its own, and kills it"]
async fn child_that_writes_until_it_is_killed() {
    let path = std::env::var_os(PATH).expect("the parent names the database");
    let store = Store::open(path.as_ref()).unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0_u64.. {
                let key = format!("{task}-{n}");
                let row = key.clone();
                store
                    .write(move |tx| -> Result<_, StoreError> { meta::put(tx, &row, &row) })
                    .await
                    .unwrap();
                writeln!(std::io::stdout(), "acknowledged {key}").unwrap();
            }
        });
    }
    tasks.join_next().await;
}

#[tokio::test]
async fn every_acknowledged_row_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.db");
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "child_that_writes_until_it_is_killed",
            ])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        while acknowledged.len() < ACKNOWLEDGED_MIN * round {
            let line = lines.next().expect("the child writes without end").unwrap();
            acknowledged.extend(line.split_once("acknowledged ").map(|(_, key)| key.to_owned()));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        // What was in the pipe was acknowledged too; the last line may be cut.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let whole = rest.len().saturating_sub(1);
        acknowledged.extend(
            rest[..whole]
                .iter()
                .filter_map(|line| line.strip_prefix("acknowledged "))
                .map(str::to_owned),
        );

        let store = Store::open(&path).unwrap();
        let missing = store
            .read(move |conn| -> Result<_, StoreError> {
                let mut missing = Vec::new();
                for key in acknowledged {
                    if meta::value(conn, &key)?.as_deref() != Some(key.as_str()) {
                        missing.push(key);
                    }
                }
                Ok(missing)
            })
            .await
            .unwrap();
        assert!(missing.is_empty(), "round {round}: lost {missing:?}");
        store.close().await.unwrap();
    }
}
