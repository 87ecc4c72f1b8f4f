//! Volumes are made of snapshots and of one another without a copy, and share nothing that changes, byte for byte; what
//! clients of the volume APIs say of them holds in every dialect.

#[cfg(feature = "failpoints")]
mod crash;
mod words;

use crate::rig::*;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use stillpoint_engine::{
    Fault,
    command::{volume::*, *},
    view::volume::VolumeView,
};
use stillpoint_types::*;

const GIB: u64 = 1 << 30;

/// A volume of the administrator's project, 1 GiB and blank unless it is said otherwise.
fn volume(rig: &Rig) -> CreateVolume {
    CreateVolume {
        project: rig.who.home_project,
        name: None,
        description: None,
        size_bytes: Some(GIB),
        source: VolumeSource::Blank,
        of_type: None,
        metadata: Metadata::new(),
    }
}

async fn try_make(rig: &Rig, command: CreateVolume) -> Result<DiskId, Fault> {
    let made = rig.engine.create_volume(&rig.who, &Origin::default(), command).await?;
    rig.wait_job(made.job).await;
    Ok(made.id)
}

async fn make(rig: &Rig, command: CreateVolume) -> DiskId {
    try_make(rig, command).await.unwrap()
}

async fn of_volume(rig: &Rig, source: DiskId, gib: Option<u64>) -> Result<DiskId, Fault> {
    let command = CreateVolume {
        source: VolumeSource::Volume(source),
        size_bytes: gib.map(|gib| gib * GIB),
        ..volume(rig)
    };
    try_make(rig, command).await
}

async fn seen(rig: &Rig, id: DiskId) -> VolumeView {
    rig.engine.volume(&rig.who, id).await.unwrap()
}

async fn remove(rig: &Rig, volume: DiskId, cascade: bool) -> Result<(), Fault> {
    let command = DeleteVolume {
        volume,
        cascade,
        force: false,
    };
    let removed = rig.engine.delete_volume(&rig.who, &Origin::default(), command).await;
    removed.map(drop)
}

async fn attach(rig: &Rig, disk: DiskId) -> Result<(), Fault> {
    let fields = AttachFields::default();
    let command = Attach {
        vm: rig.vm,
        disk,
        fields,
    };
    let done = rig.engine.attach(&rig.who, &Origin::default(), command).await?;
    rig.wait_job(done.job).await;
    Ok(())
}

async fn detach(rig: &Rig, disk: DiskId) {
    let command = Detach {
        vm: rig.vm,
        disk,
        delete: false,
    };
    let done = rig.engine.detach(&rig.who, &Origin::default(), command).await.unwrap();
    rig.wait_job(done.job).await;
}

/// Writes as the VM that has the volume for a while does: it is down, and the file is at rest.
async fn write(rig: &Rig, disk: DiskId, pattern: u8, offset: u64, length: u64) {
    attach(rig, disk).await.unwrap();
    let command = format!("write -P {pattern} {offset} {length}");
    let file = rig.active_file(disk).await;
    run("qemu-io", &["-c", &command, file.to_str().unwrap()]);
    detach(rig, disk).await;
}

/// Keeps what a volume shows now, beside the images.
async fn keep(rig: &Rig, disk: DiskId, name: &str) -> PathBuf {
    let kept = rig.dir.path().join(name);
    let file = rig.active_file(disk).await;
    let arguments = ["convert", "-O", "raw", file.to_str().unwrap(), kept.to_str().unwrap()];
    run("qemu-img", &arguments);
    kept
}

/// A volume shows what was kept, and zeros beyond. While its images are being merged nobody else may have them open.
async fn prove(rig: &Rig, disk: DiskId, kept: &Path) {
    eventually("images at rest", || async {
        let file = rig.active_file(disk).await;
        let compare = Command::new("qemu-img")
            .arg("compare")
            .arg(&file)
            .arg(kept)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[compare.stdout, compare.stderr].concat()).into_owned();
        let busy = said.contains("lock") || said.contains("No such file");
        assert!(compare.status.success() || busy, "{said}");
        (!busy).then_some(())
    })
    .await;
}

/// Layers of a volume's chain.
async fn layers(rig: &Rig, disk: DiskId) -> usize {
    let file = rig.active_file(disk).await;
    let info = ["info", "--backing-chain", "--output=json", file.to_str().unwrap()];
    let said = Command::new("qemu-img").args(info).output().unwrap().stdout;
    serde_json::from_slice::<Vec<serde_json::Value>>(&said).unwrap().len()
}

async fn snapshot(rig: &Rig, volume: DiskId) -> VolumeSnapshotId {
    let command = CreateVolumeSnapshot {
        volume,
        name: None,
        description: None,
        metadata: Metadata::new(),
        also_when: vec![],
    };
    let made = rig
        .engine
        .create_volume_snapshot(&rig.who, &Origin::default(), command)
        .await;
    let made = made.unwrap();
    rig.wait_job(made.job).await;
    made.id
}

fn code<T: std::fmt::Debug>(refused: Result<T, Fault>) -> FaultCode {
    refused.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_of_snapshots_and_of_one_another_and_share_nothing_that_changes() {
    let rig = Rig::new(&[]).await;
    let first = make(&rig, volume(&rig)).await;
    let view = seen(&rig, first).await;
    assert_eq!(
        (view.status, view.size_bytes, view.name),
        (VolumeStatus::Available, GIB, None)
    );
    assert_eq!(view.of_type.1, "default");
    write(&rig, first, 1, 0, 2 * MIB).await;
    let then = keep(&rig, first, "then.raw").await;

    // Many at once of one source; the last one larger.
    let sizes = [None, Some(1), None, None, Some(2)];
    let made = sizes.map(|gib| of_volume(&rig, first, gib));
    let made: Vec<DiskId> = futures_util::future::join_all(made)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (id, gib) in made.iter().zip(sizes) {
        let view = seen(&rig, *id).await;
        assert_eq!(view.status, VolumeStatus::Available);
        assert_eq!(view.size_bytes, gib.unwrap_or(1) * GIB);
        assert_eq!(view.from_volume, Some(first));
        prove(&rig, *id, &then).await;
    }
    assert_eq!(layers(&rig, first).await, 2, "it is frozen once for all of them");
    assert_eq!(layers(&rig, made[4]).await, 2);
    assert_eq!(
        code(of_volume(&rig, made[4], Some(1)).await),
        FaultCode::OutOfRange,
        "smaller than its source"
    );
    let of_one_of_them = of_volume(&rig, made[4], None).await.unwrap();
    prove(&rig, of_one_of_them, &then).await;
    assert_eq!(seen(&rig, of_one_of_them).await.size_bytes, 2 * GIB);

    // Each goes its own way.
    write(&rig, first, 2, MIB, 4 * MIB).await;
    write(&rig, made[0], 3, 0, MIB).await;
    write(&rig, made[4], 4, GIB, MIB).await;
    let (now, other) = (
        keep(&rig, first, "now.raw").await,
        keep(&rig, made[4], "other.raw").await,
    );
    for id in &made[1..4] {
        prove(&rig, *id, &then).await;
    }
    let later = of_volume(&rig, first, None).await.unwrap();
    prove(&rig, later, &now).await;

    // A volume of a snapshot, larger than that; a volume that a VM has that is down.
    let taken = snapshot(&rig, first).await;
    let from = |size_bytes| CreateVolume {
        source: VolumeSource::Snapshot(taken),
        size_bytes,
        ..volume(&rig)
    };
    let of_snapshot = make(&rig, from(Some(3 * GIB))).await;
    prove(&rig, of_snapshot, &now).await;
    assert_eq!(seen(&rig, of_snapshot).await.from_snapshot, Some(taken));
    attach(&rig, first).await.unwrap();
    let of_attached = of_volume(&rig, first, None).await.unwrap();
    detach(&rig, first).await;
    write(&rig, first, 5, 0, 8 * MIB).await;
    for id in [later, of_snapshot, of_attached] {
        prove(&rig, id, &now).await;
    }

    // It goes, with its snapshot; what stands on it stays.
    assert_eq!(code(remove(&rig, first, false).await), FaultCode::HasDependants);
    remove(&rig, first, true).await.unwrap();
    assert_eq!(code(rig.engine.volume(&rig.who, first).await), FaultCode::NotFound);
    assert_eq!(
        code(rig.engine.volume_snapshot(&rig.who, taken).await),
        FaultCode::NotFound
    );
    assert_eq!(code(try_make(&rig, from(None)).await), FaultCode::RelatedNotFound);
    prove(&rig, made[4], &other).await;
    for id in [later, of_snapshot, of_attached] {
        prove(&rig, id, &now).await;
    }
    for id in made.iter().skip(1).take(3) {
        prove(&rig, *id, &then).await;
        remove(&rig, *id, false).await.unwrap();
    }
    assert_eq!(
        seen(&rig, of_snapshot).await.from_snapshot,
        Some(taken),
        "where it is from is still told"
    );
    // oVirt's removal of a disk takes its snapshots along.
    let alone = snapshot(&rig, of_attached).await;
    let command = DeleteDisk { disk: of_attached };
    rig.engine
        .delete_disk(&rig.who, &Origin::default(), command)
        .await
        .unwrap();
    assert_eq!(
        code(rig.engine.volume_snapshot(&rig.who, alone).await),
        FaultCode::NotFound
    );
    for id in [made[0], made[4], of_one_of_them, later, of_snapshot] {
        eventually("a removal", || async { remove(&rig, id, false).await.ok() }).await;
    }
    let images = rig.dir.path().join("images");
    eventually("the end of every file", || async {
        std::fs::read_dir(&images).unwrap().next().is_none().then_some(())
    })
    .await;
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_one_that_a_running_vm_writes_to_is_one_moment_of_it_and_leaves_no_snapshot() {
    let mut rig = Rig::new(&[ImageFormat::Cow]).await;
    rig.write(0, 1, 0, 8 * MIB).await;
    rig.start().await;
    rig.write(0, 2, 4 * MIB, 8 * MIB).await;
    let source = rig.disks[0];
    let (then, smaller) = (
        rig.now[0].clone(),
        CreateVolume {
            size_bytes: None,
            ..volume(&rig)
        },
    );
    let command = CreateVolume {
        source: VolumeSource::Volume(source),
        ..smaller
    };
    let made = make(&rig, command).await;
    assert_eq!(seen(&rig, source).await.status, VolumeStatus::InUse);
    rig.write(0, 3, 6 * MIB, 8 * MIB).await;
    let kept = rig.dir.path().join("then.raw");
    std::fs::write(&kept, then).unwrap();
    prove(&rig, made, &kept).await;
    assert_eq!(seen(&rig, made).await.size_bytes, SIZE);
    assert_eq!(
        rig.engine.snapshots(&rig.who, rig.vm).await.unwrap().len(),
        1,
        "the active one"
    );
    assert_eq!(
        rig.engine
            .quota(&rig.who, rig.who.home_project)
            .await
            .unwrap()
            .usage
            .snapshots,
        0
    );
    remove(&rig, made, false).await.unwrap();
    // What was frozen for it is one with what the guest writes to again.
    eventually("the merge", || async { (rig.layers(0).await == 1).then_some(()) }).await;
    rig.stop().await;
    let now = rig.dir.path().join("now.raw");
    std::fs::write(&now, &rig.now[0]).unwrap();
    prove(&rig, source, &now).await;
    assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
}
