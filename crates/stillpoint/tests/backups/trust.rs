//! What others do to the images and to the machine behind our back: a tool that writes into a frozen image, a guest that
//! powers off while it is backed up.

use crate::rig::*;
use serde_json::{Value, json};
use std::{path::PathBuf, process::Command, time::Duration};
use stillpoint_engine::command::*;
use stillpoint_qemu::qmp::Qmp;
use stillpoint_types::*;

use BackupMode::{Full, Incremental};

/// The image right below the one that is written to.
async fn frozen_file(rig: &Rig, disk: usize) -> PathBuf {
    let active = rig.active_file(rig.disks[disk]).await;
    let arguments = ["info", "-U", "--output=json", active.to_str().unwrap()];
    let said = Command::new("qemu-img").args(arguments).output().unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    active.with_file_name(said["backing-filename"].as_str().unwrap())
}

/// A tool has its way with an image of a VM that is down.
fn foreign(file: &std::path::Path, command: &str) {
    let format = file.extension().unwrap().to_str().unwrap();
    run("qemu-io", &["-f", format, "-c", command, file.to_str().unwrap()]);
}

async fn modes(rig: &mut Rig, from: CheckpointId, expected: [BackupMode; 2]) -> CheckpointId {
    let given = rig.backup(rig.command(Some(from))).await;
    let modes: Vec<_> = given.view.disks.iter().map(|disk| disk.mode).collect();
    assert_eq!(modes, expected, "{:?}", rig.events(10791).await);
    given.view.to.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_writes_into_a_frozen_image_makes_that_disk_full_and_no_other() {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    rig.write(0, 1, 0, MIB).await;
    rig.write(1, 1, 0, MIB).await;
    let first = rig.backup(rig.command(None)).await.view.to.unwrap();
    // Into the image that is written to: that is known like any other write. The second one merges.
    rig.write(0, 2, MIB, MIB).await;
    let second = modes(&mut rig, first, [Incremental, Incremental]).await;
    // Opened for writing, and not written to.
    foreign(&frozen_file(&rig, 0).await, "read 0 512");
    let third = modes(&mut rig, first, [Incremental, Incremental]).await;

    rig.stop_daemon().await;
    rig.restart(Duration::from_secs(3600)).await;
    let file = frozen_file(&rig, 0).await;
    rig.stop_daemon().await;
    foreign(&file, "write -P 9 0 65536");
    rig.now[0][..65536].fill(9);
    rig.restart(Duration::from_secs(3600)).await;
    let fourth = modes(&mut rig, second, [Full, Incremental]).await;
    let told = rig.events(10791).await;
    assert!(told[0].contains("changed by somebody else"), "{told:?}");
    assert_eq!(rig.events(20004).await.len(), 1);
    // That disk has left all checkpoints before, and is in the new one.
    let left = rig.engine.checkpoints(&rig.who, rig.vm).await.unwrap();
    for checkpoint in left {
        let is_new = checkpoint.id == fourth;
        assert_eq!(checkpoint.disks.len(), if is_new { 2 } else { 1 }, "{checkpoint:?}");
    }
    let _old = third;
    let fifth = modes(&mut rig, fourth, [Incremental, Incremental]).await;

    // A raw one, by a program that takes no locks, while the guest runs; seen before the merge hides it.
    rig.start().await;
    rig.write(1, 3, 2 * MIB, MIB).await;
    let file = frozen_file(&rig, 1).await;
    let then = rig.now.clone();
    let id = rig.begin(rig.command(Some(fifth))).await;
    rig.wait_phase(id, BackupPhase::Ready).await;
    let given = rig.prove(id, &then).await;
    let whole = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&whole, &[7; 4096], 5 * MIB).unwrap();
    let at = usize::try_from(5 * MIB).unwrap();
    rig.now[1][at..at + 4096].fill(7);
    rig.finalize(id).await;
    let sixth = given.view.to.unwrap();
    let seventh = modes(&mut rig, sixth, [Incremental, Full]).await;
    modes(&mut rig, seventh, [Incremental, Incremental]).await;
}

/// QEMU ends by itself, as when the guest has powered off.
async fn power_off(rig: &Rig) {
    let path = rig.dir.path().join(format!("run/vm/{}/qmp2", rig.vm));
    let limit = Duration::from_secs(60);
    let monitor = eventually("the second monitor", || async { Qmp::connect(&path, limit).await.ok() }).await;
    let _closing = monitor.call::<Value>("quit", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_powers_off_in_a_backup_leaves_it_right_or_failed_and_the_next_one_right() {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let mut from = rig.backup(rig.command(None)).await.view.to.unwrap();
    let mut ready = 0;
    for (round, (use_active, delay_ms)) in [
        (true, None),
        (false, None),
        (true, Some(0)),
        (false, Some(15)),
        (true, Some(30)),
    ]
    .into_iter()
    .enumerate()
    {
        rig.write(0, 2 + u8::try_from(round).unwrap(), MIB, MIB).await;
        let then = rig.now.clone();
        let command = CreateBackup {
            use_active,
            ..rig.command(Some(from))
        };
        let id = rig.begin(command).await;
        match delay_ms {
            Some(delay) => tokio::time::sleep(Duration::from_millis(delay)).await,
            None => {
                rig.wait_phase(id, BackupPhase::Ready).await;
                // The guest writes on, and somebody downloads.
                rig.write(0, 99, 4 * MIB, MIB).await;
                let (transfer, ticket) = rig.open_transfer(id, rig.disks[0]).await;
                power_off(&rig).await;
                assert_eq!(rig.get(&format!("/images/{ticket}")).await.0, 200);
                rig.cancel(transfer).await;
            }
        }
        if delay_ms.is_some() {
            power_off(&rig).await;
        }
        rig.wait_status(VmStatus::Down).await;
        let view = eventually("a decision", || async {
            let view = rig.view(id).await;
            (view.phase == BackupPhase::Ready || view.phase.is_end()).then_some(view)
        })
        .await;
        if view.phase == BackupPhase::Ready {
            ready += 1;
            rig.prove(id, &then).await;
            rig.finalize(id).await;
        } else {
            assert!(!view.reason.unwrap().is_empty());
        }
        rig.start().await;
        from = modes(&mut rig, from, [Incremental, Incremental]).await;
        assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
    }
    assert!(ready >= 2, "a backup that was ready outlives its machine");
}
