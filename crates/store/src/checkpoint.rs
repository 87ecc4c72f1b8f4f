//! Checkpoints: moments of a VM since which the changes of its disks are known.
//!
//! Crash consistency: an image that an anchor names keeps its boundary to what is above it, so whoever merges or unlinks
//! it moves the anchor in the same transaction, after he has made the map durable (engine: checkpoint/).

use crate::{
    Conn, Stored, Tx,
    column::{quantity, stored, text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{CheckpointId, CheckpointState, DiskId, ImageId, Micros, ProjectId, VmId};

/// A checkpoint's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Its id.
    pub id: CheckpointId,
    /// Whose it is: the VM's project.
    pub project: ProjectId,
    /// The VM.
    pub vm: VmId,
    /// The checkpoint before it.
    pub parent: Option<CheckpointId>,
    /// Free text: the backup's.
    pub description: String,
    /// State.
    pub state: CheckpointState,
    /// Its moment.
    pub created_at: Micros,
}

/// A disk in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDiskRow {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The disk.
    pub disk: DiskId,
    /// The anchor: what the images above it hold has changed since the checkpoint.
    pub image: ImageId,
    /// Virtual size of the disk at the moment, bytes.
    pub size_bytes: u64,
    /// There is a map of further changes; without it that map is empty.
    pub map: bool,
    /// The anchor came down from a left branch, or may have: the map has more than any layer still tells.
    pub moved: bool,
}

fn checkpoint_row(row: &Row<'_>) -> rusqlite::Result<CheckpointRow> {
    Ok(CheckpointRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        vm: text(row, "vm_id")?,
        parent: text_opt(row, "parent_id")?,
        description: row.get("description")?,
        state: text(row, "state")?,
        created_at: row.get("created_at")?,
    })
}

fn disk_row(row: &Row<'_>) -> rusqlite::Result<CheckpointDiskRow> {
    Ok(CheckpointDiskRow {
        checkpoint: text(row, "checkpoint_id")?,
        disk: text(row, "disk_id")?,
        image: text(row, "image_id")?,
        size_bytes: quantity(row, "size_bytes")?,
        map: row.get("map")?,
        moved: row.get("moved")?,
    })
}

/// Adds a checkpoint without disks.
pub fn insert(tx: &Tx, c: &CheckpointRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO checkpoint (id, project_id, vm_id, parent_id, description, state, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            c.id.to_string(),
            c.project.to_string(),
            c.vm.to_string(),
            c.parent.map(|id| id.to_string()),
            c.description,
            c.state.label(),
            c.created_at
        ])?;
    Ok(())
}

/// Puts a disk into a checkpoint.
pub fn add_disk(tx: &Tx, d: &CheckpointDiskRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO checkpoint_disk (checkpoint_id, disk_id, image_id, size_bytes, map, moved)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            d.checkpoint.to_string(),
            d.disk.to_string(),
            d.image.to_string(),
            stored(d.size_bytes),
            d.map,
            d.moved
        ])?;
    Ok(())
}

/// One checkpoint.
pub fn get(conn: &Conn, id: CheckpointId) -> Stored<Option<CheckpointRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM checkpoint WHERE id = ?1")?
        .query_row([id.to_string()], checkpoint_row)
        .optional()?)
}

/// The checkpoints of a VM, oldest first.
pub fn of_vm(conn: &Conn, vm: VmId) -> Stored<Vec<CheckpointRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM checkpoint WHERE vm_id = ?1 ORDER BY created_at, rowid")?;
    Ok(statement
        .query_map([vm.to_string()], checkpoint_row)?
        .collect::<Result<_, _>>()?)
}

/// The disks of a checkpoint.
pub fn disks(conn: &Conn, id: CheckpointId) -> Stored<Vec<CheckpointDiskRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM checkpoint_disk WHERE checkpoint_id = ?1 ORDER BY disk_id")?;
    Ok(statement
        .query_map([id.to_string()], disk_row)?
        .collect::<Result<_, _>>()?)
}

/// A disk in a checkpoint, if it is in it.
pub fn disk(conn: &Conn, id: CheckpointId, disk: DiskId) -> Stored<Option<CheckpointDiskRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM checkpoint_disk WHERE checkpoint_id = ?1 AND disk_id = ?2")?
        .query_row([id.to_string(), disk.to_string()], disk_row)
        .optional()?)
}

/// Everything that is anchored at an image.
pub fn anchored(conn: &Conn, image: ImageId) -> Stored<Vec<CheckpointDiskRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM checkpoint_disk WHERE image_id = ?1 ORDER BY checkpoint_id, disk_id")?;
    Ok(statement
        .query_map([image.to_string()], disk_row)?
        .collect::<Result<_, _>>()?)
}

/// Images that are anchors, that neither a disk nor a snapshot names, and that have no child: left branches.
pub fn anchored_leaves(conn: &Conn) -> Stored<Vec<ImageId>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT DISTINCT image_id FROM checkpoint_disk AS c
         WHERE NOT EXISTS (SELECT 1 FROM disk WHERE disk.image_id = c.image_id)
         AND NOT EXISTS (SELECT 1 FROM snapshot_disk WHERE snapshot_disk.image_id = c.image_id)
         AND NOT EXISTS (SELECT 1 FROM volume_snapshot WHERE volume_snapshot.image_id = c.image_id)
         AND NOT EXISTS (SELECT 1 FROM image WHERE image.parent_id = c.image_id AND state <> 'doomed')
         ORDER BY image_id",
    )?;
    Ok(statement
        .query_map([], |row| text(row, "image_id"))?
        .collect::<Result<_, _>>()?)
}

/// All disks of all checkpoints, those of each disk oldest checkpoint first.
pub fn all_disks(conn: &Conn) -> Stored<Vec<CheckpointDiskRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT d.* FROM checkpoint_disk AS d JOIN checkpoint AS c ON c.id = d.checkpoint_id
         ORDER BY d.disk_id, c.created_at, c.rowid",
    )?;
    Ok(statement.query_map([], disk_row)?.collect::<Result<_, _>>()?)
}

/// Moves every anchor from one image, a left branch's, to another.
pub fn move_anchors(tx: &Tx, from: ImageId, to: ImageId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE checkpoint_disk SET image_id = ?2, moved = 1 WHERE image_id = ?1")?
        .execute(params![from.to_string(), to.to_string()])?;
    Ok(())
}

/// Writes that there is a map.
pub fn set_map(tx: &Tx, id: CheckpointId, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE checkpoint_disk SET map = 1 WHERE checkpoint_id = ?1 AND disk_id = ?2")?
        .execute([id.to_string(), disk.to_string()])?;
    Ok(())
}

/// Takes a disk out of a checkpoint; without disks, the checkpoint goes.
pub fn forget(tx: &Tx, id: CheckpointId, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM checkpoint_disk WHERE checkpoint_id = ?1 AND disk_id = ?2")?
        .execute([id.to_string(), disk.to_string()])?;
    let left = tx
        .sql()
        .prepare_cached("SELECT 1 FROM checkpoint_disk WHERE checkpoint_id = ?1")?
        .exists([id.to_string()])?;
    if left { Ok(()) } else { delete(tx, id) }
}

/// Takes a disk out of all checkpoints; those without disks go. Returns how many had it.
pub fn forget_disk(tx: &Tx, disk: DiskId) -> Stored<usize> {
    let mut statement = tx
        .sql()
        .prepare_cached("SELECT checkpoint_id FROM checkpoint_disk WHERE disk_id = ?1")?;
    let ids: Vec<CheckpointId> = statement
        .query_map([disk.to_string()], |row| text(row, "checkpoint_id"))?
        .collect::<Result<_, _>>()?;
    for id in &ids {
        forget(tx, *id, disk)?;
    }
    Ok(ids.len())
}

/// Removes a checkpoint; the one after it follows the one before it.
pub fn delete(tx: &Tx, id: CheckpointId) -> Stored<()> {
    for sql in [
        "UPDATE checkpoint SET parent_id = (SELECT parent_id FROM checkpoint AS gone WHERE gone.id = ?1)
         WHERE parent_id = ?1",
        "DELETE FROM checkpoint WHERE id = ?1",
    ] {
        tx.sql().prepare_cached(sql)?.execute([id.to_string()])?;
    }
    Ok(())
}

/// Removes all checkpoints of a VM.
pub fn delete_of_vm(tx: &Tx, vm: VmId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM checkpoint WHERE vm_id = ?1")?
        .execute([vm.to_string()])?;
    Ok(())
}

/// The ids of all checkpoints: whose files may stay.
pub fn ids(conn: &Conn) -> Stored<Vec<CheckpointId>> {
    let mut statement = conn.sql().prepare_cached("SELECT id FROM checkpoint")?;
    Ok(statement
        .query_map([], |row| text(row, "id"))?
        .collect::<Result<_, _>>()?)
}
