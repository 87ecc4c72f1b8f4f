//! Which VMs are previewing a snapshot, and what keeps their former state.

use crate::{
    Conn, Stored, Tx,
    column::{rows_of, text},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, Micros, SnapshotId, VmId};

/// A preview's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRow {
    /// The VM.
    pub vm: VmId,
    /// The snapshot that it previews.
    pub snapshot: SnapshotId,
    /// The snapshot of kind preview, which keeps the former state.
    pub former: SnapshotId,
    /// Begun.
    pub created_at: Micros,
}

fn preview_row(row: &Row<'_>) -> rusqlite::Result<PreviewRow> {
    Ok(PreviewRow {
        vm: text(row, "vm_id")?,
        snapshot: text(row, "snapshot_id")?,
        former: text(row, "former_id")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a preview. A second one of a VM is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, p: &PreviewRow) -> Stored<()> {
    tx.sql()
        .prepare_cached("INSERT INTO preview (vm_id, snapshot_id, former_id, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            p.vm.to_string(),
            p.snapshot.to_string(),
            p.former.to_string(),
            p.created_at
        ])?;
    Ok(())
}

/// The preview of a VM.
pub fn of_vm(conn: &Conn, vm: VmId) -> Stored<Option<PreviewRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM preview WHERE vm_id = ?1")?;
    Ok(statement.query_row([vm.to_string()], preview_row).optional()?)
}

/// The previews of several VMs.
pub fn of_vms(conn: &Conn, vms: &[VmId]) -> Stored<Vec<PreviewRow>> {
    rows_of(conn, "SELECT * FROM preview WHERE vm_id IN ({})", vms, preview_row)
}

/// The preview whose former state a disk belongs to.
pub fn of_disk(conn: &Conn, disk: DiskId) -> Stored<Option<PreviewRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT preview.* FROM preview JOIN snapshot_disk AS d ON d.snapshot_id = preview.former_id WHERE d.disk_id = ?1",
    )?;
    Ok(statement.query_row([disk.to_string()], preview_row).optional()?)
}

/// Ends the preview of a VM.
pub fn delete(tx: &Tx, vm: VmId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM preview WHERE vm_id = ?1")?
        .execute([vm.to_string()])?;
    Ok(())
}
