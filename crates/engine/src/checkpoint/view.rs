//! Checkpoints as clients see them.

use crate::{access, disk::view as disk, engine::Inner, fault::Fault, view::CheckpointView};
use std::sync::Arc;
use stillpoint_store::{
    Conn,
    checkpoint::{self, CheckpointRow},
};
use stillpoint_types::{Caller, CheckpointId, DiskId, Need, VmId};

/// A checkpoint of a VM; one of another VM is not there.
pub(crate) fn find(conn: &Conn, vm: VmId, id: CheckpointId) -> Result<CheckpointRow, Fault> {
    checkpoint::get(conn, id)?
        .filter(|row| row.vm == vm)
        .ok_or_else(|| Fault::not_found("checkpoint", id))
}

type Rows = (CheckpointRow, Vec<DiskId>);

fn with_disks(conn: &Conn, row: CheckpointRow) -> Result<Rows, Fault> {
    let disks = checkpoint::disks(conn, row.id)?;
    Ok((row, disks.into_iter().map(|d| d.disk).collect()))
}

pub(crate) async fn of_vm(engine: &Arc<Inner>, who: &Caller, vm: VmId) -> Result<Vec<CheckpointView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<Rows>, Fault> {
        access::vm(conn, &who, vm, Need::Read)?;
        let rows = checkpoint::of_vm(conn, vm)?;
        rows.into_iter().map(|row| with_disks(conn, row)).collect()
    };
    let rows = engine.store.read(read).await?;
    views(engine, rows).await
}

pub(crate) async fn get(
    engine: &Arc<Inner>,
    who: &Caller,
    vm: VmId,
    id: CheckpointId,
) -> Result<CheckpointView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Rows, Fault> {
        access::vm(conn, &who, vm, Need::Read)?;
        with_disks(conn, find(conn, vm, id)?)
    };
    let rows = engine.store.read(read).await?;
    disk::one(views(engine, vec![rows]).await?)
}

async fn views(engine: &Arc<Inner>, rows: Vec<Rows>) -> Result<Vec<CheckpointView>, Fault> {
    let ids = rows.iter().flat_map(|(_, disks)| disks).copied().collect();
    let found = disk::named(engine, ids).await?;
    let view = |(row, disks): Rows| CheckpointView {
        id: row.id,
        vm: row.vm,
        parent: row.parent,
        description: row.description,
        state: row.state,
        created_at: row.created_at,
        disks: disks.iter().filter_map(|id| found.get(id).cloned()).collect(),
    };
    Ok(rows.into_iter().map(view).collect())
}
