//! What can be done with the snapshots of a volume: take one, bring the volume back to one, delete one.

use super::{PLACE, name, of_volume, page::shown_name, place};
use crate::{
    disk::{
        act::{expect_operator, shown},
        disk_id,
    },
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_engine::{
    Fault,
    command::volume::{CreateVolumeSnapshot, DeleteVolumeSnapshot, Metadata, RevertRule, RevertVolume},
    view::volume::{VolumeSnapshotView, VolumeView},
};
use stillpoint_types::VolumeStatus;

async fn changeable(visit: &Visit, id: &str) -> Result<VolumeView, Trouble> {
    let volume = visit.engine().volume(&visit.who, disk_id(id)?).await?;
    expect_operator(visit, volume.project, &format!("volume {}", name(&volume)))?;
    Ok(volume)
}

/// A snapshot of that volume.
async fn snapshot_of(visit: &Visit, volume: &VolumeView, id: &str) -> Result<VolumeSnapshotView, Trouble> {
    let id = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    let found = visit.engine().volume_snapshot(&visit.who, id).await?;
    if found.volume == volume.id {
        Ok(found)
    } else {
        Err(Trouble::Nowhere)
    }
}

fn new_form(
    visit: &Visit,
    volume: &VolumeView,
    form: &Fields,
    fault: Option<&Fault>,
) -> Result<Response<Body>, Trouble> {
    let back = place(volume.id);
    let typed = |name: &str| form.raw(name).unwrap_or_default();
    let is_used = volume.status == VolumeStatus::InUse;
    let how = if is_used {
        "The volume is in use: the guest's file systems are frozen for the moment, if its agent answers. It is a snapshot of its \
         virtual machine, too, which holds this one disk."
    } else {
        "The volume's content of this moment is kept. Nothing is copied."
    };
    let confirm = ui::Confirm {
        happens: vec![
            how.to_owned(),
            "What is written from now on takes space of its own.".into(),
        ],
        fields: Some(html! {
            label for="name" { "Name" }
            input id="name" name="name" value=(typed("name")) maxlength="255" autocomplete="off" required autofocus;
            label for="description" { "Description" }
            input id="description" name="description" value=(typed("description")) maxlength="255" autocomplete="off";
        }),
        button: "Take the snapshot",
        back: &back,
        error: fault.map(|fault| fault.text.as_str()),
        ..ui::Confirm::default()
    };
    shown(
        visit,
        &format!("Snapshot of {}", name(volume)),
        PLACE,
        fault,
        &confirm.render(visit),
    )
}

/// The form of a snapshot.
pub(crate) async fn ask_new(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let volume = changeable(&visit, &id).await?;
    new_form(&visit, &volume, &Fields::default(), None)
}

/// Takes it.
pub(crate) async fn take(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let volume = changeable(&visit, &id).await?;
    let command = CreateVolumeSnapshot {
        volume: volume.id,
        name: form.text("name").map(str::to_owned),
        description: form.text("description").map(str::to_owned),
        metadata: Metadata::new(),
        also_when: vec![VolumeStatus::InUse],
    };
    match visit
        .engine()
        .create_volume_snapshot(&visit.who, &visit.origin, command)
        .await
    {
        Ok(_) => Ok(ui::done(&visit, &place(volume.id), "The snapshot is being taken.")),
        Err(fault) => new_form(&visit, &volume, &form, Some(&fault)),
    }
}

async fn revert_form(
    visit: &Visit,
    volume: &VolumeView,
    snapshot: &VolumeSnapshotView,
    fault: Option<&Fault>,
) -> Result<Response<Body>, Trouble> {
    let back = place(volume.id);
    let others = visit
        .engine()
        .volume_snapshots(&visit.who, of_volume(volume.id))
        .await?
        .items;
    let newer = others.iter().filter(|one| one.created_at > snapshot.created_at).count();
    let mut happens = vec![format!(
        "The volume holds again what it held at snapshot {}.",
        shown_name(snapshot)
    )];
    if newer > 0 {
        happens.push(format!("The {newer} newer snapshots stay, and can be used."));
    }
    if volume.size_bytes > snapshot.size_bytes {
        happens.push(format!(
            "It has grown since, from {} to {}: the volume APIs say what becomes of its size.",
            ui::bytes(snapshot.size_bytes),
            ui::bytes(volume.size_bytes)
        ));
    }
    let confirm = ui::Confirm {
        happens,
        loses: vec![
            "What was written to the volume after its newest snapshot, for good. Take a snapshot first to keep it."
                .into(),
        ],
        button: "Revert the volume",
        back: &back,
        error: fault.map(|fault| fault.text.as_str()),
        ..ui::Confirm::default()
    };
    let title = format!("Revert {} to {}", name(volume), shown_name(snapshot));
    shown(visit, &title, PLACE, fault, &confirm.render(visit))
}

/// What bringing a volume back would do.
pub(crate) async fn ask_revert(
    visit: Visit,
    Path((id, snapshot)): Path<(String, String)>,
) -> Result<Response<Body>, Trouble> {
    let volume = changeable(&visit, &id).await?;
    let snapshot = snapshot_of(&visit, &volume, &snapshot).await?;
    revert_form(&visit, &volume, &snapshot, None).await
}

/// Brings it back.
pub(crate) async fn revert(
    Path((id, snapshot)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response<Body>, Trouble> {
    let Posted { visit, .. } = posted;
    let volume = changeable(&visit, &id).await?;
    let snapshot = snapshot_of(&visit, &volume, &snapshot).await?;
    let command = RevertVolume {
        volume: volume.id,
        snapshot: snapshot.id,
        rule: RevertRule::Any,
    };
    match visit.engine().revert_volume(&visit.who, &visit.origin, command).await {
        Ok(_) => Ok(ui::done(&visit, &place(volume.id), "The volume is being brought back.")),
        Err(fault) => revert_form(&visit, &volume, &snapshot, Some(&fault)).await,
    }
}

fn delete_form(
    visit: &Visit,
    volume: &VolumeView,
    snapshot: &VolumeSnapshotView,
    fault: Option<&Fault>,
) -> Result<Response<Body>, Trouble> {
    let back = place(volume.id);
    let confirm = ui::Confirm {
        happens: vec!["The snapshot goes. The volume's content and its other snapshots stay as they are.".into()],
        loses: vec![format!("The content of the moment of {}.", shown_name(snapshot))],
        button: "Delete the snapshot",
        back: &back,
        error: fault.map(|fault| fault.text.as_str()),
        ..ui::Confirm::default()
    };
    shown(
        visit,
        &format!("Delete {}", shown_name(snapshot)),
        PLACE,
        fault,
        &confirm.render(visit),
    )
}

/// What a deletion would do.
pub(crate) async fn ask_delete(
    visit: Visit,
    Path((id, snapshot)): Path<(String, String)>,
) -> Result<Response<Body>, Trouble> {
    let volume = changeable(&visit, &id).await?;
    let snapshot = snapshot_of(&visit, &volume, &snapshot).await?;
    delete_form(&visit, &volume, &snapshot, None)
}

/// Deletes it.
pub(crate) async fn delete(
    Path((id, snapshot)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response<Body>, Trouble> {
    let Posted { visit, .. } = posted;
    let volume = changeable(&visit, &id).await?;
    let snapshot = snapshot_of(&visit, &volume, &snapshot).await?;
    let command = DeleteVolumeSnapshot {
        snapshot: snapshot.id,
        force: false,
    };
    match visit
        .engine()
        .delete_volume_snapshot(&visit.who, &visit.origin, command)
        .await
    {
        Ok(_) => Ok(ui::done(&visit, &place(volume.id), "The snapshot is being deleted.")),
        Err(fault) => delete_form(&visit, &volume, &snapshot, Some(&fault)),
    }
}
