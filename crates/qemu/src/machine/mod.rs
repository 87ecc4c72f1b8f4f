//! One running QEMU: the machine's side of the ports.
//!
//! Holds a pidfd, a monitor and an agent client; remembers nothing about the guest, but what a switch that is
//! being prepared has asked for. Where it says "agent", the guest is
//! on the other side, which may not answer: every call there has a deadline and none of them can fail an operation.

pub(crate) mod command_line;
mod memory;
mod usage;

pub(crate) use memory::{PARTS as MEMORY_PARTS, load};

use crate::{
    agent::{Agent, AgentError},
    endpoint::Blocks,
    graph::Observed,
    grow::grow,
    layout::RunDir,
    monitor::Monitor,
    plug,
    process::Process,
    switch::{self, Freeze},
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{
    BlockGraph, DiskSpec, Driven, DriverError, DriverErrorKind, Endpoint, Frozen, ImageRef, Machine, MemoryMethod,
    MemoryRef, MemorySave, Merge, Progress, RunState, Switch, SwitchReport, Usage,
};
use stillpoint_types::{DiskId, ImageId};
use tokio::task::JoinHandle;

/// An agent in its right mind answers a synchronisation at once; a busy guest may take some seconds.
const AGENT_SYNC_LIMIT: Duration = Duration::from_secs(5);
/// A thaw of many file systems takes a fraction of a second.
const AGENT_LIMIT: Duration = Duration::from_secs(10);
/// After SIGKILL the kernel may still have to write back what the process had in flight.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// How old a look may be that a switch goes by. Nobody else changes a machine whose lock a job holds, so this is only for
/// who works on it behind our back.
const LOOK_AGE_MAX: Duration = Duration::from_millis(250);

/// What a switch has to know, asked for while its overlays are being made.
#[derive(Debug)]
struct Look {
    asked: Instant,
    tops: JoinHandle<Driven<Observed>>,
    guest: JoinHandle<Driven<Guest>>,
}

/// Whether the guest can be frozen.
#[derive(Debug, Clone, Copy)]
struct Guest {
    state: RunState,
    /// A program in it has the agent's port open.
    has_agent: bool,
}

/// A connected machine.
#[derive(Debug)]
pub(crate) struct QemuMachine {
    pub(crate) process: Arc<Process>,
    pub(crate) monitor: Arc<Monitor>,
    blocks: Blocks,
    agent: Arc<Agent>,
    look: Mutex<Option<Look>>,
    /// What was last measured.
    meter: tokio::sync::Mutex<Option<usage::Meter>>,
    /// Overlays whose opening was begun and is not yet waited for.
    opening: Mutex<HashMap<ImageId, JoinHandle<Driven<()>>>>,
    /// The vCPUs were stopped already when the save in course began.
    paused_before: AtomicBool,
    /// That save was cancelled: what it wrote is dropped, even if QEMU completed it.
    cancelled: AtomicBool,
}

impl QemuMachine {
    pub(crate) fn new(process: Process, run_dir: &RunDir, command_limit: Duration) -> Self {
        let monitor = Arc::new(Monitor::new(run_dir.qmp(), command_limit));
        Self {
            process: Arc::new(process),
            blocks: Blocks::of_machine(Arc::clone(&monitor)),
            monitor,
            agent: Arc::new(Agent::new(run_dir.agent())),
            look: Mutex::new(None),
            meter: tokio::sync::Mutex::new(None),
            opening: Mutex::default(),
            paused_before: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    async fn has_agent(&self) -> Driven<bool> {
        has_agent(&self.monitor).await
    }

    fn look(&self) -> Look {
        let (blocks, monitor) = (self.blocks.clone(), Arc::clone(&self.monitor));
        Look {
            asked: Instant::now(),
            tops: tokio::spawn(async move { blocks.observe_tops().await }),
            guest: tokio::spawn(async move {
                let (state, has_agent) = tokio::join!(monitor.status("read run state"), has_agent(&monitor));
                Ok(Guest {
                    state: run_state(&state?),
                    has_agent: has_agent?,
                })
            }),
        }
    }

    /// Waits for the opening of this overlay, if it was begun: how it went.
    async fn opened(&self, overlay: ImageId) -> Option<Driven<()>> {
        let begun = self
            .opening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&overlay);
        Some(switch::joined(begun?.await).and_then(std::convert::identity))
    }

    /// The look that was begun by [`Machine::expect_switch`], or one begun now.
    fn fresh_look(&self) -> Look {
        let begun = self.look.lock().unwrap_or_else(PoisonError::into_inner).take();
        begun
            .filter(|look| look.asked.elapsed() < LOOK_AGE_MAX)
            .unwrap_or_else(|| self.look())
    }

    /// Ready to freeze, or why not. Done before the window, so that it costs the guest nothing.
    async fn freeze(&self, switch: &Switch, guest: JoinHandle<Driven<Guest>>) -> Driven<Freeze> {
        if !switch.freeze {
            return Ok(Freeze::Not(Frozen::NotAsked));
        }
        let guest = switch::joined(guest.await)??;
        if guest.state != RunState::Running {
            return Ok(Freeze::Not(Frozen::NotAsked));
        }
        if !guest.has_agent {
            return Ok(Freeze::Not(Frozen::NoAgent));
        }
        match self.agent.sync(AGENT_SYNC_LIMIT.min(switch.freeze_limit)).await {
            Ok(()) => Ok(Freeze::With {
                agent: Arc::clone(&self.agent),
                process: Arc::clone(&self.process),
                limit: switch.freeze_limit,
            }),
            Err(error) => Ok(Freeze::Not(Frozen::Failed(error.to_string()))),
        }
    }
}

/// Whether a program in the guest has the agent's port open.
async fn has_agent(monitor: &Monitor) -> Driven<bool> {
    #[derive(Deserialize)]
    struct Port {
        label: String,
        #[serde(rename = "frontend-open", default)]
        open: bool,
    }
    let ports: Vec<Port> = monitor.call("look for agent", "query-chardev", json!({})).await?;
    Ok(ports.iter().any(|port| port.label == "agent" && port.open))
}

fn agent_failed(op: &'static str, error: AgentError) -> DriverError {
    let kind = match &error {
        AgentError::Timeout(_) => DriverErrorKind::Timeout,
        AgentError::Disconnected(_) => DriverErrorKind::Disconnected,
        AgentError::Refused(_) | AgentError::Malformed(_) => DriverErrorKind::Protocol,
    };
    DriverError::new(kind, op, "guest agent").caused_by(error)
}

/// What `query-status` says, in the core's words.
pub(crate) fn run_state(status: &str) -> RunState {
    match status {
        "running" => RunState::Running,
        "paused" | "prelaunch" | "postmigrate" | "finish-migrate" | "save-vm" => RunState::Paused,
        "io-error" => RunState::IoError,
        "internal-error" | "guest-panicked" => RunState::Crashed,
        "inmigrate" => RunState::Incoming,
        "shutdown" => RunState::Shutdown,
        _ => RunState::Other,
    }
}

#[async_trait]
impl Endpoint for QemuMachine {
    async fn graph(&self) -> Driven<BlockGraph> {
        self.blocks.graph().await
    }

    async fn open_overlays(&self, overlays: &[ImageRef]) -> Driven<()> {
        let mut missing = Vec::new();
        for overlay in overlays {
            match self.opened(overlay.id).await {
                Some(opened) => opened?,
                None => missing.push(overlay.clone()),
            }
        }
        self.blocks.open_overlays(&missing).await
    }

    async fn close_image(&self, image: ImageId) -> Driven<()> {
        // Else it might be opened after it was closed. How that went does not matter any more.
        self.opened(image).await;
        self.blocks.close_image(image).await
    }

    async fn switch(&self, switch: &Switch) -> Driven<SwitchReport> {
        let look = || {
            let Look { tops, guest, .. } = self.fresh_look();
            (async { switch::joined(tops.await)? }, self.freeze(switch, guest))
        };
        switch::run(&self.blocks, switch, look).await
    }

    async fn merge(&self, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
        self.blocks.merge(merge, progress).await
    }

    async fn cancel_merge(&self, merge: &Merge) -> Driven<()> {
        self.blocks.cancel_merge(merge).await
    }

    async fn grow(&self, disk: DiskId, active: &ImageRef, size_bytes: u64) -> Driven<()> {
        grow(&self.blocks, disk, active, size_bytes).await
    }
}

#[async_trait]
impl Machine for QemuMachine {
    async fn run_state(&self) -> Driven<RunState> {
        Ok(run_state(&self.monitor.status("read run state").await?))
    }

    async fn cont(&self) -> Driven<()> {
        self.monitor.run("start vCPUs", "cont", json!({})).await
    }

    async fn pause(&self) -> Driven<()> {
        self.monitor.run("stop vCPUs", "stop", json!({})).await
    }

    async fn plug(&self, disk: &DiskSpec) -> Driven<()> {
        plug::plug(&self.blocks, disk).await
    }

    async fn unplug(&self, disk: DiskId, images: &[ImageId]) -> Driven<()> {
        plug::unplug(&self.blocks, disk, images).await
    }

    async fn usage(&self) -> Driven<Usage> {
        let mut meter = self.meter.lock().await;
        let pid = self.process.record().pid;
        let (usage, next) = usage::measure(&self.monitor, pid, meter.take()).await?;
        *meter = Some(next);
        Ok(usage)
    }

    async fn shutdown(&self) -> Driven<()> {
        if self.has_agent().await? {
            match self.agent.shutdown(AGENT_SYNC_LIMIT).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::info!(%error, "agent does not shut the guest down: pressing the power button"),
            }
        }
        self.monitor.run("shut down", "system_powerdown", json!({})).await
    }

    async fn reboot(&self, force: bool) -> Driven<()> {
        if !force && self.has_agent().await? {
            match self.agent.reboot(AGENT_SYNC_LIMIT).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::info!(%error, "agent does not restart the guest: pressing the reset button"),
            }
        }
        self.monitor.run("reset", "system_reset", json!({})).await
    }

    async fn kill(&self, limit: Duration) -> Driven<()> {
        let asked = tokio::time::timeout(limit, async {
            if let Err(error) = self.monitor.run("quit", "quit", json!({})).await {
                tracing::debug!(error = error.chain(), "quit was not answered");
            }
            self.process.ended().await;
        });
        if asked.await.is_ok() {
            return Ok(());
        }
        self.process.kill()?;
        if self.process.ended_within(KILL_LIMIT).await {
            return Ok(());
        }
        let pid = self.process.record().pid;
        Err(DriverError::new(
            DriverErrorKind::Timeout,
            "kill machine",
            format!("pid {pid} does not end"),
        ))
    }

    fn expect_switch(&self) {
        *self.look.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.look());
    }

    fn begin_open(&self, overlay: &ImageRef) {
        let (blocks, id, overlay) = (self.blocks.clone(), overlay.id, overlay.clone());
        let opening = tokio::spawn(async move { blocks.open_overlays(std::slice::from_ref(&overlay)).await });
        let mut begun = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(id, opening);
    }

    async fn freeze(&self, limit: Duration) -> Driven<Option<u64>> {
        let failed = |error| agent_failed("freeze guest", error);
        if !self.has_agent().await? {
            return Ok(None);
        }
        self.agent.sync(AGENT_SYNC_LIMIT.min(limit)).await.map_err(failed)?;
        // A frozen guest's agent refuses to freeze.
        if self.agent.is_frozen(limit).await.map_err(failed)? {
            return Ok(Some(0));
        }
        self.agent.freeze(limit).await.map(Some).map_err(failed)
    }

    async fn thaw(&self) -> Driven<Option<u64>> {
        if !self.has_agent().await? {
            return Ok(None);
        }
        let thawed = self.agent.thaw(AGENT_LIMIT).await;
        thawed.map(Some).map_err(|error| agent_failed("thaw guest", error))
    }

    async fn switch_and_save(
        &self,
        switch: &Switch,
        memory: &MemoryRef,
    ) -> Driven<(SwitchReport, MemoryMethod, Option<String>)> {
        self.begin_save(switch, memory).await
    }

    async fn memory_save(&self) -> Driven<MemorySave> {
        memory::state(&self.monitor).await
    }

    async fn finish_save(&self, memory: &MemoryRef, progress: Progress<'_>) -> Driven<MemorySave> {
        self.end_save(memory, progress).await
    }

    async fn cancel_save(&self) -> Driven<()> {
        self.stop_save().await
    }
}
