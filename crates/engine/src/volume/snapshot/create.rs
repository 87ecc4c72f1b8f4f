//! Takes a snapshot of one volume.
//!
//! | the volume | how | the answer comes |
//! |---|---|---|
//! | a VM of ours has it | a VM snapshot of that disk alone ([`crate::snapshot::create`]), whose member is the snapshot | with a running VM: after the switch, so that what is written later is not in it; else at once, as the locks keep the VM down |
//! | nobody has it, or a server outside | a row in state `creating`, which the disk's one job settles with all others of the same moment ([`super::settle`]) | at once: the job's lock keeps everybody from the disk |
//! | the same, and nothing was written since its active image was made | a row that names that one's parent | at once |
//!
//! So in a burst each snapshot costs its row. Whatever dies, what was answered becomes `available`, or `error` with a reason.

use super::{settle, update};
use crate::command::{
    Accepted, CreateSnapshot, Origin, SnapshotDisk,
    volume::{CreateVolumeSnapshot, Metadata},
};
use crate::view::volume::Usage;
use crate::volume::{called, find, gib, quota, wrong_status};
use crate::{
    engine::Inner,
    fault::Fault,
    journal::{self, Actor},
    limits,
    lock::{self, Entity},
};
use std::{sync::Arc, time::Duration};
use stillpoint_store::{
    Conn, Tx,
    image::{self, ImageState},
    vm::{self, AttachmentRow},
    volume::VolumeRow,
    volume_snapshot::{self, Texts, VolumeSnapshotRow},
};
use stillpoint_types::{
    Access, Caller, FaultCode, ImageFormat, ImageId, JobId, Need, VmStatus, VolumeSnapshotId, VolumeSnapshotStatus,
    VolumeStatus, now_micros,
};

/// How long an answer waits for the switch of a running VM: longer than a freeze may take. It goes on after that.
const LIVE_MAX: Duration = Duration::from_secs(30);

/// What follows the rows.
enum Work {
    /// Nothing: it is made.
    None,
    /// A job of this command's own, or nothing new: another one's job does it.
    AtRest(Option<JobId>),
    /// A job that switches a running VM.
    Live(JobId),
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateVolumeSnapshot,
) -> Result<Accepted<VolumeSnapshotId>, Fault> {
    update::check(
        command.name.as_deref(),
        command.description.as_deref(),
        &command.metadata,
    )?;
    let space = engine.images.space(&engine.domain_path()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| plan(&inner, tx, &who, &actor, command, space.available_bytes);
    let (id, work) = engine.store.write(write).await?;
    let job = match work {
        Work::None | Work::AtRest(None) => None,
        Work::AtRest(Some(job)) => {
            journal::executor::drive(engine, job, false);
            Some(job)
        }
        Work::Live(job) => {
            journal::executor::drive(engine, job, false);
            if let Err(fault) = engine.ended(job, LIVE_MAX).await {
                // The row tells it, as it does of one that fails later.
                tracing::info!(snapshot = %id, fault = fault.log_chain(), "a snapshot was answered before it was made");
            }
            Some(job)
        }
    };
    Ok(Accepted { id, job })
}

/// What another dialect refuses for the state of things, as the volume APIs call it. A snapshot of the VM that is being
/// taken or removed is soon over: it is worth while to wait.
pub(crate) fn refused(fault: Fault) -> Fault {
    use FaultCode::{
        DiskAttached, DiskNotAttached, DuringBackup, DuringSnapshot, ImageIllegal, InPreview, Locked, SnapshotBroken,
        SnapshotNotRegular, VmStatus, VolumeStatus,
    };
    match fault.code {
        DuringSnapshot => fault.with_code(VolumeStatus).passing(),
        Locked | DuringBackup | VmStatus | InPreview | DiskAttached | DiskNotAttached | ImageIllegal
        | SnapshotBroken | SnapshotNotRegular => fault.with_code(VolumeStatus),
        _ => fault,
    }
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: CreateVolumeSnapshot,
    available_bytes: u64,
) -> Result<(VolumeSnapshotId, Work), Fault> {
    let volume = find(tx, who, command.volume, Need::Operate)?;
    if volume.status != VolumeStatus::Available && !command.also_when.contains(&volume.status) {
        return Err(wrong_status(&volume, "taking a snapshot of it", "available"));
    }
    let more = Usage {
        snapshots: 1,
        gigabytes: gib(volume.disk.size_bytes),
        ..Usage::default()
    };
    quota::expect_room(tx, volume.disk.project, more)?;
    quota::of_type::expect_room(tx, volume.disk.project, (volume.of_type.0, &volume.of_type.1), more)?;
    let id = VolumeSnapshotId::fresh();
    let CreateVolumeSnapshot {
        name,
        description,
        metadata,
        ..
    } = command;
    let texts = Texts {
        name,
        description,
        metadata,
    };
    let work = match vm::attachments_of_disk(tx, volume.disk.id)?.as_slice() {
        [] => alone(engine, tx, actor, &volume, (id, texts), available_bytes)?,
        [one] => attached(engine, tx, (who, actor), &volume, one, (id, texts), available_bytes)?,
        _ => return Err(wrong_status(&volume, "taking a snapshot of it", "attached once")),
    };
    Ok((id, work))
}

/// A VM of ours has it.
fn attached(
    engine: &Inner,
    tx: &Tx,
    (who, actor): (&Caller, &Actor),
    volume: &VolumeRow,
    by: &AttachmentRow,
    (id, texts): (VolumeSnapshotId, Texts),
    available_bytes: u64,
) -> Result<Work, Fault> {
    let found = vm::get(tx, by.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    if who.may(found.project, Need::Operate) != Access::Allowed {
        let text = format!(
            "Invalid volume: volume {} is attached to a VM of another project, which takes its snapshots.",
            volume.disk.id
        );
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    let command = CreateSnapshot {
        vm: by.vm,
        description: format!("cinder:{id}"),
        memory: false,
        disks: Some(vec![SnapshotDisk {
            disk: by.disk,
            image: None,
        }]),
    };
    let accepted = crate::snapshot::create::plan(engine, tx, who, actor, &command, available_bytes).map_err(refused)?;
    volume_snapshot::claim_member(tx, accepted.id, by.disk, id, who.user, &texts)?;
    let is_live = matches!(found.status, VmStatus::Up | VmStatus::Paused);
    Ok(match accepted.job {
        Some(job) if is_live => Work::Live(job),
        job => Work::AtRest(job),
    })
}

/// No VM of ours has it.
fn alone(
    engine: &Inner,
    tx: &Tx,
    actor: &Actor,
    volume: &VolumeRow,
    (id, texts): (VolumeSnapshotId, Texts),
    available_bytes: u64,
) -> Result<Work, Fault> {
    let disk = &volume.disk;
    if let Some(why) = &disk.illegal {
        let text = format!("Invalid volume: volume {} is unusable: {why}.", disk.id);
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    // Its job is under way; or the daemon merges what lies below, which changes nothing that the disk shows: the end of that
    // begins the job.
    let holder = lock::holding_saga(tx, Entity::Disk(disk.id))?;
    let is_waited_for = matches!(
        holder.as_deref(),
        Some(settle::KIND | crate::snapshot::delete::KIND_MERGE)
    );
    if !is_waited_for {
        lock::expect_free(tx, Entity::Disk(disk.id), &called(disk)).map_err(refused)?;
    }
    let same = if is_waited_for || !volume.pristine {
        None
    } else {
        shown_below(tx, disk.image, disk.size_bytes)?
    };
    // Two snapshots of a volume are never of the same instant, so that there is always a newest one.
    let before = volume_snapshot::newest(tx, disk.id)?.map_or(0, |newest| newest.created_at);
    let row = VolumeSnapshotRow {
        id,
        disk: disk.id,
        project: disk.project,
        user: Some(actor.user),
        name: texts.name,
        description: texts.description,
        metadata: Metadata::clone(&texts.metadata),
        size_bytes: disk.size_bytes,
        status: if same.is_some() {
            VolumeSnapshotStatus::Available
        } else {
            VolumeSnapshotStatus::Creating
        },
        progress: if same.is_some() { 100 } else { 0 },
        reason: None,
        created_at: now_micros().max(before + 1),
        updated_at: None,
        vm_snapshot: None,
        image: same,
        backup: None,
        by_volume: true,
    };
    volume_snapshot::insert(tx, &row)?;
    if same.is_some() {
        return Ok(Work::None);
    }
    if is_waited_for {
        return Ok(Work::AtRest(None));
    }
    crate::disk::create::expect_space(&engine.house.domain_name(), available_bytes, limits::RESERVE_BYTES)?;
    Ok(Work::AtRest(Some(settle::enqueue(tx, actor, disk)?)))
}

/// The parent of an active image that holds nothing, if it shows the same: it has the size, and is a moment that was.
pub(super) fn shown_below(conn: &Conn, active: ImageId, size_bytes: u64) -> Result<Option<ImageId>, Fault> {
    let Some(active) = image::get(conn, active)?.filter(|row| row.state == ImageState::Live) else {
        return Ok(None);
    };
    let Some(parent) = active.parent.map(|id| image::get(conn, id)).transpose()?.flatten() else {
        return Ok(None);
    };
    let fits = active.format == ImageFormat::Cow
        && parent.state == ImageState::Live
        && [active.size_bytes, parent.size_bytes] == [size_bytes; 2]
        && !image::is_half_merged(conn, parent.id)?;
    Ok(fits.then_some(parent.id))
}
