//! `POST snapshots/{id}/action`: what administrators and back ends say of a snapshot.

use super::{
    body::{self, Object},
    snapshot,
    volume_action::{admin, inner},
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use stillpoint_engine::command::volume::ResetVolumeSnapshot;
use stillpoint_types::VolumeSnapshotStatus;

/// `POST snapshots/{id}/action`.
pub(crate) async fn act(call: Call) -> Result<Answer, Refused> {
    let (name, value) = body::action(&call)?;
    match name.as_str() {
        "os-reset_status" => {
            admin(&call)?;
            let object = inner(value, "os-reset_status")?;
            body::only(&object, "os-reset_status", &["status"])?;
            reset(&call, status(&object)?).await
        }
        "os-update_snapshot_status" => {
            let object = inner(value, "os-update_snapshot_status")?;
            update(&call, &object).await
        }
        "os-force_delete" => {
            admin(&call)?;
            snapshot::remove(&call, true).await
        }
        "os-unmanage" => {
            admin(&call)?;
            call.engine().volume_snapshot(call.who(), snapshot::id(&call)?).await?;
            Err(Refused::bad_request("A snapshot cannot be left without its image"))
        }
        other => Err(Refused::bad_request(format!(
            "There is no such action: {}",
            snapshot::short(other)
        ))),
    }
}

fn status(object: &Object) -> Result<VolumeSnapshotStatus, Refused> {
    let text = body::text(object, "status")?
        .flatten()
        .ok_or_else(|| Refused::bad_request("status is needed"))?;
    text.parse()
        .map_err(|_unknown| Refused::bad_request("status is none that a snapshot can have"))
}

async fn reset(call: &Call, status: VolumeSnapshotStatus) -> Result<Answer, Refused> {
    let command = ResetVolumeSnapshot {
        snapshot: snapshot::id(call)?,
        status,
        progress: None,
    };
    call.engine()
        .reset_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

async fn update(call: &Call, object: &Object) -> Result<Answer, Refused> {
    body::only(object, "os-update_snapshot_status", &["status", "progress"])?;
    let wanted = status(object)?;
    let progress = match body::text(object, "progress")?.flatten() {
        None => None,
        Some(text) => Some(
            text.strip_suffix('%')
                .and_then(|digits| digits.parse::<u8>().ok())
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| Refused::bad_request("progress is 0% to 100%"))?,
        ),
    };
    let command = ResetVolumeSnapshot {
        snapshot: snapshot::id(call)?,
        status: wanted,
        progress,
    };
    call.engine()
        .report_volume_snapshot(call.who(), call.origin(), command)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}
