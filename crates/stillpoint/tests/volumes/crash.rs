//! The daemon dies at every named moment of a volume's snapshot and of its way back to one: afterwards each is wholly done or
//! wholly not, no byte is wrong, nothing is stuck, and the next one is right.
//!
//! The daemon that dies is this very test binary, started again to run [`the_daemon_that_dies`] on the same data directory.

use crate::{rig::*, scene::Taken};
use std::{os::unix::process::ExitStatusExt, process::Command, time::Duration};
use stillpoint_engine::command::volume::RevertRule;
use stillpoint_types::*;

const LEASE: Duration = Duration::from_secs(3600);
const SIGABRT: i32 = 6;

const TAKE: &[&str] = &[
    "volume_snapshot:settle:started",
    "volume_snapshot:settle:effect",
    "volume_snapshot:settle:done",
];
const REVERT: &[&str] = &[
    "volume_revert:prepare:started",
    "volume_revert:prepare:effect",
    "volume_revert:prepare:done",
    "volume_revert:switch:started",
    "volume_revert:switch:effect",
    "volume_revert:switch:done",
];
/// With the file of what it stands on gone.
const FAIL: &[&str] = &["volume_snapshot:settle:undo", "volume_revert:prepare:undo"];

/// Runs one command on the directory until it dies.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests of this file, to die"]
async fn the_daemon_that_dies() {
    let get = |name: &str| std::env::var(name).ok();
    let Some(dir) = get("CRASH_DIR") else { return };
    let mut rig = Rig::take_over(dir.as_ref(), get("CRASH_VM").unwrap().parse().unwrap(), LEASE).await;
    rig.disks = vec![get("CRASH_DISK").unwrap().parse().unwrap()];
    match get("CRASH_SNAPSHOT") {
        Some(id) => drop(rig.try_revert(0, id.parse().unwrap(), RevertRule::Any).await),
        None => drop(rig.try_take(0, &[]).await),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Has a daemon of its own do it and die at `point`.
fn die(rig: &Rig, disk: DiskId, to: Option<VolumeSnapshotId>, point: &str) {
    let mut me = Command::new(std::env::current_exe().unwrap());
    me.args(["--ignored", "--exact", "crash::the_daemon_that_dies"])
        .env("STILLPOINT_CRASH_AT", point)
        .env("CRASH_DIR", rig.dir.path())
        .env("CRASH_VM", rig.vm.to_string())
        .env("CRASH_DISK", disk.to_string());
    if let Some(to) = to {
        me.env("CRASH_SNAPSHOT", to.to_string());
    }
    let status = me.output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.signal(), Some(SIGABRT), "{point} was not reached: {said}");
}

/// Gives a file its name back once the daemon is gone that missed it.
fn put_back(aside: Option<(std::path::PathBuf, std::path::PathBuf)>) {
    if let Some((aside, file)) = aside {
        std::fs::rename(aside, file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_volume_is_snapshotted_or_reverted_loses_nothing() {
    let mut rig = Rig::new(&[]).await;
    let at = rig.add_volume().await;
    let disk = rig.disks[at];
    rig.write_by_server(at, 1, 0, MIB).await;
    let mut kept = vec![rig.take(at).await];
    for (pattern, point) in (2..).zip([TAKE, REVERT, FAIL].concat()) {
        println!("{point}");
        rig.write_by_server(at, pattern, 0, MIB).await;
        rig.settled().await;
        let to = point.starts_with("volume_revert").then(|| kept[0].clone());
        let aside = if point.ends_with("undo") {
            let file = match &to {
                Some(to) => rig.snapshot_file(to.id).await,
                None => rig.active_file(disk).await,
            };
            let aside = rig.dir.path().join("aside");
            std::fs::rename(&file, &aside).unwrap();
            Some((aside, file))
        } else {
            None
        };
        rig.stop_daemon().await;
        die(&rig, disk, to.as_ref().map(|to| to.id), point);
        let failed = aside.is_some();
        put_back(aside);
        rig.restart(LEASE).await;
        rig.settled().await;
        match (&to, failed) {
            (None, failed) => {
                let view = rig.listed(at).await.remove(0);
                let wanted = if failed {
                    VolumeSnapshotStatus::Error
                } else {
                    VolumeSnapshotStatus::Available
                };
                assert_eq!(view.status, wanted, "{point}");
                if failed {
                    rig.drop_snapshot(view.id).await.unwrap();
                } else {
                    kept.push(Taken {
                        id: view.id,
                        then: rig.now[at].clone(),
                    });
                }
            }
            (Some(to), false) => rig.now[at].clone_from(&to.then),
            (Some(_), true) => {
                assert_eq!(rig.volume(at).await.status, VolumeStatus::ErrorReverting);
                let back = kept.last().unwrap().clone();
                rig.revert(at, &back, RevertRule::Any).await;
            }
        }
        assert_eq!(rig.volume(at).await.status, VolumeStatus::Available, "{point}");
        rig.prove_volume(at, &kept.iter().collect::<Vec<_>>()).await;
    }
}
