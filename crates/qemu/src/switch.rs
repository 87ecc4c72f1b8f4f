//! The switch of a snapshot's disks to their overlays: freeze, ONE transaction, thaw, with nothing else in between.
//!
//! Everything that can be refused is refused before the window. In it are three messages, the transaction's text made
//! before. The window runs in a task of its own: a caller that goes away cannot leave the guest frozen.
//!
//! If QEMU does not answer the transaction in time the guest is thawed all the same, and the answer is waited for
//! afterwards; if none comes, whether the disks were switched is unknown (`Timeout`): read the graph.

use crate::{
    agent::{Agent, AgentError},
    bitmaps::clone_to_overlay,
    endpoint::Blocks,
    failure::qmp_failed,
    graph::Observed,
    images::look,
    names::format_node,
    process::Process,
    qmp::{Qmp, QmpError},
};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, Frozen, Switch, SwitchDisk, SwitchReport};
use stillpoint_types::{ImageFormat, crash_point};
use tokio::time::Instant;

pub(crate) const OP: &str = "switch disks";
/// Longest time that the guest stays frozen for a QEMU that does not answer.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(5);
/// Until when thawing is tried again.
const THAW_LIMIT: Duration = Duration::from_secs(10);
/// Longest time that one thaw may take.
const THAW_TRY_LIMIT: Duration = Duration::from_secs(4);
/// Between two tries on an agent that refuses at once.
const THAW_PAUSE: Duration = Duration::from_millis(100);

/// The guest's side of a window.
#[derive(Debug)]
pub(crate) enum Freeze {
    /// None wanted, none possible, or it failed before it began.
    Not(Frozen),
    /// Through an agent.
    With {
        /// In step.
        agent: Arc<Agent>,
        /// Whose guest it is in.
        process: Arc<Process>,
        /// Within this time.
        limit: Duration,
    },
}

/// Checks everything and gives the transaction's arguments; `None` when all disks are on their overlays already.
pub(crate) async fn plan(observed: impl Future<Output = Driven<Observed>>, switch: &Switch) -> Driven<Option<Value>> {
    let (observed, overlays) = tokio::join!(observed, overlay_sizes(switch));
    let (observed, overlays) = (observed?, overlays?);
    let mut actions = Vec::new();
    let mut done = 0;
    for (disk, overlay_bytes) in switch.disks.iter().zip(overlays) {
        if observed.active(disk.disk) == Some(disk.overlay.id) {
            done += 1;
        } else {
            actions.extend(actions_of(&observed, disk, overlay_bytes)?);
        }
    }
    match done {
        0 if actions.is_empty() => Ok(None),
        0 => Ok(Some(json!({"actions": actions}))),
        all if all == switch.disks.len() => Ok(None),
        some => {
            let text = format!(
                "{some} of {} disks are switched: not one point in time",
                switch.disks.len()
            );
            Err(DriverError::new(DriverErrorKind::Protocol, OP, text))
        }
    }
}

/// Virtual sizes of the overlays in bytes, by their headers: QEMU would have to describe all its nodes to tell them.
async fn overlay_sizes(switch: &Switch) -> Driven<Vec<u64>> {
    let paths: Vec<PathBuf> = switch.disks.iter().map(|disk| disk.overlay.path.clone()).collect();
    let look = move || {
        let size = |path: &PathBuf| Ok(look::inspect(path, Some(ImageFormat::Cow))?.size_bytes);
        paths.iter().map(size).collect()
    };
    joined(tokio::task::spawn_blocking(look).await)?
}

fn actions_of(observed: &Observed, disk: &SwitchDisk, overlay_bytes: u64) -> Driven<Vec<Value>> {
    let id = disk.disk;
    let root = observed
        .root(id)
        .ok_or_else(|| DriverError::new(DriverErrorKind::NotFound, OP, format!("disk {id} is not attached")))?;
    if observed.active(id) != Some(disk.base.id) {
        let text = format!("disk {id}: its active layer is not {} but node {root}", disk.base.id);
        return Err(DriverError::new(DriverErrorKind::Protocol, OP, text));
    }
    let base = observed.needed(OP, disk.base.id)?;
    for (image, size) in [(disk.base.id, base.size_bytes()), (disk.overlay.id, overlay_bytes)] {
        // QEMU does not check this: a smaller overlay would be accepted and cut the disk.
        if size != disk.size_bytes {
            let text = format!(
                "image {image} has {size} bytes, not the {} that were expected",
                disk.size_bytes
            );
            return Err(DriverError::new(DriverErrorKind::InvalidImage, OP, text));
        }
    }
    let mut actions = vec![json!({"type": "blockdev-snapshot", "data": {
        "node": format_node(disk.base.id), "overlay": format_node(disk.overlay.id)}})];
    actions.extend(clone_to_overlay(base, disk.overlay.id));
    Ok(actions)
}

/// Plans, and runs the window. `look` gives what is observed of the disks, and whether the guest can be frozen; it is called
/// once no other section is under way any more, for that may change both. The two are waited for together.
pub(crate) async fn run<Tops, Guest>(
    blocks: &Blocks,
    switch: &Switch,
    look: impl FnOnce() -> (Tops, Guest),
) -> Driven<SwitchReport>
where
    Tops: Future<Output = Driven<Observed>>,
    Guest: Future<Output = Driven<Freeze>>,
{
    let turn = blocks.turn(OP).await?;
    let (observed, freeze) = look();
    let (transaction, freeze) = tokio::join!(plan(observed, switch), freeze);
    let Some(transaction) = transaction? else {
        return Ok(nothing_done());
    };
    let freeze = freeze?;
    let qmp = blocks.monitor.qmp().await.map_err(|e| qmp_failed(OP, "monitor", e))?;
    let limit = blocks.monitor.limit();
    let window = tokio::spawn(async move {
        let report = window(&qmp, &transaction, freeze, limit).await;
        drop(turn);
        report
    });
    joined(window.await)?
}

/// What a switch reports that found all disks switched.
pub(crate) fn nothing_done() -> SwitchReport {
    SwitchReport {
        frozen: Frozen::NotAsked,
        thawed: true,
        transaction_us: 0,
        window_us: 0,
    }
}

/// A task of ours ended: it can only fail by the runtime's shutdown, or by a panic, which is told.
pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Driven<T> {
    result.map_err(|error| DriverError::new(DriverErrorKind::Io, "run task", "it did not end").caused_by(error))
}

async fn window(qmp: &Qmp, transaction: &Value, freeze: Freeze, limit: Duration) -> Driven<SwitchReport> {
    let command = qmp.prepare("transaction", transaction);
    let begun = Instant::now();
    let (frozen, guest) = match freeze {
        Freeze::Not(why) => (why, None),
        Freeze::With { agent, process, limit } => {
            let frozen = match agent.freeze(limit).await {
                Ok(count) => Frozen::Yes(count),
                Err(error) => Frozen::Failed(error.to_string()),
            };
            (frozen, Some((agent, process)))
        }
    };
    crash_point(&["switch", "frozen"]);
    let sent = Instant::now();
    let mut pending = qmp.send(command).await;
    let mut answer = match &mut pending {
        Ok(pending) => pending.wait(TRANSACTION_LIMIT.min(limit)).await.map(drop),
        Err(error) => Err(error.clone()),
    };
    let transaction_us = micros(sent);
    crash_point(&["switch", "switched"]);
    let (thawed, window_us) = match guest {
        None => (true, 0),
        // Even if the freeze failed: the guest may have frozen without an answer.
        Some((agent, process)) => (thaw(&agent, &process).await, micros(begun)),
    };
    if let (Err(QmpError::Timeout(_)), Ok(pending)) = (&answer, &mut pending) {
        answer = pending.wait(limit).await.map(drop);
    }
    answer.map_err(|error| qmp_failed(OP, "transaction", error))?;
    Ok(SwitchReport {
        frozen,
        thawed,
        transaction_us,
        window_us,
    })
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Thaws, again and again until the deadline or the guest's end: whether the guest confirmed it.
async fn thaw(agent: &Agent, process: &Process) -> bool {
    let end = Instant::now() + THAW_LIMIT;
    loop {
        match agent.thaw(THAW_TRY_LIMIT).await {
            Ok(_count) => return true,
            Err(error) => {
                tracing::warn!(%error, "thaw failed");
                if Instant::now() + THAW_PAUSE >= end {
                    return false;
                }
                let pause = match error {
                    AgentError::Timeout(_) => Duration::ZERO,
                    _ => THAW_PAUSE,
                };
                // Nothing is left that could stay frozen.
                if process.ended_within(pause).await {
                    return false;
                }
            }
        }
    }
}
