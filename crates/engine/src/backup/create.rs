//! Begins a backup.

use crate::{
    command::{Accepted, CreateBackup, Origin},
    engine::Inner,
    fault::Fault,
};
use std::sync::Arc;
use stillpoint_types::{BackupId, Caller, FaultCode};

#[expect(clippy::unused_async, reason = "the saga comes with the next change")]
pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: CreateBackup,
) -> Result<Accepted<BackupId>, Fault> {
    Err(Fault::new(FaultCode::Unsupported, "Backups cannot be started yet."))
}
