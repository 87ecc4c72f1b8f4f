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
//! running VM has is frozen by a snapshot of the VM with that disk alone ([`crate::snapshot::create`]), a job of its own, for
//! whose end this one waits; with this one's end that snapshot's name goes again.
//!
//! # Crash consistency
//! The rows of the new volume are written with the job, and locked by it; its image is in state `creating`, which keeps what
//! is below it in its place. The source is locked, too, while it is frozen, and moves to its overlay with the step's record.
//! Whether an overlay's file is there says nothing before that, and nobody writes to it.

mod saga;
mod source;

use super::{
    GIB, gib, kind,
    message::{self, About, Doing},
    quota,
};
use crate::command::{
    Accepted, Origin,
    volume::{CreateVolume, VolumeSource},
};
use crate::view::volume::Usage;
use crate::{
    access,
    engine::Inner,
    fault::Fault,
    journal::{self, Actor},
    limits,
};
pub(crate) use saga::{KIND, load};
use source::{Base, Freeze};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::DiskRow,
    image::{ImageRow, ImageState},
    volume::{self, Beside},
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageFormat, ImageId, JobId, Need, VolumeStatus, now_micros};

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
    let write = move |tx: &Tx| plan(&inner, tx, &who, &actor, command, space.available_bytes);
    let (id, job, before) = engine.store.write(write).await?;
    if let Some(before) = before {
        journal::executor::drive(engine, before, false);
    }
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: CreateVolume,
    available_bytes: u64,
) -> Result<(DiskId, JobId, Option<JobId>), Fault> {
    let project = command.project;
    access::check(who, project, Need::Operate, "project", &project.to_string())?;
    let base = match command.source {
        VolumeSource::Blank => None,
        VolumeSource::Snapshot(id) => Some(source::of_snapshot(tx, who, id)?),
        VolumeSource::Volume(id) => Some(source::of_volume(tx, who, id)?),
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
    let Some(base) = base else {
        return Ok((id, blank(engine, tx, actor, &row, &beside)?, None));
    };
    let after = match base.freeze {
        Freeze::Live(source, vm) => Some(source::freeze_live(
            engine,
            tx,
            (who, actor),
            (id, source, vm),
            available_bytes,
        )?),
        Freeze::None | Freeze::AtRest(..) => None,
    };
    let job = saga::overlay(engine, tx, actor, row, &beside, base, after)?;
    Ok((id, job, after.map(|freezing| freezing.job)))
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
