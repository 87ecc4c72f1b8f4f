//! Watches the machines: what ends, pauses or falls silent without our asking is recorded and told.
//!
//! Events only wake: what is written is what the monitor says when it is asked. Between events a slow round asks every
//! machine that is on record, so that one that was stopped (SIGSTOP) is told as not responding, and found again.

use super::recover::{self, CRASHED, Found, status_of};
use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    ports::{MachineEvent, RunState},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use stillpoint_store::{Conn, vm};
use stillpoint_types::{VmId, VmStatus, now_micros};
use tokio::sync::broadcast::error::RecvError;

/// How often machines that sent no event are asked.
const ROUND: Duration = Duration::from_secs(5);
/// How long a machine may take to answer before it is told as not responding.
const ASK_LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn start(engine: &Arc<Inner>) {
    let (watcher, mut events) = (Arc::clone(engine), engine.hypervisor.events());
    engine.tracker.spawn(async move {
        // Guests that asked to be shut down: their end is no surprise.
        let mut leaving = HashSet::new();
        let stopping = watcher.stopping.clone();
        loop {
            let event = tokio::select! {
                () = stopping.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(event) => {
                    if let Err(fault) = seen(&watcher, event, &mut leaving).await {
                        tracing::error!(fault = fault.log_chain(), "what a machine did could not be recorded");
                    }
                }
                // The rounds below find what was missed.
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "machine events were missed"),
                Err(RecvError::Closed) => return,
            }
        }
    });
    let engine = Arc::clone(engine);
    let tracker = engine.tracker.clone();
    tracker.spawn(async move {
        loop {
            tokio::select! {
                () = engine.stopping.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
            if let Err(fault) = round(&engine).await {
                tracing::error!(fault = fault.log_chain(), "the machines could not be looked at");
            }
        }
    });
}

async fn seen(engine: &Arc<Inner>, event: MachineEvent, leaving: &mut HashSet<VmId>) -> Result<(), Fault> {
    match event {
        MachineEvent::Exited(id) => {
            let expected = leaving.remove(&id);
            exited(engine, id, expected).await?;
            engine.tidy.notify_one();
            Ok(())
        }
        MachineEvent::Changed(id, RunState::Shutdown) => {
            leaving.insert(id);
            Ok(())
        }
        MachineEvent::Changed(id, _) => changed(engine, id).await,
        MachineEvent::IoError(id, text) => io_error(engine, id, text).await,
    }
}

/// The process ended: the VM is down. A job that is starting it, or a command that is ending it, writes that itself.
async fn exited(engine: &Inner, id: VmId, expected: bool) -> Result<(), Fault> {
    if engine.is_ending(id) {
        return Ok(());
    }
    let Some(ended) = engine.store.read(move |conn: &Conn| vm::get(conn, id)).await? else {
        return Ok(());
    };
    // The event may be old, from before a new start: a VM that runs must never be taken for one that is down.
    if engine.hypervisor.find(id).await?.is_some() {
        return Ok(());
    }
    engine
        .store
        .write(move |tx| -> Result<(), Fault> {
            let Some(row) = vm::get(tx, id)? else { return Ok(()) };
            if row.process.is_none() || row.process != ended.process || row.status == VmStatus::PoweringUp {
                return Ok(());
            }
            vm::set_stopped(tx, id, now_micros())?;
            let (what, text) = if expected || row.status == VmStatus::PoweringDown {
                (What::VmDown, format!("VM {} is down.", row.name))
            } else {
                (
                    What::VmDownError,
                    format!(
                        "VM {} is down with error: its QEMU process ended unexpectedly.",
                        row.name
                    ),
                )
            };
            Event::new(what, text).vm(row.project, id, &row.name).write(tx)
        })
        .await
}

/// The run state changed: ask for it, as the event may be old. While a job holds the VM, stops and resumes are its own.
async fn changed(engine: &Inner, id: VmId) -> Result<(), Fault> {
    let Some(machine) = engine.hypervisor.machine(id) else {
        return Ok(());
    };
    let Ok(state) = machine.run_state().await else {
        return Ok(());
    };
    engine
        .store
        .write(move |tx| -> Result<(), Fault> {
            let Some(row) = vm::get(tx, id)? else { return Ok(()) };
            let held = crate::lock::holder(tx, crate::lock::Entity::Vm(id))?.is_some();
            if held || row.process.is_none() {
                return Ok(());
            }
            let (status, detail) = status_of(Some(state), row.status);
            if status == row.status && detail == row.status_detail {
                return Ok(());
            }
            vm::set_status(tx, id, status, detail)?;
            if detail != CRASHED {
                return Ok(());
            }
            let text = format!(
                "VM {} stands still for good: its virtual CPU met an internal error (qemu.log in its run directory says which). Stop it and start it again. If that happens at each start, KVM does not work on this host: start the daemon with --accel tcg.",
                row.name
            );
            Event::new(What::VmCrashed, text).vm(row.project, id, &row.name).write(tx)
        })
        .await
}

async fn io_error(engine: &Inner, id: VmId, text: String) -> Result<(), Fault> {
    engine
        .store
        .write(move |tx| -> Result<(), Fault> {
            let Some(row) = vm::get(tx, id)? else { return Ok(()) };
            let text = format!(
                "VM {} was paused by a storage error: {text}. Make room in the storage domain, then start the VM to let it go on.",
                row.name
            );
            Event::new(What::VmPausedIo, text).vm(row.project, id, &row.name).write(tx)
        })
        .await
}

/// Asks every machine that is on record.
async fn round(engine: &Arc<Inner>) -> Result<(), Fault> {
    let rows = engine
        .store
        .read(|conn: &Conn| -> Result<_, Fault> { Ok(vm::with_process(conn)?) })
        .await?;
    for row in rows {
        if row.status == VmStatus::PoweringUp || engine.is_ending(row.id) {
            continue;
        }
        let found = match engine.hypervisor.machine(row.id) {
            Some(machine) => match tokio::time::timeout(ASK_LIMIT, machine.run_state()).await {
                Ok(Ok(_)) => Found::Connected,
                Ok(Err(_)) | Err(_) => Found::Silent,
            },
            None => recover::connect(engine, &row).await?,
        };
        let known = matches!(row.status, VmStatus::Up | VmStatus::Paused | VmStatus::PoweringDown);
        match found {
            // Nothing new: the events have told it.
            Found::Connected if known => changed(engine, row.id).await?,
            _ => recover::record(engine, &row, found).await?,
        }
    }
    Ok(())
}
