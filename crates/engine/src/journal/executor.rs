//! Drives jobs: one task per job; exclusion is by the lock rows, never by this task.

use super::{Actor, Cx, Done, Saga, StepError, Undo, from_json};
use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stillpoint_store::{
    StoreError,
    job::{self, JobRow, StepRow},
};
use stillpoint_types::{JobId, JobState, Micros, StepState, crash_point, now_micros};
use tokio::sync::watch;

/// How long to wait before a step that could not be tried is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How often a step that failed after the pivot is tried before that is told, and tried more seldom.
const FORWARD_TRIES: u32 = 5;
/// How long to wait between tries from then on.
const RETRY_WAIT_LONG: Duration = Duration::from_secs(15);

/// What the executor keeps in memory: nothing that a restart needs.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Changes whenever a job ends.
    ended: watch::Sender<u64>,
    driven: Mutex<HashSet<JobId>>,
    /// What keeps jobs from going on at present, for who asks.
    tries: Mutex<HashMap<JobId, Tries>>,
}

/// The tries of a job's step that were in vain, since this daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tries {
    /// The step's place in the job.
    pub(crate) step: u32,
    /// How many.
    pub(crate) count: u32,
    /// Why the last one was, as clients may read it.
    pub(crate) last: String,
    /// When that was.
    pub(crate) at: Micros,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            ended: watch::Sender::new(0),
            driven: Mutex::new(HashSet::new()),
            tries: Mutex::default(),
        }
    }

    /// The tries in vain of the step at which a job is.
    pub(crate) fn tries(&self, id: JobId) -> Option<Tries> {
        self.tried().get(&id).cloned()
    }

    fn tried(&self) -> MutexGuard<'_, HashMap<JobId, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_vain(&self, id: JobId, step: u32, fault: &Fault) {
        let mut all = self.tried();
        let count = all
            .get(&id)
            .filter(|tries| tries.step == step)
            .map_or(0, |tries| tries.count);
        let tries = Tries {
            step,
            count: count.saturating_add(1),
            last: fault.text.clone(),
            at: now_micros(),
        };
        all.insert(id, tries);
    }

    /// Resolves each time some job has ended since the receiver last looked.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    fn claim(&self, id: JobId) -> bool {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    fn release(&self, id: JobId) {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.tried().remove(&id);
        self.ended.send_modify(|count| *count += 1);
    }
}

/// Starts to drive a job that has been written. Returns at once.
pub(crate) fn drive(engine: &Arc<Inner>, id: JobId, recovered: bool) {
    if !engine.journal.claim(id) {
        return;
    }
    let engine = Arc::clone(engine);
    let tracker = engine.tracker.clone();
    tracker.spawn(async move {
        // A panic in a step must not take the job's claim with it: it is told, and the next start goes on.
        let inner = Arc::clone(&engine);
        let run = tokio::spawn(async move { run(&inner, id, recovered).await });
        let ended = run.await;
        engine.journal.release(id);
        match ended {
            // Only after a good end: a job that cannot go on must not be begun again at once, and for ever.
            Ok(Ok(())) => follow(&engine).await,
            Ok(Err(fault)) => tracing::error!(job = %id, fault = fault.log_chain(), "a job cannot go on"),
            Err(panic) => tracing::error!(job = %id, %panic, "a job's step panicked"),
        }
        engine.tidy.notify_one();
    });
}

/// Drives what the last transaction of a job has enqueued: only the rows know of it.
///
/// What somebody else has just written may be among it. That is safe: his own call finds the job claimed, and no first
/// step makes a difference between begun and begun before.
async fn follow(engine: &Arc<Inner>) {
    if engine.stopping.is_cancelled() {
        return;
    }
    match engine.store.read(job::unfinished).await {
        Ok(jobs) => jobs.iter().for_each(|row| drive(engine, row.id, true)),
        Err(error) => {
            tracing::error!(%error, "jobs that another one left could not be read; the next end of one looks again");
        }
    }
}

/// Drives on every unfinished job, after a restart.
pub(crate) async fn resume(engine: &Arc<Inner>) -> Result<Vec<JobRow>, Fault> {
    let jobs = engine
        .store
        .write(|tx| -> Result<_, StoreError> {
            // Left by a daemon that did not know the job's kind, or by a panic in its step.
            for stuck in job::stuck(tx)? {
                let to = if stuck.pivot_reached {
                    JobState::Running
                } else {
                    JobState::Unwinding
                };
                job::set_state(tx, stuck.id, &[JobState::Stuck], to, None, now_micros())?;
            }
            job::unfinished(tx)
        })
        .await?;
    for found in &jobs {
        drive(engine, found.id, true);
    }
    Ok(jobs)
}

async fn run(engine: &Arc<Inner>, id: JobId, mut recovered: bool) -> Result<(), Fault> {
    let mut failures = 0;
    loop {
        if engine.stopping.is_cancelled() {
            return Ok(());
        }
        let (row, steps) = load(engine, id).await?;
        let saga = crate::saga(&row)?;
        match row.state {
            JobState::Queued | JobState::Running => match next(&row, &steps, recovered, engine) {
                None => return finish(engine, saga, row, &steps).await,
                Some(cx) => match forward(engine, &saga, cx, &steps, &mut failures).await? {
                    Step::Last => return Ok(()),
                    step => recovered = matches!(step, Step::Again),
                },
            },
            JobState::Unwinding => {
                if !backward(engine, &saga, &row, &steps).await? {
                    return Ok(());
                }
                recovered = true;
            }
            JobState::Done | JobState::Undone | JobState::Stuck => return Ok(()),
        }
    }
}

async fn load(engine: &Inner, id: JobId) -> Result<(JobRow, Vec<StepRow>), Fault> {
    let read = move |conn: &stillpoint_store::Conn| -> Result<_, StoreError> {
        Ok(job::get(conn, id)?.zip(Some(job::steps(conn, id)?)))
    };
    engine
        .store
        .read(read)
        .await?
        .ok_or_else(|| Fault::internal(format!("job {id} is gone")))
}

fn outputs(steps: &[StepRow]) -> Vec<(String, serde_json::Value)> {
    let of = |step: &StepRow| {
        let value = step.output.as_deref().and_then(|text| serde_json::from_str(text).ok());
        (step.name.clone(), value.unwrap_or(serde_json::Value::Null))
    };
    steps
        .iter()
        .filter(|step| step.state == StepState::Done)
        .map(of)
        .collect()
}

fn next(row: &JobRow, steps: &[StepRow], recovered: bool, engine: &Arc<Inner>) -> Option<Cx> {
    let step = steps.iter().find(|step| step.state != StepState::Done)?;
    Some(Cx {
        engine: Arc::clone(engine),
        job: row.clone(),
        step: step.clone(),
        outputs: outputs(steps),
        recovered: recovered && step.state == StepState::Started,
    })
}

/// What became of a step.
enum Step {
    /// Done; another one follows.
    Done,
    /// Done, and the job with it.
    Last,
    /// It was not possible yet, or failed.
    Again,
}

/// Runs one step.
async fn forward(
    engine: &Arc<Inner>,
    saga: &Arc<dyn Saga>,
    cx: Cx,
    steps: &[StepRow],
    failures: &mut u32,
) -> Result<Step, Fault> {
    let (id, seq) = (cx.job.id, cx.step.seq);
    if cx.step.state != StepState::Started {
        let from = [StepState::Pending, StepState::Failed, StepState::Undone];
        let start = move |tx: &stillpoint_store::Tx| -> Result<(), StoreError> {
            job::set_step(tx, id, seq, &from, StepState::Started, None, now_micros())
        };
        engine.store.write(start).await?;
    }
    crash_point(&[&cx.job.kind, &cx.step.name, "started"]);
    match saga.run(&cx).await {
        Ok(done) => {
            crash_point(&[&cx.job.kind, &cx.step.name, "effect"]);
            let is_last = steps.last().is_some_and(|last| last.seq == seq);
            record(engine, saga, &cx, done, is_last).await?;
            crash_point(&[&cx.job.kind, &cx.step.name, "done"]);
            *failures = 0;
            engine.journal.tried().remove(&id);
            Ok(if is_last { Step::Last } else { Step::Done })
        }
        Err(StepError { fault, later: true }) => {
            tracing::info!(job = %id, step = cx.step.name, fault = fault.log_chain(), "a step has to wait");
            engine.journal.in_vain(id, seq, &fault);
            pause(engine).await;
            Ok(Step::Again)
        }
        Err(StepError { fault, later: false }) => {
            tracing::info!(job = %id, step = cx.step.name, fault = fault.log_chain(), "a step failed");
            *failures += 1;
            engine.journal.in_vain(id, seq, &fault);
            failed(engine, &cx, fault, *failures).await?;
            Ok(Step::Again)
        }
    }
}

/// One transaction: the step is done, its rows are written, and either the next step has begun or the job has ended.
async fn record(engine: &Inner, saga: &Arc<dyn Saga>, cx: &Cx, done: Done, is_last: bool) -> Result<(), Fault> {
    let (row, name, seq, saga) = (cx.job.clone(), cx.step.name.clone(), cx.step.seq, Arc::clone(saga));
    let mut outputs = cx.outputs.clone();
    let write = move |tx: &stillpoint_store::Tx| -> Result<(), Fault> {
        let (now, text) = (now_micros(), done.output.to_string());
        job::set_step(
            tx,
            row.id,
            seq,
            &[StepState::Started],
            StepState::Done,
            Some(&text),
            now,
        )?;
        if let Some(apply) = done.apply {
            apply(tx)?;
        }
        if is_last {
            outputs.push((name, done.output));
            end(tx, saga.as_ref(), &row, &outputs)
        } else {
            let next = seq + 1;
            Ok(job::set_step(
                tx,
                row.id,
                next,
                &[StepState::Pending],
                StepState::Started,
                None,
                now,
            )?)
        }
    };
    engine.store.write(write).await
}

fn end(
    tx: &stillpoint_store::Tx,
    saga: &dyn Saga,
    row: &JobRow,
    outputs: &[(String, serde_json::Value)],
) -> Result<(), Fault> {
    saga.finished(tx, row, outputs)?;
    job::set_state(
        tx,
        row.id,
        &[JobState::Running, JobState::Queued],
        JobState::Done,
        None,
        now_micros(),
    )?;
    Ok(job::unlock(tx, row.id)?)
}

async fn finish(engine: &Inner, saga: Arc<dyn Saga>, row: JobRow, steps: &[StepRow]) -> Result<(), Fault> {
    let outputs = outputs(steps);
    engine
        .store
        .write(move |tx| -> Result<(), Fault> { end(tx, saga.as_ref(), &row, &outputs) })
        .await
}

/// Before the pivot the job unwinds. After it there is no way but forward: the step is tried again for as long as it
/// takes, seldom after a while, and the reason is told once.
async fn failed(engine: &Inner, cx: &Cx, fault: Fault, failures: u32) -> Result<(), Fault> {
    let (id, seq, row) = (cx.job.id, cx.step.seq, cx.job.clone());
    if row.pivot_reached {
        if failures == FORWARD_TRIES {
            engine.store.write(move |tx| tell_waiting(tx, &row, &fault)).await?;
        }
        pause_for(
            engine,
            if failures < FORWARD_TRIES {
                RETRY_WAIT
            } else {
                RETRY_WAIT_LONG
            },
        )
        .await;
        return Ok(());
    }
    let write = move |tx: &stillpoint_store::Tx| -> Result<(), Fault> {
        let (now, text) = (now_micros(), super::to_json(&fault)?.to_string());
        // One write: the step's failure and the job's turn.
        job::set_step(tx, id, seq, &[StepState::Started], StepState::Failed, None, now)?;
        let from = [JobState::Running, JobState::Queued];
        Ok(job::set_state(tx, id, &from, JobState::Unwinding, Some(&text), now)?)
    };
    engine.store.write(write).await
}

fn tell_waiting(tx: &stillpoint_store::Tx, row: &JobRow, fault: &Fault) -> Result<(), Fault> {
    let text = format!(
        "Job '{}' cannot go on and is tried again until it can: {}",
        row.description, fault.text
    );
    let event = Event::new(What::JobWaits, text).by(&Actor::of_job(row));
    match row
        .vm
        .map(|id| stillpoint_store::vm::get(tx, id))
        .transpose()?
        .flatten()
    {
        Some(vm) => event.vm(vm.project, vm.id, &vm.name).write(tx),
        None => event.write(tx),
    }
}

/// Takes back one step, or ends the unwinding. Returns whether there is more to do.
async fn backward(engine: &Arc<Inner>, saga: &Arc<dyn Saga>, row: &JobRow, steps: &[StepRow]) -> Result<bool, Fault> {
    let begun = |step: &&StepRow| matches!(step.state, StepState::Started | StepState::Failed | StepState::Done);
    let why: Fault = row
        .failure
        .as_deref()
        .map_or_else(|| Ok(Fault::internal("no reason was recorded")), from_json)?;
    let Some(step) = steps.iter().rev().find(begun) else {
        let (saga, row) = (Arc::clone(saga), row.clone());
        let write = move |tx: &stillpoint_store::Tx| -> Result<(), Fault> {
            saga.undone(tx, &row, &why)?;
            job::set_state(tx, row.id, &[JobState::Unwinding], JobState::Undone, None, now_micros())?;
            Ok(job::unlock(tx, row.id)?)
        };
        engine.store.write(write).await?;
        return Ok(false);
    };
    let cx = Cx {
        engine: Arc::clone(engine),
        job: row.clone(),
        step: step.clone(),
        outputs: outputs(steps),
        recovered: true,
    };
    let (id, seq) = (row.id, step.seq);
    crash_point(&[&row.kind, &step.name, "undo"]);
    match saga.undo(&cx).await {
        Ok(undo) => {
            let from = [StepState::Started, StepState::Failed, StepState::Done];
            let goes_on = matches!(undo, Undo::Forward);
            let write = move |tx: &stillpoint_store::Tx| -> Result<(), StoreError> {
                match undo {
                    Undo::Undone => job::set_step(tx, id, seq, &from, StepState::Undone, None, now_micros()),
                    Undo::Forward => {
                        job::set_step(tx, id, seq, &from, StepState::Started, None, now_micros())?;
                        job::set_state(tx, id, &[JobState::Unwinding], JobState::Running, None, now_micros())
                    }
                }
            };
            engine.store.write(write).await?;
            if goes_on {
                // What failed before may fail again, and must not do so without a break.
                pause(engine).await;
            }
        }
        Err(StepError { fault, later }) => {
            tracing::warn!(job = %id, step = step.name, fault = fault.log_chain(), later, "a step cannot be undone yet");
            engine.journal.in_vain(id, seq, &fault);
            pause(engine).await;
        }
    }
    Ok(true)
}

/// Waits a little, or until the daemon stops.
async fn pause(engine: &Inner) {
    pause_for(engine, RETRY_WAIT).await;
}

async fn pause_for(engine: &Inner, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = engine.stopping.cancelled() => {}
    }
}
