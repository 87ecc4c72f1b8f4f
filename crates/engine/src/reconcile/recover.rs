//! What happens between the start of a daemon and its first request.
//!
//! 1. Every VM that had, or may have, a process is looked for and connected again (in parallel, each with a deadline).
//! 2. **Before anything else is done to it**, a guest that an unfinished snapshot may have left frozen is thawed.
//! 3. The observed block graph is compared with the recorded chains. Where they differ and no unfinished job explains it,
//!    an alert says so and the disk is marked illegal: nothing is done to a chain that we do not understand.
//! 4. Unfinished jobs are driven on. Storage daemons of jobs that ended are ended.
//!
//! What was found and done is told in events. A process that does not answer stays `not_responding`; the supervisor goes
//! on trying.

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{executor, from_json, to_json},
    ports::{BlockGraph, DriverErrorKind, ProcessRecord, RunState},
    snapshot::create::may_have_frozen,
    view::explain::MachineFound,
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use stillpoint_store::{
    Conn, disk, image, job,
    repair::{self, StrangeLayerRow},
    vm::{self, VmRow},
};
use stillpoint_types::{DiskId, ImageId, VmId, VmStatus, now_micros};
use tokio::task::JoinSet;

/// How long the start waits for machines to answer: most of the second in which a daemon is to be ready.
const READY_LIMIT: Duration = Duration::from_millis(800);

/// What was found of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Connected,
    Silent,
    Gone,
}

pub(crate) async fn run(engine: &Arc<Inner>) -> Result<(), Fault> {
    let (rows, frozen, busy) = engine
        .store
        .read(|conn: &Conn| -> Result<_, Fault> {
            let (mut frozen, mut busy) = (HashSet::new(), HashSet::new());
            for row in job::unfinished(conn)?.iter().chain(&job::stuck(conn)?) {
                let steps = job::steps(conn, row.id)?;
                // A backup that only waits for its client changes nothing of the graph.
                if !crate::backup::is_waiting(row, &steps) {
                    busy.extend(row.vm);
                }
                frozen.extend(may_have_frozen(row, &steps));
            }
            Ok((vm::with_process(conn)?, frozen, busy))
        })
        .await?;
    let mut tasks = JoinSet::new();
    for row in rows {
        let (engine, thaw, is_busy) = (Arc::clone(engine), frozen.contains(&row.id), busy.contains(&row.id));
        tasks.spawn(async move {
            let name = row.name.clone();
            if let Err(fault) = one(&engine, row, thaw, is_busy).await {
                tracing::error!(vm = name, fault = fault.log_chain(), "a VM could not be looked at");
            }
        });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(READY_LIMIT, all).await.is_err() {
        // One machine that does not answer must not keep the others waiting: its look goes on, and its jobs wait for it.
        tracing::warn!(
            machines = tasks.len(),
            "machines do not answer yet; the daemon serves without waiting for them"
        );
        tasks.detach_all();
    }
    let jobs = executor::resume(engine).await?;
    let live: Vec<_> = jobs.iter().map(|row| row.id).collect();
    for row in &jobs {
        let (text, row) = (
            format!("After a restart, job '{}' goes on.", row.description),
            row.clone(),
        );
        engine
            .store
            .write(move |tx| -> Result<(), Fault> {
                let event = Event::new(What::Recovered, text).by(&crate::journal::Actor::of_job(&row));
                match row.vm.map(|id| vm::get(tx, id)).transpose()?.flatten() {
                    Some(vm) => event.vm(vm.project, vm.id, &vm.name).write(tx),
                    None => event.write(tx),
                }
            })
            .await?;
    }
    if let Err(error) = engine.hypervisor.sweep_at_rest(&live).await {
        tracing::warn!(error = error.chain(), "leftover storage daemons could not be ended");
    }
    Ok(())
}

async fn one(engine: &Arc<Inner>, row: VmRow, thaw: bool, is_busy: bool) -> Result<(), Fault> {
    let found = connect(engine, &row).await?;
    engine.start.note(
        row.project,
        MachineFound {
            vm: row.id,
            name: row.name.clone(),
            found: match found {
                Found::Connected => "connected",
                Found::Silent => "silent",
                Found::Gone => "gone",
            },
        },
    );
    if found == Found::Connected {
        if thaw && let Some(machine) = engine.hypervisor.machine(row.id) {
            match machine.thaw().await {
                Ok(count) => tracing::info!(
                    vm = row.name,
                    ?count,
                    "thawed what an unfinished snapshot may have frozen"
                ),
                Err(error) => tracing::warn!(
                    vm = row.name,
                    error = error.chain(),
                    "the thaw is tried again by its job"
                ),
            }
        }
        if !is_busy {
            compare(engine, &row).await?;
        }
    }
    record(engine, &row, found).await
}

/// Looks for a VM's process, recorded or not, and connects to it.
pub(crate) async fn connect(engine: &Inner, row: &VmRow) -> Result<Found, Fault> {
    let recorded = row.process.as_deref().map(from_json::<ProcessRecord>).transpose()?;
    let record = match recorded {
        Some(record) => Some(record),
        None => engine.hypervisor.find(row.id).await?,
    };
    let Some(record) = record else { return Ok(Found::Gone) };
    match engine.hypervisor.adopt(row.id, &record).await {
        Ok(true) => {
            if row.process.is_none() {
                let (id, text) = (row.id, to_json(&record)?.to_string());
                engine
                    .store
                    .write(move |tx| -> Result<_, Fault> { Ok(vm::set_started(tx, id, &text, now_micros())?) })
                    .await?;
            }
            Ok(Found::Connected)
        }
        Ok(false) => Ok(Found::Gone),
        Err(error) if matches!(error.kind, DriverErrorKind::Timeout | DriverErrorKind::Disconnected) => {
            tracing::warn!(vm = row.name, error = error.chain(), "a machine does not answer");
            Ok(Found::Silent)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes what was found into the VM's status, unless a job that is starting it or a command that is stopping it will.
///
/// Looking took time. If the VM is not what it was when `row` was read, nothing is written: the next round looks anew.
pub(crate) async fn record(engine: &Inner, row: &VmRow, found: Found) -> Result<(), Fault> {
    if found == Found::Gone && engine.is_ending(row.id) {
        return Ok(());
    }
    let state = match (found, engine.hypervisor.machine(row.id)) {
        (Found::Connected, Some(machine)) => machine.run_state().await.ok(),
        _ => None,
    };
    let (id, name, project, before) = (row.id, row.name.clone(), row.project, row.status);
    let process = row.process.clone();
    engine
        .store
        .write(move |tx| -> Result<(), Fault> {
            let Some(now) = vm::get(tx, id)? else { return Ok(()) };
            // A process that was not on record has just been put there, by the looking itself.
            if process.is_some() && (now.process != process || now.status != before) {
                return Ok(());
            }
            let event = |what, text: String| Event::new(what, text).vm(project, id, &name).write(tx);
            match found {
                Found::Gone if before == VmStatus::PoweringUp => Ok(()),
                Found::Gone => {
                    vm::set_stopped(tx, id, now_micros())?;
                    event(
                        What::VmDownError,
                        format!("VM {name} is down: its QEMU process ended while nobody was watching."),
                    )
                }
                Found::Silent if before == VmStatus::NotResponding => Ok(()),
                Found::Silent => {
                    vm::set_status(tx, id, VmStatus::NotResponding, "")?;
                    event(
                        What::VmNotResponding,
                        format!("VM {name} is not responding: its QEMU process lives but does not answer."),
                    )
                }
                Found::Connected if before == VmStatus::PoweringUp => Ok(()),
                Found::Connected => {
                    let (status, detail) = status_of(state, before);
                    vm::set_status(tx, id, status, detail)?;
                    if before == VmStatus::NotResponding {
                        event(What::VmResponding, format!("VM {name} answers again."))?;
                    }
                    Ok(())
                }
            }
        })
        .await
}

/// The detail of a VM whose vCPUs cannot go on.
pub(crate) const CRASHED: &str = "internal-error";

/// A run state in the VM's words.
pub(crate) fn status_of(state: Option<RunState>, before: VmStatus) -> (VmStatus, &'static str) {
    match state {
        Some(RunState::Running) if before == VmStatus::PoweringDown => (VmStatus::PoweringDown, ""),
        Some(RunState::Running) => (VmStatus::Up, ""),
        Some(RunState::Paused | RunState::Incoming) => (VmStatus::Paused, ""),
        Some(RunState::IoError) => (VmStatus::Paused, "io-error"),
        Some(RunState::Crashed) => (VmStatus::Paused, CRASHED),
        Some(RunState::Shutdown) => (VmStatus::PoweringDown, ""),
        Some(RunState::Other) | None => (before, ""),
    }
}

/// Recorded chain against observed graph.
async fn compare(engine: &Inner, row: &VmRow) -> Result<(), Fault> {
    let Some(machine) = engine.hypervisor.machine(row.id) else {
        return Ok(());
    };
    let graph = machine.graph().await?;
    let id = row.id;
    let recorded = engine.store.read(move |conn| chains(conn, id)).await?;
    for (disk_id, alias, chain) in recorded {
        if graph.chain(disk_id) == Some(chain.as_slice()) && graph.strange(disk_id).next().is_none() {
            continue;
        }
        let why = mismatch(&graph, disk_id, &chain);
        let (name, project) = (row.name.clone(), row.project);
        let strange = crate::repair::top_of_somebody_else(&graph, disk_id, &chain);
        engine
            .store
            .write(move |tx| -> Result<(), Fault> {
                disk::set_illegal(tx, disk_id, Some(&why))?;
                if let Some((image, file)) = strange {
                    let seen_at = now_micros();
                    let layer = StrangeLayerRow {
                        disk: disk_id,
                        image,
                        file,
                        seen_at,
                    };
                    repair::put_strange(tx, &layer)?;
                }
                let text = format!(
                    "Disk {alias} of VM {name}: {why}. Nothing is done to it until an operator has looked: stillpoint \
                     repair --plan."
                );
                Event::new(What::GraphMismatch, text)
                    .vm(project, id, &name)
                    .disk(project, disk_id, &alias)
                    .write(tx)
            })
            .await?;
    }
    Ok(())
}

/// How the reason of a disk begins that is illegal because QEMU's graph was not what is recorded.
pub(crate) const MISMATCH: &str = "QEMU has the layers";

/// Says how the two differ.
fn mismatch(graph: &BlockGraph, disk: DiskId, chain: &[ImageId]) -> String {
    let ours = graph.chain(disk).unwrap_or_default().iter().map(ToString::to_string);
    let mut observed: Vec<String> = ours.collect();
    for layer in graph.strange(disk) {
        let file = layer.file.as_deref().map(|file| file.display().to_string());
        let called = file.unwrap_or_else(|| layer.node.clone());
        observed.insert(layer.depth.min(observed.len()), called);
    }
    format!(
        "{MISMATCH} [{}], recorded are [{}]",
        observed.join(", "),
        chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )
}

fn chains(conn: &Conn, id: VmId) -> Result<Vec<(DiskId, String, Vec<ImageId>)>, Fault> {
    let mut all = Vec::new();
    for a in vm::attachments(conn, id)?.into_iter().filter(|a| a.active) {
        let row = disk::get(conn, a.disk)?.ok_or_else(|| Fault::internal("an attached disk is gone"))?;
        let chain = image::chain(conn, row.image)?
            .into_iter()
            .map(|image| image.id)
            .collect();
        all.push((a.disk, row.alias, chain));
    }
    Ok(all)
}
