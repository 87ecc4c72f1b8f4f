//! Starts a VM: from nothing, from a saved memory, or lets a paused one run.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `spawn` | the QEMU process, its memory loaded if one waits; its record | the process is ended |
//! | `run` | vCPUs run | - |
//!
//! # Crash consistency
//! A process that was started but not recorded is found by its pid file, whose process must name our run directory.

use super::{spec, view::wrong_status};
use crate::{
    access,
    command::{Accepted, Origin, StartVm},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    lock::{Entity, Wanted},
    ports::{MachineSpec, RunState},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use stillpoint_store::{Tx, job::JobRow, vm};
use stillpoint_types::{Caller, Need, VmId, VmStatus, now_micros};

pub(crate) const KIND: &str = "vm_start";
const VERSION: u32 = 1;
/// How long a process that failed to start may take to end before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    /// Status before, for the undo.
    before: VmStatus,
    /// Leave the vCPUs stopped.
    paused: bool,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: StartVm,
) -> Result<Accepted<VmId>, Fault> {
    let (inner, who, actor, id) = (Arc::clone(engine), who.clone(), Actor::of(who, origin), command.vm);
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let found = access::vm(tx, &who, id, Need::Operate)?;
        let (name, before) = (found.row.name.clone(), found.row.status);
        crate::lock::expect_free(tx, Entity::Vm(id), &name)?;
        let mut steps = vec![];
        match before {
            VmStatus::Down | VmStatus::Suspended => {
                spec::of(&inner, tx, id, &found.config)?;
                vm::set_status(tx, id, VmStatus::PoweringUp, "")?;
                steps.push(NewStep::new("spawn", "Starting the QEMU process"));
            }
            VmStatus::Paused => {}
            other => return Err(wrong_status(&name, other, "starting it", "down, suspended or paused")),
        }
        steps.push(NewStep::new("run", "Starting the virtual CPUs"));
        let mut locks = vec![Wanted::exclusive(Entity::Vm(id), &name)];
        for a in vm::attachments(tx, id)? {
            let alias = crate::disk::alias(tx, a.disk)?;
            locks.push(Wanted::exclusive(Entity::Disk(a.disk), &alias));
        }
        let job = NewJob {
            kind: KIND,
            version: VERSION,
            params: to_json(&Params {
                vm: id,
                name: name.clone(),
                before,
                paused: command.paused,
            })?,
            description: format!("Launching VM {name}"),
            project: found.row.project,
            vm: Some(id),
            locks,
            steps,
        };
        enqueue(tx, &actor, job)
    };
    let job = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

/// The saga.
pub(crate) struct Start {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Start {
        params: from_json(&row.params)?,
    }))
}

impl Start {
    async fn spec(&self, cx: &Cx) -> Result<MachineSpec, Fault> {
        let (engine, id) = (Arc::clone(&cx.engine), self.params.vm);
        cx.engine
            .store
            .read(move |conn| {
                let row = vm::get(conn, id)?.ok_or_else(|| Fault::not_found("vm", id))?;
                spec::of(&engine, conn, id, &from_json(&row.config)?)
            })
            .await
    }

    async fn spawn(&self, cx: &Cx) -> Result<Done, StepError> {
        let spec = self.spec(cx).await?;
        let disks = spec.disks.iter().map(|disk| disk.chain.disk).collect();
        crate::files::expect_recorded(&cx.engine, disks).await?;
        let record = cx.engine.hypervisor.start(&spec).await?;
        let (id, process) = (self.params.vm, to_json(&record)?.to_string());
        Ok(Done::nothing().and(move |tx| Ok(vm::set_started(tx, id, &process, now_micros())?)))
    }

    async fn run_cpus(&self, cx: &Cx) -> Result<Done, StepError> {
        let machine = cx.engine.hypervisor.machine(self.params.vm);
        let machine = machine.ok_or_else(|| {
            Fault::new(
                stillpoint_types::FaultCode::HostUnreachable,
                format!(
                    "The QEMU process of VM {} ended while it was being started.",
                    self.params.name
                ),
            )
        })?;
        if !self.params.paused && machine.run_state().await? != RunState::Running {
            machine.cont().await?;
        }
        let (id, paused) = (self.params.vm, self.params.paused);
        Ok(Done::nothing().and(move |tx| {
            // What was loaded goes on from here: the saved memory is of the past for this VM.
            vm::set_resume_memory(tx, id, None)?;
            Ok(vm::set_status(
                tx,
                id,
                if paused { VmStatus::Paused } else { VmStatus::Up },
                "",
            )?)
        }))
    }
}

#[async_trait]
impl Saga for Start {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        if cx.step.name == "spawn" {
            self.spawn(cx).await
        } else {
            self.run_cpus(cx).await
        }
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.name != "spawn" {
            return Ok(Undo::Undone);
        }
        if let Some(record) = cx
            .engine
            .hypervisor
            .find(self.params.vm)
            .await
            .map_err(StepError::later)?
        {
            cx.engine
                .hypervisor
                .adopt(self.params.vm, &record)
                .await
                .map_err(StepError::later)?;
        }
        if let Some(machine) = cx.engine.hypervisor.machine(self.params.vm) {
            machine.kill(END_LIMIT).await.map_err(StepError::later)?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let (what, verb) = match params.before {
            VmStatus::Down => (What::VmStarted, "was started"),
            _ => (What::VmResumed, "was resumed"),
        };
        let text = format!("VM {} {verb} by {}.", params.name, actor.name);
        Event::new(what, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let params = &self.params;
        if params.before != VmStatus::Paused {
            vm::set_stopped(tx, params.vm, now_micros())?;
        }
        let text = format!("Failed to run VM {}: {}", params.name, why.text);
        Event::new(What::VmStartFailed, text)
            .by(&Actor::of_job(job))
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }
}
