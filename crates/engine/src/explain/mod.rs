//! Explains one thing: why it is in its state, who holds it, what is seen of it, and what would help.
//!
//! 1. `record`: one read transaction tells what is recorded: status, locks, jobs, the chains.
//! 2. `world`: the VM's process, QEMU's block graph and the image files are looked at, read only and each with a deadline;
//!    what does not answer is said, not waited for.
//! 3. `compare`: what was seen against what is recorded. `remedy`: what would help, with the command to type.
//!
//! Nothing is changed, and nothing but the thing's own chains is looked at. Between 1 and 2 the world may move on: a
//! difference on which a job is at work is marked as such.

mod compare;
pub(crate) mod healing;
mod record;
mod remedy;
mod world;

use crate::{
    engine::Inner,
    fault::Fault,
    journal::executor::Tries,
    view::explain::{Explanation, JobDetail, Kind, StepDetail, Waits},
};
use std::{collections::HashMap, sync::Arc};
use stillpoint_store::{
    Conn,
    job::{JobRow, StepRow},
};
use stillpoint_types::{Access, Caller, JobId, Need, now_micros};

/// Explains the thing of that kind and id.
pub(crate) async fn explain(engine: &Arc<Inner>, who: &Caller, kind: Kind, id: &str) -> Result<Explanation, Fault> {
    let (who, text) = (who.clone(), id.to_owned());
    let read = move |conn: &Conn| -> Result<_, Fault> { record::read(conn, &who, kind, &text) };
    let recorded = engine.store.read(read).await?;
    let seen = world::look(engine, &recorded).await;
    let differences = compare::all(&recorded, &seen);
    let jobs: Vec<JobDetail> = recorded
        .jobs
        .iter()
        .map(|(row, steps)| detail(engine, row.clone(), steps.clone()))
        .collect();
    let remedies = remedy::all(&recorded, &seen, &jobs, &differences);
    let mut why = recorded.why;
    why.extend(seen.machine.as_ref().and_then(world::in_words));
    Ok(Explanation {
        kind,
        id: recorded.id,
        name: recorded.name,
        project: recorded.project,
        status: recorded.status,
        why,
        locks: recorded.locks,
        jobs,
        machine: seen.machine,
        chains: seen.chains,
        differences,
        remedies,
        events: recorded.events.into_iter().map(crate::job::event_view).collect(),
        at: now_micros(),
    })
}

/// A job of the catalogue with what keeps it from going on.
pub(crate) fn detail(engine: &Inner, row: JobRow, steps: Vec<StepRow>) -> JobDetail {
    let waits = engine.journal.tries(row.id).map(|tries| {
        let Tries { step, count, last, at } = tries;
        Waits {
            step,
            tries: count,
            reason: last,
            at,
        }
    });
    let step = |row: StepRow| StepDetail {
        id: row.id,
        number: row.seq,
        name: row.name,
        description: row.description,
        state: row.state,
        pivot: row.pivot,
        progress: row.progress,
        started_at: row.started_at,
        ended_at: row.ended_at,
    };
    JobDetail {
        kind: row.kind.clone(),
        state: row.state,
        only_forward: row.pivot_reached,
        vm: row.vm,
        steps: steps.into_iter().map(step).collect(),
        waits,
        job: crate::job::view(row),
    }
}

/// One job with its steps and times.
pub(crate) async fn job(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<JobDetail, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let row = stillpoint_store::job::get(conn, id)?.ok_or_else(|| Fault::not_found("job", id))?;
        crate::access::check(&who, row.project, Need::Read, "job", &id.to_string())?;
        let steps = stillpoint_store::job::steps(conn, id)?;
        Ok((row, steps))
    };
    let (row, steps) = engine.store.read(read).await?;
    Ok(detail(engine, row, steps))
}

/// The jobs among these that the caller may see, each with its steps.
pub(crate) fn with_steps(
    conn: &Conn,
    who: &Caller,
    mut rows: Vec<JobRow>,
) -> Result<Vec<(JobRow, Vec<StepRow>)>, Fault> {
    rows.retain(|row| who.may(row.project, Need::Read) == Access::Allowed);
    let ids: Vec<JobId> = rows.iter().map(|row| row.id).collect();
    let mut steps: HashMap<JobId, Vec<StepRow>> = HashMap::new();
    for step in stillpoint_store::job::steps_of(conn, &ids)? {
        steps.entry(step.job).or_default().push(step);
    }
    let with = |row: JobRow| {
        let steps = steps.remove(&row.id).unwrap_or_default();
        (row, steps)
    };
    Ok(rows.into_iter().map(with).collect())
}
