//! Brings a volume back to a snapshot of it.

use crate::command::{Accepted, Origin, volume::RevertVolume};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, DiskId};

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: RevertVolume,
) -> Result<Accepted<DiskId>, Fault> {
    Err(Fault::internal("not built yet"))
}
