//! Events: what users read of what happened.

use crate::{
    Conn, Query, Rows, Sort, Stored, Tx,
    column::{text, text_opt},
    find::{self, Table},
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
    /// The client that wrote it, as it calls itself, with its own number; `None`: this daemon did.
    pub client: Option<(String, i32)>,
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
        client: row
            .get::<_, Option<String>>("origin")?
            .zip(row.get::<_, Option<i32>>("custom_id")?),
    })
}

/// Adds an event; its index. A client's number that it has used in that project is `StoreError::Duplicate`.
pub fn insert(tx: &Tx, e: &EventRow) -> Stored<i64> {
    tx.sql().prepare_cached(
        "INSERT INTO event (code, severity, text, at, correlation_id, project_id, user_id, user_name, vm_id, vm_name,
         disk_id, disk_alias, origin, custom_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
        e.client.as_ref().map(|(origin, _)| origin),
        e.client.as_ref().map(|(_, number)| number),
    ])?;
    Ok(tx.sql().last_insert_rowid())
}

/// Removes an event.
pub fn delete(tx: &Tx, index: i64) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM event WHERE idx = ?1")?
        .execute([index])?;
    Ok(())
}

/// Removes the oldest events that clients wrote in a project, so that `keep` remain.
pub fn trim_clients(tx: &Tx, project: ProjectId, keep: u32) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "DELETE FROM event WHERE idx IN (SELECT idx FROM event WHERE project_id = ?1 AND origin IS NOT NULL
             ORDER BY idx DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![project.to_string(), keep])?;
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

/// How far back [`about`] looks: events have no index by what they are about, and old ones explain nothing.
const LATELY: i64 = 20_000;

/// The newest events about a VM or a disk, newest first.
pub fn about(conn: &Conn, vm: Option<VmId>, disk: Option<DiskId>, limit: u32) -> Stored<Vec<EventRow>> {
    let sql = format!(
        "SELECT * FROM event WHERE idx > (SELECT coalesce(max(idx), 0) FROM event) - {LATELY}
         AND (vm_id = ?1 OR disk_id = ?2) ORDER BY idx DESC LIMIT ?3"
    );
    let (vm, disk) = (vm.map(|id| id.to_string()), disk.map(|id| id.to_string()));
    let mut statement = conn.sql().prepare_cached(&sql)?;
    Ok(statement
        .query_map(params![vm, disk, limit], event_row)?
        .collect::<Result<_, _>>()?)
}

/// The newest events of one request, newest first.
pub fn of_request(conn: &Conn, correlation_id: &str, limit: u32) -> Stored<Vec<EventRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM event WHERE correlation_id = ?1 ORDER BY idx DESC LIMIT ?2")?;
    Ok(statement
        .query_map(params![correlation_id, limit], event_row)?
        .collect::<Result<_, _>>()?)
}

/// The events after one, in projects (`None`: all, those of the installation too), oldest first.
pub fn after(conn: &Conn, projects: Option<&[ProjectId]>, index: i64, limit: u32) -> Stored<Vec<EventRow>> {
    let mut values = vec![index.to_string()];
    let mut wheres = "idx > CAST(?1 AS INTEGER)".to_owned();
    only_projects(projects, "project_id", &mut wheres, &mut values);
    let sql = format!("SELECT * FROM event WHERE {wheres} ORDER BY idx LIMIT {limit}");
    let mut statement = conn.sql().prepare_cached(&sql)?;
    let values = rusqlite::params_from_iter(values);
    Ok(statement.query_map(values, event_row)?.collect::<Result<_, _>>()?)
}

/// The events of some codes since an instant, in projects (`None`: all), oldest first: the newest `limit`.
pub fn of_codes(
    conn: &Conn,
    projects: Option<&[ProjectId]>,
    codes: &[u32],
    since: Micros,
    limit: u32,
) -> Stored<Vec<EventRow>> {
    let mut values = Vec::new();
    let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
    let mut wheres = format!(
        "idx > (SELECT coalesce(max(idx), 0) FROM event) - {LATELY} AND at >= {since} AND code IN ({})",
        codes.join(", ")
    );
    only_projects(projects, "project_id", &mut wheres, &mut values);
    let sql = format!("SELECT * FROM event WHERE {wheres} ORDER BY idx DESC LIMIT {limit}");
    let mut statement = conn.sql().prepare(&sql)?;
    let values = rusqlite::params_from_iter(values);
    let mut rows: Vec<EventRow> = statement.query_map(values, event_row)?.collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(rows)
}

/// The number of the newest event; 0: there is none.
pub fn newest(conn: &Conn) -> Stored<i64> {
    let sql = "SELECT coalesce(max(idx), 0) AS newest FROM event";
    Ok(conn.sql().prepare_cached(sql)?.query_row([], |row| row.get("newest"))?)
}

/// Per VM, which of two codes its newest event with either has.
pub fn last_codes(conn: &Conn, codes: [u32; 2]) -> Stored<Vec<(VmId, u32)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT vm_id, code, max(idx) FROM event WHERE code IN (?1, ?2) AND vm_id IS NOT NULL GROUP BY vm_id",
    )?;
    let rows = statement.query_map(codes, |row| Ok((text(row, "vm_id")?, row.get("code")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What can be asked of events, and their order.
const TABLE: Table = Table {
    name: "event",
    id: "event.idx",
    project: "event.project_id",
    order: Sort {
        field: "id",
        descending: true,
    },
    columns: &[
        find::number("id", "event.idx"),
        find::text("correlation_id", "event.correlation_id"),
        find::text("message", "event.text"),
        // Growing, so that "above normal" can be asked.
        find::number(
            "severity",
            "CASE event.severity WHEN 'normal' THEN 0 WHEN 'warning' THEN 1 WHEN 'error' THEN 2 ELSE 3 END",
        ),
        find::number("type", "event.code"),
        find::number("time", "event.at"),
        find::text("user", "event.user_name"),
        find::text("vm", "event.vm_name"),
        find::text("vm_id", "event.vm_id"),
        find::text("disk", "event.disk_alias"),
        find::text("origin", "coalesce(event.origin, 'oVirt')"),
        find::number("custom_id", "coalesce(event.custom_id, -1)"),
    ],
};

/// A page of events, newest first where no order is asked for.
pub fn page(conn: &Conn, query: &Query) -> Stored<Rows<EventRow>> {
    query.read(conn, &TABLE, event_row)
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
