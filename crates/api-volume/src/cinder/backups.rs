//! Backups of volumes, as a Cinder without that service has them: lists are empty, and nothing is found.
//!
//! Backups are made through the oVirt API.

use crate::{answer::Answer, call::Call, fault::Refused};
use serde_json::json;

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

/// `POST backups`.
pub(crate) async fn add(_call: Call) -> Result<Answer, Refused> {
    Err(Refused::unavailable("There is no backup service"))
}
