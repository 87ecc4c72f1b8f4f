//! Snapshots of single volumes.

use crate::view::volume::{Listed, VolumeQuery, VolumeSnapshotView};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, VolumeSnapshotId};

pub(crate) async fn page(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _query: VolumeQuery,
) -> Result<Listed<VolumeSnapshotView>, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn get(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _id: VolumeSnapshotId,
) -> Result<VolumeSnapshotView, Fault> {
    Err(Fault::internal("not built yet"))
}
