//! Random sequences of all that can be done to a VM between two backups, against a model of its disks.

use crate::rig::*;
use stillpoint_types::*;

/// A small generator of numbers: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let n = u64::try_from(from.len()).unwrap();
        (n > 0).then(|| from[usize::try_from(self.below(n)).unwrap()])
    }
}

async fn write_some(rig: &mut Rig, dice: &mut Dice, pattern: u8) {
    for _ in 0..=dice.below(3) {
        let disk = usize::try_from(dice.below(rig.disks.len() as u64)).unwrap();
        let size = rig.now[disk].len() as u64;
        let offset = dice.below(size / 512 - 1) * 512;
        let length = ((1 + dice.below(700)) * 512).min(size - offset);
        let pattern = if dice.below(4) == 0 { 0 } else { pattern };
        rig.write(disk, pattern, offset, length).await;
    }
}

/// A backup from any checkpoint, or none, while other things go on.
async fn back_up(rig: &mut Rig, dice: &mut Dice, snapshots: &mut Vec<(SnapshotId, Vec<Bytes>)>, seed: u64) {
    let from = dice.pick(&rig.checkpoints().await);
    let mut command = rig.command(from);
    command.use_active = dice.below(2) == 0;
    let then = rig.now.clone();
    let id = rig.begin(command).await;
    let view = rig.wait_phase(id, BackupPhase::Ready).await;
    if view.kind != BackupKind::Cold {
        write_some(rig, dice, 251).await;
    }
    if view.kind == BackupKind::Snapshot && dice.below(2) == 0 {
        snapshots.push((rig.snapshot().await, rig.now.clone()));
        write_some(rig, dice, 252).await;
    }
    let given = rig.prove(id, &then).await;
    let modes = given
        .view
        .disks
        .iter()
        .filter(|disk| disk.mode == BackupMode::Incremental)
        .count();
    assert_eq!(
        modes,
        if from.is_some() { 2 } else { 0 },
        "seed {seed}: {:?}",
        given.view
    );
    if view.kind == BackupKind::Snapshot && dice.below(3) == 0 {
        rig.kill9().await;
    }
    rig.finalize(id).await;
}

async fn sequence(seed: u64, steps: u32) {
    let mut dice = Dice(seed);
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    let mut snapshots: Vec<(SnapshotId, Vec<Bytes>)> = Vec::new();
    let mut done = Vec::new();
    for step in 0..steps {
        write_some(&mut rig, &mut dice, u8::try_from(1 + step % 250).unwrap()).await;
        let is_up = rig.status().await == VmStatus::Up;
        let what = dice.below(12);
        done.push((what, is_up));
        match what {
            0 | 1 => snapshots.push((rig.snapshot().await, rig.now.clone())),
            2 if !snapshots.is_empty() => {
                let at = usize::try_from(dice.below(snapshots.len() as u64)).unwrap();
                rig.delete_snapshot(snapshots.remove(at).0).await;
            }
            3 if !snapshots.is_empty() => {
                if is_up {
                    rig.stop().await;
                }
                let at = usize::try_from(dice.below(snapshots.len() as u64)).unwrap();
                snapshots.truncate(at + 1);
                rig.restore(snapshots[at].0).await;
                rig.now = snapshots[at].1.clone();
            }
            4 if is_up => rig.stop().await,
            4 => rig.start().await,
            5 if is_up => rig.kill9().await,
            6 => {
                if let Some(checkpoint) = dice.pick(&rig.checkpoints().await) {
                    rig.delete_checkpoint(checkpoint).await;
                }
            }
            7 => {
                let disk = usize::try_from(dice.below(rig.disks.len() as u64)).unwrap();
                rig.extend(disk).await;
            }
            _ => {
                back_up(&mut rig, &mut dice, &mut snapshots, seed).await;
            }
        }
    }
    let then = rig.now.clone();
    let mut last = rig.command(rig.checkpoints().await.first().copied());
    last.use_active = true;
    let id = rig.begin(last).await;
    rig.wait_phase(id, BackupPhase::Ready).await;
    rig.prove(id, &then).await;
    rig.finalize(id).await;
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_between_them_each_backup_is_the_disk_at_its_moment() {
    // More of them: SEED=1000 SEEDS=10 STEPS=40.
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (first, count, steps) = (number("SEED", 7), number("SEEDS", 3), number("STEPS", 20));
    for seed in first..first + count {
        sequence(seed, u32::try_from(steps).unwrap()).await;
    }
}
