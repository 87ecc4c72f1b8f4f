//! Image transfers: what is moved, and how far it is. The lock on the disk belongs to the job of the same id.
//!
//! Crash consistency: a phase is changed only from the phases that the caller names, so that two that change it at once
//! (a client's cancel, the end of an idle client) cannot undo each other's word.

use crate::{
    Conn, Stored, Tx,
    column::{listed, quantity, stored, text, text_opt},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{
    BackupId, DiskId, ImageFormat, ImageId, Micros, ProjectId, TicketId, TimeoutPolicy, TransferDirection, TransferId,
    TransferPhase,
};

/// A transfer's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRow {
    /// Its id, which is also its job's.
    pub id: TransferId,
    /// Whose it is: the disk's project.
    pub project: ProjectId,
    /// The disk.
    pub disk: DiskId,
    /// The disk's alias when it began.
    pub alias: String,
    /// The image whose bytes are read or written.
    pub image: ImageId,
    /// The client named the image (a disk snapshot), not the disk.
    pub by_image: bool,
    /// Which way.
    pub direction: TransferDirection,
    /// Format of what goes over the wire.
    pub format: ImageFormat,
    /// Only this image, not what lies below it.
    pub shallow: bool,
    /// Seconds that the client may be idle; 0: any time.
    pub inactivity_s: u32,
    /// What becomes of an idle one.
    pub policy: TimeoutPolicy,
    /// The secret of its URL.
    pub ticket: TicketId,
    /// Bytes that can be reached.
    pub size_bytes: u64,
    /// Where it stands.
    pub phase: TransferPhase,
    /// Why it was paused, cancelled or failed.
    pub reason: Option<String>,
    /// Distinct bytes moved, as last written down.
    pub transferred: u64,
    /// Begin.
    pub created_at: Micros,
    /// When its client last said that he is there (begin, extend, resume).
    pub last_active: Micros,
    /// End.
    pub ended_at: Option<Micros>,
    /// The backup that it reads from.
    pub backup: Option<BackupId>,
}

fn transfer_row(row: &Row<'_>) -> rusqlite::Result<TransferRow> {
    Ok(TransferRow {
        id: text(row, "id")?,
        project: text(row, "project_id")?,
        disk: text(row, "disk_id")?,
        alias: row.get("disk_alias")?,
        image: text(row, "image_id")?,
        by_image: row.get("by_image")?,
        direction: text(row, "direction")?,
        format: text(row, "format")?,
        shallow: row.get("shallow")?,
        inactivity_s: row.get("inactivity_s")?,
        policy: text(row, "timeout_policy")?,
        ticket: TicketId(text(row, "ticket")?),
        size_bytes: quantity(row, "size_bytes")?,
        phase: text(row, "phase")?,
        reason: row.get("reason")?,
        transferred: quantity(row, "transferred")?,
        created_at: row.get("created_at")?,
        last_active: row.get("last_active")?,
        ended_at: row.get("ended_at")?,
        backup: text_opt(row, "backup_id")?,
    })
}

/// Adds a transfer.
pub fn insert(tx: &Tx, t: &TransferRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO image_transfer (id, project_id, disk_id, disk_alias, image_id, by_image, direction, format,
             shallow, inactivity_s, timeout_policy, ticket, size_bytes, phase, created_at, last_active, backup_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            t.id.to_string(),
            t.project.to_string(),
            t.disk.to_string(),
            t.alias,
            t.image.to_string(),
            t.by_image,
            t.direction.label(),
            t.format.label(),
            t.shallow,
            t.inactivity_s,
            t.policy.label(),
            t.ticket.0.as_hyphenated().to_string(),
            stored(t.size_bytes),
            t.phase.label(),
            t.created_at,
            t.last_active,
            t.backup.map(|backup| backup.to_string())
        ])?;
    Ok(())
}

/// One transfer.
pub fn get(conn: &Conn, id: TransferId) -> Stored<Option<TransferRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM image_transfer WHERE id = ?1")?
        .query_row([id.to_string()], transfer_row)
        .optional()?)
}

/// A page, newest first; `projects`: only theirs, `None`: all.
pub fn page(
    conn: &Conn,
    projects: Option<&[ProjectId]>,
    before: Option<&str>,
    limit: usize,
) -> Stored<Vec<TransferRow>> {
    let mut wheres = "1 = 1".to_owned();
    let mut values: Vec<String> = Vec::new();
    crate::event::only_projects(projects, "project_id", &mut wheres, &mut values);
    if let Some(before) = before {
        values.push(before.to_owned());
        wheres.push_str(&format!(" AND id < ?{}", values.len()));
    }
    let sql = format!("SELECT * FROM image_transfer WHERE {wheres} ORDER BY id DESC LIMIT {limit}");
    let mut statement = conn.sql().prepare_cached(&sql)?;
    Ok(statement
        .query_map(rusqlite::params_from_iter(values), transfer_row)?
        .collect::<Result<_, _>>()?)
}

/// How many transfers are under way.
pub fn count_live(conn: &Conn) -> Stored<u64> {
    let sql = "SELECT count(*) AS live FROM image_transfer WHERE ended_at IS NULL";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([], |row| quantity(row, "live"))?)
}

/// Whether a transfer that has not ended reads or writes the image, as the top of what it moves.
pub fn is_read(conn: &Conn, image: ImageId) -> Stored<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM image_transfer WHERE ended_at IS NULL AND image_id = ?1) AS found";
    let found = conn
        .sql()
        .prepare_cached(sql)?
        .query_row([image.to_string()], |row| row.get::<_, bool>("found"))?;
    Ok(found)
}

/// The transfers whose data can be reached.
pub fn transferring(conn: &Conn) -> Stored<Vec<TransferRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM image_transfer WHERE ended_at IS NULL AND phase = 'transferring' ORDER BY id")?;
    Ok(statement.query_map([], transfer_row)?.collect::<Result<_, _>>()?)
}

/// The transfers of a backup that are under way.
pub fn live_of_backup(conn: &Conn, backup: BackupId) -> Stored<Vec<TransferRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM image_transfer WHERE ended_at IS NULL AND backup_id = ?1 ORDER BY id")?;
    Ok(statement
        .query_map([backup.to_string()], transfer_row)?
        .collect::<Result<_, _>>()?)
}

/// Moves a transfer to another phase if it is in one of `from`; `reason` replaces the one that is there, if given. An end
/// is stamped. Returns whether it moved.
pub fn set_phase(
    tx: &Tx,
    id: TransferId,
    from: &[TransferPhase],
    to: TransferPhase,
    reason: Option<&str>,
    at: Micros,
) -> Stored<bool> {
    let sql = format!(
        "UPDATE image_transfer SET phase = ?2, reason = coalesce(?3, reason), ended_at = ?4 WHERE id = ?1
         AND phase IN ({})",
        listed(from.iter().map(|phase| phase.label()))
    );
    let ended = to.is_end().then_some(at);
    let changed = tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![id.to_string(), to.label(), reason, ended])?;
    Ok(changed == 1)
}

/// Writes down that the client is there.
pub fn touch(tx: &Tx, id: TransferId, at: Micros) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE image_transfer SET last_active = max(last_active, ?2) WHERE id = ?1")?
        .execute(params![id.to_string(), at])?;
    Ok(())
}

/// Writes down how much can be reached.
pub fn set_size(tx: &Tx, id: TransferId, size_bytes: u64) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE image_transfer SET size_bytes = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), stored(size_bytes)])?;
    Ok(())
}

/// Writes down how much was moved; it never shrinks (a ticket that was made anew counts from zero).
pub fn set_transferred(tx: &Tx, id: TransferId, bytes: u64) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE image_transfer SET transferred = max(transferred, ?2) WHERE id = ?1")?
        .execute(params![id.to_string(), stored(bytes)])?;
    Ok(())
}

/// Removes transfers that ended long ago, at most `limit` at a time. Returns how many went.
pub fn purge(tx: &Tx, well_before: Micros, badly_before: Micros, limit: usize) -> Stored<usize> {
    let sql = format!(
        "DELETE FROM image_transfer WHERE id IN (SELECT id FROM image_transfer WHERE ended_at IS NOT NULL AND
         ((phase = 'finished_success' AND ended_at < ?1) OR (phase = 'finished_failure' AND ended_at < ?2))
         LIMIT {limit})"
    );
    Ok(tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![well_before, badly_before])?)
}
