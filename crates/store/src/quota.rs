//! What projects may have of volumes, where that was said.

use crate::{Conn, Stored, Tx};
use rusqlite::{Row, params};
use stillpoint_types::ProjectId;

/// In `quota.project_id`: what holds for those that have no row of their own.
const EVERYBODY: &str = "";

fn owner(project: Option<ProjectId>) -> String {
    project.map_or_else(|| EVERYBODY.to_owned(), |project| project.to_string())
}

/// The limits that were set for a project, or (`None`) for everybody: names and numbers, of which -1 means no limit.
pub fn limits(conn: &Conn, project: Option<ProjectId>) -> Stored<Vec<(String, i64)>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT resource, hard_limit FROM quota WHERE project_id = ?1 ORDER BY resource")?;
    let row = |row: &Row<'_>| Ok((row.get("resource")?, row.get("hard_limit")?));
    Ok(statement.query_map([owner(project)], row)?.collect::<Result<_, _>>()?)
}

/// Sets one.
pub fn set(tx: &Tx, project: Option<ProjectId>, resource: &str, limit: i64) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO quota (project_id, resource, hard_limit) VALUES (?1, ?2, ?3)
             ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
        )?
        .execute(params![owner(project), resource, limit])?;
    Ok(())
}

/// Takes a project's own limits away.
pub fn reset(tx: &Tx, project: ProjectId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM quota WHERE project_id = ?1")?
        .execute([project.to_string()])?;
    Ok(())
}
