//! Takes a snapshot of one volume: live through the QEMU of its VM, else at rest.

use crate::command::{Accepted, Origin, volume::CreateVolumeSnapshot};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, VolumeSnapshotId};

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: CreateVolumeSnapshot,
) -> Result<Accepted<VolumeSnapshotId>, Fault> {
    Err(Fault::internal("not built yet"))
}
