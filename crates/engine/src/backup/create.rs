//! Begins a backup: what may be backed up, and when. Everything is decided in one transaction; the rest is the job's.

use super::{KIND, Params, VERSION, event};
use crate::{
    access::{self, Vm},
    command::{Accepted, CreateBackup, Origin},
    config::AttachmentConfig,
    engine::Inner,
    event::What,
    fault::Fault,
    journal::{self, Actor, NewJob, NewStep, enqueue_as, to_json},
    limits,
    lock::{self, Entity, Wanted},
    snapshot::create as switching,
};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Tx,
    backup::{self, BackupDiskRow, BackupRow},
    checkpoint, freeze, job, snapshot, volume_snapshot,
};
use stillpoint_types::{
    BackupId, BackupKind, BackupMode, BackupPhase, Caller, CheckpointId, FaultCode, JobId, Need, SnapshotId, VmStatus,
    now_micros,
};

/// What the snapshot of a backup is called (oVirt's words, by which clients know it).
const SNAPSHOT_TEXT: &str = "Auto-generated for Backup VM";

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateBackup,
) -> Result<Accepted<BackupId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let id = engine
        .store
        .write(move |tx| plan(&inner, tx, &who, &actor, &command, space.available_bytes))
        .await?;
    journal::executor::drive(engine, JobId(id.0), false);
    // A client that waits for the job would wait for his own finalize: no job in the answer.
    Ok(Accepted { id, job: None })
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &CreateBackup,
    available_bytes: u64,
) -> Result<BackupId, Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let all = switching::attachments(tx, &found)?;
    let chosen = choose(tx, who, &found, &all, command)?;
    if let Some(from) = command.from {
        expect_checkpoint(tx, &found, from)?;
    }
    let kind = kind(&found, command.use_active)?;
    super::expect_none(tx, command.vm, "back up the VM")?;
    lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
    crate::snapshot::preview::expect_none(tx, command.vm, "back up the VM")?;
    limits::text("description", &command.description, limits::BACKUP_TEXT_MAX)?;
    let id = free_id(tx, command.id)?;
    let needed = limits::RESERVE_BYTES;
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, needed)?;
    let mut disks = Vec::with_capacity(chosen.len());
    for attached in &chosen {
        disks.push(switching::overlay(engine, tx, attached, None)?);
    }
    let active = snapshot::active(tx, found.row.id)?.ok_or_else(|| Fault::internal("a VM without active snapshot"))?;
    let switch = switching::Params {
        vm: found.row.id,
        name: found.row.name.clone(),
        snapshot: if kind == BackupKind::Snapshot {
            active.id
        } else {
            SnapshotId::fresh()
        },
        active: SnapshotId::fresh(),
        description: SNAPSHOT_TEXT.into(),
        disks,
        memory: None,
        live: kind != BackupKind::Cold,
        running: kind != BackupKind::Cold,
        held: kind != BackupKind::Cold && freeze::until(tx, found.row.id)?.is_some(),
    };
    if kind == BackupKind::Snapshot {
        switching::rotate(tx, &found, &all, &active, &switch)?;
        mark(tx, id, &switch)?;
    }
    let row = row(engine, id, &found, command, kind, &switch);
    let read = |(attached, disk): (&AttachmentConfig, &crate::ports::SwitchDisk)| BackupDiskRow {
        disk: attached.disk,
        image: disk.base.id,
        size_bytes: attached.size_bytes,
        mode: BackupMode::Full,
        why_full: None,
    };
    let rows: Vec<_> = chosen.iter().zip(&switch.disks).map(read).collect();
    backup::insert(tx, &row, &rows)?;
    event(What::BackupStarted, &row, "it was started.")
        .by(actor)
        .write(tx)?;
    let require_consistency = command.require_consistency;
    let params = Params {
        switch,
        kind,
        require_consistency,
    };
    enqueue_as(tx, actor, JobId(id.0), job(&found, &chosen, &params)?)?;
    Ok(id)
}

/// The members of the backup's snapshot are not their users' (evs-cinder-api 3.10).
fn mark(tx: &Tx, id: BackupId, switch: &switching::Params) -> Result<(), Fault> {
    let is_whole = switch.disks.len() > 1;
    let kind = if is_whole { "csbs" } else { "vbs" };
    let said = [(crate::volume::snapshot::SERVER_BACKUP_KEY.to_owned(), "true".to_owned())];
    let metadata = said.into_iter().filter(|_| is_whole).collect();
    let name = format!("autobk_snapshot_{kind}_{id}");
    Ok(volume_snapshot::mark_backup(tx, switch.snapshot, id, &name, &metadata)?)
}

fn job(found: &Vm, chosen: &[AttachmentConfig], params: &Params) -> Result<NewJob, Fault> {
    let (vm, name) = (found.row.id, &found.row.name);
    let mut locks = vec![Wanted::exclusive(Entity::Vm(vm), name)];
    if params.kind == BackupKind::Snapshot {
        let snapshot = Entity::Snapshot(params.switch.snapshot);
        locks.push(Wanted::exclusive(snapshot, &params.switch.description));
    }
    locks.extend(chosen.iter().map(|a| Wanted::exclusive(Entity::Disk(a.disk), &a.alias)));
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(params)?,
        description: format!("Backing up VM {name}"),
        project: found.row.project,
        vm: Some(vm),
        locks,
        steps: vec![
            NewStep::new("prepare", "Creating overlays"),
            NewStep::new("switch", "Freezing all disks at one instant"),
            NewStep::new("maps", "Working out what changed"),
            NewStep::new("hold", "Holding the disks for download"),
        ],
    })
}

fn row(
    engine: &Inner,
    id: BackupId,
    found: &Vm,
    command: &CreateBackup,
    kind: BackupKind,
    switch: &switching::Params,
) -> BackupRow {
    let now = now_micros();
    BackupRow {
        id,
        project: found.row.project,
        vm: found.row.id,
        vm_name: found.row.name.clone(),
        description: command.description.clone(),
        kind,
        from: command.from,
        to: CheckpointId::fresh(),
        snapshot: (kind == BackupKind::Snapshot).then_some(switch.snapshot),
        phase: BackupPhase::Initializing,
        consistent: false,
        reason: None,
        lease_until: now.saturating_add(super::lease(engine)),
        created_at: now,
        modified_at: now,
        ended_at: None,
    }
}

/// The disks, in device order, checked in the order in which the Engine checks.
fn choose(
    tx: &Tx,
    who: &Caller,
    found: &Vm,
    all: &[AttachmentConfig],
    command: &CreateBackup,
) -> Result<Vec<AttachmentConfig>, Fault> {
    let refuse = |code, text: String| Err(Fault::new(code, format!("Cannot backup VM. {text}")));
    if command.disks.is_empty() {
        return Err(Fault::new(FaultCode::Incomplete, "Backup [disks.id] required for add"));
    }
    let (mut seen, mut chosen) = (HashSet::new(), Vec::new());
    for id in &command.disks {
        let row = access::named_disk(tx, who, *id, Need::Operate)?;
        let alias = &row.alias;
        if !seen.insert(*id) {
            return refuse(FaultCode::Duplicate, format!("Disk {alias} is named more than once."));
        }
        let name = &found.row.name;
        let Some(attached) = all.iter().find(|a| a.disk == *id) else {
            let text = format!("Disk {alias} ({id}) is not attached to VM {name}.");
            return refuse(FaultCode::DiskNotAttached, text);
        };
        if !attached.active {
            let text = format!("Disk {alias} ({id}) is not active on VM {name}: activate it first.");
            return refuse(FaultCode::DiskNotActive, text);
        }
        chosen.push(attached.clone());
    }
    chosen.sort_by_key(|a| all.iter().position(|of| of.disk == a.disk));
    Ok(chosen)
}

fn expect_checkpoint(tx: &Tx, found: &Vm, from: CheckpointId) -> Result<(), Fault> {
    let row = checkpoint::get(tx, from)?.filter(|row| row.vm == found.row.id);
    row.map(|_| ()).ok_or_else(|| {
        let text = format!(
            "Cannot backup VM. VM {} has no checkpoint {from}: take a full backup.",
            found.row.name
        );
        Fault::new(FaultCode::RelatedNotFound, text)
    })
}

fn kind(found: &Vm, use_active: bool) -> Result<BackupKind, Fault> {
    match (found.row.status, use_active) {
        (VmStatus::Down, _) => Ok(BackupKind::Cold),
        (VmStatus::Up, true) => Ok(BackupKind::Live),
        (VmStatus::Up, false) => Ok(BackupKind::Snapshot),
        (other, _) => Err(crate::vm::view::wrong_status(
            &found.row.name,
            other,
            "backing it up",
            "up or down",
        )),
    }
}

/// The id that the client chose, if it is free, or a fresh one.
fn free_id(tx: &Tx, wanted: Option<BackupId>) -> Result<BackupId, Fault> {
    let Some(id) = wanted else {
        return Ok(BackupId::fresh());
    };
    if backup::get(tx, id)?.is_none() && job::get(tx, JobId(id.0))?.is_none() {
        return Ok(id);
    }
    let text = format!("Cannot backup VM. Backup id {id} is in use already; choose another one.");
    Err(Fault::new(FaultCode::BackupIdInUse, text))
}
