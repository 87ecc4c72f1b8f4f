//! Jobs and events that clients write: a backup product tells here what it does, for people to read.
//!
//! Nothing here works on such a job; it is a row that its client changes and ends. Both belong to the caller's project (an
//! event about a VM to the VM's), and are bounded: [`limits::CLIENT_JOBS_MAX`], [`limits::CLIENT_EVENTS_MAX`].
//!
//! # Crash consistency
//! Each command is one transaction.

use crate::{
    access,
    command::{AddEvent, AddJob, AddStep, EndJob, EndStep, Origin},
    engine::Inner,
    fault::Fault,
    journal::{Actor, from_json, to_json},
    limits,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    StoreError, Tx,
    event::{self, EventRow},
    job::{self, CLIENT, JobRow, StepRow},
};
use stillpoint_types::{Caller, FaultCode, JobId, JobState, Need, Severity, StepId, StepState, now_micros};

/// What a client says of its job.
#[derive(Debug, Serialize, Deserialize)]
struct JobNote {
    auto_cleared: bool,
}

/// What a client says of a step.
#[derive(Debug, Serialize, Deserialize)]
struct StepNote {
    kind: String,
}

/// Whether a job goes by itself after its end.
pub(crate) fn auto_cleared(row: &JobRow) -> bool {
    from_json::<JobNote>(&row.params).is_ok_and(|note| note.auto_cleared)
}

/// oVirt's kind of a step.
pub(crate) fn step_kind(row: &StepRow) -> String {
    let note = (row.name == CLIENT).then(|| from_json::<StepNote>(&row.args));
    match note {
        Some(Ok(note)) => note.kind,
        _ => "executing".to_owned(),
    }
}

pub(crate) async fn add_job(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: AddJob,
) -> Result<JobId, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<_, Fault> {
        access::may_create(&who)?;
        limits::text("description", &command.description, limits::TEXT_MAX)?;
        let there = job::count_clients(tx, who.home_project)?;
        limits::range("number of jobs of clients", there + 1, 0, limits::CLIENT_JOBS_MAX)?;
        let (id, now) = (JobId::fresh(), now_micros());
        let note = JobNote {
            auto_cleared: command.auto_cleared,
        };
        let row = JobRow {
            id,
            kind: CLIENT.into(),
            version: 1,
            params: to_json(&note)?.to_string(),
            state: JobState::Running,
            pivot_reached: false,
            description: command.description,
            project: who.home_project,
            vm: None,
            owner: actor.user,
            owner_name: actor.name,
            correlation_id: actor.correlation_id,
            failure: None,
            created_at: now,
            updated_at: now,
            ended_at: None,
        };
        job::insert(tx, &row, &[])?;
        Ok(id)
    };
    engine.store.write(write).await
}

/// A client's job that the caller may change.
fn job_of_client(tx: &Tx, who: &Caller, id: JobId) -> Result<JobRow, Fault> {
    let row = job::get(tx, id)?.ok_or_else(|| Fault::not_found("job", id))?;
    access::check(who, row.project, Need::Operate, "job", &id.to_string())?;
    if row.kind == CLIENT {
        return Ok(row);
    }
    Err(Fault::new(
        FaultCode::Unsupported,
        format!("The job {id} is the server's own: clients can change those that clients added."),
    ))
}

fn expect_open(row: &JobRow) -> Result<(), Fault> {
    if row.state == JobState::Running {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::Locked,
        format!("Cannot do this: the job {} has ended.", row.id),
    ))
}

pub(crate) async fn end_job(engine: &Arc<Inner>, who: &Caller, command: EndJob) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = job_of_client(tx, &who, command.job)?;
        expect_open(&row)?;
        end(tx, command.job, command.succeeded)
    };
    engine.store.write(write).await
}

fn end(tx: &Tx, id: JobId, succeeded: bool) -> Result<(), Fault> {
    let now = now_micros();
    let (job_to, step_to) = match succeeded {
        true => (JobState::Done, StepState::Done),
        false => (JobState::Undone, StepState::Failed),
    };
    for step in job::steps(tx, id)? {
        if step.state == StepState::Started {
            job::set_step(tx, id, step.seq, &[StepState::Started], step_to, None, now)?;
        }
    }
    Ok(job::set_state(tx, id, &[JobState::Running], job_to, None, now)?)
}

/// Removes a job of a client's that has ended.
pub(crate) async fn clear_job(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = job_of_client(tx, &who, id)?;
        if row.state == JobState::Running {
            return Err(Fault::new(
                FaultCode::Locked,
                format!("Cannot clear the job {id} while it runs: end it first."),
            ));
        }
        Ok(job::delete(tx, id)?)
    };
    engine.store.write(write).await
}

pub(crate) async fn add_step(engine: &Arc<Inner>, who: &Caller, command: AddStep) -> Result<StepId, Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = job_of_client(tx, &who, command.job)?;
        expect_open(&row)?;
        limits::text("description", &command.description, limits::TEXT_MAX)?;
        let seq = job::steps(tx, command.job)?.last().map_or(0, |last| last.seq + 1);
        limits::range("number of steps", u64::from(seq) + 1, 0, limits::CLIENT_STEPS_MAX)?;
        let id = StepId::fresh();
        let step = StepRow {
            job: command.job,
            seq,
            id,
            name: CLIENT.into(),
            args: to_json(&StepNote { kind: command.kind })?.to_string(),
            description: command.description,
            pivot: false,
            state: StepState::Started,
            output: None,
            progress: 0,
            started_at: Some(now_micros()),
            ended_at: None,
        };
        job::add_step(tx, &step)?;
        Ok(id)
    };
    engine.store.write(write).await
}

pub(crate) async fn end_step(engine: &Arc<Inner>, who: &Caller, command: EndStep) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let row = job_of_client(tx, &who, command.job)?;
        let step = job::steps(tx, command.job)?
            .into_iter()
            .find(|step| step.id == command.step);
        let step = step.ok_or_else(|| Fault::not_found("step", command.step))?;
        expect_open(&row)?;
        let to = if command.succeeded {
            StepState::Done
        } else {
            StepState::Failed
        };
        if step.state != StepState::Started {
            return Err(Fault::new(
                FaultCode::Locked,
                format!("Cannot do this: the step {} has ended.", step.id),
            ));
        }
        job::set_step(tx, command.job, step.seq, &[StepState::Started], to, None, now_micros())?;
        // As in oVirt: a job with a failed step has failed.
        if command.succeeded {
            Ok(())
        } else {
            end(tx, command.job, false)
        }
    };
    engine.store.write(write).await
}

pub(crate) async fn add_event(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: AddEvent,
) -> Result<i64, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<_, Fault> {
        limits::name("origin", &command.origin)?;
        limits::text("description", &command.text, limits::TEXT_MAX)?;
        if command.origin.eq_ignore_ascii_case("ovirt") {
            return Err(Fault::new(
                FaultCode::InvalidValue,
                "The origin oVirt is the server's own: name the client.",
            ));
        }
        let (project, vm) = match command.vm {
            None => {
                access::may_create(&who)?;
                (who.home_project, None)
            }
            Some(id) => {
                let vm = access::vm(tx, &who, id, Need::Operate).map_err(|fault| match fault.code {
                    FaultCode::NotFound => {
                        Fault::new(FaultCode::RelatedNotFound, format!("The VM {id} does not exist."))
                    }
                    _ => fault,
                })?;
                (vm.row.project, Some((id, vm.row.name)))
            }
        };
        let row = EventRow {
            index: 0,
            code: code(command.severity),
            severity: command.severity,
            text: command.text,
            at: now_micros(),
            correlation_id: (!actor.correlation_id.is_empty()).then_some(actor.correlation_id),
            project: Some(project),
            user: Some((actor.user, actor.name)),
            vm,
            disk: None,
            client: Some((command.origin, command.custom_id)),
        };
        let index = event::insert(tx, &row).map_err(|error| match error {
            StoreError::Duplicate(_) => Fault::new(
                FaultCode::Duplicate,
                format!("The custom id {} was used by that origin already.", command.custom_id),
            ),
            other => other.into(),
        })?;
        event::trim_clients(tx, project, limits::CLIENT_EVENTS_MAX)?;
        Ok(index)
    };
    engine.store.write(write).await
}

/// oVirt's codes of external events.
fn code(severity: Severity) -> u32 {
    match severity {
        Severity::Normal => 9801,
        Severity::Warning => 9802,
        Severity::Error => 9803,
        Severity::Alert => 9804,
    }
}

/// Removes an event that a client wrote. What the server wrote stays: it is the record of who did what.
pub(crate) async fn remove_event(engine: &Arc<Inner>, who: &Caller, index: i64) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let missing = || Fault::not_found("event", index);
        let row = event::get(tx, index)?.ok_or_else(missing)?;
        match row.project {
            Some(project) => access::check(&who, project, Need::Operate, "event", &index.to_string())?,
            None if who.is_admin => {}
            None => return Err(missing()),
        }
        if row.client.is_none() {
            return Err(Fault::new(
                FaultCode::Unsupported,
                format!(
                    "The event {index} is the server's own, and stays: clients can remove those that clients wrote."
                ),
            ));
        }
        Ok(event::delete(tx, index)?)
    };
    engine.store.write(write).await
}
