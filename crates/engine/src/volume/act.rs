//! What a client of the volume API does to a volume besides its data.

use crate::command::{Origin, volume::ActOnVolume};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::Caller;

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: ActOnVolume,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}
