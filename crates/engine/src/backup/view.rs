//! Backups as clients see them.

use crate::{
    access,
    disk::view as disk,
    engine::Inner,
    fault::Fault,
    view::{BackupDiskView, BackupView},
};
use std::sync::Arc;
use stillpoint_store::{
    Conn,
    backup::{self, BackupDiskRow, BackupRow},
};
use stillpoint_types::{BackupId, Caller, Need, VmId};

/// A backup of a VM; one of another VM is not there.
pub(super) fn find(conn: &Conn, vm: VmId, id: BackupId) -> Result<BackupRow, Fault> {
    backup::get(conn, id)?
        .filter(|row| row.vm == vm)
        .ok_or_else(|| Fault::not_found("backup", id))
}

type Rows = (BackupRow, Vec<BackupDiskRow>);

fn with_disks(conn: &Conn, row: BackupRow) -> Result<Rows, Fault> {
    let disks = backup::disks(conn, row.id)?;
    Ok((row, disks))
}

pub(crate) async fn of_vm(engine: &Arc<Inner>, who: &Caller, vm: VmId) -> Result<Vec<BackupView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<Rows>, Fault> {
        access::vm(conn, &who, vm, Need::Read)?;
        let rows = backup::of_vm(conn, vm)?;
        rows.into_iter().map(|row| with_disks(conn, row)).collect()
    };
    let rows = engine.store.read(read).await?;
    views(engine, rows).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, vm: VmId, id: BackupId) -> Result<BackupView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Rows, Fault> {
        access::vm(conn, &who, vm, Need::Read)?;
        with_disks(conn, find(conn, vm, id)?)
    };
    let rows = engine.store.read(read).await?;
    disk::one(views(engine, vec![rows]).await?)
}

async fn views(engine: &Arc<Inner>, rows: Vec<Rows>) -> Result<Vec<BackupView>, Fault> {
    let ids = rows
        .iter()
        .flat_map(|(_, disks)| disks.iter().map(|d| d.disk))
        .collect();
    let found = disk::named(engine, ids).await?;
    let view = |(row, disks): Rows| BackupView {
        id: row.id,
        vm: row.vm,
        description: row.description,
        kind: row.kind,
        phase: row.phase,
        from: row.from,
        to: Some(row.to),
        snapshot: row.snapshot,
        consistent: row.consistent,
        reason: row.reason,
        created_at: row.created_at,
        modified_at: row.modified_at,
        disks: disks
            .into_iter()
            .filter_map(|d| {
                let disk = found.get(&d.disk)?.clone();
                Some(BackupDiskView { disk, mode: d.mode })
            })
            .collect(),
    };
    Ok(rows.into_iter().map(view).collect())
}
