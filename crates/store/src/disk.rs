//! Disks and storage domains.

use crate::{
    Conn, Query, Rows, Sort, Stored, Tx,
    column::{quantity, rows_of, stored, text},
    find::{self, Table},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, DomainId, ImageId, Micros, ProjectId, now_micros};

/// A disk's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRow {
    /// Its id.
    pub id: DiskId,
    /// Whose it is.
    pub project: ProjectId,
    /// Storage domain.
    pub domain: DomainId,
    /// Alias.
    pub alias: String,
    /// Description.
    pub description: String,
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// Sparse base.
    pub sparse: bool,
    /// Active image.
    pub image: ImageId,
    /// Why it cannot be used, if so.
    pub illegal: Option<String>,
    /// Made.
    pub created_at: Micros,
}

pub(crate) fn disk_row(row: &Row<'_>) -> rusqlite::Result<DiskRow> {
    Ok(DiskRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        domain: text(row, "domain_id")?,
        alias: row.get("alias")?,
        description: row.get("description")?,
        size_bytes: quantity(row, "size_bytes")?,
        sparse: row.get("sparse")?,
        image: text(row, "image_id")?,
        illegal: row.get("illegal")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a disk.
pub fn insert(tx: &Tx, disk: &DiskRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO disk (id, project_id, domain_id, alias, description, size_bytes, sparse, image_id, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            disk.id.to_string(),
            disk.project.to_string(),
            disk.domain.to_string(),
            disk.alias,
            disk.description,
            stored(disk.size_bytes),
            disk.sparse,
            disk.image.to_string(),
            disk.created_at
        ])?;
    Ok(())
}

/// One disk.
pub fn get(conn: &Conn, id: DiskId) -> Stored<Option<DiskRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM disk WHERE id = ?1")?
        .query_row([id.to_string()], disk_row)
        .optional()?)
}

/// Those of the disks that are there, in no order.
pub fn of_ids(conn: &Conn, ids: &[DiskId]) -> Stored<Vec<DiskRow>> {
    rows_of(conn, "SELECT * FROM disk WHERE id IN ({})", ids, disk_row)
}

/// What can be asked of disks, and their order.
const TABLE: Table = Table {
    name: "disk",
    id: "disk.id",
    project: "disk.project_id",
    order: Sort {
        field: "alias",
        descending: false,
    },
    columns: &[
        find::text("alias", "disk.alias"),
        find::text("id", "disk.id"),
        find::text("description", "disk.description"),
        // As the views derive it: a lock row first, then damage.
        find::text(
            "status",
            "CASE WHEN EXISTS (SELECT 1 FROM entity_lock WHERE kind = 'disk' AND entity_id = disk.id) THEN 'locked'
             WHEN disk.illegal IS NOT NULL THEN 'illegal' ELSE 'ok' END",
        ),
        find::number("size", "disk.size_bytes"),
        find::number("created", "disk.created_at"),
        find::text("domain_id", "disk.domain_id"),
        find::related("domain", "storage_domain.name", DOMAIN),
        find::related("vm", "vm.name", VMS),
        find::related("vm_id", "vm.id", VMS),
        find::related("vm_status", "vm.status", VMS),
        find::number(
            "vms",
            "(SELECT count(*) FROM attachment WHERE attachment.disk_id = disk.id)",
        ),
        find::text(
            "format",
            "(SELECT image.format FROM image WHERE image.id = disk.image_id)",
        ),
    ],
};
const DOMAIN: &str = "SELECT 1 FROM storage_domain WHERE storage_domain.id = disk.domain_id AND {}";
const VMS: &str = "SELECT 1 FROM attachment JOIN vm ON vm.id = vm_id WHERE attachment.disk_id = disk.id AND {}";

/// A page, by alias where no order is asked for.
pub fn page(conn: &Conn, query: &Query) -> Stored<Rows<DiskRow>> {
    query.read(conn, &TABLE, disk_row)
}

/// Moves a disk to another active image, which is sealed no more: it will be written to.
pub fn set_image(tx: &Tx, id: DiskId, image: ImageId) -> Stored<()> {
    crate::seal::delete(tx, image)?;
    tx.sql()
        .prepare_cached("UPDATE disk SET image_id = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), image.to_string()])?;
    Ok(())
}

/// Writes the virtual size in bytes.
pub fn set_size(tx: &Tx, id: DiskId, size_bytes: u64) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE disk SET size_bytes = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), stored(size_bytes), now_micros()])?;
    Ok(())
}

/// Marks a disk unusable, with the reason, or usable again.
pub fn set_illegal(tx: &Tx, id: DiskId, why: Option<&str>) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE disk SET illegal = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), why, now_micros()])?;
    Ok(())
}

/// Writes alias and description.
pub fn set_texts(tx: &Tx, id: DiskId, alias: &str, description: &str) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE disk SET alias = ?2, description = ?3, updated_at = ?4 WHERE id = ?1")?
        .execute(params![id.to_string(), alias, description, now_micros()])?;
    Ok(())
}

/// Gives a disk to another project.
pub fn set_project(tx: &Tx, id: DiskId, project: ProjectId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE disk SET project_id = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute(params![id.to_string(), project.to_string(), now_micros()])?;
    Ok(())
}

/// Says that something about a disk has changed.
pub fn touch(tx: &Tx, id: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE disk SET updated_at = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), now_micros()])?;
    Ok(())
}

/// Removes a disk's row; its images are the caller's business.
pub fn delete(tx: &Tx, id: DiskId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM disk WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Sum of the virtual sizes in a domain, in bytes.
pub fn committed_bytes(conn: &Conn, domain: DomainId) -> Stored<u64> {
    let sql = "SELECT coalesce(sum(size_bytes), 0) AS committed FROM disk WHERE domain_id = ?1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([domain.to_string()], |row| quantity(row, "committed"))?)
}

// --------------------------------------------------------------------------------------- storage domains

/// A storage domain's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    /// Its id.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
}

fn domain_row(row: &Row<'_>) -> rusqlite::Result<DomainRow> {
    Ok(DomainRow {
        id: text(row, "id")?,
        name: row.get("name")?,
        path: row.get("path")?,
    })
}

/// Adds a storage domain, or moves the one of that name to `path` (the data directory may have moved).
pub fn ensure_domain(tx: &Tx, name: &str, path: &str, at: Micros) -> Stored<DomainRow> {
    tx.sql().execute(
        "INSERT INTO storage_domain (id, name, path, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET path = excluded.path",
        params![DomainId::fresh().to_string(), name, path, at],
    )?;
    Ok(tx
        .sql()
        .query_row("SELECT * FROM storage_domain WHERE name = ?1", [name], domain_row)?)
}

/// All storage domains, by name.
pub fn domains(conn: &Conn) -> Stored<Vec<DomainRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM storage_domain ORDER BY name")?;
    Ok(statement.query_map([], domain_row)?.collect::<Result<_, _>>()?)
}
