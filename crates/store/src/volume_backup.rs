//! Backups of volumes that were asked for, and failed.

use crate::{
    Conn, Stored, Tx,
    column::{quantity, stored, text, text_opt},
    listing::{Field, ListedRows, Listing, Source},
    volume_snapshot::json,
};
use rusqlite::{OptionalExtension, Row, params};
use std::collections::BTreeMap;
use stillpoint_types::{DiskId, Micros, ProjectId, UserId, VolumeSnapshotId};
use uuid::Uuid;

/// A backup's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeBackupRow {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub project: ProjectId,
    /// Who asked for it.
    pub user: Option<UserId>,
    /// The volume, which may be gone.
    pub disk: DiskId,
    /// The snapshot of it that was to be read.
    pub snapshot: Option<VolumeSnapshotId>,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Where it was to be put.
    pub container: Option<String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// The volume's bytes at that moment.
    pub size_bytes: u64,
    /// The moment that it was to be of.
    pub moment: Micros,
    /// Why it failed.
    pub reason: String,
    /// Asked for.
    pub created_at: Micros,
    /// Last changed; `None`: never.
    pub updated_at: Option<Micros>,
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<VolumeBackupRow> {
    let metadata: String = row.get("metadata")?;
    let bad = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    Ok(VolumeBackupRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        user: text_opt(row, "user_id")?,
        disk: text(row, "disk_id")?,
        snapshot: text_opt(row, "snapshot_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        container: row.get("container")?,
        metadata: serde_json::from_str(&metadata).map_err(bad)?,
        size_bytes: quantity(row, "size_bytes")?,
        moment: row.get("moment")?,
        reason: row.get("reason")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds one.
pub fn insert(tx: &Tx, row: &VolumeBackupRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO volume_backup (id, project_id, user_id, disk_id, snapshot_id, name, description, container, metadata,
             size_bytes, moment, reason, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            row.id.to_string(),
            row.project.to_string(),
            row.user.map(|id| id.to_string()),
            row.disk.to_string(),
            row.snapshot.map(|id| id.to_string()),
            row.name,
            row.description,
            row.container,
            json(&row.metadata),
            stored(row.size_bytes),
            row.moment,
            row.reason,
            row.created_at,
            row.updated_at
        ])?;
    Ok(())
}

/// One backup.
pub fn get(conn: &Conn, id: Uuid) -> Stored<Option<VolumeBackupRow>> {
    let mut statement = conn.sql().prepare_cached("SELECT * FROM volume_backup WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], row_of).optional()?)
}

/// Writes the names.
pub fn set_texts(tx: &Tx, row: &VolumeBackupRow, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE volume_backup SET name = ?2, description = ?3, metadata = ?4, updated_at = ?5 WHERE id = ?1",
        )?
        .execute(params![
            row.id.to_string(),
            row.name,
            row.description,
            json(&row.metadata),
            at
        ])?;
    Ok(())
}

/// Removes one.
pub fn delete(tx: &Tx, id: Uuid) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM volume_backup WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// A page; `None`: the marker is not there. Fields: `id`, `name`, `description`, `status`, `volume_id`, `snapshot_id`, `size`
/// (GiB), `container`, `created_at`, `updated_at`, `project_id`.
pub fn page(conn: &Conn, asked: &Listing) -> Stored<Option<ListedRows<VolumeBackupRow>>> {
    let source = Source {
        from: "volume_backup AS v",
        project: "v.project_id",
        metadata: "v.metadata",
        fields: vec![
            Field::text("id", "v.id"),
            Field::text("name", "v.name").nullable(),
            Field::text("description", "v.description").nullable(),
            Field::text("status", "'error'"),
            Field::text("volume_id", "v.disk_id"),
            Field::text("snapshot_id", "v.snapshot_id").nullable(),
            Field::number("size", "(v.size_bytes + 1073741823) / 1073741824"),
            Field::text("container", "v.container").nullable(),
            Field::number("created_at", "v.created_at"),
            Field::number("updated_at", "v.updated_at").nullable(),
            Field::text("project_id", "v.project_id"),
        ],
    };
    let many = || match asked.projects.as_deref() {
        None => count(conn, "1 = 1", &[]),
        Some(projects) => projects.iter().map(|id| count_of(conn, *id)).sum(),
    };
    source.read(conn, asked, many, row_of)
}

/// How many a project has.
pub fn count_of(conn: &Conn, project: ProjectId) -> Stored<u64> {
    count(conn, "project_id = ?1", &[project.to_string()])
}

fn count(conn: &Conn, wheres: &str, values: &[String]) -> Stored<u64> {
    let sql = format!("SELECT count(*) AS many FROM volume_backup WHERE {wheres}");
    let values = rusqlite::params_from_iter(values);
    Ok(conn
        .sql()
        .prepare_cached(&sql)?
        .query_row(values, |row| quantity(row, "many"))?)
}
