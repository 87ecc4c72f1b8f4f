//! The image tree: nodes, their parents and who uses them.

use crate::{
    Conn, Stored, Tx,
    column::{quantity, rows_of, stored, text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, DomainId, ImageFormat, ImageId, Micros};

/// State of an image's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageState {
    /// A job is making its file.
    Creating,
    /// In the tree.
    Live,
    /// No user is left; its file is being removed.
    Doomed,
}

impl ImageState {
    fn label(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Live => "live",
            Self::Doomed => "doomed",
        }
    }
}

impl std::str::FromStr for ImageState {
    type Err = stillpoint_types::state::BadLabel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "creating" => Ok(Self::Creating),
            "live" => Ok(Self::Live),
            "doomed" => Ok(Self::Doomed),
            other => Err(stillpoint_types::state::BadLabel {
                kind: "ImageState",
                value: other.to_owned(),
            }),
        }
    }
}

/// An image's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Its id.
    pub id: ImageId,
    /// The disk that it was made for.
    pub disk: DiskId,
    /// Its parent.
    pub parent: Option<ImageId>,
    /// Storage domain.
    pub domain: DomainId,
    /// Format.
    pub format: ImageFormat,
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// State.
    pub state: ImageState,
    /// Made.
    pub created_at: Micros,
}

pub(crate) fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: text(row, "id")?,
        disk: text(row, "disk_id")?,
        parent: text_opt(row, "parent_id")?,
        domain: text(row, "domain_id")?,
        format: text(row, "format")?,
        size_bytes: quantity(row, "size_bytes")?,
        state: text(row, "state")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds an image. An id that is taken is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, image: &ImageRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO image (id, disk_id, parent_id, domain_id, format, size_bytes, state, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            image.id.to_string(),
            image.disk.to_string(),
            image.parent.map(|p| p.to_string()),
            image.domain.to_string(),
            image.format.label(),
            stored(image.size_bytes),
            image.state.label(),
            image.created_at
        ])?;
    Ok(())
}

/// One image, whatever its state.
pub fn get(conn: &Conn, id: ImageId) -> Stored<Option<ImageRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM image WHERE id = ?1")?
        .query_row([id.to_string()], image_row)
        .optional()?)
}

/// The chain that ends in `id`, base first.
pub fn chain(conn: &Conn, id: ImageId) -> Stored<Vec<ImageRow>> {
    let mut statement = conn.sql().prepare_cached(
        "WITH RECURSIVE up (id, depth) AS (
             SELECT ?1, 0 UNION ALL
             SELECT image.parent_id, up.depth + 1 FROM image JOIN up ON image.id = up.id
             WHERE image.parent_id IS NOT NULL AND up.depth < 10000)
         SELECT image.* FROM up JOIN image ON image.id = up.id ORDER BY up.depth DESC",
    )?;
    Ok(statement
        .query_map([id.to_string()], image_row)?
        .collect::<Result<_, _>>()?)
}

/// The children of an image, doomed ones left out.
pub fn children(conn: &Conn, id: ImageId) -> Stored<Vec<ImageRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM image WHERE parent_id = ?1 AND state <> 'doomed' ORDER BY id")?;
    Ok(statement
        .query_map([id.to_string()], image_row)?
        .collect::<Result<_, _>>()?)
}

/// All images of a disk that are live, oldest first.
pub fn of_disk(conn: &Conn, disk: DiskId) -> Stored<Vec<ImageRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM image WHERE disk_id = ?1 AND state = 'live' ORDER BY created_at, id")?;
    Ok(statement
        .query_map([disk.to_string()], image_row)?
        .collect::<Result<_, _>>()?)
}

/// The live images of several disks, those of each oldest first.
pub fn of_disks(conn: &Conn, disks: &[DiskId]) -> Stored<Vec<ImageRow>> {
    let query = "SELECT * FROM image WHERE disk_id IN ({}) AND state = 'live' ORDER BY disk_id, created_at, id";
    rows_of(conn, query, disks, image_row)
}

/// A page of the live images of a domain, in order of id.
pub fn page_of_domain(conn: &Conn, domain: DomainId, after: &str, limit: usize) -> Stored<Vec<ImageRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT * FROM image WHERE domain_id = ?1 AND state = 'live' AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(statement
        .query_map(params![domain.to_string(), after, limit], image_row)?
        .collect::<Result<_, _>>()?)
}

/// Images that nobody sees (no disk's active image, in no snapshot) and that are live: to unlink or merge, unless a
/// checkpoint or a backup needs them.
pub fn unnamed(conn: &Conn) -> Stored<Vec<ImageRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT image.* FROM image WHERE state = 'live'
         AND NOT EXISTS (SELECT 1 FROM disk WHERE disk.image_id = image.id)
         AND NOT EXISTS (SELECT 1 FROM snapshot_disk WHERE snapshot_disk.image_id = image.id)
         AND NOT EXISTS (SELECT 1 FROM volume_snapshot WHERE volume_snapshot.image_id = image.id)
         ORDER BY image.created_at, image.id",
    )?;
    Ok(statement.query_map([], image_row)?.collect::<Result<_, _>>()?)
}

/// Images whose files are to be removed.
pub fn doomed(conn: &Conn) -> Stored<Vec<ImageRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM image WHERE state = 'doomed' ORDER BY id")?;
    Ok(statement.query_map([], image_row)?.collect::<Result<_, _>>()?)
}

/// How many names an image has: disks that write to it, and snapshots, of VMs and of volumes, that keep it.
pub fn names(conn: &Conn, id: ImageId) -> Stored<(Vec<DiskId>, u64)> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT id FROM disk WHERE image_id = ?1 ORDER BY id")?;
    let disks = statement
        .query_map([id.to_string()], |row| text(row, "id"))?
        .collect::<Result<_, _>>()?;
    let snapshots = conn
        .sql()
        .prepare_cached(
            "SELECT (SELECT count(*) FROM snapshot_disk WHERE image_id = ?1)
             + (SELECT count(*) FROM volume_snapshot WHERE image_id = ?1) AS n",
        )?
        .query_row([id.to_string()], |row| quantity(row, "n"))?;
    Ok((disks, snapshots))
}

/// Writes the state; a doomed image leaves the tree (no parent).
pub fn set_state(tx: &Tx, id: ImageId, state: ImageState) -> Stored<()> {
    let sql = match state {
        ImageState::Doomed => "UPDATE image SET state = ?2, parent_id = NULL WHERE id = ?1",
        ImageState::Creating | ImageState::Live => "UPDATE image SET state = ?2 WHERE id = ?1",
    };
    tx.sql()
        .prepare_cached(sql)?
        .execute(params![id.to_string(), state.label()])?;
    Ok(())
}

/// Writes the virtual size in bytes.
pub fn set_size(tx: &Tx, id: ImageId, size_bytes: u64) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE image SET size_bytes = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), stored(size_bytes)])?;
    Ok(())
}

/// Everything that named or stood on `top` now names or stands on `base`; `top` is doomed.
pub fn merged(tx: &Tx, base: ImageId, top: ImageId) -> Stored<()> {
    let values = params![base.to_string(), top.to_string()];
    for sql in [
        "UPDATE disk SET image_id = ?1 WHERE image_id = ?2",
        "UPDATE snapshot_disk SET image_id = ?1 WHERE image_id = ?2",
        "UPDATE volume_snapshot SET image_id = ?1 WHERE image_id = ?2",
        "UPDATE checkpoint_disk SET image_id = ?1 WHERE image_id = ?2",
        "UPDATE backup_disk SET image_id = ?1 WHERE image_id = ?2",
        "UPDATE image SET parent_id = ?1 WHERE parent_id = ?2",
        // The survivor is as large as what was merged into it, and belongs to the disk that it serves now.
        "UPDATE image SET size_bytes = (SELECT size_bytes FROM image AS t WHERE t.id = ?2),
         disk_id = (SELECT disk_id FROM image AS t WHERE t.id = ?2) WHERE id = ?1",
        "DELETE FROM half_merged WHERE image_id IN (?1, ?2)",
        // The header of what stood on `top` is another one, too.
        "DELETE FROM image_seal WHERE image_id = ?2 OR image_id IN (SELECT id FROM image WHERE id = ?1 OR parent_id = ?1)",
    ] {
        tx.sql().prepare_cached(sql)?.execute(values)?;
    }
    set_state(tx, top, ImageState::Doomed)
}

/// Marks an image into which a merge was begun that did not end. It can be marked twice.
pub fn set_half_merged(tx: &Tx, id: ImageId) -> Stored<()> {
    tx.sql()
        .prepare_cached("INSERT INTO half_merged (image_id) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Whether an image is marked so: read by itself, and not through what stands on it, it shows no moment that ever was.
pub fn is_half_merged(conn: &Conn, id: ImageId) -> Stored<bool> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT 1 FROM half_merged WHERE image_id = ?1")?
        .exists([id.to_string()])?)
}

/// Removes a row.
pub fn delete(tx: &Tx, id: ImageId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM image WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}
