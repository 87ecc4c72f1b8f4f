//! Ends a backup at its client's word.

use crate::{
    command::{FinalizeBackup, Origin},
    engine::Inner,
    fault::Fault,
};
use std::sync::Arc;
use stillpoint_types::{Caller, FaultCode};

#[expect(clippy::unused_async, reason = "the saga comes with the next change")]
pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: FinalizeBackup,
) -> Result<(), Fault> {
    Err(Fault::new(FaultCode::Unsupported, "Backups cannot be ended yet."))
}
