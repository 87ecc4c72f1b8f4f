//! Changes a snapshot's names, metadata and stated status.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange, ResetVolumeSnapshot, UpdateVolumeSnapshot},
};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, VolumeSnapshotId};

pub(crate) async fn submit(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: UpdateVolumeSnapshot,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn metadata(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _snapshot: VolumeSnapshotId,
    _change: MetadataChange,
) -> Result<Metadata, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn reset(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _command: ResetVolumeSnapshot,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}
