//! Changes a volume's metadata.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange},
};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, DiskId};

pub(crate) async fn change(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _volume: DiskId,
    _change: MetadataChange,
) -> Result<Metadata, Fault> {
    Err(Fault::internal("not built yet"))
}
