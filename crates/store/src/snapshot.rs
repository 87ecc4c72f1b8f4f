//! Snapshots, what they hold, and saved memories.

use crate::{
    Conn, Stored, Tx,
    column::{quantity, rows_of, stored, text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, DomainId, ImageFormat, ImageId, MemoryId, Micros, SnapshotId, SnapshotType, VmId};

/// A snapshot's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// Its VM.
    pub vm: VmId,
    /// Kind.
    pub kind: SnapshotType,
    /// Description.
    pub description: String,
    /// Taken.
    pub date: Micros,
    /// Order within the VM.
    pub seq: u64,
    /// Saved memory.
    pub memory: Option<MemoryId>,
    /// The engine's record of the VM, JSON; absent for the active snapshot.
    pub config: Option<String>,
}

fn snapshot_row(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    Ok(SnapshotRow {
        id: text(row, "id")?,
        vm: text(row, "vm_id")?,
        kind: text(row, "kind")?,
        description: row.get("description")?,
        date: row.get("date")?,
        seq: quantity(row, "seq")?,
        memory: text_opt(row, "memory_id")?,
        config: row.get("config")?,
    })
}

/// Adds a snapshot.
pub fn insert(tx: &Tx, s: &SnapshotRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO snapshot (id, vm_id, kind, description, date, seq, memory_id, config)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            s.id.to_string(),
            s.vm.to_string(),
            s.kind.label(),
            s.description,
            s.date,
            stored(s.seq),
            s.memory.map(|m| m.to_string()),
            s.config
        ])?;
    Ok(())
}

/// Writes all but id and VM.
pub fn update(tx: &Tx, s: &SnapshotRow) -> Stored<()> {
    tx.sql().prepare_cached(
        "UPDATE snapshot SET kind = ?2, description = ?3, date = ?4, seq = ?5, memory_id = ?6, config = ?7 WHERE id = ?1",
    )?
    .execute(params![
        s.id.to_string(),
        s.kind.label(),
        s.description,
        s.date,
        stored(s.seq),
        s.memory.map(|m| m.to_string()),
        s.config
    ])?;
    Ok(())
}

/// One snapshot.
pub fn get(conn: &Conn, id: SnapshotId) -> Stored<Option<SnapshotRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM snapshot WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], snapshot_row).optional()?)
}

/// The snapshots of a VM, oldest first, the active one last.
pub fn of_vm(conn: &Conn, vm: VmId) -> Stored<Vec<SnapshotRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM snapshot WHERE vm_id = ?1 ORDER BY seq")?;
    Ok(statement
        .query_map([vm.to_string()], snapshot_row)?
        .collect::<Result<_, _>>()?)
}

/// The snapshots of several VMs, those of each oldest first, the active one last.
pub fn of_vms(conn: &Conn, vms: &[VmId]) -> Stored<Vec<SnapshotRow>> {
    let query = "SELECT * FROM snapshot WHERE vm_id IN ({}) ORDER BY vm_id, seq";
    rows_of(conn, query, vms, snapshot_row)
}

/// How many snapshots each of the VMs has.
pub fn counts(conn: &Conn, vms: &[VmId]) -> Stored<Vec<(VmId, u64)>> {
    let query = "SELECT vm_id, count(*) AS many FROM snapshot WHERE vm_id IN ({}) GROUP BY vm_id";
    rows_of(conn, query, vms, |row| {
        Ok((text(row, "vm_id")?, quantity(row, "many")?))
    })
}

/// The active snapshot of a VM.
pub fn active(conn: &Conn, vm: VmId) -> Stored<Option<SnapshotRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM snapshot WHERE vm_id = ?1 AND kind = 'active'")?;
    Ok(statement.query_row([vm.to_string()], snapshot_row).optional()?)
}

/// The id of the snapshot before `seq`, if there is one.
pub fn previous(conn: &Conn, vm: VmId, seq: u64) -> Stored<Option<SnapshotId>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT id FROM snapshot WHERE vm_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1")?;
    Ok(statement
        .query_row(params![vm.to_string(), stored(seq)], |row| text(row, "id"))
        .optional()?)
}

/// Sets or clears the memory.
pub fn set_memory(tx: &Tx, id: SnapshotId, memory: Option<MemoryId>) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE snapshot SET memory_id = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), memory.map(|m| m.to_string())])?;
    Ok(())
}

/// Writes the instant of the snapshot.
pub fn set_date(tx: &Tx, id: SnapshotId, date: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE snapshot SET date = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), date])?;
    Ok(())
}

/// Removes a snapshot and its list of disks; images are the caller's business.
pub fn delete(tx: &Tx, id: SnapshotId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM snapshot WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// The images that a snapshot holds, by disk id.
pub fn disks(conn: &Conn, id: SnapshotId) -> Stored<Vec<(DiskId, ImageId)>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT disk_id, image_id FROM snapshot_disk WHERE snapshot_id = ?1 ORDER BY disk_id")?;
    Ok(statement
        .query_map([id.to_string()], |row| {
            Ok((text(row, "disk_id")?, text(row, "image_id")?))
        })?
        .collect::<Result<_, _>>()?)
}

/// Each image that a snapshot of the VM holds, with its format, asked for together.
pub fn images_of_vm(conn: &Conn, vm: VmId) -> Stored<Vec<(SnapshotId, ImageId, ImageFormat)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT snapshot_id, image_id, image.format AS format FROM snapshot_disk
         JOIN snapshot ON snapshot.id = snapshot_id JOIN image ON image.id = image_id WHERE snapshot.vm_id = ?1",
    )?;
    Ok(statement
        .query_map([vm.to_string()], |row| {
            Ok((text(row, "snapshot_id")?, text(row, "image_id")?, text(row, "format")?))
        })?
        .collect::<Result<_, _>>()?)
}

/// Bytes of the memories of a VM's snapshots, of those that have one.
pub fn memory_bytes_of_vm(conn: &Conn, vm: VmId) -> Stored<Vec<(SnapshotId, u64)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT snapshot.id AS id, memory.size_bytes AS size_bytes FROM snapshot
         JOIN memory ON memory.id = snapshot.memory_id WHERE snapshot.vm_id = ?1",
    )?;
    Ok(statement
        .query_map([vm.to_string()], |row| {
            Ok((text(row, "id")?, quantity(row, "size_bytes")?))
        })?
        .collect::<Result<_, _>>()?)
}

/// The snapshots that hold an image.
pub fn of_image(conn: &Conn, image: ImageId) -> Stored<Vec<SnapshotId>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT snapshot_id FROM snapshot_disk JOIN snapshot ON snapshot.id = snapshot_id WHERE image_id = ?1 ORDER BY seq",
    )?;
    Ok(statement
        .query_map([image.to_string()], |row| text(row, "snapshot_id"))?
        .collect::<Result<_, _>>()?)
}

/// The snapshots that hold a disk.
pub fn of_disk(conn: &Conn, disk: DiskId) -> Stored<Vec<SnapshotId>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT snapshot_id FROM snapshot_disk JOIN snapshot ON snapshot.id = snapshot_id WHERE disk_id = ?1 ORDER BY seq",
    )?;
    Ok(statement
        .query_map([disk.to_string()], |row| text(row, "snapshot_id"))?
        .collect::<Result<_, _>>()?)
}

/// Puts a disk into a snapshot. Of one that users see, it is a snapshot of that volume, too: that row leaves with this one.
pub fn add_disk(tx: &Tx, id: SnapshotId, disk: DiskId, image: ImageId) -> Stored<()> {
    tx.sql()
        .prepare_cached("INSERT INTO snapshot_disk (snapshot_id, disk_id, image_id) VALUES (?1, ?2, ?3)")?
        .execute(params![id.to_string(), disk.to_string(), image.to_string()])?;
    crate::volume_snapshot::insert_member(tx, id, disk)
}

/// Takes a disk out of a snapshot.
pub fn remove_disk(tx: &Tx, id: SnapshotId, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM snapshot_disk WHERE snapshot_id = ?1 AND disk_id = ?2")?
        .execute(params![id.to_string(), disk.to_string()])?;
    Ok(())
}

// ----------------------------------------------------------------------------------------------- memory

/// A saved memory's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRow {
    /// Its id.
    pub id: MemoryId,
    /// Storage domain.
    pub domain: DomainId,
    /// Bytes of its file.
    pub size_bytes: u64,
}

/// Adds a memory.
pub fn insert_memory(tx: &Tx, memory: &MemoryRow, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached("INSERT INTO memory (id, domain_id, size_bytes, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            memory.id.to_string(),
            memory.domain.to_string(),
            stored(memory.size_bytes),
            at
        ])?;
    Ok(())
}

fn memory_row(row: &Row<'_>) -> rusqlite::Result<MemoryRow> {
    Ok(MemoryRow {
        id: text(row, "id")?,
        domain: text(row, "domain_id")?,
        size_bytes: quantity(row, "size_bytes")?,
    })
}

/// One memory.
pub fn memory(conn: &Conn, id: MemoryId) -> Stored<Option<MemoryRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM memory WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], memory_row).optional()?)
}

/// Memories that no snapshot and no VM names: their files are to be removed.
pub fn unnamed_memories(conn: &Conn) -> Stored<Vec<MemoryRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT memory.* FROM memory
         WHERE NOT EXISTS (SELECT 1 FROM snapshot WHERE snapshot.memory_id = memory.id)
         AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.resume_memory = memory.id) ORDER BY id",
    )?;
    Ok(statement.query_map([], memory_row)?.collect::<Result<_, _>>()?)
}

/// Removes a memory's row.
pub fn delete_memory(tx: &Tx, id: MemoryId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM memory WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}
