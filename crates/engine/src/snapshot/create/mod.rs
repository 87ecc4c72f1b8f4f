//! Takes a snapshot of a VM: running, paused or down; with or without its memory.
//!
//! The new regular snapshot takes over the id that the active snapshot had, and the active one takes a fresh id
//! (ovirt-semantics, fact 1). Each disk goes on in a new overlay; what it had is the snapshot.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | overlay files, durable; begins to open their nodes in the running QEMU | nodes closed, files removed |
//! | `switch` **pivot** | freeze, ONE transaction for all disks, thaw; or stop, transaction, begin of the memory's saving | not switched: the guest runs again if we had stopped it. Switched: forward |
//! | `save` | waits for the memory's end (only with memory) | - |
//!
//! # Crash consistency
//! Overlays are empty until the transaction, so either set of tops shows the same content: if QEMU died and no overlay
//! holds data, the snapshot is given up; if one does, it has happened (qemu-mechanics section 1). A daemon that finds its
//! own `switch` begun thaws first, then asks QEMU's graph. A switch that did not answer (QEMU stopped) is never guessed:
//! the job waits until QEMU answers or is gone, for QEMU may still carry it out.
//!
//! The memory and the disks are one instant: the guest is stopped, the disks are switched, and the device state is saved
//! before it runs again. If saving the memory fails while the guest lives, the snapshot stays as one of disks only
//! (event 173); if QEMU died, the snapshot is removed, as its disks were never shown to be usable.

mod plan;
mod save;
mod stall;

pub(crate) use plan::{attachments, overlay, plan, rotate, submit};
pub(crate) use stall::stall;

use super::delete;
use crate::{
    config::{Consistency, SnapshotConfig},
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, Saga, StepError, Undo, from_json, to_json},
    ports::{DriverError, DriverErrorKind, Frozen, ImageRef, Machine, MemoryMethod, MemoryRef, Switch, SwitchDisk},
    view::watch::Stall,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    image::{self, ImageState},
    job::JobRow,
    snapshot::{self, SnapshotRow},
    vm, volume_snapshot,
};
use stillpoint_types::{FaultCode, Micros, ProjectId, SnapshotId, VmId, now_micros};

pub(crate) const KIND: &str = "snapshot_create";
const VERSION: u32 = 1;
/// For how long a job that is being undone asks again for a thaw.
const THAW_MAX: Micros = 60_000_000;

/// What is switched, and how. A backup's saga has it too ([`crate::backup`]), and freezes its moment with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Params {
    pub(crate) vm: VmId,
    pub(crate) name: String,
    pub(crate) snapshot: SnapshotId,
    /// The active snapshot's fresh id.
    pub(crate) active: SnapshotId,
    pub(crate) description: String,
    pub(crate) disks: Vec<SwitchDisk>,
    pub(crate) memory: Option<MemoryRef>,
    /// The VM had a process.
    pub(crate) live: bool,
    /// Its vCPUs ran.
    pub(crate) running: bool,
    /// Its user holds the guest's file systems frozen: that is his, and neither done nor undone here.
    #[serde(default)]
    pub(crate) held: bool,
}

impl Params {
    /// Whether the switch freezes the guest. With memory it is stopped instead, and a guest that is stopped cannot
    /// answer: to ask it for a thaw would be to wait for ever.
    pub(crate) fn freezes(&self) -> bool {
        self.live && self.running && self.memory.is_none() && !self.held
    }
}

/// What the switch left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Switched {
    pub(crate) frozen: Frozen,
    pub(crate) thawed: bool,
    method: Option<MemoryMethod>,
    /// Why the memory's saving could not begin.
    save_failed: Option<String>,
    /// How long writes stood still; `None`: it was not measured, as when the daemon died around it.
    #[serde(default)]
    stall: Option<Stall>,
}

impl Switched {
    /// What a restart found: it has happened, and no more is known.
    fn found(method: Option<MemoryMethod>, thawed: bool) -> Self {
        Self {
            frozen: Frozen::NotAsked,
            thawed,
            method,
            save_failed: None,
            stall: None,
        }
    }
}

/// What became of the memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Saved {
    Yes,
    /// The guest lives; disks only.
    Lost(String),
    /// QEMU died meanwhile.
    Died,
}

/// The saga.
pub(crate) struct Create {
    pub(crate) params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Create {
        params: from_json(&row.params)?,
    }))
}

impl Create {
    fn machine(&self, cx: &Cx) -> Option<Arc<dyn Machine>> {
        cx.engine.hypervisor.machine(self.params.vm)
    }

    fn plan(&self, cx: &Cx) -> Switch {
        Switch {
            disks: self.params.disks.clone(),
            freeze: self.params.freezes(),
            freeze_limit: cx.engine.options.freeze_limit,
        }
    }

    fn overlays(&self) -> Vec<ImageRef> {
        self.params.disks.iter().map(|disk| disk.overlay.clone()).collect()
    }

    fn died(&self) -> Fault {
        Fault::new(
            FaultCode::HostUnreachable,
            format!(
                "The QEMU process of VM {} ended before its disks were switched.",
                self.params.name
            ),
        )
    }

    pub(crate) async fn prepare(&self, cx: &Cx) -> Result<Done, StepError> {
        let machine = match self.machine(cx) {
            Some(machine) => Some(machine),
            None if !self.params.live => None,
            None if cx.engine.is_unreachable(self.params.vm).await? => {
                return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
            }
            None => return Err(self.died().into()),
        };
        if let Some(machine) = &machine {
            machine.expect_switch();
        }
        let disks = self.params.disks.iter().map(|disk| disk.disk).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for disk in self.params.disks.clone() {
            let (images, machine) = (Arc::clone(&cx.engine.images), machine.clone());
            tasks.spawn(async move {
                let SwitchDisk {
                    overlay,
                    base,
                    size_bytes,
                    ..
                } = &disk;
                images.create_overlay(overlay, base, *size_bytes, false).await?;
                // The switch waits for it; meanwhile the other files and this step's record are written.
                if let Some(machine) = machine {
                    machine.begin_open(overlay);
                }
                Ok::<_, DriverError>(())
            });
        }
        // Meanwhile: overlays on what is not as recorded are withdrawn, like all others of a step that failed.
        let recorded = crate::files::expect_recorded(&cx.engine, disks).await;
        let made = tasks.join_all().await;
        recorded?;
        made.into_iter().collect::<Result<(), _>>()?;
        Ok(Done::nothing())
    }

    pub(crate) async fn undo_prepare(&self, cx: &Cx) -> Result<Undo, StepError> {
        if let Some(machine) = self.machine(cx) {
            for disk in &self.params.disks {
                match machine.close_image(disk.overlay.id).await {
                    Err(error) if error.kind != DriverErrorKind::Disconnected => return Err(StepError::later(error)),
                    _ => {}
                }
            }
        } else if cx.engine.is_unreachable(self.params.vm).await? {
            return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
        }
        cx.engine
            .hypervisor
            .close_at_rest(cx.job.id)
            .await
            .map_err(StepError::later)?;
        for SwitchDisk {
            overlay,
            base,
            size_bytes,
            ..
        } in &self.params.disks
        {
            let withdrawn = cx.engine.images.withdraw_overlay(overlay, base, *size_bytes).await;
            withdrawn.map_err(StepError::later)?;
        }
        if let Some(memory) = &self.params.memory {
            cx.engine.images.remove_memory(memory).await.map_err(StepError::later)?;
        }
        Ok(Undo::Undone)
    }

    /// Ensures that all disks are on their overlays.
    pub(crate) async fn ensure_switched(&self, cx: &Cx) -> Result<Switched, StepError> {
        let switched = if self.params.live {
            self.switch_live(cx).await?
        } else {
            self.switch_at_rest(cx).await?
        };
        if !switched.thawed {
            cx.engine.unthawed.add(self.params.vm);
        }
        Ok(switched)
    }

    async fn switch(&self, cx: &Cx) -> Result<Done, StepError> {
        let switched = self.ensure_switched(cx).await?;
        let (params, actor, project) = (self.params.clone(), cx.actor(), cx.job.project);
        let done = Done::output(&switched)?;
        Ok(done.and(move |tx| record_switched(tx, &params, &switched, &actor, project)))
    }

    async fn switch_live(&self, cx: &Cx) -> Result<Switched, StepError> {
        let Some(machine) = self.machine(cx) else {
            if cx.engine.is_unreachable(self.params.vm).await? {
                return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
            }
            return self.switched_before_death(cx).await;
        };
        if cx.recovered {
            return self.switched_before_crash(machine.as_ref()).await;
        }
        if self.params.disks.is_empty() {
            return Ok(Switched::found(None, true));
        }
        machine.open_overlays(&self.overlays()).await?;
        cx.engine.unthawed.leave(self.params.vm).await;
        let plan = self.plan(cx);
        let (report, method, save_failed) = match &self.params.memory {
            None => (machine.switch(&plan).await, None, None),
            Some(memory) => match machine.switch_and_save(&plan, memory).await {
                Ok((report, method, failed)) => (Ok(report), Some(method), failed),
                Err(error) => (Err(error), None, None),
            },
        };
        match report {
            Ok(report) => {
                cx.engine.stalls.add(report.window_us, report.transaction_us);
                Ok(Switched {
                    thawed: report.thawed,
                    stall: method.is_none().then(|| stall::measured(&report)),
                    frozen: report.frozen,
                    method,
                    save_failed,
                })
            }
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                cx.engine.hypervisor_gone(self.params.vm).await?;
                self.switched_before_death(cx).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The daemon died around the switch, QEMU lives: thaw first, then believe QEMU's graph.
    async fn switched_before_crash(&self, machine: &dyn Machine) -> Result<Switched, StepError> {
        let thawed = !self.params.freezes() || machine.thaw().await.is_ok();
        match self.is_switched(machine).await? {
            true => {
                let method = self.params.memory.as_ref().map(|_| MemoryMethod::Background);
                Ok(Switched::found(method, thawed))
            }
            false => Err(Fault::new(
                FaultCode::Unavailable,
                "The daemon was restarted before the disks were switched; nothing was changed. Take the snapshot again.",
            )
            .into()),
        }
    }

    async fn is_switched(&self, machine: &dyn Machine) -> Result<bool, StepError> {
        let graph = machine.graph().await.map_err(StepError::later)?;
        let on_overlay = |d: &&SwitchDisk| graph.chain(d.disk).and_then(<[_]>::last) == Some(&d.overlay.id);
        match self.params.disks.iter().filter(on_overlay).count() {
            0 if !self.params.disks.is_empty() => Ok(false),
            n if n == self.params.disks.len() => Ok(true),
            n => Err(Fault::new(
                FaultCode::Hypervisor,
                format!(
                    "QEMU switched {n} of {} disks, which a transaction rules out.",
                    self.params.disks.len()
                ),
            )
            .into()),
        }
    }

    /// QEMU died around the switch. Empty overlays show what their bases show; data in one proves that it happened.
    async fn switched_before_death(&self, cx: &Cx) -> Result<Switched, StepError> {
        for disk in &self.params.disks {
            let facts = cx.engine.images.inspect(&disk.overlay.path, None).await?;
            if facts.has_data {
                return Ok(Switched::found(None, true));
            }
        }
        Err(self.died().into())
    }

    async fn switch_at_rest(&self, cx: &Cx) -> Result<Switched, StepError> {
        if !self.params.disks.is_empty() {
            let chains = cx
                .engine
                .chains(self.params.disks.iter().map(|d| (d.disk, d.base.id)).collect())
                .await?;
            // What an earlier try left open is closed first, so that its bitmaps are stored.
            cx.engine.hypervisor.close_at_rest(cx.job.id).await?;
            let endpoint = cx.engine.hypervisor.open_at_rest(cx.job.id, &chains).await?;
            endpoint.open_overlays(&self.overlays()).await?;
            endpoint.switch(&self.plan(cx)).await?;
            cx.engine.hypervisor.close_at_rest(cx.job.id).await?;
        }
        Ok(Switched::found(None, true))
    }

    pub(crate) async fn undo_switch(&self, cx: &Cx) -> Result<Undo, StepError> {
        if !self.params.live {
            return Ok(Undo::Undone);
        }
        let Some(machine) = self.machine(cx) else {
            if cx.engine.is_unreachable(self.params.vm).await? {
                return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
            }
            let switched = self.switched_before_death(cx).await.is_ok();
            return Ok(if switched { Undo::Forward } else { Undo::Undone });
        };
        if self.params.freezes() {
            self.ensure_thawed(cx, machine.as_ref()).await?;
        }
        if !self.params.disks.is_empty() && self.is_switched(machine.as_ref()).await? {
            return Ok(Undo::Forward);
        }
        self.run_again(machine.as_ref()).await.map_err(StepError::later)?;
        Ok(Undo::Undone)
    }

    /// Thaws. An agent that does not answer for [`THAW_MAX`] has most likely not frozen anything either, and a VM that
    /// stayed locked would not help its guest: that is told then, and the undoing goes on.
    async fn ensure_thawed(&self, cx: &Cx, machine: &dyn Machine) -> Result<(), StepError> {
        let Err(error) = machine.thaw().await else {
            return Ok(());
        };
        if now_micros() - cx.job.updated_at < THAW_MAX {
            return Err(StepError::later(error));
        }
        let text = format!(
            "The guest agent of VM '{}' does not confirm the thaw. Look whether its file systems are writable.",
            self.params.name
        );
        let event = Event::new(What::ThawFailed, text).by(&cx.actor());
        let event = event.vm(cx.job.project, self.params.vm, &self.params.name);
        cx.engine
            .store
            .write(move |tx| -> Result<(), Fault> { event.write(tx) })
            .await?;
        Ok(())
    }

    /// Lets the guest run if it ran before we stopped it.
    async fn run_again(&self, machine: &dyn Machine) -> Result<(), DriverError> {
        use crate::ports::RunState;
        if self.params.running && machine.run_state().await? == RunState::Paused {
            machine.cont().await?;
        }
        Ok(())
    }
}

/// The rows of a switch that has happened; `project`: the VM's.
pub(crate) fn record_switched(
    tx: &Tx,
    params: &Params,
    switched: &Switched,
    actor: &Actor,
    project: ProjectId,
) -> Result<(), Fault> {
    for disk in &params.disks {
        image::set_state(tx, disk.overlay.id, ImageState::Live)?;
        stillpoint_store::disk::set_image(tx, disk.disk, disk.overlay.id)?;
    }
    if let Some(row) = snapshot::get(tx, params.snapshot)? {
        let mut kept = row.config.as_deref().map(from_json::<SnapshotConfig>).transpose()?;
        if let Some(kept) = &mut kept {
            kept.consistency = Some(consistency(params, switched));
        }
        let config = kept.as_ref().map(to_json).transpose()?.map(|config| config.to_string());
        let date = now_micros();
        snapshot::update(tx, &SnapshotRow { date, config, ..row })?;
    }
    vm::touch(tx, params.vm)?;
    frozen_events(switched, params, actor)
        .into_iter()
        .try_for_each(|event| event.vm(project, params.vm, &params.name).write(tx))
}

/// What a guest would find on the disks as they were.
fn consistency(params: &Params, switched: &Switched) -> Consistency {
    if !params.live {
        Consistency::Down
    } else if params.held || matches!(switched.frozen, Frozen::Yes(_)) {
        Consistency::Frozen
    } else {
        Consistency::Crash
    }
}

/// The rows of a switch that did not happen: the overlays are forgotten, and so is the snapshot, if there is one. What a
/// client of a volume API asked for stays, in error.
pub(crate) fn record_unswitched(tx: &Tx, params: &Params, why: &Fault) -> Result<(), Fault> {
    volume_snapshot::fail_member(tx, params.snapshot, &why.text, now_micros())?;
    for disk in &params.disks {
        snapshot::remove_disk(tx, params.snapshot, disk.disk)?;
        image::delete(tx, disk.overlay.id)?;
    }
    let (Some(fresh), Some(regular)) = (snapshot::get(tx, params.active)?, snapshot::get(tx, params.snapshot)?) else {
        return Ok(());
    };
    snapshot::delete(tx, fresh.id)?;
    let (id, seq) = (regular.id, regular.seq);
    Ok(snapshot::update(tx, &SnapshotRow { id, seq, ..fresh })?)
}

/// What the guest agent did, told.
fn frozen_events(switched: &Switched, params: &Params, actor: &Actor) -> Vec<Event> {
    let name = &params.name;
    let mut events = match &switched.frozen {
        Frozen::NotAsked => vec![],
        Frozen::NoAgent => vec![Event::new(
            What::FreezeFailed,
            format!(
                "Guest file systems of VM '{name}' were not frozen: no guest agent answers. The snapshot is as after a power cut."
            ),
        )],
        Frozen::Yes(count) => {
            let frozen = format!("{count} guest file systems of VM '{name}' were frozen.");
            let thawed = format!("Guest file systems of VM '{name}' were thawed.");
            let both = [(What::Frozen, frozen), (What::Thawed, thawed)].into_iter();
            both.take(1 + usize::from(switched.thawed))
                .map(|(what, text)| Event::new(what, text))
                .collect()
        }
        Frozen::Failed(why) => vec![Event::new(
            What::FreezeFailed,
            format!("Guest file systems of VM '{name}' were not frozen: {why}. The snapshot is as after a power cut."),
        )],
    };
    if !switched.thawed {
        events.push(Event::new(
            What::ThawFailed,
            format!("The guest agent of VM '{name}' did not confirm the thaw; it is asked again when it answers."),
        ));
    }
    if switched.method == Some(MemoryMethod::Stopped) {
        events.push(Event::new(
            What::SnapshotStarted,
            format!("VM '{name}' stands still until its memory is saved: this host cannot save it in the background."),
        ));
    }
    events.into_iter().map(|event| event.by(actor)).collect()
}

#[async_trait]
impl Saga for Create {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        match cx.step.name.as_str() {
            "prepare" => self.prepare(cx).await,
            "switch" => self.switch(cx).await,
            _ => self.save(cx).await,
        }
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        match cx.step.name.as_str() {
            "prepare" => self.undo_prepare(cx).await,
            "switch" => self.undo_switch(cx).await,
            _ => Ok(Undo::Undone),
        }
    }

    fn finished(&self, tx: &Tx, job: &JobRow, outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let died = outputs.iter().any(|(name, value)| {
            name == "save" && serde_json::from_value(value.clone()).is_ok_and(|saved: Saved| saved == Saved::Died)
        });
        let (what, text) = if died {
            // The locks go with this job; the removal takes its own in the same transaction.
            stillpoint_store::job::unlock(tx, job.id)?;
            delete::enqueue_internal(tx, &actor, params.vm, params.snapshot)?;
            (
                What::SnapshotFailed,
                format!(
                    "Failed to complete snapshot '{}' of VM '{}': its QEMU process ended while the memory was being saved. The snapshot is being removed.",
                    params.description, params.name
                ),
            )
        } else {
            (
                What::SnapshotDone,
                format!(
                    "Snapshot '{}' creation for VM '{}' has been completed.",
                    params.description, params.name
                ),
            )
        };
        Event::new(what, text)
            .by(&actor)
            .vm(job.project, params.vm, &params.name)
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let params = &self.params;
        record_unswitched(tx, params, why)?;
        Event::new(
            What::SnapshotFailed,
            format!(
                "Failed to create snapshot '{}' of VM '{}': {}",
                params.description, params.name, why.text
            ),
        )
        .by(&Actor::of_job(job))
        .vm(job.project, params.vm, &params.name)
        .write(tx)
    }
}

/// Whether an unfinished job may have left its VM's guest frozen: its switch has begun and is not recorded as done.
pub(crate) fn may_have_frozen(job: &JobRow, steps: &[stillpoint_store::job::StepRow]) -> Option<VmId> {
    use stillpoint_types::StepState;
    let open = |step: &&stillpoint_store::job::StepRow| {
        step.name == "switch" && matches!(step.state, StepState::Started | StepState::Failed)
    };
    let freezes = || match job.kind.as_str() {
        KIND => from_json(&job.params).is_ok_and(|params: Params| params.freezes()),
        crate::backup::KIND => crate::backup::freezes(job),
        _ => false,
    };
    (steps.iter().any(|step| open(&step)) && freezes())
        .then_some(job.vm)
        .flatten()
}
