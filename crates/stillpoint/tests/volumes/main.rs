//! Snapshots of single volumes of a real QEMU's disks, on a whole core: whatever is taken, removed or gone back to, in any
//! order and whoever has the volume, each snapshot holds what was written before it, byte for byte. And volumes that are made of
//! snapshots and of one another ([`making`]).

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]
#![expect(clippy::too_many_lines, reason = "each test is one story")]

#[cfg(feature = "failpoints")]
mod crash;
mod making;
#[path = "../backups/rig.rs"]
#[allow(dead_code, reason = "the backups' tests use the rest")]
mod rig;
mod scene;

use rig::*;
use scene::Taken;
use stillpoint_engine::command::{volume::*, *};
use stillpoint_types::*;

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_a_free_volume_come_and_go_in_any_order_and_it_goes_back_to_any_of_them() {
    let mut rig = Rig::new(&[]).await;
    let at = rig.add_volume().await;
    rig.write_by_server(at, 1, 0, 4 * MIB).await;

    // A burst: each is answered once it is durable, and all share one layer.
    let takes = (0..40).map(|_| rig.try_take(at, &[]));
    let burst: Vec<_> = futures_util::future::join_all(takes).await;
    let burst: Vec<VolumeSnapshotId> = burst.into_iter().map(|made| made.unwrap().id).collect();
    for id in &burst {
        rig.wait_snapshot(*id, VolumeSnapshotStatus::Available).await;
    }
    let first = Taken {
        id: burst[7],
        then: rig.now[at].clone(),
    };
    assert_eq!(
        rig.layers(at).await,
        2,
        "what nobody wrote to needs no layer of its own"
    );
    let again = rig.try_take(at, &[]).await.unwrap();
    assert_eq!(again.job, None, "nor a job");
    let view = rig.engine.volume_snapshot(&rig.who, again.id).await.unwrap();
    assert_eq!((view.status, view.progress), (VolumeSnapshotStatus::Available, 100));
    let listed = rig.listed(at).await;
    assert_eq!(listed.len(), 41);
    assert_eq!(listed[0].id, again.id, "newest first");
    assert!(listed.windows(2).all(|pair| pair[0].created_at > pair[1].created_at));

    rig.write_by_server(at, 2, 2 * MIB, 4 * MIB).await;
    let second = rig.take(at).await;
    rig.write_by_server(at, 3, 5 * MIB, 4 * MIB).await;
    let third = rig.take(at).await;
    rig.write_by_server(at, 4, 0, MIB).await;
    rig.prove_volume(at, &[&first, &second, &third]).await;
    assert_eq!(rig.layers(at).await, 4);

    // The middle one goes: its layer is merged, and nobody notices.
    rig.drop_snapshot(second.id).await.unwrap();
    // What is asked for while that lasts waits for its end.
    let meanwhile = rig.take(at).await;
    rig.drop_snapshot(meanwhile.id).await.unwrap();
    eventually("the merge", || async { (rig.layers(at).await == 3).then_some(()) }).await;
    rig.settled().await;
    rig.prove_volume(at, &[&first, &third]).await;

    // Back to the newest; to an older one, with the newer still there; and forward again.
    rig.revert(at, &third, RevertRule::Newest).await;
    rig.settled().await;
    rig.prove_volume(at, &[&first, &third]).await;
    let refused = rig.try_revert(at, first.id, RevertRule::Newest).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::InvalidValue, "{}", refused.text);
    rig.revert(at, &first, RevertRule::Any).await;
    rig.write_by_server(at, 5, 6 * MIB, MIB).await;
    let side = rig.take(at).await;
    rig.settled().await;
    rig.prove_volume(at, &[&first, &third, &side]).await;
    rig.revert(at, &third, RevertRule::Any).await;
    rig.settled().await;
    rig.prove_volume(at, &[&first, &third, &side]).await;

    // Larger since: Cinder refuses, EVS brings the size back.
    rig.extend(at).await;
    let newest = rig.try_revert(at, side.id, RevertRule::Newest).await.unwrap_err();
    assert_eq!(newest.code, FaultCode::InvalidValue, "{}", newest.text);
    rig.revert(at, &side, RevertRule::Any).await;
    rig.settled().await;
    assert_eq!(rig.volume(at).await.size_bytes, SIZE);
    rig.prove_volume(at, &[&first, &third, &side]).await;

    for view in rig.listed(at).await {
        rig.drop_snapshot(view.id).await.unwrap();
    }
    eventually("one layer", || async { (rig.layers(at).await == 1).then_some(()) }).await;
    rig.settled().await;
    rig.prove_volume(at, &[]).await;
    assert_eq!(
        rig.engine
            .quota(&rig.who, rig.volume(at).await.project)
            .await
            .unwrap()
            .usage
            .snapshots,
        0
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_volume_each_snapshot_keeps_what_it_held() {
    let mut rig = Rig::new(&[]).await;
    let at = rig.add_volume().await;
    let (mut dice, mut kept): (Dice, Vec<Taken>) = (Dice(11), vec![]);
    for turn in 0..60_u8 {
        match dice.below(8) {
            0 | 1 => {
                let offset = u64::try_from(dice.below(12)).unwrap() * MIB;
                rig.write_by_server(at, turn + 1, offset, 2 * MIB).await;
            }
            2..=4 => kept.push(rig.take(at).await),
            5 | 6 if !kept.is_empty() => {
                let gone = kept.swap_remove(dice.below(kept.len()));
                rig.drop_snapshot(gone.id).await.unwrap();
            }
            7 if !kept.is_empty() => {
                let to = kept[dice.below(kept.len())].clone();
                rig.revert(at, &to, RevertRule::Any).await;
            }
            _ => {}
        }
        if turn % 12 == 11 {
            rig.settled().await;
            rig.prove_volume(at, &kept.iter().collect::<Vec<_>>()).await;
        }
    }
    assert!(kept.len() > 3, "the walk kept nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_running_servers_volume_holds_what_was_written_before_the_answer_and_nothing_else() {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Raw]).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    rig.write(1, 2, 0, MIB).await;
    let refused = rig.try_take(0, &[]).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::VolumeStatus, "{}", refused.text);
    // Two volumes of one server at a time: the second waits for the first.
    let (zero, one) = tokio::join!(rig.take(0), rig.take(1));
    rig.write(0, 3, 0, MIB).await;
    rig.write(1, 4, MIB / 2, MIB).await;
    let view = rig.engine.volume_snapshot(&rig.who, zero.id).await.unwrap();
    assert_eq!((view.name.as_deref(), view.user), (Some("n"), Some(rig.who.user)));
    let vm_snapshot = view.vm_snapshot.unwrap();
    assert_eq!(view.metadata["stillpoint:vm_snapshot"], vm_snapshot.to_string());
    let shown = rig.engine.snapshot(&rig.who, rig.vm, vm_snapshot).await.unwrap();
    assert_eq!(shown.description, format!("cinder:{}", zero.id));

    // One of the whole VM is one of each volume, and stays whole.
    rig.snapshot().await;
    let members: Vec<_> = [rig.listed(0).await.remove(0), rig.listed(1).await.remove(0)].into();
    assert!(members.iter().all(|view| view.name.as_deref() == Some("mine")));
    assert_eq!(members[0].vm_snapshot, members[1].vm_snapshot);
    let refused = rig.drop_snapshot(members[0].id).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::HasDependants, "{}", refused.text);

    // One of a backup is its own.
    let backup = rig.begin(rig.command(None)).await;
    rig.wait_phase(backup, BackupPhase::Ready).await;
    let of_backup = rig.listed(0).await.remove(0);
    assert_eq!(of_backup.status, VolumeSnapshotStatus::BackingUp);
    assert_eq!(of_backup.name, Some(format!("autobk_snapshot_csbs_{backup}")));
    assert_eq!(of_backup.metadata["__system__enableActive"], "true");
    let refused = rig.drop_snapshot(of_backup.id).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::Protected, "{}", refused.text);
    let usage = rig.engine.quota(&rig.who, of_backup.project).await.unwrap().usage;
    assert_eq!((usage.volumes, usage.snapshots), (2, 4));
    rig.finalize(backup).await;
    assert_eq!(rig.listed(0).await.len(), 2);

    // At rest, the server down.
    rig.stop().await;
    let down = rig.take(0).await;
    rig.prove_volume(0, &[&zero, &down]).await;
    let refused = RestoreSnapshot {
        vm: rig.vm,
        snapshot: vm_snapshot,
        memory: false,
    };
    let refused = rig
        .engine
        .restore_snapshot(&rig.who, &Origin::default(), refused)
        .await
        .unwrap_err();
    assert_eq!(refused.code, FaultCode::SnapshotBroken, "{}", refused.text);

    // Free again: back to what the running server had, the later ones still there.
    let refused = rig.try_revert(0, zero.id, RevertRule::Any).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::VolumeStatus, "{}", refused.text);
    rig.detach(0).await;
    rig.revert(0, &zero, RevertRule::Any).await;
    rig.settled().await;
    rig.prove_volume(0, &[&zero, &down]).await;
    let free = rig.take(0).await;
    rig.attach(0).await;
    rig.start().await;
    rig.write(0, 5, 0, MIB).await;
    rig.drop_snapshot(one.id).await.unwrap();
    rig.drop_snapshot(free.id).await.unwrap();
    rig.drop_snapshot(zero.id).await.unwrap();
    rig.stop().await;
    rig.settled().await;
    rig.prove_volume(0, &[&down]).await;
    rig.prove_volume(1, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_made_ends_in_error_and_a_foreign_one_is_not_there() {
    let mut rig = Rig::new(&[]).await;
    let at = rig.add_volume().await;
    let good = rig.take(at).await;
    let project = rig.volume(at).await.project;
    let somebody = |role: Option<Role>| Caller {
        user: UserId::fresh(),
        name: "u@internal".into(),
        is_admin: false,
        roles: role.map(|role| (project, role)).into_iter().collect(),
        home_project: project,
    };
    let origin = Origin::default();
    for (role, code) in [(None, FaultCode::NotFound), (Some(Role::Reader), FaultCode::Forbidden)] {
        let (who, delete) = (
            somebody(role),
            DeleteVolumeSnapshot {
                snapshot: good.id,
                force: false,
            },
        );
        let refused = [
            rig.engine
                .create_volume_snapshot(&who, &origin, rig.taking(at, &[]))
                .await
                .map(drop)
                .unwrap_err(),
            rig.engine
                .delete_volume_snapshot(&who, &origin, delete)
                .await
                .map(drop)
                .unwrap_err(),
            rig.engine
                .change_snapshot_metadata(&who, &origin, good.id, MetadataChange::Replace(Metadata::new()))
                .await
                .map(drop)
                .unwrap_err(),
        ];
        assert!(refused.iter().all(|fault| fault.code == code), "{refused:?}");
    }
    let by_force = DeleteVolumeSnapshot {
        snapshot: good.id,
        force: true,
    };
    let refused = rig
        .engine
        .delete_volume_snapshot(&somebody(Some(Role::Member)), &origin, by_force)
        .await
        .unwrap_err();
    assert_eq!(refused.code, FaultCode::Forbidden);

    // Its file is gone: what is asked for then says so, and can be removed.
    rig.write_by_server(at, 1, 0, MIB).await;
    let (file, aside) = (rig.active_file(rig.disks[at]).await, rig.dir.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    let bad = rig.try_take(at, &[]).await.unwrap().id;
    let view = rig.wait_snapshot(bad, VolumeSnapshotStatus::Error).await;
    assert_eq!(view.progress, 0);
    let messages = rig.engine.volume_messages(&rig.who, project).await.unwrap();
    assert_eq!(messages[0].about, ("VOLUME_SNAPSHOT", bad.0));
    assert_eq!(
        rig.try_revert(at, bad, RevertRule::Any).await.unwrap_err().code,
        FaultCode::VolumeStatus
    );
    std::fs::rename(&aside, &file).unwrap();
    rig.drop_snapshot(bad).await.unwrap();
    let better = rig.take(at).await;
    rig.settled().await;
    rig.prove_volume(at, &[&good, &better]).await;
}
