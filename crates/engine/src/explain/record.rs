//! What the catalogue says of a thing, in one read transaction: its status and how that comes about, locks, jobs, chains.

use super::with_steps;
use crate::{
    access,
    fault::Fault,
    journal::from_json,
    lock::moment,
    ports::ProcessRecord,
    view::explain::{Kind, LockView},
};
use std::collections::BTreeSet;
use stillpoint_store::{
    Conn, backup, checkpoint,
    disk::{self, DiskRow},
    event::{self, EventRow},
    freeze,
    image::{self, ImageRow},
    job::{self, JobRow, StepRow},
    preview, snapshot, transfer,
    vm::{self, VmRow},
    volume_snapshot,
};
use stillpoint_types::{
    BackupPhase, Caller, CheckpointState, DiskId, ImageId, JobId, JobState, Micros, Need, ProjectId, SnapshotId,
    SnapshotType, VmId, VmStatus,
};

/// Events that are told.
const EVENTS: u32 = 10;

/// A chain on record.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) disk: DiskId,
    pub(super) alias: String,
    /// The image that the disk's guest writes to; `None`: the chain is not the disk's active one.
    pub(super) active: Option<ImageId>,
    /// The VM that has the disk plugged.
    pub(super) plugged: Option<VmId>,
    /// Base first, each with the snapshots that hold it, and whether a merge of it was given up half way.
    pub(super) images: Vec<(ImageRow, Vec<SnapshotId>, bool)>,
    /// Why it is marked unusable.
    pub(super) illegal: Option<String>,
}

/// A VM on record.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) row: VmRow,
    pub(super) process: Option<ProcessRecord>,
    /// Until when its guest is frozen by its user.
    pub(super) frozen_until: Option<Micros>,
    pub(super) is_preview: bool,
}

/// Everything that is recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project: ProjectId,
    pub(super) status: String,
    pub(super) why: Vec<String>,
    pub(super) locks: Vec<LockView>,
    pub(super) jobs: Vec<(JobRow, Vec<StepRow>)>,
    pub(super) machine: Option<Machine>,
    pub(super) chains: Vec<Chain>,
    pub(super) events: Vec<EventRow>,
}

/// What is to be read besides the thing's own row.
#[derive(Debug, Default)]
struct About {
    /// Whose process is looked at.
    vm: Option<VmId>,
    /// Whose active chains are looked at.
    disks: Vec<DiskId>,
    /// Other chains: by disk, the image at which they end.
    ends: Vec<(DiskId, ImageId)>,
    /// What may be locked.
    lockable: Vec<(&'static str, String)>,
    /// Its own job.
    job: Option<JobId>,
    events: Events,
}

#[derive(Debug, Default)]
enum Events {
    #[default]
    None,
    Vm(VmId),
    Disk(DiskId),
    Request(String),
}

struct Head {
    name: String,
    project: ProjectId,
    status: String,
    why: Vec<String>,
}

pub(super) fn read(conn: &Conn, who: &Caller, kind: Kind, id: &str) -> Result<Recorded, Fault> {
    let (head, about) = match kind {
        Kind::Vm => of_vm(conn, who, parsed(kind, id)?)?,
        Kind::Disk => of_disk(conn, who, parsed(kind, id)?)?,
        Kind::Snapshot => of_snapshot(conn, who, parsed(kind, id)?)?,
        Kind::Backup => of_backup(conn, who, parsed(kind, id)?)?,
        Kind::Checkpoint => of_checkpoint(conn, who, parsed(kind, id)?)?,
        Kind::Transfer => of_transfer(conn, who, parsed(kind, id)?)?,
        Kind::Job => of_job(conn, who, parsed(kind, id)?)?,
        Kind::VolumeSnapshot => of_volume_snapshot(conn, who, parsed(kind, id)?)?,
    };
    let locks = locks(conn, &about)?;
    let ids: BTreeSet<JobId> = locks.iter().map(|lock| lock.job).chain(about.job).collect();
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(job::get(conn, id)?);
    }
    let machine = about.vm.map(|id| machine(conn, id)).transpose()?.flatten();
    let mut chains = Vec::new();
    for id in &about.disks {
        if let Some(row) = disk::get(conn, *id)? {
            let top = row.image;
            chains.push(chain(conn, &row, top)?);
        }
    }
    for (id, top) in &about.ends {
        if let Some(row) = disk::get(conn, *id)? {
            chains.push(chain(conn, &row, *top)?);
        }
    }
    let events = match &about.events {
        Events::None => Vec::new(),
        Events::Vm(id) => event::about(conn, Some(*id), None, EVENTS)?,
        Events::Disk(id) => event::about(conn, None, Some(*id), EVENTS)?,
        Events::Request(id) => event::of_request(conn, id, EVENTS)?,
    };
    // A thing that was given away leaves its old events with whom it belonged to.
    let visible = |row: &EventRow| match row.project {
        Some(project) => who.may(project, Need::Read) == stillpoint_types::Access::Allowed,
        None => who.is_admin,
    };
    Ok(Recorded {
        kind,
        id: id.to_ascii_lowercase(),
        name: head.name,
        project: head.project,
        status: head.status,
        why: head.why,
        jobs: with_steps(conn, who, rows)?,
        locks,
        machine,
        chains,
        events: events.into_iter().filter(visible).collect(),
    })
}

/// An id; what is none names nothing.
fn parsed<T: std::str::FromStr>(kind: Kind, id: &str) -> Result<T, Fault> {
    id.parse().map_err(|_no_id| Fault::not_found(kind.word(), id))
}

fn locks(conn: &Conn, about: &About) -> Result<Vec<LockView>, Fault> {
    let mut all: Vec<LockView> = Vec::new();
    for (kind, id) in &about.lockable {
        all.extend(job::locks_of(conn, kind, id)?.into_iter().map(crate::job::lock_view));
    }
    if let Some(id) = about.job {
        let own = job::locks_by(conn, id)?.into_iter().map(crate::job::lock_view);
        let fresh: Vec<LockView> = own.filter(|lock| !all.contains(lock)).collect();
        all.extend(fresh);
    }
    Ok(all)
}

fn machine(conn: &Conn, id: VmId) -> Result<Option<Machine>, Fault> {
    let Some(row) = vm::get(conn, id)? else { return Ok(None) };
    Ok(Some(Machine {
        process: row.process.as_deref().map(from_json).transpose()?,
        frozen_until: freeze::until(conn, id)?,
        is_preview: preview::of_vm(conn, id)?.is_some(),
        row,
    }))
}

fn chain(conn: &Conn, row: &DiskRow, top: ImageId) -> Result<Chain, Fault> {
    let mut images = Vec::new();
    for image in image::chain(conn, top)? {
        let (snapshots, half) = (
            snapshot::of_image(conn, image.id)?,
            image::is_half_merged(conn, image.id)?,
        );
        images.push((image, snapshots, half));
    }
    let is_active = row.image == top;
    let plugged = if is_active {
        let attached = vm::attachments_of_disk(conn, row.id)?;
        attached.iter().find(|a| a.active).map(|a| a.vm)
    } else {
        None
    };
    Ok(Chain {
        disk: row.id,
        alias: row.alias.clone(),
        active: is_active.then_some(top),
        plugged,
        images,
        illegal: row.illegal.clone(),
    })
}

/// The first sentence about a lock, if the thing itself has one.
fn held(conn: &Conn, kind: &str, id: &str) -> Result<Option<String>, Fault> {
    Ok(job::holder(conn, kind, id)?.map(|lock| {
        format!(
            "It is locked since {} by job {} ({}): a lock lives exactly as long as its job.",
            moment(lock.since),
            lock.job,
            lock.what
        )
    }))
}

fn of_vm(conn: &Conn, who: &Caller, id: VmId) -> Result<(Head, About), Fault> {
    let found = access::vm(conn, who, id, Need::Read)?;
    let attached = vm::attachments(conn, id)?;
    let mut why = Vec::new();
    let row = &found.row;
    why.push(match row.status {
        VmStatus::Down => match row.stopped_at {
            Some(at) => format!("It has no process: it ended at {}.", moment(at)),
            None => "It has no process: it was never started.".to_owned(),
        },
        VmStatus::Suspended => "It has no process; its next start goes on from a saved memory.".to_owned(),
        VmStatus::NotResponding => {
            "Its process lives, but its monitor does not answer; nothing is guessed until it does, or is gone."
                .to_owned()
        }
        VmStatus::Paused => match row.status_detail.as_str() {
            "" => "Its processors are stopped.".to_owned(),
            detail => format!("Its processors are stopped: {detail}."),
        },
        VmStatus::Up => match row.started_at {
            Some(at) => format!("Its process runs since {}.", moment(at)),
            None => "Its process runs.".to_owned(),
        },
        VmStatus::PoweringUp => "It is being started.".to_owned(),
        VmStatus::PoweringDown => "Its guest was asked to shut down.".to_owned(),
    });
    why.extend(held(conn, "vm", &id.to_string())?);
    if let Some(preview) = preview::of_vm(conn, id)? {
        why.push(format!(
            "It previews snapshot {} since {}: until that is committed or undone there are no snapshots and backups.",
            preview.snapshot,
            moment(preview.created_at)
        ));
    }
    let mut lockable = vec![("vm", id.to_string())];
    lockable.extend(attached.iter().map(|a| ("disk", a.disk.to_string())));
    // Locked snapshots are few, those of a VM may be many.
    for lock in job::locks(conn, "snapshot")? {
        let of = lock.entity.parse().ok().map(|id| snapshot::get(conn, id)).transpose()?;
        if of.flatten().is_some_and(|row| row.vm == id) && !lockable.contains(&("snapshot", lock.entity.clone())) {
            lockable.push(("snapshot", lock.entity));
        }
    }
    let head = Head {
        name: row.name.clone(),
        project: row.project,
        status: row.status.to_string(),
        why,
    };
    let about = About {
        vm: Some(id),
        disks: attached.iter().map(|a| a.disk).collect(),
        lockable,
        events: Events::Vm(id),
        ..About::default()
    };
    Ok((head, about))
}

fn of_disk(conn: &Conn, who: &Caller, id: DiskId) -> Result<(Head, About), Fault> {
    let row = access::disk(conn, who, id, Need::Read)?;
    let attached = vm::attachments_of_disk(conn, id)?;
    let lock = held(conn, "disk", &id.to_string())?;
    let status = match (&row.illegal, &lock) {
        (_, Some(_)) => "locked",
        (Some(_), None) => "illegal",
        (None, None) => "ok",
    };
    let mut why: Vec<String> = lock.into_iter().collect();
    if let Some(reason) = &row.illegal {
        why.push(format!("It is marked unusable: {reason}."));
    }
    if why.is_empty() {
        why.push("No job holds it, and nothing is known to be wrong with it.".to_owned());
    }
    let vm = attached
        .iter()
        .find(|a| a.active)
        .or_else(|| attached.first())
        .map(|a| a.vm);
    if let Some(backup) = backup::live_of_disk(conn, id)? {
        why.push(format!(
            "Backup {} reads it since {}: what it reads is kept as it is.",
            backup.id,
            moment(backup.created_at)
        ));
    }
    let mut lockable = vec![("disk", id.to_string())];
    lockable.extend(attached.iter().map(|a| ("vm", a.vm.to_string())));
    let head = Head {
        name: row.alias,
        project: row.project,
        status: status.to_owned(),
        why,
    };
    let about = About {
        vm,
        disks: vec![id],
        lockable,
        events: Events::Disk(id),
        ..About::default()
    };
    Ok((head, about))
}

fn of_snapshot(conn: &Conn, who: &Caller, id: SnapshotId) -> Result<(Head, About), Fault> {
    let missing = || Fault::not_found("snapshot", id);
    let row = snapshot::get(conn, id)?.ok_or_else(missing)?;
    let found = access::vm(conn, who, row.vm, Need::Read).map_err(|_of_vm| missing())?;
    let lock = held(conn, "snapshot", &id.to_string())?;
    let previewed = preview::of_vm(conn, row.vm)?.filter(|preview| preview.snapshot == id);
    let status = match (&lock, &previewed) {
        (Some(_), _) => "locked",
        (None, Some(_)) => "in_preview",
        (None, None) => "ok",
    };
    let mut why: Vec<String> = lock.into_iter().collect();
    if let Some(preview) = previewed {
        why.push(format!("Its VM previews it since {}.", moment(preview.created_at)));
    }
    if why.is_empty() {
        why.push("No job holds it, and it is not being previewed.".to_owned());
    }
    let ends = match row.kind {
        SnapshotType::Active => Vec::new(),
        SnapshotType::Regular | SnapshotType::Preview => snapshot::disks(conn, id)?,
    };
    let disks = match row.kind {
        SnapshotType::Active => vm::attachments(conn, row.vm)?.iter().map(|a| a.disk).collect(),
        SnapshotType::Regular | SnapshotType::Preview => Vec::new(),
    };
    let head = Head {
        name: format!("{} of VM {}", row.description, found.row.name),
        project: found.row.project,
        status: status.to_owned(),
        why,
    };
    let about = About {
        vm: Some(row.vm),
        disks,
        ends,
        lockable: vec![("snapshot", id.to_string()), ("vm", row.vm.to_string())],
        events: Events::Vm(row.vm),
        ..About::default()
    };
    Ok((head, about))
}

fn of_backup(conn: &Conn, who: &Caller, id: stillpoint_types::BackupId) -> Result<(Head, About), Fault> {
    let row = backup::get(conn, id)?.ok_or_else(|| Fault::not_found("backup", id))?;
    access::check(who, row.project, Need::Read, "backup", &id.to_string())?;
    let mut why = vec![match row.phase {
        BackupPhase::Initializing | BackupPhase::Starting => "Its moment is being frozen.".to_owned(),
        BackupPhase::Ready => format!(
            "Its moment is held since {} for a client that reads it; if that does not come back, it is given up at {}.",
            moment(row.modified_at),
            moment(row.lease_until)
        ),
        BackupPhase::Finalizing => "It was finalized; what it held is being given back.".to_owned(),
        BackupPhase::Succeeded => format!("It was finalized, and ended at {}.", moment(row.modified_at)),
        BackupPhase::Failed => format!("It failed at {}.", moment(row.modified_at)),
    }];
    why.extend(row.reason.iter().map(|reason| format!("The reason: {reason}")));
    if !row.consistent {
        why.push("The guest's file systems were not frozen at its moment.".to_owned());
    }
    let disks = backup::disks(conn, id)?;
    for of in &disks {
        if let Some(reason) = &of.why_full {
            why.push(format!("Disk {} is taken in full: {reason}", of.disk));
        }
    }
    for transfer in transfer::live_of_backup(conn, id)? {
        why.push(format!(
            "Image transfer {} reads disk {} of it ({}).",
            transfer.id, transfer.disk, transfer.phase
        ));
    }
    let is_live = !matches!(row.phase, BackupPhase::Succeeded | BackupPhase::Failed);
    let head = Head {
        name: format!("of VM {}", row.vm_name),
        project: row.project,
        status: row.phase.to_string(),
        why,
    };
    let about = About {
        vm: Some(row.vm),
        ends: if is_live {
            disks.iter().map(|of| (of.disk, of.image)).collect()
        } else {
            Vec::new()
        },
        job: Some(JobId(id.0)),
        events: Events::Vm(row.vm),
        ..About::default()
    };
    Ok((head, about))
}

fn of_checkpoint(conn: &Conn, who: &Caller, id: stillpoint_types::CheckpointId) -> Result<(Head, About), Fault> {
    let row = checkpoint::get(conn, id)?.ok_or_else(|| Fault::not_found("checkpoint", id))?;
    access::check(who, row.project, Need::Read, "checkpoint", &id.to_string())?;
    let disks = checkpoint::disks(conn, id)?;
    let mut why = vec![match row.state {
        CheckpointState::Created => format!(
            "The changes of {} disks since {} are known.",
            disks.len(),
            moment(row.created_at)
        ),
        CheckpointState::Invalid => {
            "What changed since then is not known any more: a backup from it takes its disks in full.".to_owned()
        }
    }];
    for of in &disks {
        why.push(format!(
            "Disk {}: changed is what lies above image {}{}.",
            of.disk,
            of.image,
            if of.map { ", and what a map on disk says" } else { "" }
        ));
    }
    let head = Head {
        name: format!("of {}", moment(row.created_at)),
        project: row.project,
        status: row.state.to_string(),
        why,
    };
    let about = About {
        vm: Some(row.vm),
        disks: disks.iter().map(|of| of.disk).collect(),
        lockable: vec![("vm", row.vm.to_string())],
        events: Events::Vm(row.vm),
        ..About::default()
    };
    Ok((head, about))
}

fn of_transfer(conn: &Conn, who: &Caller, id: stillpoint_types::TransferId) -> Result<(Head, About), Fault> {
    let row = transfer::get(conn, id)?.ok_or_else(|| Fault::not_found("transfer", id))?;
    access::check(who, row.project, Need::Read, "transfer", &id.to_string())?;
    let mut why = vec![format!(
        "{} of disk {} since {}; its client was last heard of at {}, {} bytes were moved.",
        match row.direction {
            stillpoint_types::TransferDirection::Download => "Download",
            stillpoint_types::TransferDirection::Upload => "Upload",
        },
        row.alias,
        moment(row.created_at),
        moment(row.last_active),
        row.transferred
    )];
    why.extend(row.reason.iter().map(|reason| format!("The reason: {reason}")));
    if row.ended_at.is_none() && row.inactivity_s > 0 {
        why.push(format!(
            "A client that is silent for {} s is taken for gone: then it is handled by policy {}.",
            row.inactivity_s, row.policy
        ));
    }
    let is_live = row.ended_at.is_none();
    let head = Head {
        name: format!("of disk {}", row.alias),
        project: row.project,
        status: row.phase.to_string(),
        why,
    };
    let about = About {
        ends: if is_live {
            vec![(row.disk, row.image)]
        } else {
            Vec::new()
        },
        lockable: vec![("disk", row.disk.to_string())],
        job: Some(JobId(id.0)),
        events: Events::Disk(row.disk),
        ..About::default()
    };
    Ok((head, about))
}

fn of_job(conn: &Conn, who: &Caller, id: JobId) -> Result<(Head, About), Fault> {
    let row = job::get(conn, id)?.ok_or_else(|| Fault::not_found("job", id))?;
    access::check(who, row.project, Need::Read, "job", &id.to_string())?;
    let mut why = vec![match row.state {
        JobState::Queued => "It has been written, and begins at once.".to_owned(),
        JobState::Running if row.pivot_reached => {
            "It runs, and can only go forward: what it does has happened.".to_owned()
        }
        JobState::Running => "It runs; should a step fail, all is taken back.".to_owned(),
        JobState::Unwinding => "A step failed: what was begun is being taken back.".to_owned(),
        JobState::Done => "It ended well.".to_owned(),
        JobState::Undone => "It failed, and all is as it was before.".to_owned(),
        JobState::Stuck => "It waits for an operator: this daemon does not know how to go on with it.".to_owned(),
    }];
    why.extend(
        crate::job::view(row.clone())
            .failure
            .map(|text| format!("The reason: {text}")),
    );
    let locks = job::locks_by(conn, id)?;
    let disks = locks.iter().filter(|lock| lock.kind == "disk");
    let disks = disks.filter_map(|lock| lock.entity.parse().ok()).collect();
    let head = Head {
        name: row.description.clone(),
        project: row.project,
        status: row.state.to_string(),
        why,
    };
    let about = About {
        vm: row.vm,
        disks,
        job: Some(id),
        events: if row.correlation_id.is_empty() {
            row.vm.map_or(Events::None, Events::Vm)
        } else {
            Events::Request(row.correlation_id)
        },
        ..About::default()
    };
    Ok((head, about))
}

fn of_volume_snapshot(
    conn: &Conn,
    who: &Caller,
    id: stillpoint_types::VolumeSnapshotId,
) -> Result<(Head, About), Fault> {
    let missing = || Fault::not_found("volume_snapshot", id);
    let found = crate::volume::snapshot::find(conn, who, id, Need::Read);
    let (row, status) = found.map_err(|fault| match fault.code {
        stillpoint_types::FaultCode::NotFound => missing(),
        _ => fault,
    })?;
    let mut why = Vec::new();
    if status == row.status {
        why.push(format!("Its status is recorded as {status}."));
    } else {
        why.push(format!(
            "It is recorded as {}, and a job that is at work makes it {status}.",
            row.status
        ));
    }
    why.extend(row.reason.iter().map(|reason| format!("The reason: {reason}")));
    if let Some(of) = row.vm_snapshot {
        why.push(format!("It is a member of VM snapshot {of}, and goes with that."));
    }
    let mut lockable = vec![("volume_snapshot", id.to_string()), ("disk", row.disk.to_string())];
    lockable.extend(row.vm_snapshot.map(|of| ("snapshot", of.to_string())));
    let end = volume_snapshot::image_of(conn, &row)?;
    if end.is_none() {
        why.push("No image holds it.".to_owned());
    }
    let head = Head {
        name: row.name.unwrap_or_default(),
        project: row.project,
        status: status.to_string(),
        why,
    };
    let about = About {
        ends: end.map(|image| (row.disk, image)).into_iter().collect(),
        lockable,
        events: Events::Disk(row.disk),
        ..About::default()
    };
    Ok((head, about))
}
