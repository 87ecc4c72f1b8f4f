//! What a volume begins as: the image that it stands on, and what keeps that from changing.

use super::saga::Freezing;
use crate::command::{CreateSnapshot, SnapshotDisk, volume::TypeRef};
use crate::volume::{
    called,
    snapshot::{self, create::refused},
    wrong_status,
};
use crate::{
    engine::Inner,
    fault::Fault,
    journal::Actor,
    limits,
    lock::{self, Entity},
    snapshot::{delete, preview},
};
use stillpoint_store::{
    Tx,
    disk::DiskRow,
    image::{self, ImageRow},
    vm,
    volume::{self, VolumeRow},
    volume_snapshot::{self, Texts},
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, Need, VmId, VmStatus, VolumeSnapshotId, VolumeStatus};

/// What a volume begins as, looked up.
pub(super) struct Base {
    pub(super) image: ImageRow,
    pub(super) size_bytes: u64,
    pub(super) of_type: TypeRef,
    pub(super) bootable: bool,
    pub(super) from_snapshot: Option<VolumeSnapshotId>,
    pub(super) from_volume: Option<DiskId>,
    pub(super) freeze: Freeze,
}

/// What has to be done to a source, so that its image changes no more.
pub(super) enum Freeze {
    /// Nothing.
    None,
    /// It moves to an overlay; the VM that has it is down.
    AtRest(DiskRow, Option<(VmId, String)>),
    /// Its VM runs.
    Live(DiskId, VmId),
}

/// Others may stand on an image, and are not too many already.
fn expect_usable(tx: &Tx, id: ImageId) -> Result<ImageRow, Fault> {
    delete::expect_unmerged(tx, id)?;
    let chain = image::chain(tx, id)?;
    if chain.len() >= limits::CHAIN_MAX {
        let text = format!(
            "Image {id} has {} layers already; at most {} are allowed. Remove a snapshot first.",
            chain.len(),
            limits::CHAIN_MAX
        );
        return Err(Fault::new(FaultCode::ChainTooDeep, text));
    }
    let row = chain.into_iter().next_back();
    row.ok_or_else(|| Fault::internal("an image that a volume shall stand on is gone"))
}

pub(super) fn of_snapshot(tx: &Tx, who: &Caller, id: VolumeSnapshotId) -> Result<Base, Fault> {
    let what = "making a volume of it";
    let (row, status) = snapshot::named(tx, who, id, Need::Read)?;
    snapshot::expect_unprotected(&row, "make a volume of the snapshot")?;
    let image = snapshot::usable_image(tx, &row, status, what)?;
    let image = expect_usable(tx, image)?;
    let of = volume::get(tx, row.disk)?.ok_or_else(|| Fault::internal("a snapshot of no volume"))?;
    Ok(Base {
        // An image is never smaller than what the disk was when it was frozen.
        size_bytes: row.size_bytes.max(image.size_bytes),
        image,
        of_type: TypeRef::Id(of.of_type.0),
        bootable: of.bootable,
        from_snapshot: Some(id),
        from_volume: None,
        freeze: Freeze::None,
    })
}

pub(super) fn of_volume(tx: &Tx, who: &Caller, id: DiskId) -> Result<Base, Fault> {
    let row = crate::volume::named(tx, who, id, Need::Read)?;
    if !matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) {
        return Err(wrong_status(&row, "making a volume of it", "available or in-use"));
    }
    lock::expect_free(tx, Entity::Disk(id), &called(&row.disk)).map_err(refused)?;
    let active = expect_usable(tx, row.disk.image)?;
    let (image, freeze) = match active.parent.filter(|_| row.pristine) {
        Some(parent) => (expect_usable(tx, parent)?, Freeze::None),
        None => (active, freeze(tx, &row).map_err(refused)?),
    };
    Ok(Base {
        size_bytes: row.disk.size_bytes.max(image.size_bytes),
        image,
        of_type: TypeRef::Id(row.of_type.0),
        bootable: row.bootable,
        from_snapshot: None,
        from_volume: Some(id),
        freeze,
    })
}

/// How a volume's active image is kept from changing.
fn freeze(tx: &Tx, row: &VolumeRow) -> Result<Freeze, Fault> {
    let Some(a) = vm::attachments_of_disk(tx, row.disk.id)?.into_iter().next() else {
        crate::backup::expect_none_of_disk(tx, row.disk.id, "make a volume of it")?;
        return Ok(Freeze::AtRest(row.disk.clone(), None));
    };
    let found = vm::get(tx, a.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    lock::expect_free(tx, Entity::Vm(found.id), &found.name)?;
    if found.status != VmStatus::Down {
        return Ok(Freeze::Live(row.disk.id, found.id));
    }
    crate::backup::expect_none_of_disk(tx, row.disk.id, "make a volume of it")?;
    preview::expect_none(tx, found.id, "make a volume of its disk")?;
    Ok(Freeze::AtRest(row.disk.clone(), Some((found.id, found.name))))
}

/// Plans the snapshot of a running VM that a new volume needs. No volume API shows it.
pub(super) fn freeze_live(
    engine: &Inner,
    tx: &Tx,
    (who, actor): (&Caller, &Actor),
    (new, source, vm): (DiskId, DiskId, VmId),
    available_bytes: u64,
) -> Result<Freezing, Fault> {
    let command = CreateSnapshot {
        vm,
        description: format!("Auto-generated for volume {new}"),
        memory: false,
        disks: Some(vec![SnapshotDisk {
            disk: source,
            image: None,
        }]),
    };
    let made = crate::snapshot::create::plan(engine, tx, who, actor, &command, available_bytes).map_err(refused)?;
    let member = VolumeSnapshotId::fresh();
    volume_snapshot::claim_member(tx, made.id, source, member, who.user, &Texts::default())?;
    volume_snapshot::delete(tx, member)?;
    Ok(Freezing {
        job: made.job.ok_or_else(|| Fault::internal("a snapshot without a job"))?,
        vm,
        snapshot: made.id,
    })
}
