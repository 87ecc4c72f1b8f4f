//! Makes a volume larger.

use crate::command::{Accepted, Origin, volume::ExtendVolume};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, DiskId};

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: ExtendVolume,
) -> Result<Accepted<DiskId>, Fault> {
    Err(Fault::internal("not built yet"))
}
