//! Which disks are snapshots of other disks, attached to a VM to be read there.

use crate::{Conn, Stored, Tx, column::text};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, SnapshotId, VmId};

/// An exposed snapshot of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedRow {
    /// The disk that shows it.
    pub disk: DiskId,
    /// The VM that has that disk.
    pub vm: VmId,
    /// The disk whose snapshot it is.
    pub of_disk: DiskId,
    /// The snapshot; it may be gone by now.
    pub snapshot: SnapshotId,
}

fn exposed_row(row: &Row<'_>) -> rusqlite::Result<ExposedRow> {
    Ok(ExposedRow {
        disk: text(row, "disk_id")?,
        vm: text(row, "vm_id")?,
        of_disk: text(row, "of_disk")?,
        snapshot: text(row, "snapshot_id")?,
    })
}

/// Adds one. A second snapshot of a disk at a VM is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, row: &ExposedRow) -> Stored<()> {
    tx.sql()
        .prepare_cached("INSERT INTO exposed (disk_id, vm_id, of_disk, snapshot_id) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            row.disk.to_string(),
            row.vm.to_string(),
            row.of_disk.to_string(),
            row.snapshot.to_string()
        ])?;
    Ok(())
}

/// What a disk shows, if it is such a one.
pub fn get(conn: &Conn, disk: DiskId) -> Stored<Option<ExposedRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM exposed WHERE disk_id = ?1")?;
    Ok(statement.query_row([disk.to_string()], exposed_row).optional()?)
}

/// The disk that shows a snapshot of `of_disk` at a VM.
pub fn at_vm(conn: &Conn, vm: VmId, of_disk: DiskId) -> Stored<Option<ExposedRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM exposed WHERE vm_id = ?1 AND of_disk = ?2")?;
    Ok(statement
        .query_row([vm.to_string(), of_disk.to_string()], exposed_row)
        .optional()?)
}
