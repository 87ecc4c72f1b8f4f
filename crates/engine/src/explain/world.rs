//! What is there now: the VM's process, QEMU's block graph, the image files. Read only, each question with a deadline.

use super::record::{Chain, Machine, Recorded};
use crate::{
    engine::Inner,
    ports::{BlockGraph, DriverErrorKind, RunState},
    view::explain::{ChainSeen, Frozen, ImageSeen, MachineSeen, Seen},
};
use futures_util::{StreamExt as _, stream};
use std::{sync::Arc, time::Duration};
use stillpoint_store::image::ImageState;
use stillpoint_types::VmStatus;

/// How long a monitor may take for an answer: people wait for this one.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How many files are looked at beside one another.
const FILES_AT_ONCE: usize = 8;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) machine: Option<MachineSeen>,
    pub(super) chains: Vec<ChainSeen>,
}

pub(super) async fn look(engine: &Arc<Inner>, recorded: &Recorded) -> World {
    let (machine, graph) = match &recorded.machine {
        Some(machine) => {
            let (seen, graph) = look_at_machine(engine, machine).await;
            (Some(seen), graph)
        }
        None => (None, None),
    };
    let mut chains = Vec::with_capacity(recorded.chains.len());
    for chain in &recorded.chains {
        let qemu = match (&graph, &recorded.machine) {
            (Some(graph), Some(machine)) if chain.plugged == Some(machine.row.id) => {
                Some(graph.chain(chain.disk).map(<[_]>::to_vec).unwrap_or_default())
            }
            _ => None,
        };
        chains.push(ChainSeen {
            disk: chain.disk,
            alias: chain.alias.clone(),
            images: look_at_files(engine, chain).await,
            qemu,
        });
    }
    World { machine, chains }
}

async fn look_at_machine(engine: &Inner, recorded: &Machine) -> (MachineSeen, Option<BlockGraph>) {
    let id = recorded.row.id;
    let mut seen = MachineSeen {
        vm: id,
        recorded: recorded.process.clone(),
        process: None,
        connected: false,
        run_state: None,
        frozen: match recorded.frozen_until {
            Some(until) => Some(Frozen::ByUser(until)),
            None => engine.unthawed.holds(id).then_some(Frozen::ThawUnconfirmed),
        },
        foreign_nodes: Vec::new(),
        trouble: None,
    };
    match engine.hypervisor.find(id).await {
        Ok(found) => seen.process = found,
        Err(error) => seen.trouble = Some(error.chain()),
    }
    let Some(machine) = engine.hypervisor.machine(id) else {
        return (seen, None);
    };
    seen.connected = true;
    let asked = async {
        let state = machine.run_state().await?;
        let graph = machine.graph().await?;
        Ok::<_, crate::ports::DriverError>((state, graph))
    };
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(Ok((state, graph))) => {
            seen.run_state = Some(state);
            seen.foreign_nodes.clone_from(&graph.foreign);
            (seen, Some(graph))
        }
        Ok(Err(error)) => {
            seen.trouble = Some(error.chain());
            (seen, None)
        }
        Err(_elapsed) => {
            seen.trouble = Some(format!(
                "the monitor did not answer within {} s",
                ANSWER_LIMIT.as_secs()
            ));
            (seen, None)
        }
    }
}

async fn look_at_files(engine: &Inner, chain: &Chain) -> Vec<ImageSeen> {
    let looks: Vec<_> = (0..chain.images.len())
        .map(|at| look_at_file(engine, chain, at))
        .collect();
    let seen: Vec<Option<ImageSeen>> = stream::iter(looks).buffered(FILES_AT_ONCE).collect().await;
    seen.into_iter().flatten().collect()
}

/// One image of a chain; `None`: it has no such image.
async fn look_at_file(engine: &Inner, chain: &Chain, at: usize) -> Option<ImageSeen> {
    let (row, snapshots, half_merged) = chain.images.get(at)?;
    let below = at.checked_sub(1).and_then(|below| chain.images.get(below));
    let file = engine.image_ref(row);
    let seen = match engine.images.inspect(&file.path, Some(row.format)).await {
        Ok(facts) => Seen::Facts(facts),
        Err(error) if error.kind == DriverErrorKind::NotFound => Seen::Missing,
        Err(error) => Seen::Unreadable(error.chain()),
    };
    Some(ImageSeen {
        id: row.id,
        file: file_name(&file.path),
        state: match row.state {
            ImageState::Creating => "creating",
            ImageState::Live => "live",
            ImageState::Doomed => "doomed",
        },
        format: row.format,
        size_bytes: row.size_bytes,
        backing: below.map(|(below, ..)| file_name(&engine.image_ref(below).path)),
        active: chain.active == Some(row.id),
        snapshots: snapshots.clone(),
        half_merged: *half_merged,
        seen,
    })
}

fn file_name(path: &std::path::Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_default()
}

/// What was seen of the process, as a sentence, if it says more than the status does.
pub(super) fn in_words(seen: &MachineSeen) -> Option<String> {
    let process = match (&seen.process, seen.connected) {
        (Some(process), true) => format!("Its QEMU is process {}", process.pid),
        (Some(process), false) => format!("Its QEMU is process {}, whose monitor is not connected", process.pid),
        (None, _) => {
            return seen
                .trouble
                .as_ref()
                .map(|why| format!("Its process could not be looked for: {why}."));
        }
    };
    let state = match seen.run_state {
        Some(RunState::Running) => ", and its processors run",
        Some(RunState::Paused) => ", and its processors are stopped by a command",
        Some(RunState::IoError) => ", and its processors are stopped because a disk answered with an error",
        Some(RunState::Crashed) => ", and its processors are stopped for good: the guest or the accelerator crashed",
        Some(RunState::Incoming) => ", and it loads a saved memory",
        Some(RunState::Shutdown) => ", and its guest has shut down",
        Some(RunState::Other) | None => "",
    };
    let trouble = seen.trouble.as_ref().map_or_else(String::new, |why| format!("; {why}"));
    let frozen = match seen.frozen {
        Some(Frozen::ByUser(until)) => format!(
            ". Its guest's file systems are frozen at their user's word, until {} at the latest",
            crate::lock::moment(until)
        ),
        Some(Frozen::ThawUnconfirmed) => {
            ". Its guest may still be frozen: a thaw was not confirmed, and is tried every 3 s".to_owned()
        }
        None => String::new(),
    };
    Some(format!("{process}{state}{trouble}{frozen}."))
}

/// Whether a VM of that status should have a process.
pub(super) fn should_live(status: VmStatus) -> bool {
    match status {
        VmStatus::Up | VmStatus::Paused | VmStatus::PoweringDown | VmStatus::NotResponding => true,
        VmStatus::Down | VmStatus::Suspended | VmStatus::PoweringUp => false,
    }
}
