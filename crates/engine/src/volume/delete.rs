//! Removes a volume, with its snapshots if asked.
//!
//! Rows go in the transaction that answers. The files of the chain go by [`crate::reconcile::tidy`], but those that other
//! volumes stand on: they stay, without a name, until nobody needs them.

use super::{snapshot as of, wrong_status};
use crate::command::{Accepted, Origin, volume::DeleteVolume};
use crate::{
    disk::delete,
    engine::Inner,
    fault::Fault,
    journal::Actor,
    lock::{self, Entity},
};
use std::sync::Arc;
use stillpoint_store::{
    Listing, Test, Tx,
    volume::{self, VolumeRow},
    volume_snapshot,
};
use stillpoint_types::{Caller, DiskId, FaultCode, Need, VolumeSnapshotStatus, VolumeStatus};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteVolume,
) -> Result<Accepted<DiskId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.volume);
    let write = move |tx: &Tx| remove(tx, &who, &actor, command);
    engine.store.write(write).await?;
    engine.tidy.notify_one();
    Ok(Accepted { id, job: None })
}

fn remove(tx: &Tx, who: &Caller, actor: &Actor, command: DeleteVolume) -> Result<(), Fault> {
    use VolumeStatus::{Available, Error, ErrorExtending, ErrorManaging, ErrorRestoring, ErrorReverting};
    let row = super::find(tx, who, command.volume, Need::Operate)?;
    if command.force {
        super::expect_admin(who, Some(row.disk.project), "remove a volume whatever its status")?;
    } else if !matches!(
        row.status,
        Available | Error | ErrorExtending | ErrorManaging | ErrorRestoring | ErrorReverting
    ) {
        return Err(wrong_status(&row, "removing it", "available or in error"));
    }
    if row.attached || !volume::outside(tx, &[row.disk.id])?.is_empty() {
        let text = format!("Invalid volume: volume {} is attached: detach it first.", row.disk.id);
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    lock::expect_free(tx, Entity::Disk(row.disk.id), &super::called(&row.disk)).map_err(of::create::refused)?;
    if volume_snapshot::count_of_disk(tx, row.disk.id)? > 0 {
        expect_cascade(tx, &row, command.cascade)?;
    }
    // One that a preview keeps, or that a snapshot of a VM holds which it was detached from.
    delete::expect_in_no_snapshot(tx, &row.disk).map_err(|fault| Fault::new(FaultCode::HasDependants, fault.text))?;
    delete::forget_claimed(tx, actor, &row.disk).map_err(of::create::refused)
}

/// Snapshots go with their volume if that is asked, and if each of them may.
fn expect_cascade(tx: &Tx, row: &VolumeRow, cascade: bool) -> Result<(), Fault> {
    use VolumeSnapshotStatus::{Available, Deleting, Error};
    let id = row.disk.id;
    let all = Listing {
        tests: vec![Test::In("volume_id", vec![id.to_string()])],
        limit: u64::MAX,
        ..Listing::default()
    };
    let live = of::live(tx)?;
    let found = volume_snapshot::page(tx, &all, &[])?.map(|found| found.rows);
    let snapshots = found.unwrap_or_default();
    if !cascade {
        let text = format!(
            "Invalid volume: volume {id} has {} snapshots: remove them first, or with it.",
            snapshots.len()
        );
        return Err(Fault::new(FaultCode::HasDependants, text));
    }
    for snapshot in &snapshots {
        of::expect_unprotected(snapshot, "remove the volume")?;
        if let Some(vm_snapshot) = snapshot.vm_snapshot {
            let text = format!(
                "Invalid volume: snapshot {} of volume {id} belongs to snapshot {vm_snapshot} of a VM: remove that first.",
                snapshot.id
            );
            return Err(Fault::new(FaultCode::HasDependants, text));
        }
        let status = of::shown(snapshot, &live);
        if !matches!(status, Available | Error | Deleting) {
            let text = format!(
                "Invalid volume: snapshot {} of volume {id} is {status}, but removing both needs it to be available or \
                 error.",
                snapshot.id
            );
            return Err(Fault::new(FaultCode::VolumeStatus, text));
        }
    }
    Ok(())
}
