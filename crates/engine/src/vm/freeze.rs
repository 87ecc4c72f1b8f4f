//! Freezes a guest's file systems at its user's word, thaws them again, and restarts guests.
//!
//! A user's freeze is his: a snapshot that is taken meanwhile neither freezes nor thaws. But no guest stays frozen because
//! somebody does not come back: after a time ([`crate::Options::user_freeze`]) it is thawed by [`expire`].
//!
//! # Crash consistency
//! The row is written before the agent is asked to freeze, and goes after a thaw was confirmed. So whatever dies, a guest
//! that may be frozen has a row, and who finds a row that is due thaws, whatever happened before. A thaw that is not
//! confirmed becomes one of [`crate::reconcile::thaw`], which asks again and again.

use super::view::wrong_status;
use crate::{
    access,
    command::{Accepted, FreezeVm, Origin, RebootVm},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    lock::{self, Entity},
    ports::Machine,
};
use std::{sync::Arc, time::Duration};
use stillpoint_store::{Conn, Tx, freeze, vm};
use stillpoint_types::{Caller, FaultCode, Micros, Need, VmId, VmStatus, now_micros};

/// How long the loop sleeps when nothing is frozen: every freeze wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// Until a VM that does not answer is tried again.
const AGAIN: Duration = Duration::from_secs(3);

fn expect_up(found: &access::Vm, doing: &str) -> Result<(), Fault> {
    match found.row.status {
        VmStatus::Up => Ok(()),
        status => Err(wrong_status(&found.row.name, status, doing, "up")),
    }
}

fn machine_of(engine: &Inner, found: &access::Vm) -> Result<Arc<dyn Machine>, Fault> {
    let machine = engine.hypervisor.machine(found.row.id);
    machine.ok_or_else(|| engine.unreachable(&found.row.name))
}

async fn tell(engine: &Inner, found: &access::Vm, actor: &Actor, what: What, text: String) -> Result<(), Fault> {
    let event = Event::new(what, text)
        .by(actor)
        .vm(found.row.project, found.row.id, &found.row.name);
    engine.store.write(move |tx| event.write(tx)).await
}

async fn forget(engine: &Inner, id: VmId) -> Result<(), Fault> {
    let write = move |tx: &Tx| -> Result<(), Fault> {
        freeze::delete(tx, id)?;
        Ok(())
    };
    engine.store.write(write).await
}

pub(crate) async fn freeze(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: FreezeVm,
) -> Result<Accepted<VmId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.vm);
    let hold = Micros::try_from(engine.options.user_freeze.as_micros()).unwrap_or(Micros::MAX);
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let found = access::vm(tx, &who, id, Need::Operate)?;
        expect_up(&found, "freezing its file systems")?;
        lock::expect_free(tx, Entity::Vm(id), &found.row.name)?;
        let again = freeze::until(tx, id)?.is_some();
        freeze::put(tx, id, now_micros().saturating_add(hold))?;
        Ok((found, again))
    };
    let (found, again) = engine.store.write(write).await?;
    // A thaw of before that was not confirmed must not come in between.
    engine.unthawed.leave(id).await;
    engine.user_freezes.notify_one();
    let name = &found.row.name;
    let frozen = match machine_of(engine, &found) {
        Ok(machine) => machine.freeze(engine.options.freeze_limit).await.map_err(Fault::from),
        Err(fault) => Err(fault),
    };
    let why = match frozen {
        Ok(Some(count)) => {
            let what = match count {
                0 => "Guest file systems".to_owned(),
                count => format!("{count} guest file systems"),
            };
            let text = format!(
                "{what} of VM '{name}' {} by {}; they are thawed after {} s at the latest.",
                if again { "are kept frozen" } else { "were frozen" },
                actor.name,
                engine.options.user_freeze.as_secs()
            );
            tell(engine, &found, &actor, What::Frozen, text).await?;
            return Ok(Accepted { id, job: None });
        }
        Ok(None) => {
            forget(engine, id).await?;
            "no guest agent answers".to_owned()
        }
        Err(fault) => {
            thaw_after_failure(engine, &found).await?;
            fault.text
        }
    };
    let text = format!("Guest file systems of VM '{name}' were not frozen: {why}.");
    tell(engine, &found, &actor, What::UserFreezeFailed, text).await?;
    let text = format!(
        "Cannot freeze the file systems of VM {name}: {why}. Look after the guest agent, or go on without a freeze."
    );
    Err(Fault::new(FaultCode::GuestAgent, text))
}

/// A freeze that failed may have frozen all the same.
async fn thaw_after_failure(engine: &Inner, found: &access::Vm) -> Result<(), Fault> {
    let id = found.row.id;
    if let Some(machine) = engine.hypervisor.machine(id)
        && machine.thaw().await.is_ok()
    {
        return forget(engine, id).await;
    }
    // Due at once: the loop goes on with it.
    let write = move |tx: &Tx| -> Result<(), Fault> { Ok(freeze::put(tx, id, now_micros())?) };
    engine.store.write(write).await?;
    engine.user_freezes.notify_one();
    Ok(())
}

/// Until when its user keeps the guest frozen.
pub(crate) async fn until(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<Option<Micros>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        access::vm(conn, &who, id, Need::Read)?;
        Ok(freeze::until(conn, id)?)
    };
    engine.store.read(read).await
}

pub(crate) async fn thaw(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: FreezeVm,
) -> Result<Accepted<VmId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.vm);
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let found = access::vm(conn, &who, id, Need::Operate)?;
        expect_up(&found, "thawing its file systems")?;
        if freeze::until(conn, id)?.is_none() {
            // Else it might be the freeze of a snapshot that is being taken.
            lock::expect_free(conn, Entity::Vm(id), &found.row.name)?;
        }
        Ok(found)
    };
    let found = engine.store.read(read).await?;
    let name = &found.row.name;
    let thawed = machine_of(engine, &found)?.thaw().await.map_err(Fault::from);
    let why = match thawed {
        Ok(Some(count)) => {
            forget(engine, id).await?;
            let text = format!(
                "{count} guest file systems of VM '{name}' were thawed by {}.",
                actor.name
            );
            tell(engine, &found, &actor, What::Thawed, text).await?;
            return Ok(Accepted { id, job: None });
        }
        Ok(None) => "no guest agent answers".to_owned(),
        Err(fault) => fault.text,
    };
    let text = format!("Guest file systems of VM '{name}' were not thawed: {why}.");
    tell(engine, &found, &actor, What::UserThawFailed, text).await?;
    let text = format!("Cannot thaw the file systems of VM {name}: {why}. Try again, or restart the guest.");
    Err(Fault::new(FaultCode::GuestAgent, text))
}

/// Restarts the guest: through its agent if that listens, else, or by force, as by the reset button.
pub(crate) async fn reboot(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: RebootVm,
) -> Result<Accepted<VmId>, Fault> {
    let (actor, id) = (Actor::of(who, origin), command.vm);
    let found = super::stop::find(engine, who, id).await?;
    expect_up(&found, "restarting its guest")?;
    let name = &found.row.name;
    let read = move |conn: &Conn| -> Result<_, Fault> { Ok(freeze::until(conn, id)?.is_some()) };
    if !command.force && engine.store.read(read).await? {
        let text = format!("Cannot reboot VM {name}. Its file systems are frozen: thaw them first, or use force.");
        return Err(Fault::new(FaultCode::VmStatus, text));
    }
    machine_of(engine, &found)?.reboot(command.force).await?;
    if command.force {
        forget(engine, id).await?;
    }
    let text = format!("User {} initiated reboot for VM {name}.", actor.name);
    tell(engine, &found, &actor, What::VmRebooted, text).await?;
    Ok(Accepted { id, job: None })
}

// ------------------------------------------------------------------------------------------------ the loop

/// Thaws what its user has left frozen, at the time that its row names, after a restart too.
pub(crate) fn start(engine: &Arc<Inner>) {
    let engine = Arc::clone(engine);
    let tracker = engine.tracker.clone();
    tracker.spawn(async move {
        loop {
            let wait = match round(&engine).await {
                Ok(wait) => wait,
                Err(fault) => {
                    tracing::error!(
                        fault = fault.log_chain(),
                        "frozen guests could not be looked at; they are looked at again"
                    );
                    AGAIN
                }
            };
            tokio::select! {
                () = engine.stopping.cancelled() => return,
                () = engine.user_freezes.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    });
}

/// Returns until when nothing is due.
async fn round(engine: &Arc<Inner>) -> Result<Duration, Fault> {
    let rows = engine.store.read(freeze::all).await?;
    let mut wait = IDLE;
    let mut tries = tokio::task::JoinSet::new();
    for (id, until) in rows {
        let left = u64::try_from(until - now_micros()).unwrap_or(0);
        if left > 0 {
            wait = wait.min(Duration::from_micros(left));
            continue;
        }
        let engine = Arc::clone(engine);
        tries.spawn(async move { expire(&engine, id).await });
    }
    while let Some(done) = tries.join_next().await {
        if !done.map_err(Fault::internal)?? {
            wait = wait.min(AGAIN);
        }
    }
    Ok(wait)
}

/// Thaws one. `false`: its machine does not answer now.
async fn expire(engine: &Inner, id: VmId) -> Result<bool, Fault> {
    let Some(machine) = engine.hypervisor.machine(id) else {
        if engine.is_unreachable(id).await? {
            return Ok(false);
        }
        // A guest that does not run is not frozen.
        forget(engine, id).await?;
        return Ok(true);
    };
    let thawed = machine.thaw().await;
    let seconds = engine.options.user_freeze.as_secs();
    let is_confirmed = matches!(thawed, Ok(Some(_)));
    let write = move |tx: &Tx| -> Result<(), Fault> {
        // Its user may have come back meanwhile: then the row is not due any more, and a thaw will follow at its time.
        if freeze::until(tx, id)?.is_none_or(|until| until > now_micros()) {
            return Ok(());
        }
        freeze::delete(tx, id)?;
        let Some(row) = vm::get(tx, id)? else { return Ok(()) };
        let event = match thawed {
            Ok(Some(0)) => return Ok(()),
            Ok(Some(count)) => Event::new(
                What::Thawed,
                format!(
                    "{count} guest file systems of VM '{}' were thawed: nobody did so within {seconds} s after the freeze.",
                    row.name
                ),
            ),
            Ok(None) | Err(_) => Event::new(
                What::ThawFailed,
                format!(
                    "The guest agent of VM '{}' did not confirm the thaw; it is asked again when it answers.",
                    row.name
                ),
            ),
        };
        event.vm(row.project, id, &row.name).write(tx)
    };
    engine.store.write(write).await?;
    if !is_confirmed {
        engine.unthawed.add(id);
    }
    Ok(true)
}
