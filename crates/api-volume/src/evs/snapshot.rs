//! Snapshots of volumes: `cloudsnapshots`, and `snapshots` under the root's rules.

use super::{
    body,
    list::{self, Noun},
    show,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::json;
use stillpoint_engine::{
    Fault,
    command::volume::{CreateVolumeSnapshot, DeleteVolumeSnapshot, UpdateVolumeSnapshot},
    view::volume::VolumeSnapshotView,
};
use stillpoint_types::{DiskId, FaultCode, VolumeSnapshotId, VolumeStatus};

const NOUN: Noun = Noun {
    plural: "snapshots",
    statuses: show::snapshot_statuses,
    equal: &[("id", "id"), ("name", "name"), ("volume_id", "volume_id")],
    sort: &[
        ("id", "id"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("name", "name"),
        ("display_name", "name"),
        ("status", "status"),
        ("volume_id", "volume_id"),
    ],
};

/// The snapshot that the path names; what is no id names nothing.
pub(super) fn named(call: &Call) -> Result<VolumeSnapshotId, Refused> {
    let text = call.segment(0);
    body::uuid(text)
        .map(VolumeSnapshotId)
        .ok_or_else(|| Refused::not_found("There is no such snapshot"))
}

/// The snapshot of the path.
pub(super) async fn asked(call: &Call) -> Result<VolumeSnapshotView, Refused> {
    Ok(call.engine().volume_snapshot(call.who(), named(call)?).await?)
}

/// Says a status that forbids it with the code that EVS has for that operation.
pub(super) fn by_status(code: &'static str) -> impl Fn(Fault) -> Refused {
    move |fault| match fault.code {
        FaultCode::VolumeStatus => Refused::from(fault).evs(code),
        _ => fault.into(),
    }
}

/// `POST`: takes one. EVS allows it in use; its `force` opens `attaching`, and nothing else.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let asked = body::object(&call, "snapshot", &[])?;
    let known = ["volume_id", "name", "description", "force", "metadata"];
    body::only(&asked, "snapshot", &known)?;
    let mut also_when = vec![VolumeStatus::InUse];
    if body::flag(&asked, "force")? {
        also_when.push(VolumeStatus::Attaching);
    }
    let command = CreateVolumeSnapshot {
        volume: DiskId(body::id(&asked, "volume_id", "EVS.1002")?),
        name: body::name(&asked)?.flatten(),
        description: body::description(&asked)?.flatten(),
        metadata: body::new_metadata(&asked)?,
        also_when,
    };
    let engine = call.engine();
    let accepted = engine
        .create_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    let view = engine.volume_snapshot(call.who(), accepted.id).await?;
    let document = json!({"snapshot": show::snapshot(&view)});
    Ok(Answer::json(StatusCode::ACCEPTED, &document))
}

/// `GET`: a page in short.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    page(&call, show::snapshot).await
}

/// `GET .../detail`: a page in full.
pub(crate) async fn detail(call: Call) -> Result<Answer, Refused> {
    page(&call, |view| show::snapshot_detail(&call, view)).await
}

async fn page(call: &Call, show: impl Fn(&VolumeSnapshotView) -> serde_json::Value) -> Result<Answer, Refused> {
    let asked = list::read(call, &NOUN)?;
    let found = call.engine().volume_snapshots(call.who(), asked.query.clone()).await;
    let listed = found.map_err(list::refused)?;
    let id = |view: &VolumeSnapshotView| view.id.to_string();
    Ok(Answer::ok(&list::answer(call, &asked, &NOUN, &listed, id, show)))
}

/// `GET .../{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = asked(&call).await?;
    Ok(Answer::ok(&json!({"snapshot": show::snapshot_detail(&call, &view)})))
}

/// `PUT .../{id}`: its names.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let snapshot = named(&call)?;
    let asked = body::object(&call, "snapshot", &[])?;
    body::only(&asked, "snapshot", &["name", "description"])?;
    let body::Names { name, description } = body::names(&asked)?;
    let command = UpdateVolumeSnapshot {
        snapshot,
        name,
        description,
    };
    let engine = call.engine();
    engine
        .update_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    let view = engine.volume_snapshot(call.who(), snapshot).await?;
    Ok(Answer::ok(&json!({"snapshot": show::snapshot(&view)})))
}

/// `DELETE .../{id}`: 202 without body.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteVolumeSnapshot {
        snapshot: named(&call)?,
        force: false,
    };
    call.engine()
        .delete_volume_snapshot(call.who(), call.origin(), command)
        .await
        .map_err(by_status("EVS.1047"))?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}
