//! The daemon dies at every named moment of a backup, alone or with all its QEMU processes: afterwards nothing is stuck,
//! no byte is wrong, and the next incremental backup is right.
//!
//! The daemon that dies is this very test binary, started again to run [`the_daemon_that_dies`] on the same data directory.

use crate::rig::*;
use std::{os::unix::process::ExitStatusExt, process::Command, time::Duration};
use stillpoint_engine::command::*;
use stillpoint_types::*;

const LEASE: Duration = Duration::from_secs(3600);
const SIGABRT: i32 = 6;

const BEGIN: &[&str] = &[
    "backup:prepare:started",
    "backup:prepare:effect",
    "backup:prepare:done",
    "backup:switch:started",
    "backup:switch:effect",
    "backup:switch:done",
    "backup:maps:started",
    "backup:maps:effect",
    "backup:maps:done",
    "backup:hold:started",
];
const END: &[&str] = &[
    "backup:hold:effect",
    "backup:hold:done",
    "image_merge:merge:started",
    "merge:folded",
    "merge:running",
    "merge:pending",
    "merge:finalizing",
    "merge:concluded",
    "image_merge:merge:effect",
    "image_merge:merge:done",
];
const FAIL: &[&str] = &["backup:maps:undo", "backup:switch:undo", "backup:prepare:undo"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Begin,
    End,
    /// Begins one that must fail, as the guest cannot be frozen.
    Fail,
}

impl What {
    fn label(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
            Self::Fail => "fail",
        }
    }
}

/// Runs one command on the directory until it dies.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests of this file, to die"]
async fn the_daemon_that_dies() {
    let get = |name: &str| std::env::var(name).ok();
    let Some(dir) = get("CRASH_DIR") else { return };
    let rig = Rig::take_over(dir.as_ref(), get("CRASH_VM").unwrap().parse().unwrap(), LEASE).await;
    let id: BackupId = get("CRASH_BACKUP").unwrap().parse().unwrap();
    let what = get("CRASH_WHAT").unwrap();
    if what == What::End.label() {
        let command = FinalizeBackup { vm: rig.vm, backup: id };
        let origin = Origin::default();
        rig.engine.backup_finalize(&rig.who, &origin, command).await.unwrap();
    } else {
        let command = CreateBackup {
            id: Some(id),
            require_consistency: what == What::Fail.label(),
            ..rig.command(get("CRASH_FROM").map(|id| id.parse().unwrap()))
        };
        rig.begin(command).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Has a daemon of its own do it and die at `point`.
fn die(rig: &Rig, what: What, from: CheckpointId, id: BackupId, point: &str) {
    let me = std::env::current_exe().unwrap();
    let status = Command::new(me)
        .args(["--ignored", "--exact", "crash::the_daemon_that_dies"])
        .env("STILLPOINT_CRASH_AT", point)
        .env("CRASH_DIR", rig.dir.path())
        .env("CRASH_VM", rig.vm.to_string())
        .env("CRASH_WHAT", what.label())
        .env("CRASH_FROM", from.to_string())
        .env("CRASH_BACKUP", id.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.signal(), Some(SIGABRT), "{point} was not reached: {said}");
}

#[expect(clippy::print_stdout, reason = "tells which case it was when a test fails")]
async fn case(rig: &mut Rig, what: What, point: &str, with_machines: bool, from: CheckpointId) -> CheckpointId {
    println!("{what:?} at {point}, machines too: {with_machines}");
    if !matches!(rig.status().await, VmStatus::Up | VmStatus::Down) {
        rig.wait_status(VmStatus::Up).await;
    }
    let pattern = 1 + rig.now[0][0] % 250;
    rig.write(0, pattern, 0, 65_536).await;
    rig.write(1, pattern, 5 * MIB, 200_000).await;
    let then = rig.now.clone();
    let mut id = BackupId(uuid::Uuid::new_v4());
    if what == What::End {
        id = rig.begin(rig.command(Some(from))).await;
        rig.wait_phase(id, BackupPhase::Ready).await;
        rig.prove(id, &then).await;
        rig.write(0, pattern + 1, MIB, 100_000).await;
    }
    rig.stop_daemon().await;
    die(rig, what, from, id, point);
    if with_machines {
        rig.kill_all();
    }
    rig.restart(LEASE).await;
    let view = eventually(&format!("an end after {point}"), || async {
        let view = rig.view(id).await;
        (view.phase == BackupPhase::Ready || view.phase.is_end()).then_some(view)
    })
    .await;
    match (what, view.phase) {
        (What::Begin, BackupPhase::Ready) => {
            rig.prove(id, &then).await;
            rig.finalize(id).await;
        }
        (What::End, BackupPhase::Succeeded) | (What::Begin | What::Fail, BackupPhase::Failed) => {}
        (_, phase) => assert_eq!(phase, BackupPhase::Failed, "{view:?}"),
    }
    if view.phase == BackupPhase::Failed {
        assert!(!rig.checkpoints().await.contains(&view.to.unwrap()), "{view:?}");
    }
    let snapshots = rig.engine.snapshots(&rig.who, rig.vm).await.unwrap();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    // What is left goes on as if nothing had been.
    if rig.was_up && rig.status().await == VmStatus::Down {
        rig.start().await;
    }
    rig.write(0, pattern + 2, 2 * MIB, 100_000).await;
    let next = rig.backup(rig.command(Some(from))).await;
    assert!(next.view.disks.iter().all(|disk| disk.mode == BackupMode::Incremental));
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
    rig.wait_files(4).await;
    next.view.to.unwrap()
}

async fn matrix(is_up: bool, what: What, points: &[&str], with_machines: bool) {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    if is_up {
        rig.start().await;
        rig.was_up = true;
    }
    let mut from = rig.backup(rig.command(None)).await.view.to.unwrap();
    for point in points {
        from = case(&mut rig, what, point, with_machines, from).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_backup_of_a_running_vm_begins() {
    matrix(true, What::Begin, BEGIN, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_while_a_backup_of_a_running_vm_begins() {
    matrix(true, What::Begin, BEGIN, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_backup_of_a_stopped_vm_begins() {
    matrix(false, What::Begin, BEGIN, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_backup_ends() {
    matrix(true, What::End, END, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_while_a_backup_ends() {
    matrix(true, What::End, END, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_a_backup_fails() {
    matrix(true, What::Fail, FAIL, false).await;
}
