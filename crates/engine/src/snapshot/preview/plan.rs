//! Decides whether a snapshot may be previewed, and with which disks; writes the locks and the job. One transaction.

use super::{KIND, Params, VERSION};
use crate::{
    access::{self, Vm},
    command::{Accepted, Origin, PreviewDisk, PreviewSnapshot},
    config::{AttachmentConfig, SnapshotConfig},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, NewJob, NewStep, enqueue, from_json, to_json},
    limits,
    lock::{self, Entity, Wanted},
    ports::SwitchDisk,
    snapshot::{create, restore},
    vm::{configure::no_slot, spec},
};
use std::{collections::HashSet, sync::Arc};
use stillpoint_store::{
    Tx, disk, image,
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, JobId, MemoryId, Need, SnapshotId, SnapshotType, VmStatus};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: PreviewSnapshot,
) -> Result<Accepted<SnapshotId>, Fault> {
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let id = command.snapshot;
    let write = move |tx: &Tx| -> Result<_, Fault> { plan(&inner, tx, &who, &actor, &command, space.available_bytes) };
    let job = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn refuse(code: FaultCode, text: impl std::fmt::Display) -> Fault {
    Fault::new(code, format!("Cannot preview Snapshot. {text}"))
}

/// A disk in the preview.
struct Chosen {
    disk: DiskId,
    /// What it shall show.
    base: ImageId,
    size_bytes: u64,
    /// How it is attached meanwhile; `None`: not at all.
    attached: Option<AttachmentConfig>,
}

/// What all decisions are made from.
struct Scene<'a> {
    tx: &'a Tx,
    found: &'a Vm,
    row: &'a SnapshotRow,
    record: &'a SnapshotConfig,
    /// The VM's attachments as they are.
    now: &'a [AttachmentConfig],
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &PreviewSnapshot,
    available_bytes: u64,
) -> Result<JobId, Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let name = found.row.name.clone();
    if found.row.status != VmStatus::Down {
        let (status, doing) = (found.row.status, "previewing a snapshot");
        return Err(crate::vm::view::wrong_status(&name, status, doing, "down"));
    }
    let row = access::snapshot(tx, &found, command.snapshot).map_err(|fault| match fault.code {
        FaultCode::NotFound => {
            let text = format!("VM {name} has no snapshot {}.", command.snapshot);
            refuse(FaultCode::RelatedNotFound, text)
        }
        _ => fault,
    })?;
    lock::expect_free(tx, Entity::Vm(found.row.id), &name)?;
    super::expect_none(tx, found.row.id, "preview Snapshot")?;
    crate::backup::expect_none(tx, found.row.id, "preview Snapshot")?;
    if row.kind != SnapshotType::Regular {
        let text = format!("Snapshot {} is {}: name a regular one.", row.id, row.kind);
        return Err(refuse(FaultCode::InvalidValue, text));
    }
    crate::snapshot::expect_whole(tx, &row, "preview Snapshot")?;
    let text = row.config.as_deref().ok_or_else(|| {
        refuse(
            FaultCode::SnapshotBroken,
            format!("Snapshot {} has no configuration.", row.id),
        )
    })?;
    let record: SnapshotConfig = from_json(text)?;
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, limits::RESERVE_BYTES / 8)?;
    let now = create::attachments(tx, &found)?;
    let scene = Scene {
        tx,
        found: &found,
        row: &row,
        record: &record,
        now: &now,
    };
    let chosen = match &command.disks {
        None => scene.all()?,
        Some(disks) => scene.named(who, disks)?,
    };
    let memory = scene.memory(command, &chosen)?;
    let (chosen, left) = scene.with_the_rest(chosen)?;
    let disks = chosen
        .iter()
        .map(|disk| overlay(engine, &scene, disk))
        .collect::<Result<Vec<_>, _>>()?;
    let params = Params {
        vm: found.row.id,
        name,
        snapshot: row.id,
        description: row.description.clone(),
        active: SnapshotId::fresh(),
        disks,
        attached: scene.attachments(chosen)?,
        memory,
        left,
    };
    let text = format!(
        "Previewing of snapshot '{}' of VM '{}' was initiated by {}.",
        params.description, params.name, actor.name
    );
    Event::new(What::PreviewStarted, text)
        .by(actor)
        .vm(found.row.project, found.row.id, &found.row.name)
        .write(tx)?;
    enqueue(tx, actor, job(tx, &found, &params)?)
}

fn job(tx: &Tx, found: &Vm, params: &Params) -> Result<NewJob, Fault> {
    let mut locks = vec![
        Wanted::exclusive(Entity::Vm(found.row.id), &found.row.name),
        Wanted::exclusive(Entity::Snapshot(params.snapshot), &params.description),
    ];
    for disk in &params.disks {
        let alias = crate::disk::alias(tx, disk.disk)?;
        locks.push(Wanted::exclusive(Entity::Disk(disk.disk), &alias));
    }
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(params)?,
        description: format!("Preview VM Snapshot {} of VM {}", params.description, params.name),
        project: found.row.project,
        vm: Some(found.row.id),
        locks,
        steps: vec![
            NewStep::new("prepare", "Creating overlays on the chosen images"),
            NewStep::new("switch", "Switching the VM to the snapshot").pivot(),
        ],
    })
}

impl Scene<'_> {
    fn present(&self, id: DiskId) -> Result<disk::DiskRow, Fault> {
        disk::get(self.tx, id)?.ok_or_else(|| Fault::internal("a disk of a snapshot is gone"))
    }

    /// All that the snapshot holds; what it left out keeps its present content.
    fn all(&self) -> Result<Vec<Chosen>, Fault> {
        let held = snapshot::disks(self.tx, self.row.id)?;
        let mut chosen = Vec::new();
        for a in &self.record.attachments {
            let image = held.iter().find(|(disk, _)| *disk == a.disk).map(|(_, image)| *image);
            let Some(now) = disk::get(self.tx, a.disk)? else {
                continue;
            };
            let (base, size_bytes) = image.map_or((now.image, now.size_bytes), |image| (image, a.size_bytes));
            if image.is_none() && self.has_other_vm(a.disk)? {
                continue;
            }
            chosen.push(Chosen {
                disk: a.disk,
                base,
                size_bytes,
                attached: Some(a.clone()),
            });
        }
        Ok(chosen)
    }

    /// Another VM has it, or a client of the volume APIs.
    fn has_other_vm(&self, id: DiskId) -> Result<bool, Fault> {
        let all = vm::attachments_of_disk(self.tx, id)?;
        Ok(all.iter().any(|a| a.vm != self.found.row.id) || crate::volume::is_claimed(self.tx, &self.present(id)?)?)
    }

    /// The disks that the client named, each with an image of any snapshot of the VM, or with its present one.
    fn named(&self, who: &Caller, wanted: &[PreviewDisk]) -> Result<Vec<Chosen>, Fault> {
        if wanted.is_empty() {
            let text =
                "Action [disks.disk] required for previewSnapshot: name a disk, or leave the element out for all.";
            return Err(Fault::new(FaultCode::Incomplete, text));
        }
        let (mut seen, mut chosen) = (HashSet::new(), Vec::new());
        for want in wanted {
            let row = access::named_disk(self.tx, who, want.disk, Need::Operate)?;
            if row.project != self.found.row.project {
                let text = format!("The disk {} does not exist.", want.disk);
                return Err(Fault::new(FaultCode::RelatedNotFound, text));
            }
            let (base, size_bytes, attached) = self.source(&row, want)?;
            if !seen.insert(want.disk) {
                let text = format!("Disk {} is named more than once.", row.alias);
                return Err(refuse(FaultCode::DiskChoice, text));
            }
            chosen.push(Chosen {
                disk: want.disk,
                base,
                size_bytes,
                attached: Some(attached),
            });
        }
        Ok(chosen)
    }

    /// Image, size and attachment of a disk that the client named.
    fn source(&self, row: &disk::DiskRow, want: &PreviewDisk) -> Result<(ImageId, u64, AttachmentConfig), Fault> {
        if want.image.is_none() && want.snapshot.is_none() {
            let text = format!(
                "Disk [image_id] required for previewSnapshot: say which image of disk {} ({}) is meant.",
                row.alias, row.id
            );
            return Err(Fault::new(FaultCode::Incomplete, text));
        }
        let config_of = |all: &[AttachmentConfig]| all.iter().find(|a| a.disk == row.id).cloned();
        let now = config_of(self.now);
        let wished = config_of(&self.record.attachments);
        let mut is_held = false;
        for s in snapshot::of_vm(self.tx, self.found.row.id)? {
            let (image, then) = if s.kind == SnapshotType::Active {
                (now.as_ref().map(|_| row.image), now.clone())
            } else {
                let held = snapshot::disks(self.tx, s.id)?;
                let image = held.iter().find(|(disk, _)| *disk == row.id).map(|(_, image)| *image);
                let then = s.config.as_deref().map(from_json::<SnapshotConfig>).transpose()?;
                (image, then.and_then(|then| config_of(&then.attachments)))
            };
            let Some((image, then)) = image.zip(then) else {
                continue;
            };
            let is_meant = want.image.is_none_or(|id| id == image) && want.snapshot.is_none_or(|id| id == s.id);
            if is_meant {
                let size_bytes = then.size_bytes;
                let attached = wished.clone().or_else(|| now.clone()).unwrap_or(then);
                return Ok((image, size_bytes, attached));
            }
            is_held = true;
        }
        let meant = match (want.image, want.snapshot) {
            (Some(image), None) => format!("image {image}"),
            (Some(image), Some(of)) => format!("image {image} in snapshot {of}"),
            (None, of) => format!("image in snapshot {}", of.map(|id| id.to_string()).unwrap_or_default()),
        };
        let known = if is_held {
            "see the disks of its snapshots"
        } else {
            "none of its snapshots holds that disk"
        };
        let text = format!(
            "Disk {} has no {meant} that belongs to VM {}: {known}.",
            row.alias, self.found.row.name
        );
        Err(refuse(FaultCode::DiskChoice, text))
    }

    /// A memory fits only the disks of its own instant.
    fn memory(&self, command: &PreviewSnapshot, chosen: &[Chosen]) -> Result<Option<MemoryId>, Fault> {
        let Some(memory) = self.row.memory.filter(|_| command.memory != Some(false)) else {
            return Ok(None);
        };
        let held = snapshot::disks(self.tx, self.row.id)?;
        let is_whole = held.len() == chosen.len()
            && chosen
                .iter()
                .all(|c| held.iter().any(|(disk, image)| *disk == c.disk && *image == c.base));
        match (is_whole, command.memory) {
            (true, _) => Ok(Some(memory)),
            (false, Some(true)) => {
                let text = format!(
                    "The memory of snapshot {} fits only all of its own disks: name these, or set restore_memory to false.",
                    self.row.id
                );
                Err(refuse(FaultCode::DiskChoice, text))
            }
            (false, _) => Ok(None),
        }
    }

    /// And the disks that the VM has now and not in the preview: theirs go on in overlays, too, so that going back is
    /// exact.
    fn with_the_rest(&self, mut chosen: Vec<Chosen>) -> Result<(Vec<Chosen>, Vec<String>), Fault> {
        let mut left = Vec::new();
        for a in self.now {
            if chosen.iter().any(|c| c.disk == a.disk) {
                continue;
            }
            left.push(a.alias.clone());
            if self.has_other_vm(a.disk)? {
                continue;
            }
            let now = self.present(a.disk)?;
            chosen.push(Chosen {
                disk: a.disk,
                base: now.image,
                size_bytes: now.size_bytes,
                attached: None,
            });
        }
        Ok((chosen, left))
    }

    /// The attachments of the preview, with free places for those that the snapshot's configuration knows nothing of.
    fn attachments(&self, chosen: Vec<Chosen>) -> Result<Vec<AttachmentConfig>, Fault> {
        let config = &self.record.config;
        let is_recorded = |a: &AttachmentConfig| self.record.attachments.iter().any(|of| of.disk == a.disk);
        let (mut wanted, others): (Vec<_>, Vec<_>) =
            chosen.into_iter().filter_map(|c| c.attached).partition(is_recorded);
        for mut a in others {
            let rows: Vec<_> = wanted.iter().map(|a| a.row(self.found.row.id, 0)).collect();
            a.slot = spec::free_slot(config, &rows, a.interface).ok_or_else(|| no_slot(&self.found.row.name))?;
            a.bootable = a.bootable && !wanted.iter().any(|of| of.bootable);
            wanted.push(a);
        }
        Ok(wanted)
    }
}

/// Plans one overlay, checked.
fn overlay(engine: &Inner, scene: &Scene<'_>, chosen: &Chosen) -> Result<SwitchDisk, Fault> {
    let (tx, now) = (scene.tx, scene.present(chosen.disk)?);
    let alias = &now.alias;
    crate::volume::expect_unclaimed(tx, &now, "preview Snapshot", false)?;
    if scene.has_other_vm(now.id)? {
        let text = format!("Disk {alias} is attached to another VM; detach it there first.");
        return Err(refuse(FaultCode::DiskAttached, text));
    }
    super::expect_not_kept(tx, now.id, scene.found.row.id, "preview Snapshot")?;
    if let Some(why) = &now.illegal {
        return Err(refuse(
            FaultCode::ImageIllegal,
            format!("Disk {alias} is illegal: {why}."),
        ));
    }
    lock::expect_free(tx, Entity::Disk(now.id), alias)?;
    if image::is_half_merged(tx, chosen.base)? {
        let text = format!(
            "The removal of a snapshot was begun and failed, so image {} of disk {alias} holds a part of what was written \
             later. Remove that snapshot again.",
            chosen.base
        );
        return Err(refuse(FaultCode::SnapshotBroken, text));
    }
    let depth = image::chain(tx, chosen.base)?.len();
    if depth >= limits::CHAIN_MAX {
        let text = format!(
            "Disk {alias} has {depth} layers already; at most {} are allowed. Remove a snapshot first.",
            limits::CHAIN_MAX
        );
        return Err(refuse(FaultCode::ChainTooDeep, text));
    }
    let base = image::get(tx, chosen.base)?.ok_or_else(|| Fault::internal("an image of a snapshot is gone"))?;
    restore::plan_overlay(engine, tx, now.id, &base, chosen.size_bytes)
}
