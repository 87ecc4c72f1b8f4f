//! What oVirt does to disks for the sake of where they lie. Here all lie in the one storage domain, as files.

use super::create;
use crate::{
    access,
    command::{MoveDisk, ReduceDisk},
    engine::Inner,
    fault::Fault,
    lock::{self, Entity},
};
use std::sync::Arc;
use stillpoint_types::{Caller, FaultCode, Need};

/// Gives back what a volume of block storage has beyond the end of its image. A file ends where its image does, so there is
/// nothing to give back, and that is well; what oVirt demands of the disk is demanded all the same.
pub(crate) async fn reduce(engine: &Arc<Inner>, who: &Caller, command: ReduceDisk) -> Result<(), Fault> {
    let who = who.clone();
    engine
        .store
        .read(move |conn| {
            let row = access::disk(conn, &who, command.disk, Need::Operate)?;
            lock::expect_free(conn, Entity::Disk(row.id), &row.alias)?;
            super::expect_at_rest(conn, &row, "reduce Virtual Disk", "Shut the VM down.")
        })
        .await
}

/// Moves a disk: to where it is already, which oVirt refuses, as there is nowhere else.
pub(crate) async fn relocate(engine: &Arc<Inner>, who: &Caller, command: MoveDisk) -> Result<(), Fault> {
    let (who, disk) = (who.clone(), command.disk);
    engine
        .store
        .read(move |conn| access::disk(conn, &who, disk, Need::Operate))
        .await?;
    create::expect_domain(engine, &command.domain)?;
    let text = "Cannot move Virtual Disk. Source and target domains must be different.";
    Err(Fault::new(FaultCode::VolumeStatus, text))
}
