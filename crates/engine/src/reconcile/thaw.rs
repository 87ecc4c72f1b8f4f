//! Thaws guests whose agent did not confirm a thaw, again and again until it does or the machine is gone.
//!
//! A guest that stays frozen stands still for ever, so a failed thaw (event 10765) is never the end of the matter. Which
//! guests are meant is kept in memory, and found again after a restart by their last freeze or thaw event.
//!
//! Never while a snapshot of the same VM is in its window, which would thaw it in the middle: a snapshot takes its VM off
//! this list first, and waits for a try that is under way ([`Unthawed::leave`]).

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stillpoint_store::{Conn, StoreError, event, vm};
use stillpoint_types::VmId;

/// Between two tries.
const ROUND: Duration = Duration::from_secs(3);

/// The guests that may still be frozen, each with the turn of who tries to thaw it.
#[derive(Debug, Default)]
pub(crate) struct Unthawed(Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>);

impl Unthawed {
    fn map(&self) -> MutexGuard<'_, HashMap<VmId, Arc<tokio::sync::Mutex<()>>>> {
        // Every critical section is one call on the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thaw was not confirmed.
    pub(crate) fn add(&self, id: VmId) {
        self.map().entry(id).or_default();
    }

    /// Whether a VM's guest may still be frozen.
    pub(crate) fn holds(&self, id: VmId) -> bool {
        self.map().contains_key(&id)
    }

    /// Takes a VM off the list; returns when nobody is thawing it any more.
    pub(crate) async fn leave(&self, id: VmId) {
        let turn = self.map().remove(&id);
        if let Some(turn) = turn {
            drop(turn.lock().await);
        }
    }
}

/// Finds the guests of an earlier daemon.
pub(crate) async fn find(engine: &Inner) -> Result<(), Fault> {
    let codes = [What::ThawFailed.number(), What::Thawed.number()];
    let last = engine
        .store
        .read(move |conn: &Conn| -> Result<_, StoreError> { event::last_codes(conn, codes) })
        .await?;
    for (id, _) in last.iter().filter(|(_, code)| *code == What::ThawFailed.number()) {
        engine.unthawed.add(*id);
    }
    Ok(())
}

pub(crate) fn start(engine: &Arc<Inner>) {
    let engine = Arc::clone(engine);
    let tracker = engine.tracker.clone();
    tracker.spawn(async move {
        loop {
            tokio::select! {
                () = engine.stopping.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
            let listed: Vec<_> = engine.unthawed.map().iter().map(|(id, turn)| (*id, Arc::clone(turn))).collect();
            let mut tries = tokio::task::JoinSet::new();
            for (id, turn) in listed {
                let engine = Arc::clone(&engine);
                tries.spawn(async move {
                    if let Err(fault) = once(&engine, id, turn).await {
                        tracing::warn!(vm = %id, fault = fault.log_chain(), "a guest could not be thawed; it is tried again");
                    }
                });
            }
            while tries.join_next().await.is_some() {}
        }
    });
}

async fn once(engine: &Inner, id: VmId, turn: Arc<tokio::sync::Mutex<()>>) -> Result<(), Fault> {
    let _turn = turn.lock().await;
    let is_listed = engine
        .unthawed
        .map()
        .get(&id)
        .is_some_and(|now| Arc::ptr_eq(now, &turn));
    if !is_listed {
        return Ok(());
    }
    let Some(machine) = engine.hypervisor.machine(id) else {
        if !engine.is_unreachable(id).await? {
            engine.unthawed.map().remove(&id);
        }
        return Ok(());
    };
    // No agent, or one that does not answer: the next round asks again.
    let Ok(Some(_count)) = machine.thaw().await else {
        return Ok(());
    };
    engine
        .store
        .write(move |tx| -> Result<(), Fault> {
            let Some(row) = vm::get(tx, id)? else { return Ok(()) };
            let text = format!("Guest file systems of VM '{}' were thawed at last.", row.name);
            Event::new(What::Thawed, text).vm(row.project, id, &row.name).write(tx)
        })
        .await?;
    engine.unthawed.map().remove(&id);
    Ok(())
}
