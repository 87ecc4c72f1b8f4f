//! What is refused while a backup is under way, how backups end badly, and what is left of them then: nothing.

use crate::rig::*;
use std::time::Duration;
use stillpoint_engine::{Fault, command::*};
use stillpoint_types::*;

const COW: &[ImageFormat] = &[ImageFormat::Cow];

fn refused<T: std::fmt::Debug>(told: Result<T, Fault>, code: FaultCode, word: &str) {
    let fault = told.unwrap_err();
    assert_eq!(fault.code, code, "{}", fault.log_chain());
    assert!(fault.text.contains(word), "{word:?} is not in {:?}", fault.text);
}

impl Rig {
    async fn try_begin(&self, command: CreateBackup) -> Result<BackupId, Fault> {
        let begun = self.engine.backup_create(&self.who, &Origin::default(), command).await;
        begun.map(|accepted| accepted.id)
    }

    async fn try_finalize(&self, backup: BackupId) -> Result<(), Fault> {
        let command = FinalizeBackup { vm: self.vm, backup };
        self.engine
            .backup_finalize(&self.who, &Origin::default(), command)
            .await
    }

    async fn try_transfer(&self, backup: BackupId, disk: DiskId, direction: TransferDirection) -> Result<(), Fault> {
        let command = CreateTransfer {
            of: TransferOf::Backup { backup, disk },
            direction,
            format: None,
            shallow: false,
            inactivity_s: None,
            policy: TimeoutPolicy::Legacy,
        };
        let begun = self
            .engine
            .create_transfer(&self.who, &Origin::default(), command)
            .await;
        begun.map(|_| ())
    }

    async fn wait_failed(&self, id: BackupId, word: &str) {
        let view = eventually("the backup's end", || async {
            let view = self.view(id).await;
            view.phase.is_end().then_some(view)
        })
        .await;
        assert_eq!(view.phase, BackupPhase::Failed, "{view:?}");
        assert!(view.reason.as_deref().unwrap().contains(word), "{:?}", view.reason);
        assert_eq!(view.snapshot, None);
        let snapshots = self.engine.snapshots(&self.who, self.vm).await.unwrap();
        assert!(snapshots.iter().all(|s| !s.description.starts_with("Auto-generated")));
        assert!(!self.checkpoints().await.contains(&view.to.unwrap()));
        assert_eq!(self.events(10792).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_asks_for_what_is_not_there_is_refused_and_leaves_nothing() {
    let mut rig = Rig::new(COW).await;
    let other = rig.disks[0];
    rig.add_disk(ImageFormat::Cow).await;
    let both = rig.command(None);
    let with = |disks: Vec<DiskId>| CreateBackup { disks, ..both.clone() };
    refused(rig.try_begin(with(vec![])).await, FaultCode::Incomplete, "disks.id");
    let twice = with(vec![other, other]);
    refused(rig.try_begin(twice).await, FaultCode::Duplicate, "more than once");
    let absent = with(vec![DiskId::fresh()]);
    refused(
        rig.try_begin(absent).await,
        FaultCode::RelatedNotFound,
        "does not exist",
    );
    let from = Some(CheckpointId::fresh());
    let unknown = CreateBackup { from, ..both.clone() };
    refused(rig.try_begin(unknown).await, FaultCode::RelatedNotFound, "checkpoint");
    let description = "x".repeat(1025);
    let long = CreateBackup {
        description,
        ..both.clone()
    };
    refused(rig.try_begin(long).await, FaultCode::TooLong, "1024");
    let command = UpdateAttachment {
        vm: rig.vm,
        disk: other,
        fields: AttachFields {
            active: Some(false),
            ..AttachFields::default()
        },
        disk_fields: DiskFields::default(),
    };
    let changed = rig
        .engine
        .update_attachment(&rig.who, &Origin::default(), command)
        .await;
    changed.unwrap();
    refused(
        rig.try_begin(both.clone()).await,
        FaultCode::DiskNotActive,
        "not active",
    );
    assert_eq!(rig.engine.backups(&rig.who, rig.vm).await.unwrap(), vec![]);
    rig.wait_files(2).await;

    let id = Some(BackupId(uuid::Uuid::new_v4()));
    let mine = CreateBackup {
        id,
        ..with(vec![rig.disks[1]])
    };
    let given = rig.backup(mine.clone()).await;
    assert_eq!(Some(given.view.id), id);
    refused(rig.try_begin(mine).await, FaultCode::BackupIdInUse, "in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_backup_is_ready_its_vm_can_be_used_and_what_it_reads_cannot_be_touched() {
    let mut rig = Rig::new(COW).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let old = rig.snapshot().await;
    let first = rig.backup(rig.command(None)).await.view.to.unwrap();
    rig.write(0, 2, MIB, MIB).await;
    let then = rig.now.clone();
    let id = rig.begin(rig.command(Some(first))).await;
    let view = rig.wait_phase(id, BackupPhase::Ready).await;
    let snapshot = view.snapshot.unwrap();

    let (vm, origin, disk) = (rig.vm, Origin::default(), rig.disks[0]);
    let busy = FaultCode::DuringBackup;
    let named = id.to_string();
    refused(rig.try_begin(rig.command(None)).await, busy, &named);
    for snapshot in [snapshot, old] {
        let command = DeleteSnapshot { vm, snapshot };
        refused(
            rig.engine.delete_snapshot(&rig.who, &origin, command).await,
            busy,
            &named,
        );
    }
    let command = DeleteCheckpoint { vm, checkpoint: first };
    refused(
        rig.engine.checkpoint_delete(&rig.who, &origin, command).await,
        busy,
        &named,
    );

    // The guest goes on, through another snapshot, a stop and a start.
    rig.snapshot().await;
    rig.write(0, 3, 0, 2 * MIB).await;
    rig.stop().await;
    let command = RestoreSnapshot {
        vm,
        snapshot: old,
        memory: false,
    };
    refused(
        rig.engine.restore_snapshot(&rig.who, &origin, command).await,
        busy,
        &named,
    );
    let command = Detach { vm, disk, delete: true };
    refused(rig.engine.detach(&rig.who, &origin, command).await, busy, &named);
    let command = DeleteVm { vm, detach_only: false };
    refused(rig.engine.delete_vm(&rig.who, &origin, command).await, busy, &named);
    rig.start().await;

    refuses_wrong_transfers(&rig, id).await;
    rig.prove(id, &then).await;
    rig.finalize(id).await;
    rig.try_finalize(id).await.unwrap();
    refused(
        rig.try_transfer(id, disk, TransferDirection::Download).await,
        FaultCode::BackupPhase,
        "ready",
    );
    // At once: nothing is held any more.
    rig.try_begin(rig.command(Some(first))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_snapshot_keeps_the_vm_as_it_is_until_it_ends() {
    for is_up in [true, false] {
        let mut rig = Rig::new(COW).await;
        if is_up {
            rig.start().await;
        }
        rig.write(0, 1, 0, MIB).await;
        let then = rig.now.clone();
        let command = CreateBackup {
            use_active: true,
            ..rig.command(None)
        };
        let id = rig.begin(command).await;
        let view = rig.wait_phase(id, BackupPhase::Ready).await;
        assert_eq!(view.snapshot, None);
        assert_eq!(rig.engine.snapshots(&rig.who, rig.vm).await.unwrap().len(), 1);
        let (vm, origin) = (rig.vm, Origin::default());
        let (busy, word) = (FaultCode::DuringBackup, id.to_string());
        let command = CreateSnapshot {
            vm,
            description: "no".into(),
            memory: false,
            disks: None,
        };
        refused(
            rig.engine.create_snapshot(&rig.who, &origin, command).await,
            busy,
            &word,
        );
        if is_up {
            refused(rig.engine.stop_vm(&rig.who, &origin, StopVm { vm }).await, busy, &word);
            rig.write(0, 2, MIB, MIB).await;
            // It cannot be stopped, but it can die: what is held is held all the same.
            rig.kill9().await;
        } else {
            let command = StartVm { vm, paused: false };
            refused(rig.engine.start_vm(&rig.who, &origin, command).await, busy, &word);
        }
        rig.prove(id, &then).await;
        rig.finalize(id).await;
        rig.start().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_be_frozen_fails_a_backup_that_requires_it_and_nothing_is_left() {
    let mut rig = Rig::new(COW).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let command = CreateBackup {
        require_consistency: true,
        ..rig.command(None)
    };
    let id = rig.begin(command).await;
    rig.wait_failed(id, "frozen").await;
    rig.wait_files(1).await;
    // Without that it goes on, and says so.
    let given = rig.backup(rig.command(None)).await;
    assert!(!given.view.consistent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_given_up_or_forgotten_ends_and_the_next_one_is_right() {
    let lease = Duration::from_secs(4);
    let mut rig = Rig::with_lease(COW, lease).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let first = rig.backup(rig.command(None)).await.view.to;
    rig.write(0, 2, MIB, MIB).await;
    // Nobody comes for it.
    let id = rig.begin(rig.command(first)).await;
    rig.wait_phase(id, BackupPhase::Ready).await;
    let (_, ticket) = rig.open_transfer(id, rig.disks[0]).await;
    tokio::time::sleep(lease + Duration::from_secs(2)).await;
    assert_eq!(rig.view(id).await.phase, BackupPhase::Ready, "a transfer keeps it");
    assert_eq!(rig.get(&format!("/images/{ticket}")).await.0, 200);
    // The transfer's client is gone as well: that ends after 60 s, and then the lease runs out. We say it is gone now.
    let page = stillpoint_engine::view::Page {
        limit: 9,
        ..Default::default()
    };
    for transfer in rig.engine.transfers(&rig.who, &page).await.unwrap() {
        let command = ControlTransfer {
            transfer: transfer.id,
            action: TransferAction::Cancel,
        };
        let _over = rig.engine.control_transfer(&rig.who, &Origin::default(), command).await;
    }
    rig.wait_failed(id, "did nothing").await;
    rig.write(0, 3, 2 * MIB, MIB).await;
    let next = rig.backup(rig.command(first)).await;
    assert_eq!(next.view.disks[0].mode, BackupMode::Incremental);
    assert!(next.dirty_bytes[0] <= 2 * MIB, "{:?}", next.dirty_bytes);
    // Given up at once: before it is ready, or ready but ended without a download. Both are an end.
    let id = rig.begin(rig.command(first)).await;
    rig.try_finalize(id).await.unwrap();
    eventually("an end", || async { rig.view(id).await.phase.is_end().then_some(()) }).await;
    rig.write(0, 4, 3 * MIB, MIB).await;
    rig.backup(rig.command(next.view.to)).await;
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_leaves_guests_no_room_is_given_up_and_one_that_would_is_refused() {
    let mut rig = Rig::with_storage(COW, 600).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let first = rig.backup(rig.command(None)).await.view.to;
    let id = rig.begin(rig.command(first)).await;
    rig.wait_phase(id, BackupPhase::Ready).await;
    let hog = rig.dir.path().join("images/hog");
    std::fs::write(&hog, vec![1; usize::try_from(490 * MIB).unwrap()]).unwrap();
    rig.wait_failed(id, "bytes left").await;
    // What it held apart is merged, which frees what was held twice.
    rig.wait_files(3).await;
    let told = rig
        .engine
        .backup_create(&rig.who, &Origin::default(), rig.command(first))
        .await;
    refused(told, FaultCode::NoSpace, "data");
    std::fs::remove_file(hog).unwrap();
    rig.write(0, 2, MIB, MIB).await;
    let next = rig.backup(rig.command(first)).await;
    assert_eq!(next.view.disks[0].mode, BackupMode::Incremental);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_uploaded_into_leaves_its_checkpoints() {
    let mut rig = Rig::new(COW).await;
    rig.write(0, 1, 0, MIB).await;
    rig.backup(rig.command(None)).await;
    assert_eq!(rig.checkpoints().await.len(), 1);
    let command = CreateTransfer {
        of: TransferOf::Disk(rig.disks[0]),
        direction: TransferDirection::Upload,
        format: Some(ImageFormat::Raw),
        shallow: false,
        inactivity_s: None,
        policy: TimeoutPolicy::Legacy,
    };
    let origin = Origin::default();
    let begun = rig.engine.create_transfer(&rig.who, &origin, command).await.unwrap();
    assert_eq!(rig.checkpoints().await, vec![]);
    let action = TransferAction::Cancel;
    let command = ControlTransfer {
        transfer: begun.id,
        action,
    };
    rig.engine.control_transfer(&rig.who, &origin, command).await.unwrap();
    eventually("the upload's end", || async {
        let view = rig.engine.transfer(&rig.who, begun.id).await.unwrap();
        view.phase.is_end().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_its_ticket_outlive_the_daemon() {
    let mut rig = Rig::new(COW).await;
    rig.start().await;
    rig.write(0, 1, 0, MIB).await;
    let first = rig.backup(rig.command(None)).await.view.to;
    rig.write(0, 2, MIB, 65_536).await;
    let then = rig.now.clone();
    let id = rig.begin(rig.command(first)).await;
    rig.wait_phase(id, BackupPhase::Ready).await;
    rig.write(0, 3, 0, MIB).await;
    let (transfer, ticket) = rig.open_transfer(id, rig.disks[0]).await;
    rig.restart(Duration::from_secs(3600)).await;
    let extents = eventually("the ticket", || async {
        let (status, body) = rig.get(&format!("/images/{ticket}/extents?context=dirty")).await;
        (status == 200).then_some(body)
    })
    .await;
    let text = String::from_utf8(extents).unwrap();
    assert!(
        text.contains(r#""start": 1048576, "length": 65536, "dirty": true"#),
        "{text}"
    );
    let command = ControlTransfer {
        transfer,
        action: TransferAction::Finalize,
    };
    let origin = Origin::default();
    rig.engine.control_transfer(&rig.who, &origin, command).await.unwrap();
    eventually("the transfer's end", || async {
        let view = rig.engine.transfer(&rig.who, transfer).await.unwrap();
        view.phase.is_end().then_some(())
    })
    .await;
    rig.prove(id, &then).await;
    rig.finalize(id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_whose_changes_are_not_known_is_backed_up_in_full_and_the_others_are_not() {
    let mut rig = Rig::new(&[ImageFormat::Cow, ImageFormat::Cow]).await;
    rig.write(0, 1, 0, MIB).await;
    rig.write(1, 1, 0, MIB).await;
    let first = rig.backup(rig.command(None)).await.view.to;
    rig.write(0, 2, MIB, MIB).await;
    // A second one, so that what changed since the first has gone into maps.
    rig.backup(rig.command(first)).await;
    let map = rig
        .dir
        .path()
        .join(format!("maps/{}/{}.map", first.unwrap(), rig.disks[0]));
    let mut bytes = std::fs::read(&map).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&map, bytes).unwrap();
    rig.add_disk(ImageFormat::Cow).await;
    rig.points.get_mut(&first.unwrap()).unwrap().push(vec![]);
    let given = rig.backup(rig.command(first)).await;
    let modes: Vec<_> = given.view.disks.iter().map(|disk| disk.mode).collect();
    use BackupMode::{Full, Incremental};
    assert_eq!(modes, [Full, Incremental, Full]);
    assert_eq!(rig.events(10791).await.len(), 2, "each is told, with its reason");
    let third = given.view.to;

    // Detached, a disk leaves all checkpoints; one without disks goes.
    let origin = Origin::default();
    for disk in rig.disks.clone() {
        let left = rig.engine.checkpoints(&rig.who, rig.vm).await.unwrap();
        assert!(left.iter().any(|checkpoint| Some(checkpoint.id) == third));
        let command = Detach {
            vm: rig.vm,
            disk,
            delete: false,
        };
        rig.engine.detach(&rig.who, &origin, command).await.unwrap();
        let left = rig.engine.checkpoints(&rig.who, rig.vm).await.unwrap();
        assert!(
            left.iter()
                .all(|checkpoint| checkpoint.disks.iter().all(|held| held.id != disk))
        );
    }
    assert_eq!(rig.checkpoints().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_a_line_whatever_backup_they_came_from_and_any_of_them_can_go() {
    let mut rig = Rig::new(COW).await;
    rig.start().await;
    let mut made = Vec::new();
    for round in 1..5_u8 {
        rig.write(0, round, u64::from(round) * MIB, MIB).await;
        let from = made.first().copied();
        made.push(rig.backup(rig.command(from)).await.view.to.unwrap());
    }
    rig.delete_checkpoint(made[1]).await;
    let views = rig.engine.checkpoints(&rig.who, rig.vm).await.unwrap();
    let line: Vec<_> = views.iter().map(|view| (view.id, view.parent)).collect();
    assert_eq!(
        line,
        [(made[0], None), (made[2], Some(made[0])), (made[3], Some(made[2]))]
    );
    for (left, dirty) in [(made[0], 3), (made[2], 1), (made[3], 0)] {
        let given = rig.backup(rig.command(Some(left))).await;
        assert_eq!(given.dirty_bytes[0], dirty * MIB, "since {left}");
    }
}

/// What cannot be transferred of a backup that is ready; and that it cannot end while something of it is.
async fn refuses_wrong_transfers(rig: &Rig, id: BackupId) {
    use TransferDirection::{Download, Upload};
    let disk = rig.disks[0];
    refused(
        rig.try_transfer(id, disk, Upload).await,
        FaultCode::Unsupported,
        "downloaded",
    );
    let absent = DiskId::fresh();
    refused(
        rig.try_transfer(id, absent, Download).await,
        FaultCode::RelatedNotFound,
        "disk",
    );
    let other = BackupId(uuid::Uuid::new_v4());
    refused(
        rig.try_transfer(other, disk, Download).await,
        FaultCode::RelatedNotFound,
        "backup",
    );
    let (transfer, _) = rig.open_transfer(id, disk).await;
    let word = transfer.to_string();
    refused(rig.try_finalize(id).await, FaultCode::BackupPhase, &word);
    rig.cancel(transfer).await;
}
