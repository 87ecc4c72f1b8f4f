//! Durable jobs: what is begun is ended, whatever dies in between.
//!
//! # Overview
//! A command that has effects outside of the database becomes a *job*: a row, its steps, and its locks, written in the
//! transaction that validated the command. The [`executor`] then runs the steps in order. `started` is committed before
//! a step's effect, `done` after it (together with the rows that the step changes), so a step runs **at least once**
//! and must be an *ensure*: look first, act if needed.
//!
//! ```text
//!              all steps done                      every begun step undone
//! running ----------------------> done   unwinding ------------------------> undone
//!    |  step failed before the pivot ^      |  ^
//!    +-----------------------------> +------+  |   the undo finds that the effect has happened after all:
//!    ^                                  |      |   forward again
//!    +----------------------------------+      |
//!    |  failed after the pivot: tried again until it can be done (event 20003 tells why it waits)
//!    +--> running
//! ```
//!
//! # Consistency
//! The transaction that ends a job also writes its last rows and releases its locks: nobody sees a thing `ok` that is
//! still locked, and no lock outlives its job.
//!
//! # Retries
//! A failure that says [`StepError::later`] (the monitor does not answer) leaves the job where it is and tries again.
//!
//! # Crash consistency
//! After a restart [`executor::Journal::resume`] drives every unfinished job on; [`Cx::recovered`] tells a step that its
//! effect may or may not have happened, so that it looks at QEMU and at the images, not at its memory.

pub(crate) mod executor;

use crate::{engine::Inner, fault::Fault, lock::Wanted};
use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    job::{JobRow, StepRow},
};
use stillpoint_types::{Caller, JobId, JobState, ProjectId, StepId, StepState, UserId, VmId, now_micros};

/// Who a job runs for.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) user: UserId,
    pub(crate) name: String,
    pub(crate) correlation_id: String,
}

impl Actor {
    pub(crate) fn of(who: &Caller, origin: &crate::command::Origin) -> Self {
        Self {
            user: who.user,
            name: who.name.clone(),
            correlation_id: origin.correlation_id.clone(),
        }
    }

    /// The daemon itself, for what it does without being asked.
    pub(crate) fn system() -> Self {
        Self {
            user: UserId(Default::default()),
            name: "system".into(),
            correlation_id: String::new(),
        }
    }

    pub(crate) fn of_job(job: &JobRow) -> Self {
        Self {
            user: job.owner,
            name: job.owner_name.clone(),
            correlation_id: job.correlation_id.clone(),
        }
    }
}

/// A job to be written.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) params: serde_json::Value,
    pub(crate) description: String,
    pub(crate) project: ProjectId,
    pub(crate) vm: Option<VmId>,
    pub(crate) locks: Vec<Wanted>,
    pub(crate) steps: Vec<NewStep>,
}

/// A step to be written.
#[derive(Debug)]
pub(crate) struct NewStep {
    pub(crate) name: &'static str,
    pub(crate) args: serde_json::Value,
    pub(crate) description: String,
    pub(crate) pivot: bool,
}

impl NewStep {
    pub(crate) fn new(name: &'static str, description: impl Into<String>) -> Self {
        Self {
            name,
            args: serde_json::Value::Null,
            description: description.into(),
            pivot: false,
        }
    }

    pub(crate) fn with(mut self, args: &impl Serialize) -> Result<Self, Fault> {
        self.args = to_json(args)?;
        Ok(self)
    }

    pub(crate) fn pivot(mut self) -> Self {
        self.pivot = true;
        self
    }
}

/// Writes a job, its steps and its locks; its first step counts as started, as its effect may follow at once.
///
/// # Errors
/// The conflict's fault when somebody holds one of the locks: the transaction must then be given up.
pub(crate) fn enqueue(tx: &Tx, actor: &Actor, new: NewJob) -> Result<JobId, Fault> {
    enqueue_as(tx, actor, JobId::fresh(), new)
}

/// The same with an id that something else bears too.
pub(crate) fn enqueue_as(tx: &Tx, actor: &Actor, id: JobId, new: NewJob) -> Result<JobId, Fault> {
    let now = now_micros();
    let row = JobRow {
        id,
        kind: new.kind.into(),
        version: new.version,
        params: new.params.to_string(),
        state: JobState::Running,
        pivot_reached: false,
        description: new.description,
        project: new.project,
        vm: new.vm,
        owner: actor.user,
        owner_name: actor.name.clone(),
        correlation_id: actor.correlation_id.clone(),
        failure: None,
        created_at: now,
        updated_at: now,
        ended_at: None,
    };
    let mut steps = Vec::with_capacity(new.steps.len());
    for (seq, step) in (0..).zip(new.steps) {
        let state = if seq == 0 {
            StepState::Started
        } else {
            StepState::Pending
        };
        steps.push(StepRow {
            job: id,
            seq,
            id: StepId::fresh(),
            name: step.name.into(),
            args: step.args.to_string(),
            description: step.description,
            pivot: step.pivot,
            state,
            output: None,
            progress: 0,
            started_at: (seq == 0).then_some(now),
            ended_at: None,
        });
    }
    stillpoint_store::job::insert(tx, &row, &steps)?;
    crate::lock::take(tx, id, &new.locks)?;
    Ok(id)
}

/// Rows that a step changes, in the transaction that records it as done.
pub(crate) type Apply = Box<dyn FnOnce(&Tx) -> Result<(), Fault> + Send>;

/// What a step leaves behind.
pub(crate) struct Done {
    pub(crate) output: serde_json::Value,
    pub(crate) apply: Option<Apply>,
}

impl Done {
    pub(crate) fn nothing() -> Self {
        Self {
            output: serde_json::Value::Null,
            apply: None,
        }
    }

    pub(crate) fn output(output: &impl Serialize) -> Result<Self, Fault> {
        Ok(Self {
            output: to_json(output)?,
            apply: None,
        })
    }

    pub(crate) fn and(mut self, apply: impl FnOnce(&Tx) -> Result<(), Fault> + Send + 'static) -> Self {
        self.apply = Some(Box::new(apply));
        self
    }
}

/// Why a step did not do it.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) fault: Fault,
    /// Neither done nor failed: what it needs does not answer now. Try again.
    pub(crate) later: bool,
}

impl StepError {
    pub(crate) fn later(fault: impl Into<Fault>) -> Self {
        Self {
            fault: fault.into(),
            later: true,
        }
    }
}

impl<E: Into<Fault>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self {
            fault: error.into(),
            later: false,
        }
    }
}

/// What an undo found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    /// The effect is taken back, or never happened.
    Undone,
    /// The effect has happened and cannot be taken back: run the step again, forward.
    Forward,
}

/// Where a step runs.
pub(crate) struct Cx {
    pub(crate) engine: Arc<Inner>,
    pub(crate) job: JobRow,
    pub(crate) step: StepRow,
    /// Outputs of the steps before, by place.
    pub(crate) outputs: Vec<(String, serde_json::Value)>,
    /// An earlier daemon, or an earlier try, started this step: its effect may have happened.
    pub(crate) recovered: bool,
}

impl Cx {
    /// The step's arguments.
    pub(crate) fn args<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        from_json(&self.step.args)
    }

    /// The output of the latest step of that name.
    pub(crate) fn output<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        let found = self.outputs.iter().rev().find(|(of, _)| of == name);
        found
            .map(|(_, value)| serde_json::from_value(value.clone()).map_err(Fault::internal))
            .transpose()
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::of_job(&self.job)
    }
}

/// A kind of job: its steps' effects and their undoing. One file per saga.
#[async_trait]
pub(crate) trait Saga: Send + Sync {
    /// Ensures a step's effect.
    async fn run(&self, cx: &Cx) -> Result<Done, StepError>;

    /// Takes a begun step's effect back. Already gone is success.
    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError>;

    /// Last rows of a job that is done; same transaction as the end of its locks.
    fn finished(&self, tx: &Tx, job: &JobRow, outputs: &[(String, serde_json::Value)]) -> Result<(), Fault>;

    /// Last rows of a job that is undone; same transaction as the end of its locks.
    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault>;
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<serde_json::Value, Fault> {
    serde_json::to_value(value).map_err(Fault::internal)
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(Fault::internal)
}
