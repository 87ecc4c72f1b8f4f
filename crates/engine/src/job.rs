//! Jobs, steps and events as clients see them.

use crate::{
    access, client,
    engine::Inner,
    fault::Fault,
    journal::from_json,
    view::{EventView, Filter, JobView, Page, Paged, RunStatus, StepView, explain::LockView, watch::Stall},
};
use std::sync::Arc;
use stillpoint_store::{
    event::EventRow,
    job::{CLIENT, JobRow, LockRow},
};
use stillpoint_types::{Caller, JobId, JobState, Need};

pub(crate) fn view(row: JobRow) -> JobView {
    let failure = row
        .failure
        .as_deref()
        .and_then(|text| from_json::<Fault>(text).ok())
        .map(|fault| fault.text);
    let auto_cleared = row.kind != CLIENT || client::auto_cleared(&row);
    JobView {
        id: row.id,
        status: match row.state {
            JobState::Queued | JobState::Running | JobState::Unwinding => RunStatus::Started,
            JobState::Done => RunStatus::Finished,
            JobState::Undone | JobState::Stuck => RunStatus::Failed,
        },
        description: row.description,
        owner: row.owner,
        owner_name: row.owner_name,
        correlation_id: row.correlation_id,
        started_at: row.created_at,
        ended_at: row.ended_at,
        updated_at: row.updated_at,
        failure,
        external: row.kind == CLIENT,
        auto_cleared,
    }
}

pub(crate) async fn jobs(
    engine: &Arc<Inner>,
    who: &Caller,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<JobView>, Fault> {
    let query = crate::vm::view::query(who, filter, page);
    let read =
        move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(stillpoint_store::job::page(conn, &query)?) };
    let found = engine.store.read(read).await?;
    Ok(Paged {
        items: found.rows.into_iter().map(view).collect(),
        next: found.next,
    })
}

async fn row(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<JobRow, Fault> {
    let who = who.clone();
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, Fault> {
        let row = stillpoint_store::job::get(conn, id)?.ok_or_else(|| Fault::not_found("job", id))?;
        access::check(&who, row.project, Need::Read, "job", &id.to_string())?;
        Ok(row)
    };
    engine.store.read(read).await
}

pub(crate) async fn job(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<JobView, Fault> {
    row(engine, who, id).await.map(view)
}

/// What the job holds.
pub(crate) async fn held(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<Vec<LockView>, Fault> {
    row(engine, who, id).await?;
    let read =
        move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(stillpoint_store::job::locks_by(conn, id)?) };
    let locks = engine.store.read(read).await?;
    Ok(locks.into_iter().map(lock_view).collect())
}

/// A lock row as people see it.
pub(crate) fn lock_view(lock: LockRow) -> LockView {
    LockView {
        kind: lock.kind,
        id: lock.entity,
        mode: lock.mode,
        job: lock.job,
        what: lock.what,
        since: lock.since,
    }
}

/// How long writes stood still at the job's switch.
pub(crate) async fn stall(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<Option<Stall>, Fault> {
    row(engine, who, id).await?;
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(stillpoint_store::job::steps(conn, id)?) };
    crate::snapshot::create::stall(&engine.store.read(read).await?)
}

pub(crate) async fn steps(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<Vec<StepView>, Fault> {
    row(engine, who, id).await?;
    let rows = engine
        .store
        .read(move |conn| -> Result<_, Fault> { Ok(stillpoint_store::job::steps(conn, id)?) })
        .await?;
    let step = |row: stillpoint_store::job::StepRow| StepView {
        kind: client::step_kind(&row),
        external: row.name == CLIENT,
        id: row.id,
        job: row.job,
        description: row.description,
        number: row.seq,
        state: row.state,
        progress: row.progress,
        started_at: row.started_at,
        ended_at: row.ended_at,
    };
    Ok(rows.into_iter().map(step).collect())
}

pub(crate) fn event_view(row: EventRow) -> EventView {
    EventView {
        index: row.index,
        code: row.code,
        severity: row.severity,
        text: row.text,
        at: row.at,
        correlation_id: row.correlation_id,
        user: row.user,
        vm: row.vm,
        disk: row.disk,
        client: row.client,
    }
}

pub(crate) async fn events(
    engine: &Arc<Inner>,
    who: &Caller,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<EventView>, Fault> {
    let query = crate::vm::view::query(who, filter, page);
    let read =
        move |conn: &stillpoint_store::Conn| -> Result<_, Fault> { Ok(stillpoint_store::event::page(conn, &query)?) };
    let found = engine.store.read(read).await?;
    Ok(Paged {
        items: found.rows.into_iter().map(event_view).collect(),
        next: found.next,
    })
}

pub(crate) async fn event(engine: &Arc<Inner>, who: &Caller, index: i64) -> Result<EventView, Fault> {
    let who = who.clone();
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, Fault> {
        let missing = || Fault::not_found("event", index);
        let row = stillpoint_store::event::get(conn, index)?.ok_or_else(missing)?;
        match row.project {
            Some(project) => access::check(&who, project, Need::Read, "event", &index.to_string())?,
            None if who.is_admin => {}
            None => return Err(missing()),
        }
        Ok(row)
    };
    engine.store.read(read).await.map(event_view)
}
