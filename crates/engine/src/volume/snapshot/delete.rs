//! Removes a snapshot of one volume.
//!
//! One that names its image itself only loses that name: its row goes in the transaction that answers, and what can be
//! merged or unlinked then is the business of [`crate::reconcile::tidy`]. So it is as cheap as a row, whatever dies it is
//! gone, and no other snapshot, and no volume that was made from it, notices. The only member of a VM snapshot goes with that
//! one ([`crate::snapshot::delete`]); one of several belongs to it and stays.

use super::{expect_unprotected, find};
use crate::command::{Accepted, Origin, volume::DeleteVolumeSnapshot};
use crate::{access, engine::Inner, fault::Fault, journal, journal::Actor};
use std::sync::Arc;
use stillpoint_store::{
    Tx, snapshot,
    volume_snapshot::{self, VolumeSnapshotRow},
};
use stillpoint_types::{Caller, FaultCode, JobId, Need, SnapshotId, VolumeSnapshotId, VolumeSnapshotStatus};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteVolumeSnapshot,
) -> Result<Accepted<VolumeSnapshotId>, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let job = engine.store.write(move |tx| plan(tx, &who, &actor, command)).await?;
    match job {
        Some(job) => journal::executor::drive(engine, job, false),
        None => engine.tidy.notify_one(),
    }
    Ok(Accepted {
        id: command.snapshot,
        job,
    })
}

fn plan(tx: &Tx, who: &Caller, actor: &Actor, command: DeleteVolumeSnapshot) -> Result<Option<JobId>, Fault> {
    use VolumeSnapshotStatus::{Available, Error};
    let (row, status) = find(tx, who, command.snapshot, Need::Operate)?;
    if command.force {
        crate::volume::expect_admin(who, Some(row.project), "remove a snapshot whatever its status")?;
    } else {
        expect_unprotected(&row, "remove the snapshot")?;
        if !matches!(status, Available | Error) {
            let text = format!(
                "Invalid snapshot: snapshot {} is {status}, but removing it needs it to be available or error.",
                row.id
            );
            return Err(Fault::new(FaultCode::VolumeStatus, text));
        }
    }
    match row.vm_snapshot {
        Some(vm_snapshot) => member(tx, actor, &row, vm_snapshot),
        None => {
            volume_snapshot::delete(tx, row.id)?;
            Ok(None)
        }
    }
}

/// The VM snapshot goes, if this is all that it holds.
fn member(tx: &Tx, actor: &Actor, row: &VolumeSnapshotRow, id: SnapshotId) -> Result<Option<JobId>, Fault> {
    let gone = || Fault::internal("the VM snapshot of a member, or its VM, is gone");
    if snapshot::disks(tx, id)?.len() > 1 {
        let text = format!(
            "Invalid snapshot: snapshot {} belongs to snapshot {id} of a VM, with those of other volumes: remove that one.",
            row.id
        );
        return Err(Fault::new(FaultCode::HasDependants, text));
    }
    let of = snapshot::get(tx, id)?.ok_or_else(gone)?;
    let vm = stillpoint_store::vm::get(tx, of.vm)?.ok_or_else(gone)?;
    let config = journal::from_json(&vm.config)?;
    let found = access::Vm { row: vm, config };
    crate::snapshot::delete::begin(tx, actor, &found, &of).map_err(super::create::refused)
}
