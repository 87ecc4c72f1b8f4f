//! Backups of volumes, as a Cinder without that service has them: lists are empty, and nothing is found.
//!
//! Backups are made through the oVirt API.

use super::body;
use crate::{answer::Answer, call::Call, fault::Refused};
use serde_json::json;
use stillpoint_types::DiskId;

/// `GET backups` and `GET backups/detail`.
pub(crate) async fn list(_call: Call) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"backups": []})))
}

/// Whatever names one backup.
pub(crate) async fn none(call: Call) -> Result<Answer, Refused> {
    Err(Refused::not_found(format!(
        "Backup {} could not be found.",
        super::snapshot::short(call.segment(0))
    )))
}

/// `POST backups`: checked, and then refused at once instead of accepted and failed a moment later.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "backup", true)?;
    body::only(
        &object,
        "backup",
        &[
            "volume_id",
            "name",
            "description",
            "container",
            "incremental",
            "force",
            "snapshot_id",
            "metadata",
            "availability_zone",
        ],
    )?;
    body::name(&object)?;
    body::description(&object)?;
    let volume = body::optional_id(&object, "volume_id")?
        .map(DiskId)
        .ok_or_else(|| Refused::bad_request("backup must have a volume_id"))?;
    call.engine().volume(call.who(), volume).await?;
    Err(Refused::unavailable(
        "There is no backup service: backups are made through the oVirt API",
    ))
}
