//! Projects: what everything belongs to.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, ProjectId};

/// A project (tenant).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Stable for its life.
    pub id: ProjectId,
    /// Unique.
    pub name: String,
    /// When it was made.
    pub created_at: Micros,
}

const COLUMNS: &str = "id, name, created_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        id: column::text(row, "id")?,
        name: row.get("name")?,
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
        .prepare_cached("INSERT INTO project (id, name, created_at) VALUES (?1, ?2, ?3)")?
        .execute((project.id.to_string(), &project.name, project.created_at))?;
    Ok(())
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
