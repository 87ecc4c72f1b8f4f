//! What a repair looks at: all that is recorded of images at once, and layers that nobody recorded (migration 0013).

use crate::{
    Conn, Stored, Tx,
    column::{text, text_opt},
    disk::{self, DiskRow},
    image::{self, ImageRow},
};
use rusqlite::{OptionalExtension, params};
use std::path::PathBuf;
use stillpoint_types::{DiskId, ImageId, Micros, SnapshotId, VmId};

/// A layer that nobody recorded, on which QEMU was seen to run a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrangeLayerRow {
    /// The disk, which is illegal since.
    pub disk: DiskId,
    /// The recorded image that it stands on.
    pub image: ImageId,
    /// Its file, absolute.
    pub file: PathBuf,
    /// When it was seen.
    pub seen_at: Micros,
}

/// What holds an image: a disk of a VM's snapshot, or a volume's snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderRow {
    /// The image.
    pub image: ImageId,
    /// The disk.
    pub disk: DiskId,
    /// The VM's snapshot; `None`: a volume's.
    pub snapshot: Option<SnapshotId>,
    /// What people call it.
    pub name: String,
}

/// A VM that has a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The disk.
    pub disk: DiskId,
    /// The VM.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// The disk is plugged in.
    pub active: bool,
    /// The VM has a process on record.
    pub has_process: bool,
}

/// Every image, whatever its state.
pub fn images(conn: &Conn) -> Stored<Vec<ImageRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM image ORDER BY id")?;
    Ok(statement.query_map([], image::image_row)?.collect::<Result<_, _>>()?)
}

/// Every disk.
pub fn disks(conn: &Conn) -> Stored<Vec<DiskRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM disk ORDER BY alias, id")?;
    Ok(statement.query_map([], disk::disk_row)?.collect::<Result<_, _>>()?)
}

/// Everything that holds an image.
pub fn holders(conn: &Conn) -> Stored<Vec<HolderRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT d.image_id, d.disk_id, d.snapshot_id, s.description AS name
         FROM snapshot_disk AS d JOIN snapshot AS s ON s.id = d.snapshot_id
         UNION ALL
         SELECT image_id, disk_id, NULL, coalesce(name, id) FROM volume_snapshot WHERE image_id IS NOT NULL
         ORDER BY 1, 2, 3",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(HolderRow {
            image: text(row, "image_id")?,
            disk: text(row, "disk_id")?,
            snapshot: text_opt(row, "snapshot_id")?,
            name: row.get("name")?,
        })
    };
    Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// Every VM that has a disk.
pub fn users(conn: &Conn) -> Stored<Vec<UserRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT a.disk_id, a.vm_id, vm.name, a.active, vm.process IS NOT NULL AS has_process
         FROM attachment AS a JOIN vm ON vm.id = a.vm_id ORDER BY a.disk_id, a.vm_id",
    )?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(UserRow {
            disk: text(row, "disk_id")?,
            vm: text(row, "vm_id")?,
            name: row.get("name")?,
            active: row.get("active")?,
            has_process: row.get("has_process")?,
        })
    };
    Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// Puts a strange layer on record, in place of one that was seen before.
pub fn put_strange(tx: &Tx, row: &StrangeLayerRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO strange_layer (disk_id, image_id, file, seen_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (disk_id) DO UPDATE SET image_id = excluded.image_id, file = excluded.file,
             seen_at = excluded.seen_at",
        )?
        .execute(params![
            row.disk.to_string(),
            row.image.to_string(),
            row.file.to_string_lossy(),
            row.seen_at
        ])?;
    Ok(())
}

/// Every strange layer.
pub fn strange(conn: &Conn) -> Stored<Vec<StrangeLayerRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM strange_layer ORDER BY disk_id")?;
    let row = |row: &rusqlite::Row<'_>| {
        let file: String = row.get("file")?;
        Ok(StrangeLayerRow {
            disk: text(row, "disk_id")?,
            image: text(row, "image_id")?,
            file: file.into(),
            seen_at: row.get("seen_at")?,
        })
    };
    Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
}

/// A disk is usable again: no mark, and no strange layer.
pub fn set_usable(tx: &Tx, disk: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM strange_layer WHERE disk_id = ?1")?
        .execute([disk.to_string()])?;
    disk::set_illegal(tx, disk, None)
}

/// Whether a job of that kind that has not ended has this text in its parameters.
pub fn is_under_way(conn: &Conn, kind: &str, text: &str) -> Stored<bool> {
    Ok(conn
        .sql()
        .prepare_cached(
            "SELECT 1 FROM job WHERE state IN ('queued', 'running', 'unwinding', 'stuck') AND kind = ?1
             AND instr(params, ?2) > 0",
        )?
        .query_row([kind, text], |_row| Ok(()))
        .optional()?
        .is_some())
}
