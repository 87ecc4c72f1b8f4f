//! Makes a volume: blank, of what a snapshot holds, or of what another volume holds at this moment. Nothing is copied,
//! whatever the size: it is a new base image ([`crate::disk::create`]), or an overlay on an image that is there, as large as
//! is asked for.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `create` **pivot** | overlay files, durable; with the step's record the volumes stand on them | files removed, then the new volume's rows |
//!
//! An image that others stand on must not change. So what another volume holds is frozen: that volume goes on in an overlay
//! of its own, made in the same step, unless nothing was written to it since the last time (`volume.pristine`): then
//! both stand on its parent, and volumes that are made of one another in any number do not make chains deep. A volume that a
//! running VM has is not frozen here: a snapshot of it is ([`super::snapshot::create`]), and that can be the source.
//!
//! # Crash consistency
//! The rows of the new volume are written with the job, and locked by it; its image is in state `creating`, which keeps what
//! is below it in its place. The source is locked, too, while it is frozen, and moves to its overlay with the step's record.
//! Whether an overlay's file is there says nothing before that, and nobody writes to it.

use super::{
    GIB, called, gib, kind,
    message::{self, About, Doing},
    quota,
    snapshot::{self, create::refused},
    wrong_status,
};
use crate::command::{
    Accepted, Origin,
    volume::{CreateVolume, TypeRef, VolumeSource},
};
use crate::view::volume::Usage;
use crate::{
    access,
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{self, Entity, Wanted},
    ports::SwitchDisk,
    snapshot::{delete, preview, restore},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    job::JobRow,
    vm,
    volume::{self, Beside, VolumeRow},
};
use stillpoint_types::{
    Caller, DiskId, FaultCode, ImageFormat, ImageId, JobId, Need, VmId, VmStatus, VolumeSnapshotId, VolumeStatus,
    now_micros,
};

pub(crate) const KIND: &str = "volume_create";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    name: String,
    /// The new volume's overlay.
    new: SwitchDisk,
    /// The overlay in which the source goes on.
    source: Option<SwitchDisk>,
    /// The VM that has the source.
    vm: Option<VmId>,
}

/// What a volume begins as, looked up.
struct Base {
    image: ImageRow,
    size_bytes: u64,
    of_type: TypeRef,
    bootable: bool,
    from_snapshot: Option<VolumeSnapshotId>,
    from_volume: Option<DiskId>,
    /// The source that has to be frozen first, and the VM that has it.
    freeze: Option<(DiskRow, Option<(VmId, String)>)>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateVolume,
) -> Result<Accepted<DiskId>, Fault> {
    super::update::expect_texts(command.name.as_deref(), command.description.as_deref())?;
    super::metadata::expect_pairs(&command.metadata)?;
    if let Some(size_bytes) = command.size_bytes {
        limits::range("size", size_bytes, 1, limits::DISK_MAX_BYTES)?;
        if !size_bytes.is_multiple_of(GIB) {
            let text = format!("The size of a volume, {size_bytes} bytes, must be whole GiB.");
            return Err(Fault::new(FaultCode::InvalidValue, text));
        }
    }
    let space = engine.images.space(&engine.domain_path()).await?;
    crate::disk::create::expect_space(&engine.domain.name, space.available_bytes, limits::RESERVE_BYTES)?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| plan(&inner, tx, &who, &actor, command);
    let (id, job) = engine.store.write(write).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn plan(engine: &Inner, tx: &Tx, who: &Caller, actor: &Actor, command: CreateVolume) -> Result<(DiskId, JobId), Fault> {
    let project = command.project;
    access::check(who, project, Need::Operate, "project", &project.to_string())?;
    let base = match command.source {
        VolumeSource::Blank => None,
        VolumeSource::Snapshot(id) => Some(of_snapshot(tx, who, id)?),
        VolumeSource::Volume(id) => Some(of_volume(tx, who, id)?),
    };
    let size_bytes = size(&command, base.as_ref())?;
    let of_type = command.of_type.as_ref().or(base.as_ref().map(|base| &base.of_type));
    let of_type = kind::named(tx, who, of_type)?;
    quota::expect_size(tx, project, gib(size_bytes))?;
    let more = Usage {
        volumes: 1,
        gigabytes: gib(size_bytes),
        ..Usage::default()
    };
    quota::expect_room(tx, project, more)?;
    quota::of_type::expect_room(tx, project, (of_type.id, &of_type.name), more)?;
    let unsatisfied = kind::unsatisfied(&of_type.extra_specs);
    // What no storage can hold is not filled, either.
    let base = base.filter(|_| unsatisfied.is_none());
    let row = DiskRow {
        id: DiskId::fresh(),
        project,
        domain: engine.domain.id,
        alias: command.name.clone().unwrap_or_default(),
        description: command.description.clone().unwrap_or_default(),
        size_bytes,
        sparse: true,
        image: ImageId::fresh(),
        illegal: None,
        created_at: now_micros(),
    };
    let beside = Beside {
        disk: row.id,
        user: Some(who.user),
        of_type: of_type.id,
        stated: unsatisfied.is_some().then_some(VolumeStatus::Error),
        empty_name: command.name.as_deref() == Some(""),
        empty_description: command.description.as_deref() == Some(""),
        bootable: base.as_ref().and_then(|base| base.bootable.then_some(true)),
        from_snapshot: base.as_ref().and_then(|base| base.from_snapshot),
        from_volume: base.as_ref().and_then(|base| base.from_volume),
        metadata: command.metadata,
        pristine: base.is_some(),
    };
    if let Some(asked) = unsatisfied {
        let text = format!(
            "No storage has what type {} asks for: {asked}. Volume {} cannot be used.",
            of_type.name, row.id
        );
        let about = About::Volume(row.id);
        message::write(tx, project, about, Doing::Place, message::NO_STORAGE, text)?;
    }
    let id = row.id;
    let job = match base {
        None => blank(engine, tx, actor, &row, &beside)?,
        Some(base) => overlay(engine, tx, actor, row, &beside, base)?,
    };
    Ok((id, job))
}

fn size(command: &CreateVolume, base: Option<&Base>) -> Result<u64, Fault> {
    let least = base.map(|base| base.size_bytes);
    let wanted = command.size_bytes.or(least).ok_or_else(|| {
        let text = "A volume needs a size, or a snapshot or volume that it begins as.";
        Fault::new(FaultCode::Incomplete, text)
    })?;
    match least {
        Some(least) if wanted < least => {
            let text = format!(
                "Invalid input: a volume of {} GiB is smaller than what it shall begin as, {} GiB.",
                gib(wanted),
                gib(least)
            );
            Err(Fault::new(FaultCode::OutOfRange, text))
        }
        _ => Ok(wanted),
    }
}

fn blank(engine: &Inner, tx: &Tx, actor: &Actor, row: &DiskRow, beside: &Beside) -> Result<JobId, Fault> {
    let image = ImageRow {
        id: row.image,
        disk: row.id,
        parent: None,
        domain: row.domain,
        format: ImageFormat::Cow,
        size_bytes: row.size_bytes,
        state: ImageState::Creating,
        created_at: row.created_at,
    };
    crate::disk::create::insert(tx, &image, row)?;
    volume::insert(tx, beside)?;
    crate::disk::create::begin(engine, tx, actor, &image, row)
}

// ------------------------------------------------------------------------------------------------ sources

/// Others may stand on an image, and are not too many already.
fn expect_usable(tx: &Tx, id: ImageId) -> Result<ImageRow, Fault> {
    delete::expect_unmerged(tx, id)?;
    let chain = image::chain(tx, id)?;
    if chain.len() >= limits::CHAIN_MAX {
        let text = format!(
            "Image {id} has {} layers already; at most {} are allowed. Remove a snapshot first.",
            chain.len(),
            limits::CHAIN_MAX
        );
        return Err(Fault::new(FaultCode::ChainTooDeep, text));
    }
    let row = chain.into_iter().next_back();
    row.ok_or_else(|| Fault::internal("an image that a volume shall stand on is gone"))
}

fn of_snapshot(tx: &Tx, who: &Caller, id: VolumeSnapshotId) -> Result<Base, Fault> {
    let what = "making a volume of it";
    let (row, status) = snapshot::named(tx, who, id, Need::Read)?;
    snapshot::expect_unprotected(&row, "make a volume of the snapshot")?;
    let image = snapshot::usable_image(tx, &row, status, what)?;
    let image = expect_usable(tx, image)?;
    let of = volume::get(tx, row.disk)?.ok_or_else(|| Fault::internal("a snapshot of no volume"))?;
    Ok(Base {
        // An image is never smaller than what the disk was when it was frozen.
        size_bytes: row.size_bytes.max(image.size_bytes),
        image,
        of_type: TypeRef::Id(of.of_type.0),
        bootable: of.bootable,
        from_snapshot: Some(id),
        from_volume: None,
        freeze: None,
    })
}

fn of_volume(tx: &Tx, who: &Caller, id: DiskId) -> Result<Base, Fault> {
    let row = super::named(tx, who, id, Need::Read)?;
    if !matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) {
        return Err(wrong_status(&row, "making a volume of it", "available or in-use"));
    }
    lock::expect_free(tx, Entity::Disk(id), &called(&row.disk)).map_err(refused)?;
    let active = expect_usable(tx, row.disk.image)?;
    let (image, freeze) = match active.parent.filter(|_| row.pristine) {
        Some(parent) => (expect_usable(tx, parent)?, None),
        None => (active, Some(at_rest(tx, &row).map_err(refused)?)),
    };
    Ok(Base {
        size_bytes: row.disk.size_bytes.max(image.size_bytes),
        image,
        of_type: TypeRef::Id(row.of_type.0),
        bootable: row.bootable,
        from_snapshot: None,
        from_volume: Some(id),
        freeze: freeze.map(|vm| (row.disk, vm)),
    })
}

/// The VM that has a volume; it must be down, so that nobody writes to the volume.
fn at_rest(tx: &Tx, row: &VolumeRow) -> Result<Option<(VmId, String)>, Fault> {
    crate::backup::expect_none_of_disk(tx, row.disk.id, "make a volume of it")?;
    let Some(a) = vm::attachments_of_disk(tx, row.disk.id)?.into_iter().next() else {
        return Ok(None);
    };
    let found = vm::get(tx, a.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    if found.status != VmStatus::Down {
        let text = format!(
            "Invalid volume: VM {}, which has volume {}, is {}: take a snapshot of the volume, and make one of that.",
            found.name, row.disk.id, found.status
        );
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    lock::expect_free(tx, Entity::Vm(found.id), &found.name)?;
    preview::expect_none(tx, found.id, "make a volume of its disk")?;
    Ok(Some((found.id, found.name)))
}

/// Rows and the job of a volume on an image that is there.
fn overlay(engine: &Inner, tx: &Tx, actor: &Actor, row: DiskRow, beside: &Beside, base: Base) -> Result<JobId, Fault> {
    let new = restore::plan_overlay(engine, tx, row.id, &base.image, row.size_bytes)?;
    let row = DiskRow {
        image: new.overlay.id,
        ..row
    };
    disk::insert(tx, &row)?;
    volume::insert(tx, beside)?;
    let name = called(&row);
    let mut locks = vec![Wanted::exclusive(Entity::Disk(row.id), &name)];
    let (mut source, mut vm) = (None, None);
    if let Some((frozen, of)) = base.freeze {
        locks.push(Wanted::exclusive(Entity::Disk(frozen.id), &called(&frozen)));
        source = Some(restore::plan_overlay(
            engine,
            tx,
            frozen.id,
            &base.image,
            frozen.size_bytes,
        )?);
        if let Some((id, of)) = of {
            locks.push(Wanted::exclusive(Entity::Vm(id), &of));
            vm = Some(id);
        }
    }
    let params = Params {
        name: name.clone(),
        new,
        source,
        vm,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Adding Disk {name}"),
        project: row.project,
        vm: None,
        locks,
        steps: vec![NewStep::new("create", "Creating overlays on the source's image").pivot()],
    };
    enqueue(tx, actor, job)
}

// ------------------------------------------------------------------------------------------------ the saga

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
    fn overlays(&self) -> Vec<SwitchDisk> {
        let Params { new, source, .. } = &self.params;
        [new].into_iter().chain(source).cloned().collect()
    }

    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .disk(job.project, self.params.new.disk, &self.params.name)
            .write(tx)
    }
}

#[async_trait]
impl Saga for Create {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        restore::make_overlays(cx, &self.overlays()).await?;
        let params = self.params.clone();
        Ok(Done::nothing().and(move |tx| {
            image::set_state(tx, params.new.overlay.id, ImageState::Live)?;
            if let Some(source) = params.source {
                image::set_state(tx, source.overlay.id, ImageState::Live)?;
                disk::set_image(tx, source.disk, source.overlay.id)?;
                // A VM that has it may write to it from its next start on.
                let free = vm::attachments_of_disk(tx, source.disk)?.is_empty();
                volume::set_pristine(tx, source.disk, free)?;
            }
            params.vm.map_or(Ok(()), |id| Ok(vm::touch(tx, id)?))
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        restore::withdraw_overlays(cx, &self.overlays()).await?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let text = format!("The disk {} was successfully added.", self.params.name);
        self.tell(tx, job, What::DiskAdded, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        disk::delete(tx, self.params.new.disk)?;
        for overlay in self.overlays() {
            image::delete(tx, overlay.overlay.id)?;
        }
        let text = format!("Add-Disk operation failed for disk {}: {}", self.params.name, why.text);
        let about = About::Volume(self.params.new.disk);
        message::write(tx, job.project, about, Doing::Create, message::UNKNOWN, &text)?;
        self.tell(tx, job, What::DiskAddFailed, text)
    }
}
