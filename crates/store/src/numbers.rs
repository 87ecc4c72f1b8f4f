//! How many there are of what, for the operator's metrics: counted by the catalogue, read in one go.
//!
//! Events and ended jobs are told once each: the reader says up to where it has counted.

use crate::{Conn, Stored, column::quantity};
use rusqlite::params;
use stillpoint_types::Micros;

/// A label's value and how many have it.
pub type Count = (String, u64);

/// Up to where a reader has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Index of the newest event.
    pub event: i64,
    /// Jobs that ended before this are counted.
    pub ended: Micros,
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its id: at the edge of two readings it comes twice.
    pub id: String,
    /// What it did.
    pub kind: String,
    /// How it ended.
    pub state: String,
    /// From when it was asked for, microseconds.
    pub took: Micros,
}

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// VMs by status.
    pub vms: Vec<Count>,
    /// VMs that have a process.
    pub running: u64,
    /// Disks.
    pub disks: u64,
    /// Snapshots of VMs, without the active ones.
    pub snapshots: u64,
    /// Guests that are frozen because their users asked for it.
    pub frozen: u64,
    /// Jobs that have not ended: kind, state, count.
    pub jobs: Vec<(String, String, u64)>,
    /// Jobs that have ended since the last reading.
    pub ended: Vec<Ended>,
    /// Backups that have not ended, by phase.
    pub backups: Vec<Count>,
    /// Image transfers that have not ended, by phase.
    pub transfers: Vec<Count>,
    /// New events by severity.
    pub events: Vec<Count>,
    /// Index of the newest event.
    pub newest_event: i64,
}

/// The index of the newest event that is older than `at`; 0 when there is none.
pub fn event_before(conn: &Conn, at: Micros) -> Stored<i64> {
    Ok(conn.sql().query_row(
        "SELECT coalesce((SELECT idx FROM event WHERE at < ?1 ORDER BY idx DESC LIMIT 1), 0)",
        [at],
        |row| row.get(0),
    )?)
}

/// Counts.
pub fn read(conn: &Conn, seen: Seen) -> Stored<Numbers> {
    let newest = "SELECT coalesce(max(idx), 0) FROM event";
    let newest_event = conn.sql().prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    Ok(Numbers {
        vms: counts(conn, "SELECT status AS label, count(*) AS n FROM vm GROUP BY status")?,
        running: one(conn, "SELECT count(*) AS n FROM vm WHERE process IS NOT NULL")?,
        disks: one(conn, "SELECT count(*) AS n FROM disk")?,
        snapshots: one(conn, "SELECT count(*) AS n FROM snapshot WHERE kind = 'regular'")?,
        frozen: one(conn, "SELECT count(*) AS n FROM user_freeze")?,
        jobs: unfinished(conn)?,
        ended: ended(conn, seen.ended)?,
        backups: counts(
            conn,
            "SELECT phase AS label, count(*) AS n FROM backup WHERE ended_at IS NULL GROUP BY phase",
        )?,
        transfers: counts(
            conn,
            "SELECT phase AS label, count(*) AS n FROM image_transfer WHERE ended_at IS NULL GROUP BY phase",
        )?,
        events: events(conn, seen.event, newest_event)?,
        newest_event,
    })
}

fn one(conn: &Conn, sql: &str) -> Stored<u64> {
    let mut statement = conn.sql().prepare_cached(sql)?;
    Ok(statement.query_row([], |row| quantity(row, "n"))?)
}

fn counts(conn: &Conn, sql: &str) -> Stored<Vec<Count>> {
    let mut statement = conn.sql().prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get("label")?, quantity(row, "n")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn unfinished(conn: &Conn) -> Stored<Vec<(String, String, u64)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT kind, state, count(*) AS n FROM job WHERE state IN ('queued', 'running', 'unwinding') GROUP BY kind, state",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("kind")?, row.get("state")?, quantity(row, "n")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn ended(conn: &Conn, since: Micros) -> Stored<Vec<Ended>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT id, kind, state, ended_at - created_at AS took FROM job WHERE ended_at >= ?1")?;
    let rows = statement.query_map([since], |row| {
        Ok(Ended {
            id: row.get("id")?,
            kind: row.get("kind")?,
            state: row.get("state")?,
            took: row.get("took")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn events(conn: &Conn, after: i64, to: i64) -> Stored<Vec<Count>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT severity AS label, count(*) AS n FROM event WHERE idx > ?1 AND idx <= ?2 GROUP BY severity",
    )?;
    let rows = statement.query_map(params![after, to], |row| Ok((row.get("label")?, quantity(row, "n")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
