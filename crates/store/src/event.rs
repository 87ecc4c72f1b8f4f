//! Events: what users read of what happened.

use crate::{
    Conn, Stored, Tx,
    column::{text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{DiskId, Micros, ProjectId, Severity, UserId, VmId};

/// An event's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Growing number; ignored by [`insert`].
    pub index: i64,
    /// oVirt's code.
    pub code: u32,
    /// Severity.
    pub severity: Severity,
    /// Text.
    pub text: String,
    /// When.
    pub at: Micros,
    /// The request's correlation id.
    pub correlation_id: Option<String>,
    /// Whose thing it is about; `None`: the installation's, for administrators.
    pub project: Option<ProjectId>,
    /// Who.
    pub user: Option<(UserId, String)>,
    /// Which VM.
    pub vm: Option<(VmId, String)>,
    /// Which disk.
    pub disk: Option<(DiskId, String)>,
}

fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    fn named<T>(id: Option<T>, name: Option<String>) -> Option<(T, String)> {
        id.map(|id| (id, name.unwrap_or_default()))
    }
    Ok(EventRow {
        index: row.get("idx")?,
        code: row.get("code")?,
        severity: text(row, "severity")?,
        text: row.get("text")?,
        at: row.get("at")?,
        correlation_id: row.get("correlation_id")?,
        project: text_opt(row, "project_id")?,
        user: named(text_opt(row, "user_id")?, row.get("user_name")?),
        vm: named(text_opt(row, "vm_id")?, row.get("vm_name")?),
        disk: named(text_opt(row, "disk_id")?, row.get("disk_alias")?),
    })
}

/// Adds an event.
pub fn insert(tx: &Tx, e: &EventRow) -> Stored<()> {
    tx.sql().prepare_cached(
        "INSERT INTO event (code, severity, text, at, correlation_id, project_id, user_id, user_name, vm_id, vm_name,
         disk_id, disk_alias) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        e.code,
        e.severity.label(),
        e.text,
        e.at,
        e.correlation_id,
        e.project.map(|p| p.to_string()),
        e.user.as_ref().map(|(id, _)| id.to_string()),
        e.user.as_ref().map(|(_, name)| name),
        e.vm.as_ref().map(|(id, _)| id.to_string()),
        e.vm.as_ref().map(|(_, name)| name),
        e.disk.as_ref().map(|(id, _)| id.to_string()),
        e.disk.as_ref().map(|(_, alias)| alias),
    ])?;
    Ok(())
}

/// One event.
pub fn get(conn: &Conn, index: i64) -> Stored<Option<EventRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM event WHERE idx = ?1")?
        .query_row([index], event_row)
        .optional()?)
}

/// Per VM, which of two codes its newest event with either has.
pub fn last_codes(conn: &Conn, codes: [u32; 2]) -> Stored<Vec<(VmId, u32)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT vm_id, code, max(idx) FROM event WHERE code IN (?1, ?2) AND vm_id IS NOT NULL GROUP BY vm_id",
    )?;
    let rows = statement.query_map(codes, |row| Ok((text(row, "vm_id")?, row.get("code")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A page of events, newest first, below the index `before`, above the index `from`.
pub fn page(
    conn: &Conn,
    projects: Option<&[ProjectId]>,
    correlation_id: Option<&str>,
    from: i64,
    before: i64,
    limit: usize,
) -> Stored<Vec<EventRow>> {
    let mut wheres = format!("idx > {from} AND idx < {before}");
    let mut values: Vec<String> = Vec::new();
    only_projects(projects, "project_id", &mut wheres, &mut values);
    if let Some(correlation_id) = correlation_id {
        values.push(correlation_id.to_owned());
        wheres.push_str(&format!(" AND correlation_id = ?{}", values.len()));
    }
    let text = format!("SELECT * FROM event WHERE {wheres} ORDER BY idx DESC LIMIT {limit}");
    let mut statement = conn.sql().prepare_cached(&text)?;
    Ok(statement
        .query_map(rusqlite::params_from_iter(values), event_row)?
        .collect::<Result<_, _>>()?)
}

/// Adds "only things of these projects" to a WHERE clause.
pub(crate) fn only_projects(
    projects: Option<&[ProjectId]>,
    column: &str,
    wheres: &mut String,
    values: &mut Vec<String>,
) {
    let Some(projects) = projects else { return };
    let mut marks = Vec::new();
    for project in projects {
        values.push(project.to_string());
        marks.push(format!("?{}", values.len()));
    }
    wheres.push_str(&format!(" AND {column} IN ({})", marks.join(", ")));
}
