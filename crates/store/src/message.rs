//! Why things went to error, for people.

use crate::{Conn, Stored, Tx, column::text};
use rusqlite::{Row, params};
use stillpoint_types::{Micros, ProjectId};
use uuid::Uuid;

/// A message's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub project: ProjectId,
    /// Kind of the thing.
    pub about_kind: String,
    /// The thing, which may be gone.
    pub about: Uuid,
    /// What was being done, as Cinder's code.
    pub action: String,
    /// What happened, likewise.
    pub detail: String,
    /// For people.
    pub text: String,
    /// Written.
    pub created_at: Micros,
    /// It goes then.
    pub expires_at: Micros,
}

fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        about_kind: row.get("about_kind")?,
        about: text(row, "about_id")?,
        action: row.get("action")?,
        detail: row.get("detail")?,
        text: row.get("text")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds one, and removes those whose time has come.
pub fn insert(tx: &Tx, row: &MessageRow) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM message WHERE expires_at <= ?1")?
        .execute([row.created_at])?;
    tx.sql()
        .prepare_cached(
            "INSERT INTO message (id, project_id, about_kind, about_id, action, detail, text, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            row.id.to_string(),
            row.project.to_string(),
            row.about_kind,
            row.about.to_string(),
            row.action,
            row.detail,
            row.text,
            row.created_at,
            row.expires_at
        ])?;
    Ok(())
}

/// Those of a project whose time has not come at that instant, newest first.
pub fn of_project(conn: &Conn, project: ProjectId, at: Micros) -> Stored<Vec<MessageRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT * FROM message WHERE project_id = ?1 AND expires_at > ?2 ORDER BY created_at DESC, id DESC",
    )?;
    Ok(statement
        .query_map(params![project.to_string(), at], message_row)?
        .collect::<Result<_, _>>()?)
}

/// Removes one of a project; whether it was there.
pub fn delete(tx: &Tx, project: ProjectId, id: Uuid) -> Stored<bool> {
    let removed = tx
        .sql()
        .prepare_cached("DELETE FROM message WHERE project_id = ?1 AND id = ?2")?
        .execute(params![project.to_string(), id.to_string()])?;
    Ok(removed > 0)
}
