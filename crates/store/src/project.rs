//! Projects: what everything belongs to.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, ProjectId, now_micros};

/// A project (tenant).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Stable for its life.
    pub id: ProjectId,
    /// Unique.
    pub name: String,
    /// What for; may be empty.
    pub description: String,
    /// Whether anybody can log in to work in it by the volume API.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Micros,
}

impl Project {
    /// A new project, enabled and not described.
    #[must_use]
    pub fn fresh(id: ProjectId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            description: String::new(),
            enabled: true,
            created_at: now_micros(),
        }
    }
}

const COLUMNS: &str = "id, name, description, enabled, created_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        id: column::text(row, "id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        enabled: row.get("enabled")?,
        created_at: row.get("created_at")?,
    })
}

/// The project of that id.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_id(conn: &Conn, id: ProjectId) -> Result<Option<Project>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached(&format!("SELECT {COLUMNS} FROM project WHERE id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// The project of that name.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_name(conn: &Conn, name: &str) -> Result<Option<Project>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached(&format!("SELECT {COLUMNS} FROM project WHERE name = ?1"))?;
    Ok(statement.query_row([name], from_row).optional()?)
}

/// Projects in the order of their names: at most `limit` whose names come after `after`.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn page(conn: &Conn, after: &str, limit: u32) -> Result<Vec<Project>, StoreError> {
    let mut statement = conn.sql().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM project WHERE name > ?1 ORDER BY name LIMIT ?2"
    ))?;
    let rows = statement.query_map((after, limit), from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a project.
///
/// # Errors
/// `Duplicate` if the id or the name is taken, `Sql`.
pub fn insert(tx: &Tx, project: &Project) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(&format!("INSERT INTO project ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)"))?
        .execute((
            project.id.to_string(),
            &project.name,
            &project.description,
            project.enabled,
            project.created_at,
        ))?;
    Ok(())
}

/// Writes name, description and whether it is enabled. Does nothing if there is no such project.
///
/// # Errors
/// `Duplicate` if the name is taken, `Sql`.
pub fn update(tx: &Tx, project: &Project) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached("UPDATE project SET name = ?2, description = ?3, enabled = ?4 WHERE id = ?1")?
        .execute((
            project.id.to_string(),
            &project.name,
            &project.description,
            project.enabled,
        ))?;
    Ok(())
}

/// How many VMs and disks belong to a project. Snapshots are theirs.
///
/// # Errors
/// `Sql`.
pub fn contents(conn: &Conn, id: ProjectId) -> Result<(u64, u64), StoreError> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT (SELECT count(*) FROM vm WHERE project_id = ?1) AS vms,
                (SELECT count(*) FROM disk WHERE project_id = ?1) AS disks",
    )?;
    Ok(statement.query_row([id.to_string()], |row| {
        Ok((column::quantity(row, "vms")?, column::quantity(row, "disks")?))
    })?)
}

/// Deletes a project with its roles, credentials and tokens; false if there was none. What belongs to it must be gone before.
///
/// # Errors
/// `Sql`.
pub fn delete(tx: &Tx, id: ProjectId) -> Result<bool, StoreError> {
    tx.sql()
        .prepare_cached("UPDATE app_user SET default_project_id = NULL WHERE default_project_id = ?1")?
        .execute([id.to_string()])?;
    for statement in [
        "DELETE FROM quota WHERE project_id = ?1",
        "DELETE FROM volume_type_access WHERE project_id = ?1",
        "DELETE FROM message WHERE project_id = ?1",
        "DELETE FROM volume_backup WHERE project_id = ?1",
        "DELETE FROM project_usage WHERE project_id = ?1",
    ] {
        tx.sql().prepare_cached(statement)?.execute([id.to_string()])?;
    }
    let mut statement = tx.sql().prepare_cached("DELETE FROM project WHERE id = ?1")?;
    Ok(statement.execute([id.to_string()])? > 0)
}

/// Gives a project another name. Does nothing if there is no such project.
///
/// # Errors
/// `Duplicate` if the name is taken, `Sql`.
pub fn rename(tx: &Tx, id: ProjectId, name: &str) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached("UPDATE project SET name = ?2 WHERE id = ?1")?
        .execute((id.to_string(), name))?;
    Ok(())
}
