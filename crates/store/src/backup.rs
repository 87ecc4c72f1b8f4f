//! Backups: which moment of which disks is held for a client, and how far that is. The job of the same id drives it.
//!
//! Crash consistency: a phase is changed only from the phases that the caller names, as with transfers. A reason is
//! written once: the first one is why it failed.

use crate::{
    Conn, Stored, Tx,
    column::{listed, quantity, stored, text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{
    BackupId, BackupKind, BackupMode, BackupPhase, CheckpointId, DiskId, ImageId, Micros, ProjectId, SnapshotId, VmId,
};

/// A backup's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRow {
    /// Its id, which is also its job's.
    pub id: BackupId,
    /// Whose it is: the VM's project.
    pub project: ProjectId,
    /// The VM.
    pub vm: VmId,
    /// The VM's name when it began.
    pub vm_name: String,
    /// Free text.
    pub description: String,
    /// How it holds its moment.
    pub kind: BackupKind,
    /// Changes since that one are wanted.
    pub from: Option<CheckpointId>,
    /// The checkpoint that it makes.
    pub to: CheckpointId,
    /// The snapshot that users see, while there is one.
    pub snapshot: Option<SnapshotId>,
    /// Where it stands.
    pub phase: BackupPhase,
    /// The guest's file systems were frozen at the moment, or the VM was down.
    pub consistent: bool,
    /// Why it failed, or is failing.
    pub reason: Option<String>,
    /// If its client does not come back until then, it is given up.
    pub lease_until: Micros,
    /// Begin.
    pub created_at: Micros,
    /// Last change of its phase.
    pub modified_at: Micros,
    /// End.
    pub ended_at: Option<Micros>,
}

/// A disk of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupDiskRow {
    /// The disk.
    pub disk: DiskId,
    /// The image that was frozen: what is read.
    pub image: ImageId,
    /// Virtual size of the disk at the moment, bytes.
    pub size_bytes: u64,
    /// What is to be downloaded.
    pub mode: BackupMode,
    /// Why it is full although a checkpoint was given.
    pub why_full: Option<String>,
}

fn backup_row(row: &Row<'_>) -> rusqlite::Result<BackupRow> {
    Ok(BackupRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        vm: text(row, "vm_id")?,
        vm_name: row.get("vm_name")?,
        description: row.get("description")?,
        kind: text(row, "kind")?,
        from: text_opt(row, "from_checkpoint")?,
        to: text(row, "to_checkpoint")?,
        snapshot: text_opt(row, "snapshot_id")?,
        phase: text(row, "phase")?,
        consistent: row.get("consistent")?,
        reason: row.get("reason")?,
        lease_until: row.get("lease_until")?,
        created_at: row.get("created_at")?,
        modified_at: row.get("modified_at")?,
        ended_at: row.get("ended_at")?,
    })
}

/// Adds a backup and its disks, in the order given. An id that is taken is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, b: &BackupRow, disks: &[BackupDiskRow]) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO backup (id, project_id, vm_id, vm_name, description, kind, from_checkpoint, to_checkpoint,
             snapshot_id, phase, consistent, reason, lease_until, created_at, modified_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            b.id.to_string(),
            b.project.to_string(),
            b.vm.to_string(),
            b.vm_name,
            b.description,
            b.kind.label(),
            b.from.map(|id| id.to_string()),
            b.to.to_string(),
            b.snapshot.map(|id| id.to_string()),
            b.phase.label(),
            b.consistent,
            b.reason,
            b.lease_until,
            b.created_at,
            b.modified_at
        ])?;
    let mut statement = tx.sql().prepare_cached(
        "INSERT INTO backup_disk (backup_id, disk_id, image_id, size_bytes, mode, why_full, position)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, disk) in (0_i64..).zip(disks) {
        statement.execute(params![
            b.id.to_string(),
            disk.disk.to_string(),
            disk.image.to_string(),
            stored(disk.size_bytes),
            disk.mode.label(),
            disk.why_full,
            position
        ])?;
    }
    Ok(())
}

/// One backup.
pub fn get(conn: &Conn, id: BackupId) -> Stored<Option<BackupRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM backup WHERE id = ?1")?
        .query_row([id.to_string()], backup_row)
        .optional()?)
}

/// The backups of a VM, oldest first.
pub fn of_vm(conn: &Conn, vm: VmId) -> Stored<Vec<BackupRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM backup WHERE vm_id = ?1 ORDER BY created_at, id")?;
    Ok(statement
        .query_map([vm.to_string()], backup_row)?
        .collect::<Result<_, _>>()?)
}

/// The backup of a VM that has not ended, if there is one.
pub fn live_of_vm(conn: &Conn, vm: VmId) -> Stored<Option<BackupRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM backup WHERE vm_id = ?1 AND ended_at IS NULL ORDER BY created_at LIMIT 1")?
        .query_row([vm.to_string()], backup_row)
        .optional()?)
}

/// The backup that has not ended and has the disk, if there is one.
pub fn live_of_disk(conn: &Conn, disk: DiskId) -> Stored<Option<BackupRow>> {
    let sql = "SELECT backup.* FROM backup JOIN backup_disk ON backup_id = backup.id
               WHERE disk_id = ?1 AND ended_at IS NULL LIMIT 1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([disk.to_string()], backup_row)
        .optional()?)
}

/// The disks of a backup, in device order.
pub fn disks(conn: &Conn, id: BackupId) -> Stored<Vec<BackupDiskRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM backup_disk WHERE backup_id = ?1 ORDER BY position")?;
    let row = |row: &Row<'_>| {
        Ok(BackupDiskRow {
            disk: text(row, "disk_id")?,
            image: text(row, "image_id")?,
            size_bytes: quantity(row, "size_bytes")?,
            mode: text(row, "mode")?,
            why_full: row.get("why_full")?,
        })
    };
    Ok(statement.query_map([id.to_string()], row)?.collect::<Result<_, _>>()?)
}

/// The backup that has not ended and reads the image, as the one that was frozen.
pub fn reader_of(conn: &Conn, image: ImageId) -> Stored<Option<BackupId>> {
    let sql = "SELECT id FROM backup_disk JOIN backup ON backup.id = backup_id
               WHERE image_id = ?1 AND ended_at IS NULL LIMIT 1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([image.to_string()], |row| text(row, "id"))
        .optional()?)
}

/// Moves a backup to another phase if it is in one of `from`; an end is stamped, and `reason` kept unless there is one
/// already. Returns whether it moved.
pub fn set_phase(
    tx: &Tx,
    id: BackupId,
    from: &[BackupPhase],
    to: BackupPhase,
    reason: Option<&str>,
    at: Micros,
) -> Stored<bool> {
    let sql = format!(
        "UPDATE backup SET phase = ?2, reason = coalesce(reason, ?3), modified_at = ?4, ended_at = ?5 WHERE id = ?1
         AND phase IN ({})",
        listed(from.iter().map(|phase| phase.label()))
    );
    let ended = to.is_end().then_some(at);
    let changed = tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![id.to_string(), to.label(), reason, at, ended])?;
    Ok(changed == 1)
}

/// Writes what became of the guest's file systems.
pub fn set_consistent(tx: &Tx, id: BackupId, consistent: bool) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE backup SET consistent = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), consistent])?;
    Ok(())
}

/// Writes that there is no snapshot of it any more.
pub fn forget_snapshot(tx: &Tx, id: BackupId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE backup SET snapshot_id = NULL WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Writes what is to be downloaded of a disk.
pub fn set_mode(tx: &Tx, id: BackupId, disk: DiskId, mode: BackupMode, why_full: Option<&str>) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE backup_disk SET mode = ?3, why_full = ?4 WHERE backup_id = ?1 AND disk_id = ?2")?
        .execute(params![id.to_string(), disk.to_string(), mode.label(), why_full])?;
    Ok(())
}

/// Gives its client more time; never less.
pub fn extend_lease(tx: &Tx, id: BackupId, until: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE backup SET lease_until = max(lease_until, ?2) WHERE id = ?1")?
        .execute(params![id.to_string(), until])?;
    Ok(())
}

/// The ids of all backups: whose files may stay.
pub fn ids(conn: &Conn) -> Stored<Vec<BackupId>> {
    let mut statement = conn.sql().prepare_cached("SELECT id FROM backup")?;
    Ok(statement
        .query_map([], |row| text(row, "id"))?
        .collect::<Result<_, _>>()?)
}

/// Removes backups that ended long ago, at most `limit` at a time. Returns how many went.
pub fn purge(tx: &Tx, well_before: Micros, badly_before: Micros, limit: usize) -> Stored<usize> {
    let sql = format!(
        "DELETE FROM backup WHERE id IN (SELECT id FROM backup WHERE ended_at IS NOT NULL AND
         ((phase = 'succeeded' AND ended_at < ?1) OR (phase = 'failed' AND ended_at < ?2)) LIMIT {limit})"
    );
    Ok(tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![well_before, badly_before])?)
}

/// Removes all backups of a VM that is being removed; none of them is under way.
pub fn delete_of_vm(tx: &Tx, vm: VmId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM backup WHERE vm_id = ?1")?
        .execute([vm.to_string()])?;
    Ok(())
}
