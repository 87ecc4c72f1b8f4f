//! Snapshots of volumes: made, shown, listed, named, removed.

use super::{body, list, show};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_engine::{
    command::volume::{CreateVolumeSnapshot, DeleteVolumeSnapshot, UpdateVolumeSnapshot},
    view::volume::VolumeSnapshotView,
};
use stillpoint_types::{DiskId, VolumeSnapshotId, VolumeStatus};

const NOUNS: list::Nouns = list::Nouns {
    plural: "snapshots",
    metadata_since: 22,
    name_since: 30,
    equal: &[("id", "id"), ("name", "name"), ("volume_id", "volume_id")],
    sort: &[
        ("id", "id"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("status", "status"),
        ("display_name", "name"),
        ("name", "name"),
        ("volume_id", "volume_id"),
        ("volume_size", "size"),
        ("project_id", "project_id"),
    ],
    shown: &[],
    null: &["group_snapshot_id", "cgsnapshot_id"],
    instants: &[],
};

/// The snapshot of the path.
///
/// # Errors
/// 404 if the segment is no id: nothing is named so.
pub(super) fn id(call: &Call) -> Result<VolumeSnapshotId, Refused> {
    let text = call.segment(0);
    body::uuid(text)
        .map(VolumeSnapshotId)
        .ok_or_else(|| Refused::not_found(format!("Snapshot {} could not be found.", short(text))))
}

/// A text of the client's for a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

async fn view(call: &Call, id: VolumeSnapshotId) -> Result<VolumeSnapshotView, Refused> {
    Ok(call.engine().volume_snapshot(call.who(), id).await?)
}

/// `POST snapshots`.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "snapshot", true)?;
    body::only(
        &object,
        "snapshot",
        &[
            "volume_id",
            "name",
            "display_name",
            "description",
            "display_description",
            "force",
            "metadata",
        ],
    )?;
    let name = body::name(&object)?.flatten();
    let description = body::description(&object)?.flatten();
    let metadata = body::new_metadata(&object)?;
    let force = body::optional_flag(&object, "force")?;
    if !object.contains_key("volume_id") {
        return Err(Refused::bad_request("snapshot must have a volume_id"));
    }
    let volume = body::optional_id(&object, "volume_id")?
        .map(DiskId)
        .ok_or_else(|| Refused::not_found("Volume null could not be found."))?;
    // Since 3.66 a volume in use needs no force, and `force` says nothing any more: false would promise what is not kept.
    let in_use = if call.microversion.at_least(66) {
        if force == Some(false) {
            return Err(Refused::bad_request(
                "Since microversion 3.66 a snapshot is taken of a volume in use, too: force may not be false",
            ));
        }
        true
    } else {
        force.unwrap_or(false)
    };
    let command = CreateVolumeSnapshot {
        volume,
        name,
        description,
        metadata,
        also_when: if in_use { vec![VolumeStatus::InUse] } else { Vec::new() },
    };
    let accepted = call
        .engine()
        .create_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    let mut view = view(&call, accepted.id).await?;
    // What was accepted, not what a fast job has made of it since.
    view.status = stillpoint_types::VolumeSnapshotStatus::Creating;
    view.updated_at = None;
    Ok(Answer::json(
        StatusCode::ACCEPTED,
        &json!({"snapshot": show::snapshot(&call, &view, false)}),
    ))
}

async fn page(call: Call, path: &str, is_detail: bool) -> Result<Answer, Refused> {
    let asked = list::read(&call, &NOUNS)?;
    let listed = call.engine().volume_snapshots(call.who(), asked.query.clone()).await?;
    let answer = list::answer(
        &call,
        &asked,
        NOUNS.plural,
        path,
        &listed,
        |view: &VolumeSnapshotView| view.id.to_string(),
        |view| show::snapshot(&call, view, is_detail),
    );
    Ok(Answer::ok(&answer))
}

/// `GET snapshots`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    page(call, "snapshots", false).await
}

/// `GET snapshots/detail`.
pub(crate) async fn detail(call: Call) -> Result<Answer, Refused> {
    page(call, "snapshots/detail", true).await
}

/// `GET snapshots/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = view(&call, id(&call)?).await?;
    Ok(Answer::ok(&json!({"snapshot": show::snapshot(&call, &view, true)})))
}

/// `PUT snapshots/{id}`.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "snapshot", true)?;
    body::only(
        &object,
        "snapshot",
        &["name", "display_name", "description", "display_description"],
    )?;
    if object.is_empty() {
        return Err(Refused::bad_request("snapshot must have a name or a description"));
    }
    let command = UpdateVolumeSnapshot {
        snapshot: id(&call)?,
        name: body::name(&object)?,
        description: body::description(&object)?,
    };
    let id = command.snapshot;
    call.engine()
        .update_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    let view = view(&call, id).await?;
    Ok(Answer::ok(&json!({"snapshot": show::snapshot(&call, &view, false)})))
}

/// `DELETE snapshots/{id}`.
pub(crate) async fn delete(call: Call) -> Result<Answer, Refused> {
    remove(&call, false).await
}

/// Removes it; `force` is an administrator's.
pub(super) async fn remove(call: &Call, force: bool) -> Result<Answer, Refused> {
    let command = DeleteVolumeSnapshot {
        snapshot: id(call)?,
        force,
    };
    call.engine()
        .delete_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

/// `GET manageable_snapshots`: every snapshot that there is, is managed.
pub(crate) async fn manageable(_call: Call) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"manageable-snapshots": Value::Array(Vec::new())})))
}
