//! Decides whether a snapshot may be taken and what it consists of; writes its rows, its locks and its job.
//!
//! One write transaction: what is checked here cannot change before it is written.

use super::{KIND, Params, VERSION};
use crate::{
    access::{self, Vm},
    command::{Accepted, CreateSnapshot, Origin, SnapshotDisk},
    config::{AttachmentConfig, SnapshotConfig},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, NewJob, NewStep, enqueue, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::SwitchDisk,
};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Conn, Tx, freeze,
    image::{self, ImageRow, ImageState},
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{
    Caller, FaultCode, ImageFormat, ImageId, MemoryId, Need, SnapshotId, SnapshotType, VmStatus, now_micros,
};

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

/// Checks and plans, in the transaction that is given.
pub(crate) fn plan(
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
    crate::snapshot::preview::expect_none(tx, found.row.id, "create Snapshot")?;
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
    // Nor may it be one of a frozen guest: that would wake up frozen, with nobody to thaw it.
    let held = live && freeze::until(tx, found.row.id)?.is_some();
    let memory =
        (command.memory && live && whole && !held && !all.is_empty()).then(|| engine.memory_ref(MemoryId::fresh()));
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
        held,
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
        tell_without_memory(tx, actor, &found, &params)?;
    }
    let job = enqueue(tx, actor, job(&found, &chosen, &params)?)?;
    Ok(Accepted {
        id: params.snapshot,
        job: Some(job),
    })
}

fn tell_without_memory(tx: &Tx, actor: &Actor, found: &Vm, params: &Params) -> Result<(), Fault> {
    let why = if params.held {
        "its file systems are frozen by its user"
    } else {
        "the snapshot does not hold all of its disks"
    };
    let text = format!("The memory of VM '{}' is not saved: {why}.", params.name);
    Event::new(What::SnapshotMemoryLost, text)
        .by(actor)
        .vm(found.row.project, found.row.id, &found.row.name)
        .write(tx)
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
pub(crate) fn overlay(
    engine: &Inner,
    tx: &Tx,
    a: &AttachmentConfig,
    image: Option<ImageId>,
) -> Result<SwitchDisk, Fault> {
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
pub(crate) fn rotate(
    tx: &Tx,
    found: &Vm,
    all: &[AttachmentConfig],
    active: &SnapshotRow,
    params: &Params,
) -> Result<(), Fault> {
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
        consistency: None,
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
