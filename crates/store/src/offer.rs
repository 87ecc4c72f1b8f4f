//! Disks offered to other projects (Cinder calls this a transfer).

use crate::{Conn, Stored, Tx, column::text};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, Micros, ProjectId};
use uuid::Uuid;

/// An offer's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRow {
    /// Its id.
    pub id: Uuid,
    /// The disk.
    pub disk: DiskId,
    /// Who offers it.
    pub project: ProjectId,
    /// Name.
    pub name: Option<String>,
    /// The SHA-256 of the key that accepts it.
    pub key_hash: [u8; 32],
    /// Its snapshots do not go with it.
    pub no_snapshots: bool,
    /// Made.
    pub created_at: Micros,
}

fn offer_row(row: &Row<'_>) -> rusqlite::Result<OfferRow> {
    Ok(OfferRow {
        id: text(row, "id")?,
        disk: text(row, "disk_id")?,
        project: text(row, "project_id")?,
        name: row.get("name")?,
        key_hash: row.get("key_hash")?,
        no_snapshots: row.get("no_snapshots")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds one. A disk that is offered already is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, row: &OfferRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_transfer (id, disk_id, project_id, name, key_hash, no_snapshots, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.id.to_string(),
            row.disk.to_string(),
            row.project.to_string(),
            row.name,
            row.key_hash,
            row.no_snapshots,
            row.created_at
        ])?;
    Ok(())
}

/// One offer.
pub fn get(conn: &Conn, id: Uuid) -> Stored<Option<OfferRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM volume_transfer WHERE id = ?1")?
        .query_row([id.to_string()], offer_row)
        .optional()?)
}

/// The offers of a project, newest first.
pub fn of_project(conn: &Conn, project: ProjectId) -> Stored<Vec<OfferRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM volume_transfer WHERE project_id = ?1 ORDER BY created_at DESC, id DESC")?;
    Ok(statement
        .query_map([project.to_string()], offer_row)?
        .collect::<Result<_, _>>()?)
}

/// Removes one.
pub fn delete(tx: &Tx, id: Uuid) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_transfer WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}
