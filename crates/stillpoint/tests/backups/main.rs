//! Backups of a real QEMU's disks, on a whole core: whatever is done between two backups, the changes that the later one
//! tells, laid over the earlier one, are the disk byte for byte.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

#[cfg(feature = "failpoints")]
mod crash;
mod random;
mod rig;
mod rules;
mod trust;

use rig::*;
use stillpoint_types::*;

const COW: &[ImageFormat] = &[ImageFormat::Cow];

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_backups_of_a_running_vm_follows_it_through_snapshots_stops_restores_and_a_killed_qemu() {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    rig.start().await;
    for disk in 0..2 {
        rig.write(disk, 1, 0, 4 * MIB).await;
    }
    let full = rig.backup(rig.command(None)).await;
    assert_eq!(full.view.kind, BackupKind::Snapshot);
    assert!(full.view.disks.iter().all(|disk| disk.mode == BackupMode::Full));

    rig.write(0, 2, MIB, 70_000).await;
    rig.write(1, 0, 2 * MIB, MIB).await;
    let first = rig.backup(rig.command(full.view.to)).await;
    assert!(first.view.disks.iter().all(|disk| disk.mode == BackupMode::Incremental));
    assert!(first.dirty_bytes[0] <= 3 * 65_536, "{:?}", first.dirty_bytes);
    assert_eq!(first.dirty_bytes[1], 0, "what became zero needs no bytes");

    // A snapshot between; a backup; and the snapshot is removed while the VM runs.
    rig.write(0, 3, 3 * MIB, 5_000).await;
    let snapshot = rig.snapshot().await;
    rig.write(0, 4, 3 * MIB + 2_000, 100).await;
    let second = rig.backup(rig.command(first.view.to)).await;
    rig.write(0, 5, 10 * MIB, 65_536).await;
    rig.delete_snapshot(snapshot).await;
    rig.write(0, 6, 11 * MIB, 65_536).await;
    let third = rig.backup(rig.command(second.view.to)).await;
    assert!(third.dirty_bytes[0] <= 2 * 65_536, "{:?}", third.dirty_bytes);

    // Killed while it does nothing: the next one still needs only what changed.
    rig.write(0, 7, 12 * MIB, 65_536).await;
    rig.kill9().await;
    rig.start().await;
    rig.write(0, 8, 13 * MIB, 65_536).await;
    let fourth = rig.backup(rig.command(third.view.to)).await;
    assert!(
        fourth
            .view
            .disks
            .iter()
            .all(|disk| disk.mode == BackupMode::Incremental)
    );
    assert!(fourth.dirty_bytes[0] <= 2 * 65_536, "{:?}", fourth.dirty_bytes);

    // Stopped, and backed up while it is down; then brought back to a snapshot from before that.
    let snapshot = rig.snapshot().await;
    let kept = rig.now.clone();
    rig.write(0, 9, 14 * MIB, 65_536).await;
    rig.stop().await;
    let cold = rig.backup(rig.command(fourth.view.to)).await;
    assert_eq!((cold.view.kind, cold.view.consistent), (BackupKind::Cold, true));
    assert!(cold.dirty_bytes[0] <= 65_536, "{:?}", cold.dirty_bytes);
    rig.restore(snapshot).await;
    rig.now = kept;
    rig.start().await;
    rig.write(0, 10, 15 * MIB, 65_536).await;
    let back = rig.backup(rig.command(cold.view.to)).await;
    assert!(back.view.disks.iter().all(|disk| disk.mode == BackupMode::Incremental));
    // From the oldest one, too: all that happened since.
    rig.backup(rig.command(full.view.to)).await;
    assert_eq!(rig.events(10791).await, Vec::<String>::new());
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_leave_no_more_images_behind_than_one_below_the_active_one() {
    let mut rig = Rig::new(COW).await;
    rig.start().await;
    let mut from = None;
    for round in 1..5 {
        rig.write(0, round, u64::from(round) * MIB, MIB).await;
        from = rig.backup(rig.command(from)).await.view.to;
        rig.wait_files(2).await;
    }
    assert_eq!(rig.engine.snapshots(&rig.who, rig.vm).await.unwrap().len(), 1);
    let shown = rig.engine.disk_snapshots(&rig.who, rig.disks[0], true).await.unwrap();
    assert_eq!(shown.len(), 1, "users see nothing of what checkpoints hold: {shown:?}");
    for checkpoint in rig.checkpoints().await {
        rig.delete_checkpoint(checkpoint).await;
    }
    rig.wait_files(1).await;
    eventually("the checkpoints' maps to be gone", || async {
        let mut maps = std::fs::read_dir(rig.dir.path().join("maps")).unwrap();
        maps.all(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("backup-"))
            .then_some(())
    })
    .await;
}
