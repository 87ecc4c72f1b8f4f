//! Makes a volume larger: a disk's extension ([`crate::disk::extend`]), within the project's quota.

use super::{GIB, gib, quota, snapshot, wrong_status};
use crate::command::{Accepted, Origin, volume::ExtendVolume};
use crate::view::volume::Usage;
use crate::{
    disk::extend,
    engine::Inner,
    fault::Fault,
    journal::{self, Actor},
};
use std::sync::Arc;
use stillpoint_store::Tx;
use stillpoint_types::{Caller, DiskId, FaultCode, JobId, Need, VolumeStatus};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: ExtendVolume,
) -> Result<Accepted<DiskId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let id = command.volume;
    let write = move |tx: &Tx| plan(&inner, tx, &who, &actor, command, space.available_bytes);
    let job = engine.store.write(write).await?;
    if let Some(job) = job {
        journal::executor::drive(engine, job, false);
    }
    Ok(Accepted { id, job })
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: ExtendVolume,
    available_bytes: u64,
) -> Result<Option<JobId>, Fault> {
    let row = super::find(tx, who, command.volume, Need::Operate)?;
    match row.status {
        VolumeStatus::Available => {}
        VolumeStatus::InUse if command.in_use => {}
        _ if command.in_use => return Err(wrong_status(&row, "extending it", "available or in-use")),
        _ => return Err(wrong_status(&row, "extending it", "available")),
    }
    if !command.size_bytes.is_multiple_of(GIB) || command.size_bytes <= row.disk.size_bytes {
        let text = format!(
            "Invalid input: the new size of volume {}, {} bytes, must be whole GiB and more than {}.",
            row.disk.id, command.size_bytes, row.disk.size_bytes
        );
        return Err(Fault::new(FaultCode::OutOfRange, text));
    }
    let more = Usage {
        gigabytes: gib(command.size_bytes) - gib(row.disk.size_bytes),
        ..Usage::default()
    };
    // A disk of 1.5 GiB counts as 2, and shows so: it grows to 3.
    if more.gigabytes == 0 {
        let text = format!(
            "Invalid input: volume {} has {} GiB already.",
            row.disk.id,
            gib(row.disk.size_bytes)
        );
        return Err(Fault::new(FaultCode::OutOfRange, text));
    }
    quota::expect_size(tx, row.disk.project, gib(command.size_bytes))?;
    quota::expect_room(tx, row.disk.project, more)?;
    quota::of_type::expect_room(tx, row.disk.project, (row.of_type.0, &row.of_type.1), more)?;
    let job = extend::plan(engine, tx, actor, &row.disk, command.size_bytes, available_bytes);
    job.map_err(snapshot::create::refused)
}
