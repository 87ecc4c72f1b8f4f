//! Changes a volume's names.

use crate::command::{Origin, volume::UpdateVolume};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::Caller;

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: UpdateVolume,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}
