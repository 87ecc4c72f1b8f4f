//! Begins a transfer: what may be moved, and when. Everything is decided in one transaction; the rest is the job's.

use super::{KIND, Params, VERSION};
use crate::{
    access,
    checkpoint::track,
    command::{Accepted, CreateTransfer, Origin, TransferOf},
    engine::Inner,
    fault::Fault,
    journal::{self, Actor, NewJob, NewStep, enqueue, to_json},
    limits,
    lock::{Entity, Wanted},
};
use std::{path::PathBuf, sync::Arc};
use stillpoint_store::{
    Tx, backup,
    disk::DiskRow,
    image::{self, ImageRow, ImageState},
    transfer::{self, TransferRow},
};
use stillpoint_types::{
    BackupId, BackupMode, BackupPhase, Caller, DiskId, FaultCode, ImageFormat, ImageId, Need, TicketId,
    TransferDirection, TransferId, TransferPhase, now_micros,
};

/// Idle time that a client gets who names none, seconds (oVirt's default).
const INACTIVITY_S: u64 = 60;

/// As refusals say it.
const DOING: &str = "transfer Virtual Disk";

/// What is moved, looked up.
struct Found {
    disk: DiskRow,
    image: ImageRow,
    /// Base first, `image` last.
    chain: Vec<ImageRow>,
    /// Of an incremental disk of a backup: the map of its changes.
    dirty: Option<PathBuf>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateTransfer,
) -> Result<Accepted<TransferId>, Fault> {
    let inactivity = command.inactivity_s.unwrap_or(INACTIVITY_S);
    limits::range("inactivity_timeout", inactivity, 0, limits::INACTIVITY_MAX_S)?;
    let inactivity_s = u32::try_from(inactivity).map_err(Fault::internal)?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let id = engine
        .store
        .write(move |tx| plan(&inner, tx, &who, &actor, &command, inactivity_s))
        .await?;
    journal::executor::drive(engine, stillpoint_types::JobId(id.0), false);
    // A client that waits for the job would wait for its own transfer: no job in the answer.
    Ok(Accepted { id, job: None })
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: &CreateTransfer,
    inactivity_s: u32,
) -> Result<TransferId, Fault> {
    let found = find(engine, tx, who, command)?;
    let Found { disk, image, chain, .. } = &found;
    let upload = command.direction == TransferDirection::Upload;
    let mut judged = disk.clone();
    if upload && super::is_half_uploaded(disk) {
        judged.illegal = None;
    }
    crate::disk::expect_whole(tx, &judged, image, DOING)?;
    let locks = match command.of {
        // The backup has pinned what it reads; the disk goes on meanwhile.
        TransferOf::Backup { .. } => vec![],
        _ if upload => vec![Wanted::exclusive(Entity::Disk(disk.id), &disk.alias)],
        _ => vec![Wanted::shared(Entity::Disk(disk.id), &disk.alias)],
    };
    if image.id == disk.image {
        crate::volume::expect_unclaimed(tx, disk, "transfer Virtual Disk", false)?;
        let instead = "Take a snapshot and transfer the disk snapshot, or shut the VM down.";
        crate::disk::expect_at_rest(tx, disk, DOING, instead)?;
    } else if upload {
        return Err(unsupported(format!(
            "Image {} is not the active one of disk {}: others stand on it, and it cannot be written to.",
            image.id, disk.alias
        )));
    }
    if transfer::count_live(tx)? >= limits::TRANSFERS_MAX {
        let text = format!(
            "{} image transfers are under way, which is the most.",
            limits::TRANSFERS_MAX
        );
        return Err(Fault::new(FaultCode::Unavailable, text));
    }
    if upload {
        crate::backup::expect_none_of_disk(tx, disk.id, "upload to the disk")?;
        // Another content, another history: nothing is known of changes any more.
        stillpoint_store::checkpoint::forget_disk(tx, disk.id)?;
    }
    let format = format(&found, command)?;
    let layers = if command.shallow || format == ImageFormat::Cow {
        std::slice::from_ref(image)
    } else {
        chain.as_slice()
    };
    let fresh = (upload && format == ImageFormat::Cow).then(|| fresh_image(image));
    let params = Params {
        layers: layers.iter().map(|row| engine.image_ref(row)).collect(),
        dirty: found.dirty.clone(),
        fresh: fresh.as_ref().map(|row| engine.image_ref(row)),
        staging: fresh.as_ref().map(|row| engine.image_file(row.id, ImageFormat::Raw)),
    };
    let way = if upload { "Uploading to" } else { "Downloading" };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("{way} disk {}", disk.alias),
        project: disk.project,
        vm: None,
        locks,
        steps: vec![
            NewStep::new("serve", "Opening the image"),
            NewStep::new("transfer", "Transferring the data"),
            NewStep::new("flush", "Ending access"),
            NewStep::new("close", "Closing and verifying the image"),
        ],
    };
    let id = TransferId(enqueue(tx, actor, job)?.0);
    if let Some(fresh) = &fresh {
        image::insert(tx, fresh)?;
    }
    transfer::insert(tx, &row(id, &found, command, format, inactivity_s))?;
    Ok(id)
}

fn row(
    id: TransferId,
    Found { disk, image, .. }: &Found,
    command: &CreateTransfer,
    format: ImageFormat,
    inactivity_s: u32,
) -> TransferRow {
    let now = now_micros();
    TransferRow {
        id,
        project: disk.project,
        disk: disk.id,
        alias: disk.alias.clone(),
        image: image.id,
        by_image: matches!(command.of, TransferOf::Image(_)),
        direction: command.direction,
        format,
        shallow: command.shallow,
        inactivity_s,
        policy: command.policy,
        ticket: TicketId(uuid::Uuid::new_v4()),
        size_bytes: image.size_bytes,
        phase: TransferPhase::Initializing,
        reason: None,
        transferred: 0,
        created_at: now,
        last_active: now,
        ended_at: None,
        backup: match command.of {
            TransferOf::Backup { backup, .. } => Some(backup),
            TransferOf::Disk(_) | TransferOf::Image(_) => None,
        },
    }
}

/// The image that an uploaded file becomes.
fn fresh_image(of: &ImageRow) -> ImageRow {
    ImageRow {
        id: ImageId::fresh(),
        state: ImageState::Creating,
        created_at: now_micros(),
        ..of.clone()
    }
}

fn find(engine: &Inner, tx: &Tx, who: &Caller, command: &CreateTransfer) -> Result<Found, Fault> {
    let (disk, id) = match command.of {
        TransferOf::Backup { backup, disk } => return find_in_backup(engine, tx, who, command, (backup, disk)),
        TransferOf::Disk(id) => {
            let row = access::named_disk(tx, who, id, Need::Operate)?;
            let image = row.image;
            (row, image)
        }
        TransferOf::Image(id) => {
            let missing = || {
                Fault::new(
                    FaultCode::RelatedNotFound,
                    format!("The disk snapshot {id} does not exist."),
                )
            };
            let row = image::get(tx, id)?.ok_or_else(missing)?;
            // One that cannot be seen is answered like one that is not there, in the same words.
            let owner = access::named_disk(tx, who, row.disk, Need::Operate).map_err(|fault| match fault.code {
                FaultCode::RelatedNotFound => missing(),
                _ => fault,
            })?;
            (owner, id)
        }
    };
    let chain = image::chain(tx, id)?;
    let image = chain.last().cloned();
    let image = image.filter(|image| image.state != ImageState::Doomed).ok_or_else(|| {
        Fault::new(
            FaultCode::RelatedNotFound,
            format!("The disk snapshot {id} does not exist."),
        )
    })?;
    Ok(Found {
        disk,
        image,
        chain,
        dirty: None,
    })
}

/// A disk of a backup, which must be ready, and can only be read, as the plain bytes of the disk.
fn find_in_backup(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    command: &CreateTransfer,
    (id, disk): (BackupId, DiskId),
) -> Result<Found, Fault> {
    let missing = |what: String| {
        Fault::new(
            FaultCode::RelatedNotFound,
            format!("Cannot transfer Virtual Disk: {what}"),
        )
    };
    let no_backup = || missing(format!("the backup {id} does not exist."));
    let row = backup::get(tx, id)?.ok_or_else(no_backup)?;
    // One that cannot be seen is answered like one that is not there, in the same words.
    access::check(who, row.project, Need::Operate, "backup", &id.to_string()).map_err(|fault| match fault.code {
        FaultCode::NotFound => no_backup(),
        _ => fault,
    })?;
    if row.phase != BackupPhase::Ready {
        let text = format!(
            "Cannot transfer Virtual Disk: backup {id} is {}, it must be ready.",
            row.phase
        );
        return Err(Fault::new(FaultCode::BackupPhase, text));
    }
    if command.direction == TransferDirection::Upload {
        return Err(unsupported(format!("Backup {id} can only be downloaded from.")));
    }
    if command.format == Some(ImageFormat::Cow) || command.shallow {
        return Err(unsupported(format!(
            "Of backup {id} the content of disks is given: ask for format raw, and not for shallow."
        )));
    }
    let disks = backup::disks(tx, id)?;
    let read = disks.into_iter().find(|read| read.disk == disk);
    let read = read.ok_or_else(|| missing(format!("the disk {disk} is not in backup {id}.")))?;
    let disk =
        stillpoint_store::disk::get(tx, disk)?.ok_or_else(|| missing(format!("the disk {disk} does not exist.")))?;
    let chain = image::chain(tx, read.image)?;
    let image = chain.last().cloned();
    let image = image.ok_or_else(|| Fault::internal("what a backup reads is gone"))?;
    let is_incremental = read.mode == BackupMode::Incremental;
    let dirty = is_incremental.then(|| track::backup_path(engine, id, read.disk));
    Ok(Found {
        disk,
        image,
        chain,
        dirty,
    })
}

fn unsupported(text: String) -> Fault {
    Fault::new(FaultCode::Unsupported, text)
}

/// The format on the wire, if this image can be moved so.
fn format(found: &Found, command: &CreateTransfer) -> Result<ImageFormat, Fault> {
    let Found { disk, image, chain, .. } = found;
    let own = match command.of {
        TransferOf::Backup { .. } => ImageFormat::Raw,
        TransferOf::Disk(_) | TransferOf::Image(_) => image.format,
    };
    let format = command.format.unwrap_or(own);
    if format == ImageFormat::Raw {
        if command.shallow && command.direction == TransferDirection::Upload {
            return Err(unsupported(
                "A shallow upload is one of format cow; leave out shallow, or the format.".into(),
            ));
        }
        return Ok(format);
    }
    if image.format == ImageFormat::Raw {
        let text = format!("Disk {} is of format raw: it cannot be transferred as cow.", disk.alias);
        return Err(unsupported(text));
    }
    if command.direction == TransferDirection::Download {
        if chain.len() > 1 && !command.shallow {
            return Err(unsupported(format!(
                "The file of image {} holds only what changed since the image below it: ask for format raw to get the \
                 whole content, or for shallow to get this file alone.",
                image.id
            )));
        }
        return Ok(format);
    }
    if chain.len() > 1 {
        return Err(unsupported(format!(
            "Disk {} has snapshots: a whole file cannot take the place of its active image. Upload with format raw.",
            disk.alias
        )));
    }
    Ok(format)
}
