//! Ends a VM's process, or asks its guest to.
//!
//! Stopping is allowed while a snapshot of the VM is being removed: the merge then goes on at rest. It is also allowed,
//! whatever job holds the VM, when its QEMU does not answer: that job waits for QEMU to answer or to be gone. Nothing is written
//! before the process is gone. While a command is ending a process ([`Ending`]), the exit is the command's to record; if
//! it does not come to that, the next round of [`crate::reconcile::supervise`] does.

use super::view::wrong_status;
use crate::{
    access,
    command::{Accepted, Origin, ShutdownVm, StopVm},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    lock::{self, Entity},
    snapshot,
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use stillpoint_store::{Conn, vm};
use stillpoint_types::{Caller, Need, VmId, VmStatus, now_micros};

/// How long QEMU may take to end by itself before it is killed.
const QUIT_LIMIT: Duration = Duration::from_secs(5);

/// Says, while it lives, that the end of a VM's process is wanted.
struct Ending<'a> {
    engine: &'a Inner,
    id: VmId,
}

impl<'a> Ending<'a> {
    fn begin(engine: &'a Inner, id: VmId) -> Self {
        engine.ending.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self { engine, id }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.engine
            .ending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

pub(super) async fn find(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<access::Vm, Fault> {
    let who = who.clone();
    engine
        .store
        .read(move |conn: &Conn| {
            let found = access::vm(conn, &who, id, Need::Operate)?;
            match lock::holding_saga(conn, Entity::Vm(id))?.as_deref() {
                None | Some(snapshot::delete::KIND | snapshot::delete::KIND_MERGE) => Ok(found),
                // The guest does not let go of a disk: its end, or its restart, does.
                Some(crate::disk::plug::KIND_UNPLUG) => Ok(found),
                // Its job waits for a QEMU that does not answer: ending it is the way out, and the job sees that.
                Some(_) if found.row.status == VmStatus::NotResponding => Ok(found),
                Some(_) => lock::expect_free(conn, Entity::Vm(id), &found.row.name).map(|()| found),
            }
        })
        .await
}

pub(crate) async fn stop(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: StopVm,
) -> Result<Accepted<VmId>, Fault> {
    let (found, actor, id) = (find(engine, who, command.vm).await?, Actor::of(who, origin), command.vm);
    let name = found.row.name.clone();
    match found.row.status {
        VmStatus::Down => {
            return Err(wrong_status(
                &name,
                VmStatus::Down,
                "stopping it",
                "running or suspended",
            ));
        }
        VmStatus::PoweringUp => return Err(wrong_status(&name, VmStatus::PoweringUp, "stopping it", "up")),
        _ => {}
    }
    let _ending = Ending::begin(engine, id);
    if let Some(machine) = engine.hypervisor.machine(id) {
        machine.kill(QUIT_LIMIT).await?;
    } else {
        engine.hypervisor.destroy(id).await?;
    }
    engine
        .store
        .write(move |tx| -> Result<_, Fault> {
            // Somebody may have recorded its end meanwhile, and another one may have started it anew.
            let still = vm::get(tx, id)?
                .is_some_and(|row| row.process == found.row.process && row.status != VmStatus::PoweringUp);
            if still {
                // A suspended VM gives its saved memory up.
                vm::set_resume_memory(tx, id, None)?;
                vm::set_stopped(tx, id, now_micros())?;
            }
            let text = format!("VM {name} powered off by {}.", actor.name);
            Event::new(What::VmStopped, text)
                .by(&actor)
                .vm(found.row.project, id, &name)
                .write(tx)
        })
        .await?;
    engine.tidy.notify_one();
    Ok(Accepted { id, job: None })
}

pub(crate) async fn shutdown(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: ShutdownVm,
) -> Result<Accepted<VmId>, Fault> {
    let (found, actor, id) = (find(engine, who, command.vm).await?, Actor::of(who, origin), command.vm);
    let name = found.row.name.clone();
    if !matches!(found.row.status, VmStatus::Up | VmStatus::PoweringDown) {
        return Err(wrong_status(&name, found.row.status, "shutting it down", "up"));
    }
    let machine = engine.hypervisor.machine(id).ok_or_else(|| engine.unreachable(&name))?;
    machine.shutdown().await?;
    engine
        .store
        .write(move |tx| -> Result<_, Fault> {
            let still = vm::get(tx, id)?.is_some_and(|row| row.status == VmStatus::Up);
            if still {
                vm::set_status(tx, id, VmStatus::PoweringDown, "")?;
            }
            let text = format!("VM shutdown initiated by {} on VM {name}.", actor.name);
            Event::new(What::VmShutdownAsked, text)
                .by(&actor)
                .vm(found.row.project, id, &name)
                .write(tx)
        })
        .await?;
    Ok(Accepted { id, job: None })
}
