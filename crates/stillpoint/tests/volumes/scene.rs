//! A volume on the rig of the backups' tests: what a client of a volume API does to it, and what its snapshots hold.

use crate::rig::*;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use stillpoint_engine::{Fault, command::volume::*, command::*, view::volume::*};
use stillpoint_store::{StoreError, image, volume_snapshot};
use stillpoint_types::*;

/// What a snapshot must hold.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) id: VolumeSnapshotId,
    pub(crate) then: Bytes,
}

impl Rig {
    /// A disk that no VM has; its place among the rig's disks.
    pub(crate) async fn add_volume(&mut self) -> usize {
        let command = CreateDisk {
            id: None,
            image: None,
            alias: Some(format!("volume{}", self.disks.len())),
            description: String::new(),
            domain: DomainRef::Default,
            size_bytes: SIZE,
            format: ImageFormat::Cow,
            sparse: Some(true),
            attach: None,
        };
        let made = self
            .engine
            .create_disk(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        self.wait_job(made.job).await;
        self.disks.push(made.id);
        self.now.push(vec![0; usize::try_from(SIZE).unwrap()]);
        self.disks.len() - 1
    }

    pub(crate) async fn attach(&self, disk: usize) {
        let command = Attach {
            vm: self.vm,
            disk: self.disks[disk],
            fields: AttachFields::default(),
        };
        let done = self
            .engine
            .attach(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        self.wait_job(done.job).await;
    }

    pub(crate) async fn detach(&self, disk: usize) {
        let command = Detach {
            vm: self.vm,
            disk: self.disks[disk],
            delete: false,
        };
        let done = self
            .engine
            .detach(&self.who, &Origin::default(), command)
            .await
            .unwrap();
        self.wait_job(done.job).await;
    }

    /// A server has the volume for a while, and writes.
    pub(crate) async fn write_by_server(&mut self, disk: usize, pattern: u8, offset: u64, length: u64) {
        self.attach(disk).await;
        self.write(disk, pattern, offset, length).await;
        self.detach(disk).await;
    }

    pub(crate) fn taking(&self, disk: usize, also_when: &[VolumeStatus]) -> CreateVolumeSnapshot {
        CreateVolumeSnapshot {
            volume: self.disks[disk],
            name: Some("n".into()),
            description: None,
            metadata: Metadata::from([("k".into(), "v".into())]),
            also_when: also_when.to_vec(),
        }
    }

    pub(crate) async fn try_take(
        &self,
        disk: usize,
        also: &[VolumeStatus],
    ) -> Result<Accepted<VolumeSnapshotId>, Fault> {
        let (origin, command) = (Origin::default(), self.taking(disk, also));
        self.engine.create_volume_snapshot(&self.who, &origin, command).await
    }

    /// Takes a snapshot and waits until it can be used.
    pub(crate) async fn take(&self, disk: usize) -> Taken {
        let made = self.try_take(disk, &[VolumeStatus::InUse]).await.unwrap();
        self.wait_snapshot(made.id, VolumeSnapshotStatus::Available).await;
        let then = self.now[disk].clone();
        Taken { id: made.id, then }
    }

    pub(crate) async fn wait_snapshot(&self, id: VolumeSnapshotId, wanted: VolumeSnapshotStatus) -> VolumeSnapshotView {
        eventually(wanted.label(), || async {
            let view = self.engine.volume_snapshot(&self.who, id).await.unwrap();
            (view.status == wanted).then_some(view)
        })
        .await
    }

    pub(crate) async fn drop_snapshot(&self, id: VolumeSnapshotId) -> Result<(), Fault> {
        let command = DeleteVolumeSnapshot {
            snapshot: id,
            force: false,
        };
        let done = self
            .engine
            .delete_volume_snapshot(&self.who, &Origin::default(), command)
            .await?;
        self.wait_job(done.job).await;
        let gone = self.engine.volume_snapshot(&self.who, id).await.unwrap_err();
        assert_eq!(gone.code, FaultCode::NotFound);
        Ok(())
    }

    pub(crate) async fn try_revert(
        &self,
        disk: usize,
        id: VolumeSnapshotId,
        rule: RevertRule,
    ) -> Result<Option<JobId>, Fault> {
        let command = RevertVolume {
            volume: self.disks[disk],
            snapshot: id,
            rule,
        };
        let done = self
            .engine
            .revert_volume(&self.who, &Origin::default(), command)
            .await?;
        Ok(done.job)
    }

    pub(crate) async fn revert(&mut self, disk: usize, to: &Taken, rule: RevertRule) {
        let job = self.try_revert(disk, to.id, rule).await.unwrap();
        self.wait_job(job).await;
        self.now[disk].clone_from(&to.then);
    }

    /// All that the volume APIs list of a volume, newest first.
    pub(crate) async fn listed(&self, disk: usize) -> Vec<VolumeSnapshotView> {
        let query = VolumeQuery {
            scope: Scope::All,
            matches: vec![Match::In("volume_id", vec![self.disks[disk].to_string()])],
            sort: vec![],
            marker: None,
            offset: 0,
            limit: 1000,
            count: true,
        };
        let found = self.engine.volume_snapshots(&self.who, query).await.unwrap();
        assert_eq!(found.count, Some(found.items.len() as u64));
        found.items
    }

    pub(crate) async fn volume(&self, disk: usize) -> VolumeView {
        self.engine.volume(&self.who, self.disks[disk]).await.unwrap()
    }

    /// How many live images a disk has.
    pub(crate) async fn layers(&self, disk: usize) -> usize {
        let id = self.disks[disk];
        let read = move |conn: &stillpoint_store::Conn| -> Result<_, StoreError> { image::of_disk(conn, id) };
        self.store.read(read).await.unwrap().len()
    }

    pub(crate) async fn snapshot_file(&self, id: VolumeSnapshotId) -> PathBuf {
        let read = move |conn: &stillpoint_store::Conn| -> Result<_, StoreError> {
            let row = volume_snapshot::get(conn, id)?.unwrap();
            let image = volume_snapshot::image_of(conn, &row)?.unwrap();
            Ok(image::get(conn, image)?.unwrap())
        };
        let row = self.store.read(read).await.unwrap();
        let ending = if row.format == ImageFormat::Cow { "qcow2" } else { "raw" };
        self.dir.path().join("images").join(format!("{}.{ending}", row.id))
    }

    /// What a file and all below it show; `None`: a merge has it just now.
    fn content(&self, file: &Path) -> Option<Bytes> {
        let copy = self.dir.path().join("copy.raw");
        let done = Command::new("qemu-img")
            .args(["convert", "-U", "-O", "raw"])
            .args([file, &copy])
            .output()
            .unwrap();
        let mut bytes = done.status.success().then(|| std::fs::read(&copy).unwrap())?;
        bytes.resize(bytes.len().max(usize::try_from(SIZE).unwrap()), 0);
        Some(bytes)
    }

    /// The volume and these snapshots hold what they must, byte for byte.
    pub(crate) async fn prove_volume(&self, disk: usize, taken: &[&Taken]) {
        for taken in taken {
            // A merge may have given it another file a moment ago.
            let content = || async { self.content(&self.snapshot_file(taken.id).await) };
            let found = eventually("the snapshot's content", content).await;
            assert!(found == taken.then, "snapshot {} changed", taken.id);
        }
        let content = || async { self.content(&self.active_file(self.disks[disk]).await) };
        let found = eventually("the volume's content", content).await;
        assert!(found == self.now[disk], "the volume is not what was written");
    }

    /// Nothing is locked, and no merge is under way.
    pub(crate) async fn settled(&self) {
        eventually("rest", || async {
            let read = |conn: &stillpoint_store::Conn| -> Result<_, StoreError> {
                Ok(stillpoint_store::job::unfinished(conn)?.len() + image::doomed(conn)?.len())
            };
            (self.store.read(read).await.unwrap() == 0).then_some(())
        })
        .await;
        assert_eq!(self.engine.orphaned_locks().await.unwrap(), 0);
    }
}
