//! Rollback: a volume gets back what a snapshot of it holds. Any of its snapshots, not only the newest; the others stay.

use super::{
    body::{self, MALFORMED},
    snapshot,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::json;
use stillpoint_engine::command::volume::{RevertRule, RevertVolume};
use stillpoint_types::{DiskId, FaultCode};

/// `POST .../{snapshot}/rollback`, in each of its spellings.
pub(crate) async fn start(call: Call) -> Result<Answer, Refused> {
    let asked = body::object(&call, "rollback", &[])?;
    body::only(&asked, "rollback", &["volume_id", "name"])?;
    let volume = DiskId(body::id(&asked, "volume_id", "EVS.1002")?);
    // It says which volume is meant, and renames none.
    body::name(&asked)?;
    let view = snapshot::asked(&call).await?;
    if view.volume != volume {
        return Err(Refused::bad_request("volume_id is not the volume of which this is a snapshot").evs(MALFORMED));
    }
    let command = RevertVolume {
        volume,
        snapshot: view.id,
        rule: RevertRule::Any,
    };
    let begun = call.engine().revert_volume(call.who(), call.origin(), command).await;
    begun.map_err(|fault| match fault.code {
        // What the body names is a parameter here.
        FaultCode::RelatedNotFound => Refused::bad_request(fault.text).evs(MALFORMED),
        _ => fault.into(),
    })?;
    let document = json!({"rollback": {"volume_id": volume.to_string()}});
    Ok(Answer::json(StatusCode::ACCEPTED, &document))
}
