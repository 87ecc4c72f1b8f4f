//! Snapshots of single volumes.
//!
//! There are two kinds, in one table (`store/src/volume_snapshot.rs`): the *members* of a VM snapshot, whose images that one
//! names, and those of volumes that no VM of ours has, which name their image themselves. Either is a name in the tree of
//! images and nothing else ([`crate::graph`]), so they can go in any order, and a volume can go on from any of them.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod settle;
pub(crate) mod update;
pub(crate) mod view;

use crate::{access, command::volume::Metadata, fault::Fault};
use std::collections::HashMap;
use stillpoint_store::{
    Conn,
    volume_snapshot::{self, VolumeSnapshotRow},
};
use stillpoint_types::{Caller, FaultCode, ImageId, Need, VolumeSnapshotId, VolumeSnapshotStatus};

/// Says of which VM snapshot one is a member.
pub(crate) const VM_SNAPSHOT_KEY: &str = "stillpoint:vm_snapshot";
/// Says that one was made while a whole VM was backed up (evs-cinder-api 3.10).
pub(crate) const SERVER_BACKUP_KEY: &str = "__system__enableActive";

/// What jobs, backups and transfers do to snapshots now.
pub(crate) type Live = HashMap<VolumeSnapshotId, VolumeSnapshotStatus>;

pub(crate) fn live(conn: &Conn) -> Result<Live, Fault> {
    let mut live = Live::new();
    for (id, status) in volume_snapshot::live(conn)? {
        live.entry(id).or_insert(status);
    }
    Ok(live)
}

/// The status as it is shown.
pub(crate) fn shown(row: &VolumeSnapshotRow, live: &Live) -> VolumeSnapshotStatus {
    match row.status {
        VolumeSnapshotStatus::Available => live.get(&row.id).copied().unwrap_or(row.status),
        recorded => recorded,
    }
}

/// A snapshot that the caller may see, and change if that is needed, with the status that is shown.
pub(crate) fn find(
    conn: &Conn,
    who: &Caller,
    id: VolumeSnapshotId,
    need: Need,
) -> Result<(VolumeSnapshotRow, VolumeSnapshotStatus), Fault> {
    let row = volume_snapshot::get(conn, id)?.ok_or_else(|| Fault::not_found("snapshot", id))?;
    access::check(who, row.project, need, "snapshot", &id.to_string())?;
    let status = shown(&row, &live(conn)?);
    Ok((row, status))
}

/// The same for one that a request names besides the thing of its URL.
pub(crate) fn named(
    conn: &Conn,
    who: &Caller,
    id: VolumeSnapshotId,
    need: Need,
) -> Result<(VolumeSnapshotRow, VolumeSnapshotStatus), Fault> {
    find(conn, who, id, need).map_err(|fault| match fault.code {
        FaultCode::NotFound => Fault::new(FaultCode::RelatedNotFound, format!("Snapshot {id} could not be found.")),
        _ => fault,
    })
}

/// Refuses to do to a snapshot of a backup what users want.
pub(crate) fn expect_unprotected(row: &VolumeSnapshotRow, what: &str) -> Result<(), Fault> {
    let Some(backup) = row.backup else { return Ok(()) };
    let text = format!(
        "Cannot {what}: snapshot {} was made for backup {backup}. Users may look at it only; it goes with the backup.",
        row.id
    );
    Err(Fault::new(FaultCode::Protected, text))
}

/// The image that a snapshot shows, of one that can be used now.
pub(crate) fn usable_image(
    conn: &Conn,
    row: &VolumeSnapshotRow,
    status: VolumeSnapshotStatus,
    what: &str,
) -> Result<ImageId, Fault> {
    if status != VolumeSnapshotStatus::Available {
        let text = format!(
            "Invalid snapshot: snapshot {} is {status}, but {what} needs it to be available.",
            row.id
        );
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    let image = volume_snapshot::image_of(conn, row)?;
    if let Some(id) = image {
        // Through whatever disk: another volume may stand on it, too.
        crate::snapshot::delete::expect_unmerged(conn, id)?;
    }
    let usable = image.map(|id| stillpoint_store::image::is_half_merged(conn, id).map(|half| (!half).then_some(id)));
    usable.transpose()?.flatten().ok_or_else(|| {
        let text = format!(
            "Invalid snapshot: snapshot {} holds no data: its making, or its removal, failed. Remove it.",
            row.id
        );
        Fault::new(FaultCode::VolumeStatus, text)
    })
}

/// Metadata as it is shown: with what the daemon says of it.
pub(crate) fn shown_metadata(row: &VolumeSnapshotRow) -> Metadata {
    let mut metadata = row.metadata.clone();
    if let Some(id) = row.vm_snapshot {
        metadata.insert(VM_SNAPSHOT_KEY.into(), id.to_string());
    }
    metadata
}
