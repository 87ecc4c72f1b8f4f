//! Removes a disk that no VM and no snapshot has. Its row goes at once; its files by [`crate::reconcile::tidy`].

use crate::{
    access,
    command::{Accepted, DeleteDisk, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    lock::{self, Entity},
};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    snapshot, vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, Need};

/// Refuses to remove what a snapshot holds.
pub(crate) fn expect_in_no_snapshot(tx: &Tx, row: &DiskRow) -> Result<(), Fault> {
    crate::snapshot::preview::expect_none_keeps(tx, row.id, "remove Virtual Disk")?;
    let Some(id) = snapshot::of_disk(tx, row.id)?.into_iter().next() else {
        return Ok(());
    };
    let text = format!(
        "Cannot remove Virtual Disk. Disk {} is in use by snapshot {id}: remove the snapshot first.",
        row.alias
    );
    Err(Fault::new(FaultCode::DiskAttached, text))
}

/// Takes the disk's row away; its images have no name then. Snapshots of it alone go with it.
pub(crate) fn forget(tx: &Tx, actor: &Actor, row: &DiskRow) -> Result<(), Fault> {
    crate::volume::expect_unclaimed(tx, row, "remove Virtual Disk", true)?;
    forget_claimed(tx, actor, row)
}

/// The same, whatever a client of the volume API said of it.
pub(crate) fn forget_claimed(tx: &Tx, actor: &Actor, row: &DiskRow) -> Result<(), Fault> {
    let refuse = |by: String| {
        let text = format!("Cannot remove Virtual Disk. Disk {} is in use by {by}.", row.alias);
        Err(Fault::new(FaultCode::DiskAttached, text))
    };
    if let Some(a) = vm::attachments_of_disk(tx, row.id)?.first() {
        return refuse(format!("VM {}: detach it first", a.vm));
    }
    expect_in_no_snapshot(tx, row)?;
    crate::backup::expect_none_of_disk(tx, row.id, "remove Virtual Disk")?;
    stillpoint_store::checkpoint::forget_disk(tx, row.id)?;
    disk::delete(tx, row.id)?;
    let text = format!(
        "Disk {} was successfully removed by {}.",
        crate::volume::called(row),
        actor.name
    );
    Event::new(What::DiskRemoved, text)
        .by(actor)
        .disk(row.project, row.id, &row.alias)
        .write(tx)
}

pub(crate) async fn delete(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteDisk,
) -> Result<Accepted<DiskId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.disk);
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let row = access::disk(tx, &who, id, Need::Operate)?;
        lock::expect_free(tx, Entity::Disk(id), &row.alias)?;
        forget(tx, &actor, &row)
    };
    engine.store.write(write).await?;
    engine.tidy.notify_one();
    Ok(Accepted { id, job: None })
}
