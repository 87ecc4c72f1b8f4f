//! Takes a snapshot of a VM: running, paused or down; with or without its memory.
//!
//! The new regular snapshot takes over the id that the active snapshot had, and the active one takes a fresh id
//! (ovirt-semantics, fact 1). Each disk goes on in a new overlay; what it had is the snapshot.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `prepare` | overlay files, durable; their nodes opened in the running QEMU | nodes closed, files removed |
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

use super::delete;
use crate::{
    access::{self, Vm},
    command::{Accepted, CreateSnapshot, Origin, SnapshotDisk},
    config::{AttachmentConfig, SnapshotConfig},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::{DriverErrorKind, Frozen, Machine, MemoryMethod, MemoryRef, MemorySave, Switch, SwitchDisk},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Conn, Tx,
    image::{self, ImageRow, ImageState},
    job::JobRow,
    snapshot::{self, MemoryRow, SnapshotRow},
    vm,
};
use stillpoint_types::{
    Caller, FaultCode, ImageFormat, ImageId, MemoryId, Need, SnapshotId, SnapshotType, VmId, VmStatus, now_micros,
};

pub(crate) const KIND: &str = "snapshot_create";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    snapshot: SnapshotId,
    /// The active snapshot's fresh id.
    active: SnapshotId,
    description: String,
    disks: Vec<SwitchDisk>,
    memory: Option<MemoryRef>,
    /// The VM had a process.
    live: bool,
    /// Its vCPUs ran.
    running: bool,
}

/// What the switch left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Switched {
    frozen: Frozen,
    thawed: bool,
    method: Option<MemoryMethod>,
    /// Why the memory's saving could not begin.
    save_failed: Option<String>,
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

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateSnapshot,
) -> Result<Accepted<SnapshotId>, Fault> {
    limits::text("description", &command.description, limits::TEXT_MAX)?;
    if command.description.is_empty() {
        return Err(Fault::new(
            FaultCode::Incomplete,
            "Snapshot [description] required for add",
        ));
    }
    for image in command.disks.iter().flatten().filter_map(|disk| disk.image) {
        crate::disk::create::expect_free_file(engine, image, ImageFormat::Cow).await?;
    }
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let accepted = engine
        .store
        .write(move |tx| -> Result<_, Fault> { plan(&inner, tx, &who, &actor, &command, space.available_bytes) })
        .await?;
    if let Some(job) = accepted.job {
        journal::executor::drive(engine, job, false);
    }
    Ok(accepted)
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &CreateSnapshot,
    available_bytes: u64,
) -> Result<Accepted<SnapshotId>, Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let all = attachments(tx, &found)?;
    let chosen = choose(tx, who, &found, &all, command.disks.as_deref())?;
    crate::lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
    let live = match found.row.status {
        VmStatus::Up | VmStatus::Paused => true,
        VmStatus::Down => false,
        other => {
            return Err(crate::vm::view::wrong_status(
                &found.row.name,
                other,
                "taking a snapshot",
                "up, paused or down",
            ));
        }
    };
    let running = found.row.status == VmStatus::Up;
    // A memory fits only disks of its own instant: it is saved only with all of them.
    let whole = chosen.len() == all.len();
    let memory = (command.memory && live && whole && !all.is_empty()).then(|| engine.memory_ref(MemoryId::fresh()));
    let needed = limits::RESERVE_BYTES + memory.as_ref().map_or(0, |_| found.config.memory_bytes);
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, needed)?;
    let disks = chosen
        .iter()
        .map(|(a, image)| overlay(engine, tx, a, *image))
        .collect::<Result<Vec<_>, _>>()?;

    let active = snapshot::active(tx, found.row.id)?.ok_or_else(|| Fault::internal("a VM without active snapshot"))?;
    let params = Params {
        vm: found.row.id,
        name: found.row.name.clone(),
        snapshot: active.id,
        active: SnapshotId::fresh(),
        description: command.description.clone(),
        disks,
        memory,
        live,
        running,
    };
    rotate(tx, &found, &all, &active, &params)?;
    Event::new(
        What::SnapshotStarted,
        format!(
            "Snapshot '{}' creation for VM '{}' was initiated by {}.",
            params.description, params.name, actor.name
        ),
    )
    .by(actor)
    .vm(found.row.project, found.row.id, &found.row.name)
    .write(tx)?;
    if command.memory && live && params.memory.is_none() {
        Event::new(
            What::SnapshotMemoryLost,
            format!(
                "The memory of VM '{}' is not saved: snapshot '{}' does not hold all of its disks.",
                params.name, params.description
            ),
        )
        .by(actor)
        .vm(found.row.project, found.row.id, &found.row.name)
        .write(tx)?;
    }
    let job = enqueue(tx, actor, job(&found, &chosen, &params)?)?;
    Ok(Accepted {
        id: params.snapshot,
        job: Some(job),
    })
}

fn job(found: &Vm, chosen: &[(AttachmentConfig, Option<ImageId>)], params: &Params) -> Result<NewJob, Fault> {
    let mut locks = vec![
        Wanted::exclusive(Entity::Vm(found.row.id), &found.row.name),
        Wanted::exclusive(Entity::Snapshot(params.snapshot), &params.description),
    ];
    locks.extend(
        chosen
            .iter()
            .map(|(a, _)| Wanted::exclusive(Entity::Disk(a.disk), &a.alias)),
    );
    let mut steps = vec![
        NewStep::new("prepare", "Creating overlays"),
        NewStep::new("switch", "Switching all disks at one instant").pivot(),
    ];
    if params.memory.is_some() {
        steps.push(NewStep::new("save", "Saving memory"));
    }
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(params)?,
        description: format!("Creating VM Snapshot {} for VM {}", params.description, params.name),
        project: found.row.project,
        vm: Some(found.row.id),
        locks,
        steps,
    })
}

/// The VM's attachments as they are now, in the form in which a snapshot keeps them.
pub(crate) fn attachments(conn: &Conn, found: &Vm) -> Result<Vec<AttachmentConfig>, Fault> {
    let mut all = Vec::new();
    for a in vm::attachments(conn, found.row.id)? {
        let disk =
            stillpoint_store::disk::get(conn, a.disk)?.ok_or_else(|| Fault::internal("attached disk is gone"))?;
        let image = image::get(conn, disk.image)?.ok_or_else(|| Fault::internal("active image is gone"))?;
        all.push(AttachmentConfig {
            disk: a.disk,
            alias: disk.alias,
            description: disk.description,
            size_bytes: disk.size_bytes,
            interface: a.interface,
            bootable: a.bootable,
            active: a.active,
            read_only: a.read_only,
            slot: a.slot,
            image: Some(image.id),
            parent: image.parent,
            format: image.format,
            sparse: disk.sparse,
        });
    }
    Ok(all)
}

/// Which disks the snapshot holds, checked in the order in which the Engine checks.
fn choose(
    tx: &Tx,
    who: &Caller,
    found: &Vm,
    all: &[AttachmentConfig],
    wanted: Option<&[SnapshotDisk]>,
) -> Result<Vec<(AttachmentConfig, Option<ImageId>)>, Fault> {
    let Some(wanted) = wanted else {
        return Ok(all.iter().map(|a| (a.clone(), None)).collect());
    };
    let mut seen = HashSet::new();
    let mut chosen = Vec::new();
    for want in wanted {
        let disk = access::named_disk(tx, who, want.disk, Need::Operate)?;
        let Some(attached) = all.iter().find(|a| a.disk == want.disk) else {
            return Err(Fault::new(
                FaultCode::DiskNotAttached,
                format!(
                    "Cannot create Snapshot. Disk {} is not attached to VM {}.",
                    disk.alias, found.row.name
                ),
            ));
        };
        if !seen.insert(want.disk) {
            return Err(Fault::new(
                FaultCode::Duplicate,
                format!("Cannot create Snapshot. Disk {} is named more than once.", disk.alias),
            ));
        }
        chosen.push((attached.clone(), want.image));
    }
    // The transaction's order is the device order, whatever the order of the request.
    chosen.sort_by_key(|(a, _)| all.iter().position(|of| of.disk == a.disk));
    Ok(chosen)
}

/// Plans one disk's overlay and reserves its id.
fn overlay(engine: &Inner, tx: &Tx, a: &AttachmentConfig, image: Option<ImageId>) -> Result<SwitchDisk, Fault> {
    let disk = stillpoint_store::disk::get(tx, a.disk)?.ok_or_else(|| Fault::not_found("disk", a.disk))?;
    if let Some(why) = &disk.illegal {
        return Err(Fault::new(
            FaultCode::ImageIllegal,
            format!("Cannot create Snapshot. Disk {} is illegal: {why}.", disk.alias),
        ));
    }
    crate::lock::expect_free(tx, Entity::Disk(disk.id), &disk.alias)?;
    let chain = image::chain(tx, disk.image)?;
    if chain.len() >= limits::CHAIN_MAX {
        return Err(Fault::new(
            FaultCode::ChainTooDeep,
            format!(
                "Cannot create Snapshot. Disk {} has {} layers already; at most {} are allowed. Remove a snapshot first.",
                disk.alias,
                chain.len(),
                limits::CHAIN_MAX
            ),
        ));
    }
    let base = chain.last().ok_or_else(|| Fault::internal("a disk without image"))?;
    let row = ImageRow {
        id: image.unwrap_or_else(ImageId::fresh),
        disk: disk.id,
        parent: Some(base.id),
        domain: disk.domain,
        format: ImageFormat::Cow,
        size_bytes: disk.size_bytes,
        state: ImageState::Creating,
        created_at: now_micros(),
    };
    image::insert(tx, &row).map_err(|error| match error {
        taken if taken.is_duplicate() => Fault::new(
            FaultCode::IdInUse,
            format!(
                "Cannot create Snapshot. An image with id {} exists already; choose another image_id.",
                row.id
            ),
        ),
        other => other.into(),
    })?;
    let (base, overlay) = (engine.image_ref(base), engine.image_ref(&row));
    Ok(SwitchDisk {
        disk: disk.id,
        base,
        overlay,
        size_bytes: disk.size_bytes,
    })
}

/// The active snapshot becomes the regular one, and a fresh active one is made.
fn rotate(tx: &Tx, found: &Vm, all: &[AttachmentConfig], active: &SnapshotRow, params: &Params) -> Result<(), Fault> {
    let inside = |a: &AttachmentConfig| params.disks.iter().any(|d| d.disk == a.disk);
    let kept = all.iter().cloned().map(|a| {
        if inside(&a) {
            a
        } else {
            AttachmentConfig { image: None, ..a }
        }
    });
    let config = SnapshotConfig {
        vm: found.row.id,
        config: found.config.clone(),
        attachments: kept.collect(),
        created_at: found.row.created_at,
        generation: found.row.generation,
    };
    let regular = SnapshotRow {
        kind: SnapshotType::Regular,
        description: params.description.clone(),
        date: now_micros(),
        config: Some(to_json(&config)?.to_string()),
        ..active.clone()
    };
    snapshot::update(tx, &regular)?;
    for disk in &params.disks {
        snapshot::add_disk(tx, regular.id, disk.disk, disk.base.id)?;
    }
    let fresh = SnapshotRow {
        id: params.active,
        seq: active.seq + 1,
        ..active.clone()
    };
    Ok(snapshot::insert(tx, &fresh)?)
}

/// The saga.
pub(crate) struct Create {
    params: Params,
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
            freeze: self.params.running && self.params.memory.is_none(),
            freeze_limit: cx.engine.options.freeze_limit,
        }
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

    async fn prepare(&self, cx: &Cx) -> Result<Done, StepError> {
        let disks = self.params.disks.iter().map(|disk| disk.disk).collect();
        crate::files::expect_recorded(&cx.engine, disks).await?;
        let images = Arc::clone(&cx.engine.images);
        let mut tasks = tokio::task::JoinSet::new();
        for disk in self.params.disks.clone() {
            let images = Arc::clone(&images);
            tasks.spawn(async move {
                images
                    .create_overlay(&disk.overlay, &disk.base, disk.size_bytes, false)
                    .await
            });
        }
        while let Some(made) = tasks.join_next().await {
            made.map_err(Fault::internal)??;
        }
        if self.params.live {
            let Some(machine) = self.machine(cx) else {
                if cx.engine.is_unreachable(self.params.vm).await? {
                    return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
                }
                return Err(self.died().into());
            };
            for disk in &self.params.disks {
                let size = machine.disk_size(disk.disk).await?;
                if size != disk.size_bytes {
                    return Err(Fault::new(
                        FaultCode::ImageIllegal,
                        format!(
                            "Disk {} has {size} bytes in QEMU but {} on record.",
                            disk.disk, disk.size_bytes
                        ),
                    )
                    .into());
                }
                machine.open_overlay(&disk.overlay).await?;
            }
        }
        Ok(Done::nothing())
    }

    async fn undo_prepare(&self, cx: &Cx) -> Result<Undo, StepError> {
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

    async fn switch(&self, cx: &Cx) -> Result<Done, StepError> {
        let switched = if self.params.live {
            self.switch_live(cx).await?
        } else {
            self.switch_at_rest(cx).await?
        };
        if !switched.thawed {
            cx.engine.unthawed.add(self.params.vm);
        }
        let (params, actor, project) = (self.params.clone(), cx.actor(), cx.job.project);
        let done = Done::output(&switched)?;
        Ok(done.and(move |tx| {
            for disk in &params.disks {
                image::set_state(tx, disk.overlay.id, ImageState::Live)?;
                stillpoint_store::disk::set_image(tx, disk.disk, disk.overlay.id)?;
            }
            snapshot::set_date(tx, params.snapshot, now_micros())?;
            vm::touch(tx, params.vm)?;
            frozen_events(&switched, &params, &actor)
                .into_iter()
                .try_for_each(|event| event.vm(project, params.vm, &params.name).write(tx))
        }))
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
            return Ok(Switched {
                frozen: Frozen::NotAsked,
                thawed: true,
                method: None,
                save_failed: None,
            });
        }
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
            Ok(report) => Ok(Switched {
                frozen: report.frozen,
                thawed: report.thawed,
                method,
                save_failed,
            }),
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                cx.engine.hypervisor_gone(self.params.vm).await?;
                self.switched_before_death(cx).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The daemon died around the switch, QEMU lives: thaw first, then believe QEMU's graph.
    async fn switched_before_crash(&self, machine: &dyn Machine) -> Result<Switched, StepError> {
        let thawed = machine.thaw().await;
        match self.is_switched(machine).await? {
            true => {
                let frozen = Frozen::NotAsked;
                let method = self.params.memory.as_ref().map(|_| MemoryMethod::Background);
                Ok(Switched { frozen, thawed: thawed.is_ok(), method, save_failed: None })
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
                return Ok(Switched {
                    frozen: Frozen::NotAsked,
                    thawed: true,
                    method: None,
                    save_failed: None,
                });
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
            for disk in &self.params.disks {
                endpoint.open_overlay(&disk.overlay).await?;
            }
            endpoint.switch(&self.plan(cx)).await?;
            cx.engine.hypervisor.close_at_rest(cx.job.id).await?;
        }
        Ok(Switched {
            frozen: Frozen::NotAsked,
            thawed: true,
            method: None,
            save_failed: None,
        })
    }

    async fn undo_switch(&self, cx: &Cx) -> Result<Undo, StepError> {
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
        machine.thaw().await.map_err(StepError::later)?;
        if !self.params.disks.is_empty() && self.is_switched(machine.as_ref()).await? {
            return Ok(Undo::Forward);
        }
        self.run_again(machine.as_ref()).await.map_err(StepError::later)?;
        Ok(Undo::Undone)
    }

    /// Lets the guest run if it ran before we stopped it.
    async fn run_again(&self, machine: &dyn Machine) -> Result<(), crate::ports::DriverError> {
        use crate::ports::RunState;
        if self.params.running && machine.run_state().await? == RunState::Paused {
            machine.cont().await?;
        }
        Ok(())
    }

    async fn save(&self, cx: &Cx) -> Result<Done, StepError> {
        let Some(memory) = self.params.memory.clone() else {
            return Ok(Done::nothing());
        };
        let switched: Option<Switched> = cx.output("switch")?;
        let begun = switched.and_then(|s| s.save_failed);
        let saved = match (self.machine(cx), begun) {
            (None, _) if cx.engine.is_unreachable(self.params.vm).await? => {
                return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
            }
            (None, _) => Saved::Died,
            (Some(machine), Some(why)) => {
                self.run_again(machine.as_ref()).await.map_err(StepError::later)?;
                Saved::Lost(why)
            }
            (Some(machine), None) => self.finish_save(cx, machine.as_ref(), &memory).await?,
        };
        let size = match saved {
            Saved::Yes => cx.engine.images.memory_bytes(&memory).await?,
            Saved::Lost(_) | Saved::Died => {
                cx.engine.images.remove_memory(&memory).await?;
                0
            }
        };
        let (params, actor, project, domain) = (self.params.clone(), cx.actor(), cx.job.project, cx.engine.domain_id());
        let done = Done::output(&saved)?;
        Ok(done.and(move |tx| {
            match saved {
                Saved::Yes => {
                    snapshot::insert_memory(
                        tx,
                        &MemoryRow {
                            id: memory.id,
                            domain,
                            size_bytes: size,
                        },
                        now_micros(),
                    )?;
                    snapshot::set_memory(tx, params.snapshot, Some(memory.id))?;
                }
                Saved::Lost(why) => Event::new(
                    What::SnapshotMemoryLost,
                    format!(
                        "The memory of VM '{}' could not be saved; snapshot '{}' holds its disks only: {why}",
                        params.name, params.description
                    ),
                )
                .by(&actor)
                .vm(project, params.vm, &params.name)
                .write(tx)?,
                Saved::Died => {}
            }
            Ok(())
        }))
    }

    async fn finish_save(&self, cx: &Cx, machine: &dyn Machine, memory: &MemoryRef) -> Result<Saved, StepError> {
        let progress = cx.progress();
        let limit = cx.engine.options.memory_limit;
        let outcome = match tokio::time::timeout(limit, machine.finish_save(memory, &progress)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                machine.cancel_save().await.map_err(StepError::later)?;
                machine.finish_save(memory, &progress).await
            }
        };
        match outcome {
            Ok(MemorySave::Completed) => Ok(Saved::Yes),
            Ok(MemorySave::Failed(why)) => Ok(Saved::Lost(why)),
            Ok(MemorySave::None | MemorySave::Running(..)) => {
                self.run_again(machine).await.map_err(StepError::later)?;
                Ok(Saved::Lost(
                    "the saving had not begun when the daemon was restarted".into(),
                ))
            }
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                cx.engine.hypervisor_gone(self.params.vm).await?;
                Ok(Saved::Died)
            }
            Err(error) => Err(StepError::later(error)),
        }
    }
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
        for disk in &params.disks {
            snapshot::remove_disk(tx, params.snapshot, disk.disk)?;
            image::delete(tx, disk.overlay.id)?;
        }
        let fresh = snapshot::get(tx, params.active)?.ok_or_else(|| Fault::internal("active snapshot is gone"))?;
        let regular = snapshot::get(tx, params.snapshot)?.ok_or_else(|| Fault::internal("snapshot is gone"))?;
        snapshot::delete(tx, fresh.id)?;
        snapshot::update(
            tx,
            &SnapshotRow {
                id: regular.id,
                seq: regular.seq,
                ..fresh
            },
        )?;
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
    (job.kind == KIND && steps.iter().any(|step| open(&step)))
        .then_some(job.vm)
        .flatten()
}
