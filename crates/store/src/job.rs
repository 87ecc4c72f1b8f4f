//! Durable jobs, their steps, and the locks that they hold.
//!
//! # Crash consistency
//! A lock row is written in the transaction that writes its job, and removed in the one that ends it. So no crash can
//! leak a lock or lose one, and nothing has to be rebuilt at start. Every change of state names the state that it
//! expects: an illegal order of events changes no row and is an error.

use crate::{
    Conn, Query, Rows, Sort, StoreError, Stored, Tx,
    column::{listed, rows_of, text, text_opt},
    find::{self, Table},
};
use rusqlite::{OptionalExtension, Row, params};
use stillpoint_types::{JobId, JobState, LockMode, Micros, ProjectId, StepId, StepState, UserId, VmId};

/// A job's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Which saga.
    pub kind: String,
    /// Version of the saga's parameters and steps.
    pub version: u32,
    /// The saga's parameters, JSON.
    pub params: String,
    /// State.
    pub state: JobState,
    /// From here only forward.
    pub pivot_reached: bool,
    /// As shown to people.
    pub description: String,
    /// Whose things it works on.
    pub project: ProjectId,
    /// The VM that it works on.
    pub vm: Option<VmId>,
    /// Who asked.
    pub owner: UserId,
    /// His name.
    pub owner_name: String,
    /// The request's correlation id.
    pub correlation_id: String,
    /// The fault that it failed with, the engine's JSON.
    pub failure: Option<String>,
    /// Made.
    pub created_at: Micros,
    /// Last change.
    pub updated_at: Micros,
    /// End.
    pub ended_at: Option<Micros>,
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: text(row, "id")?,
        kind: row.get("kind")?,
        version: row.get("version")?,
        params: row.get("params")?,
        state: text(row, "state")?,
        pivot_reached: row.get("pivot_reached")?,
        description: row.get("description")?,
        project: text(row, "project_id")?,
        vm: text_opt(row, "vm_id")?,
        owner: text(row, "owner_id")?,
        owner_name: row.get("owner_name")?,
        correlation_id: row.get("correlation_id")?,
        failure: row.get("failure")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        ended_at: row.get("ended_at")?,
    })
}

/// A step's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// Its job.
    pub job: JobId,
    /// Place in the job, from 0.
    pub seq: u32,
    /// Its id, as clients see it.
    pub id: StepId,
    /// Which step of the saga.
    pub name: String,
    /// Its arguments, JSON.
    pub args: String,
    /// As shown to people.
    pub description: String,
    /// After this step only forward.
    pub pivot: bool,
    /// State.
    pub state: StepState,
    /// What it found out, JSON; no secrets.
    pub output: Option<String>,
    /// Percent.
    pub progress: u8,
    /// Begin.
    pub started_at: Option<Micros>,
    /// End.
    pub ended_at: Option<Micros>,
}

fn step_row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        job: text(row, "job_id")?,
        seq: row.get("seq")?,
        id: text(row, "id")?,
        name: row.get("name")?,
        args: row.get("args")?,
        description: row.get("description")?,
        pivot: row.get("pivot")?,
        state: text(row, "state")?,
        output: row.get("output")?,
        progress: row.get("progress")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

/// Adds a job with its steps.
pub fn insert(tx: &Tx, job: &JobRow, steps: &[StepRow]) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO job (id, kind, version, params, state, description, project_id, vm_id, owner_id, owner_name,
         correlation_id, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
        )?
        .execute(params![
            job.id.to_string(),
            job.kind,
            job.version,
            job.params,
            job.state.label(),
            job.description,
            job.project.to_string(),
            job.vm.map(|vm| vm.to_string()),
            job.owner.to_string(),
            job.owner_name,
            job.correlation_id,
            job.created_at
        ])?;
    let mut statement = tx.sql().prepare_cached(
        "INSERT INTO job_step (job_id, seq, id, name, args, description, pivot, state, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for s in steps {
        statement.execute(params![
            s.job.to_string(),
            s.seq,
            s.id.to_string(),
            s.name,
            s.args,
            s.description,
            s.pivot,
            s.state.label(),
            s.started_at
        ])?;
    }
    Ok(())
}

/// One job.
pub fn get(conn: &Conn, id: JobId) -> Stored<Option<JobRow>> {
    Ok(conn
        .sql()
        .prepare_cached("SELECT * FROM job WHERE id = ?1")?
        .query_row([id.to_string()], job_row)
        .optional()?)
}

/// The jobs that one request began, oldest first, at most `limit`.
pub fn of_request(conn: &Conn, correlation_id: &str, limit: u32) -> Stored<Vec<JobRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM job WHERE correlation_id = ?1 ORDER BY id LIMIT ?2")?;
    Ok(statement
        .query_map(params![correlation_id, limit], job_row)?
        .collect::<Result<_, _>>()?)
}

/// The steps of a job, in order.
pub fn steps(conn: &Conn, id: JobId) -> Stored<Vec<StepRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM job_step WHERE job_id = ?1 ORDER BY seq")?;
    Ok(statement
        .query_map([id.to_string()], step_row)?
        .collect::<Result<_, _>>()?)
}

/// The steps of several jobs, those of each in order.
pub fn steps_of(conn: &Conn, jobs: &[JobId]) -> Stored<Vec<StepRow>> {
    let sql = "SELECT * FROM job_step WHERE job_id IN ({}) ORDER BY job_id, seq";
    rows_of(conn, sql, jobs, step_row)
}

/// Every job of ours that has not ended, oldest first.
pub fn unfinished(conn: &Conn) -> Stored<Vec<JobRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT * FROM job WHERE state IN ('queued', 'running', 'unwinding') AND kind <> 'client' ORDER BY id",
    )?;
    Ok(statement.query_map([], job_row)?.collect::<Result<_, _>>()?)
}

/// Jobs that are under way, or have ended since an instant, in projects (`None`: all), oldest first: the newest `limit`.
pub fn lately(conn: &Conn, projects: Option<&[ProjectId]>, ended_since: Micros, limit: u32) -> Stored<Vec<JobRow>> {
    let of = |condition: &str, mut values: Vec<String>| -> Stored<Vec<JobRow>> {
        let mut wheres = condition.to_owned();
        crate::event::only_projects(projects, "project_id", &mut wheres, &mut values);
        let sql = format!("SELECT * FROM job WHERE {wheres} ORDER BY id DESC LIMIT {limit}");
        let mut statement = conn.sql().prepare_cached(&sql)?;
        let values = rusqlite::params_from_iter(values);
        Ok(statement.query_map(values, job_row)?.collect::<Result<_, _>>()?)
    };
    // Two questions, each with its index.
    let mut rows = of("state IN ('queued', 'running', 'unwinding')", Vec::new())?;
    rows.extend(of(
        "ended_at IS NOT NULL AND ended_at >= CAST(?1 AS INTEGER)",
        vec![ended_since.to_string()],
    )?);
    rows.sort_by_key(|row| row.id);
    Ok(rows)
}

/// Every job that waits for an operator or the next start.
pub fn stuck(conn: &Conn) -> Stored<Vec<JobRow>> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT * FROM job WHERE state = 'stuck' ORDER BY id")?;
    Ok(statement.query_map([], job_row)?.collect::<Result<_, _>>()?)
}

/// What can be asked of jobs, and their order: ids grow with time.
const TABLE: Table = Table {
    name: "job",
    id: "job.id",
    project: "job.project_id",
    order: Sort {
        field: "id",
        descending: true,
    },
    columns: &[
        find::text("id", "job.id"),
        find::text("correlation_id", "job.correlation_id"),
        find::text("description", "job.description"),
        find::text(
            "status",
            "CASE job.state WHEN 'done' THEN 'finished' WHEN 'undone' THEN 'failed' WHEN 'stuck' THEN 'failed'
             ELSE 'started' END",
        ),
        find::text("owner", "job.owner_name"),
        find::number("started", "job.created_at"),
        find::number("ended", "job.ended_at"),
    ],
};

/// A page of jobs, newest first where no order is asked for.
pub fn page(conn: &Conn, query: &Query) -> Stored<Rows<JobRow>> {
    query.read(conn, &TABLE, job_row)
}

/// Moves a job from one state to another.
///
/// # Errors
/// `StoreError::IllegalOrder` when it is not in `from`.
pub fn set_state(tx: &Tx, id: JobId, from: &[JobState], to: JobState, failure: Option<&str>, at: Micros) -> Stored<()> {
    let ended = to.is_end().then_some(at);
    let sql = format!(
        "UPDATE job SET state = ?2, failure = coalesce(?3, failure), updated_at = ?4, ended_at = ?5 WHERE id = ?1
         AND state IN ({})",
        listed(from.iter().map(|state| state.label()))
    );
    let changed = tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![id.to_string(), to.label(), failure, at, ended])?;
    expect_one(changed, || format!("job {id} to {to}"))
}

/// Moves a step from one state to another. `done` of a pivot step marks the job.
///
/// # Errors
/// `StoreError::IllegalOrder` when it is not in `from`.
pub fn set_step(
    tx: &Tx,
    id: JobId,
    seq: u32,
    from: &[StepState],
    to: StepState,
    output: Option<&str>,
    at: Micros,
) -> Stored<()> {
    let (started, ended) = match to {
        StepState::Started => (Some(at), None),
        StepState::Pending => (None, None),
        StepState::Done | StepState::Failed | StepState::Undone => (None, Some(at)),
    };
    let progress = (to == StepState::Done).then_some(100);
    let sql = format!(
        "UPDATE job_step SET state = ?3, output = coalesce(?4, output), started_at = coalesce(?5, started_at),
         ended_at = coalesce(?6, ended_at), progress = coalesce(?7, progress) WHERE job_id = ?1 AND seq = ?2
         AND state IN ({})",
        listed(from.iter().map(|state| state.label()))
    );
    let changed = tx.sql().prepare_cached(&sql)?.execute(params![
        id.to_string(),
        seq,
        to.label(),
        output,
        started,
        ended,
        progress
    ])?;
    expect_one(changed, || format!("step {seq} of job {id} to {to}"))?;
    let sql = "UPDATE job SET updated_at = ?2, pivot_reached = pivot_reached OR
               (?4 AND (SELECT pivot FROM job_step WHERE job_id = ?1 AND seq = ?3)) WHERE id = ?1";
    tx.sql()
        .prepare_cached(sql)?
        .execute(params![id.to_string(), at, seq, to == StepState::Done])?;
    Ok(())
}

fn expect_one(changed: usize, what: impl FnOnce() -> String) -> Stored<()> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::IllegalOrder(what()))
    }
}

/// Writes a step's progress in percent.
pub fn set_progress(tx: &Tx, id: JobId, seq: u32, percent: u8) -> Stored<()> {
    tx.sql()
        .prepare_cached("UPDATE job_step SET progress = ?3 WHERE job_id = ?1 AND seq = ?2 AND state = 'started'")?
        .execute(params![id.to_string(), seq, percent])?;
    Ok(())
}

/// Removes jobs that ended before `before`, at most `limit` at a time; stuck ones stay. Returns how many went.
pub fn purge(tx: &Tx, done_before: Micros, failed_before: Micros, limit: usize) -> Stored<usize> {
    let sql = format!(
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended_at IS NOT NULL AND
         ((state = 'done' AND ended_at < ?1) OR (state = 'undone' AND ended_at < ?2))
         AND NOT (kind = 'client' AND params ->> '$.auto_cleared' = 0) LIMIT {limit})"
    );
    Ok(tx
        .sql()
        .prepare_cached(&sql)?
        .execute(params![done_before, failed_before])?)
}

// ------------------------------------------------------------------------------------------- jobs of clients

/// The kind of a job that a client added: nothing here works on it.
pub const CLIENT: &str = "client";

/// How many jobs clients have added in a project that are still there.
pub fn count_clients(conn: &Conn, project: ProjectId) -> Stored<u64> {
    let sql = "SELECT count(*) AS count FROM job WHERE kind = 'client' AND project_id = ?1";
    Ok(conn
        .sql()
        .prepare_cached(sql)?
        .query_row([project.to_string()], |row| crate::column::quantity(row, "count"))?)
}

/// Adds a step to a job.
pub fn add_step(tx: &Tx, s: &StepRow) -> Stored<()> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO job_step (job_id, seq, id, name, args, description, pivot, state, started_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            s.job.to_string(),
            s.seq,
            s.id.to_string(),
            s.name,
            s.args,
            s.description,
            s.pivot,
            s.state.label(),
            s.started_at
        ])?;
    tx.sql()
        .prepare_cached("UPDATE job SET updated_at = ?2 WHERE id = ?1")?
        .execute(params![s.job.to_string(), s.started_at])?;
    Ok(())
}

/// Removes a job with its steps.
pub fn delete(tx: &Tx, id: JobId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM job WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------ locks

/// A lock's row with what its holder does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    /// Kind of entity: `vm`, `disk`, `snapshot`, `image`.
    pub kind: String,
    /// The entity.
    pub entity: String,
    /// Mode.
    pub mode: LockMode,
    /// The job.
    pub job: JobId,
    /// Its saga.
    pub job_kind: String,
    /// What it does, as shown to people.
    pub what: String,
    /// Since when.
    pub since: Micros,
}

fn lock_row(row: &Row<'_>) -> rusqlite::Result<LockRow> {
    Ok(LockRow {
        kind: row.get("lock_kind")?,
        entity: row.get("entity_id")?,
        mode: text(row, "mode")?,
        job: text(row, "job_id")?,
        job_kind: row.get("job_kind")?,
        what: row.get("description")?,
        since: row.get("created_at")?,
    })
}

/// Who holds an entity, if somebody does.
pub fn holder(conn: &Conn, kind: &str, entity: &str) -> Stored<Option<LockRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT entity_lock.kind AS lock_kind, entity_id, mode, job_id, job.kind AS job_kind, description, created_at
         FROM entity_lock JOIN job ON job.id = job_id WHERE entity_lock.kind = ?1 AND entity_id = ?2
         ORDER BY mode LIMIT 1",
    )?;
    Ok(statement.query_row([kind, entity], lock_row).optional()?)
}

/// Everybody who holds an entity, the strictest first.
pub fn locks_of(conn: &Conn, kind: &str, entity: &str) -> Stored<Vec<LockRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT entity_lock.kind AS lock_kind, entity_id, mode, job_id, job.kind AS job_kind, description, created_at
         FROM entity_lock JOIN job ON job.id = job_id WHERE entity_lock.kind = ?1 AND entity_id = ?2
         ORDER BY mode, job_id",
    )?;
    Ok(statement
        .query_map([kind, entity], lock_row)?
        .collect::<Result<_, _>>()?)
}

/// What a job holds.
pub fn locks_by(conn: &Conn, id: JobId) -> Stored<Vec<LockRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT entity_lock.kind AS lock_kind, entity_id, mode, job_id, job.kind AS job_kind, description, created_at
         FROM entity_lock JOIN job ON job.id = job_id WHERE job_id = ?1 ORDER BY entity_lock.kind, entity_id",
    )?;
    Ok(statement
        .query_map([id.to_string()], lock_row)?
        .collect::<Result<_, _>>()?)
}

/// Every lock of a kind, the strictest of an entity first. They are as many as the jobs that run need.
pub fn locks(conn: &Conn, kind: &str) -> Stored<Vec<LockRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT entity_lock.kind AS lock_kind, entity_id, mode, job_id, job.kind AS job_kind, description, created_at
         FROM entity_lock JOIN job ON job.id = job_id WHERE entity_lock.kind = ?1 ORDER BY entity_id, mode",
    )?;
    Ok(statement.query_map([kind], lock_row)?.collect::<Result<_, _>>()?)
}

/// What the steps of that name that jobs under way have not ended yet shall do: the jobs and the arguments.
pub fn steps_ahead(conn: &Conn, name: &str) -> Stored<Vec<(JobId, String)>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT job_step.job_id, job_step.args FROM job JOIN job_step ON job_step.job_id = job.id
         WHERE job.state IN ('queued', 'running', 'unwinding') AND job_step.name = ?1
         AND job_step.state IN ('pending', 'started', 'failed')",
    )?;
    Ok(statement
        .query_map([name], |row| Ok((text(row, "job_id")?, row.get("args")?)))?
        .collect::<Result<_, _>>()?)
}

/// Takes a lock for a job, or returns who stands in the way.
pub fn lock(tx: &Tx, job: JobId, kind: &str, entity: &str, mode: LockMode) -> Stored<Option<LockRow>> {
    if let Some(held) = holder(tx, kind, entity)?
        && (mode == LockMode::Exclusive || held.mode == LockMode::Exclusive)
    {
        return Ok(Some(held));
    }
    tx.sql()
        .prepare_cached("INSERT INTO entity_lock (kind, entity_id, job_id, mode) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, entity, job.to_string(), mode.label()])?;
    Ok(None)
}

/// Releases all locks of a job.
pub fn unlock(tx: &Tx, job: JobId) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM entity_lock WHERE job_id = ?1")?
        .execute([job.to_string()])?;
    Ok(())
}

/// Releases a job's locks on one kind of entity.
pub fn unlock_kind(tx: &Tx, job: JobId, kind: &str) -> Stored<()> {
    tx.sql()
        .prepare_cached("DELETE FROM entity_lock WHERE job_id = ?1 AND kind = ?2")?
        .execute(params![job.to_string(), kind])?;
    Ok(())
}

/// Every lock whose job has ended: always empty; the check that nothing stays locked.
pub fn orphaned_locks(conn: &Conn) -> Stored<Vec<LockRow>> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT entity_lock.kind AS lock_kind, entity_id, mode, job_id, job.kind AS job_kind, description, created_at
         FROM entity_lock JOIN job ON job.id = job_id WHERE job.state IN ('done', 'undone')",
    )?;
    Ok(statement.query_map([], lock_row)?.collect::<Result<_, _>>()?)
}
