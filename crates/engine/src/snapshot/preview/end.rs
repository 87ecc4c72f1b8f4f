//! The two ways out of a preview: keep what it shows, or go back. Each is one transaction; files follow by
//! [`crate::reconcile::tidy`].

use super::{attach_exactly, kept, with_present_names};
use crate::{
    access::{self, Vm},
    command::{Accepted, EndPreview, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, to_json},
    lock::{self, Entity},
    vm::{configure::ACTIVE_DESCRIPTION, view::wrong_status},
};
use std::sync::Arc;
use stillpoint_store::{
    Tx, checkpoint, disk, image,
    preview::{self, PreviewRow},
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, Need, SnapshotType, VmId, VmStatus};

/// A preview that may be ended now, with all that was kept.
struct Ending {
    found: Vm,
    row: PreviewRow,
    former: SnapshotRow,
    previewed: SnapshotRow,
    /// The disks of the former state, with the images that they had.
    held: Vec<(DiskId, ImageId)>,
}

fn begin(tx: &Tx, who: &Caller, command: &EndPreview, doing: &str) -> Result<Ending, Fault> {
    let found = access::vm(tx, who, command.vm, Need::Operate)?;
    let name = &found.row.name;
    lock::expect_free(tx, Entity::Vm(command.vm), name)?;
    let row = preview::of_vm(tx, command.vm)?.ok_or_else(|| {
        let text = format!("Cannot {doing}. VM {name} is not previewing a snapshot: preview one first.");
        Fault::new(FaultCode::RelatedNotFound, text)
    })?;
    if !matches!(found.row.status, VmStatus::Down | VmStatus::Suspended) {
        return Err(wrong_status(name, found.row.status, "ending a preview", "down"));
    }
    crate::backup::expect_none(tx, command.vm, doing)?;
    let held = snapshot::disks(tx, row.former)?;
    for (disk, _) in &held {
        lock::expect_free(tx, Entity::Disk(*disk), &crate::disk::alias(tx, *disk)?)?;
    }
    let get = |id| -> Result<SnapshotRow, Fault> {
        snapshot::get(tx, id)?.ok_or_else(|| Fault::internal("a snapshot of a preview is gone"))
    };
    Ok(Ending {
        former: get(row.former)?,
        previewed: get(row.snapshot)?,
        found,
        row,
        held,
    })
}

fn tell(tx: &Tx, ending: &Ending, actor: &Actor, what: What, text: String) -> Result<(), Fault> {
    let row = &ending.found.row;
    Event::new(what, text)
        .by(actor)
        .vm(row.project, row.id, &row.name)
        .write(tx)
}

fn commit_rows(tx: &Tx, actor: &Actor, ending: &Ending) -> Result<(), Fault> {
    let (id, name) = (ending.found.row.id, &ending.found.row.name);
    let description = &ending.previewed.description;
    let text = format!(
        "Committing the preview of snapshot '{description}' of VM '{name}' was initiated by {}.",
        actor.name
    );
    tell(tx, ending, actor, What::RestoreStarted, text)?;
    preview::delete(tx, id)?;
    snapshot::delete(tx, ending.row.former)?;
    let newer = |row: &SnapshotRow| row.kind == SnapshotType::Regular && row.seq > ending.previewed.seq;
    for row in snapshot::of_vm(tx, id)?.into_iter().filter(newer) {
        snapshot::delete(tx, row.id)?;
    }
    let attached = vm::attachments(tx, id)?;
    for (disk, _) in &ending.held {
        if !attached.iter().any(|a| a.disk == *disk) {
            checkpoint::forget_disk(tx, *disk)?;
        }
    }
    vm::touch(tx, id)?;
    let text = format!("VM '{name}' has been restored to snapshot '{description}': its preview was committed.");
    tell(tx, ending, actor, What::RestoreDone, text)
}

fn undo_rows(tx: &Tx, actor: &Actor, ending: &Ending) -> Result<(), Fault> {
    let (id, name) = (ending.found.row.id, ending.found.row.name.clone());
    let description = &ending.previewed.description;
    let text = format!(
        "Undoing the preview of snapshot '{description}' of VM '{name}' was initiated by {}.",
        actor.name
    );
    tell(tx, ending, actor, What::UndoStarted, text)?;
    let record = kept(&ending.former)?;
    for (of, kept) in &ending.held {
        let recorded = record.attachments.iter().find(|a| a.disk == *of).map(|a| a.size_bytes);
        let image = image::get(tx, *kept)?.ok_or_else(|| Fault::internal("an image that a preview kept is gone"))?;
        let size_bytes = recorded.unwrap_or(image.size_bytes);
        disk::set_image(tx, *of, *kept)?;
        // It may have been extended meanwhile.
        disk::set_size(tx, *of, size_bytes)?;
        snapshot::remove_disk(tx, ending.row.former, *of)?;
    }
    let mut added = Vec::new();
    for a in vm::attachments(tx, id)? {
        if !ending.held.iter().any(|(disk, _)| *disk == a.disk) {
            added.push(crate::disk::alias(tx, a.disk)?);
        }
    }
    attach_exactly(tx, id, &record.attachments)?;
    let config = with_present_names(record.config, ending.found.config.clone());
    vm::set_config(tx, id, &name, &to_json(&config)?.to_string())?;
    vm::set_resume_memory(tx, id, None)?;
    vm::set_status(tx, id, VmStatus::Down, "")?;
    let trial = snapshot::active(tx, id)?.ok_or_else(|| Fault::internal("a VM without active snapshot"))?;
    snapshot::delete(tx, trial.id)?;
    preview::delete(tx, id)?;
    snapshot::update(
        tx,
        &SnapshotRow {
            kind: SnapshotType::Active,
            description: ACTIVE_DESCRIPTION.into(),
            config: None,
            ..ending.former.clone()
        },
    )?;
    let mut text = format!("The preview of snapshot '{description}' of VM '{name}' was undone.");
    if !added.is_empty() {
        let added = added.join(", ");
        text.push_str(&format!(
            " Disks that were attached meanwhile belong to no VM now: {added}."
        ));
    }
    tell(tx, ending, actor, What::UndoDone, text)
}

async fn end(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: EndPreview,
    doing: &'static str,
    rows: fn(&Tx, &Actor, &Ending) -> Result<(), Fault>,
) -> Result<Accepted<VmId>, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<(), Fault> { rows(tx, &actor, &begin(tx, &who, &command, doing)?) };
    engine.store.write(write).await?;
    engine.tidy.notify_one();
    Ok(Accepted {
        id: command.vm,
        job: None,
    })
}

pub(crate) async fn commit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: EndPreview,
) -> Result<Accepted<VmId>, Fault> {
    end(engine, who, origin, command, "commit Snapshot", commit_rows).await
}

pub(crate) async fn undo(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: EndPreview,
) -> Result<Accepted<VmId>, Fault> {
    end(engine, who, origin, command, "undo Snapshot preview", undo_rows).await
}
