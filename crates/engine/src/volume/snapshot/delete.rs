//! Removes a snapshot of one volume.

use crate::command::{Accepted, Origin, volume::DeleteVolumeSnapshot};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, VolumeSnapshotId};

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: DeleteVolumeSnapshot,
) -> Result<Accepted<VolumeSnapshotId>, Fault> {
    Err(Fault::internal("not built yet"))
}
