//! Disks as volumes.

use crate::view::volume::{Listed, VolumeQuery, VolumeView};
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, DiskId};

pub(crate) async fn page(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _query: VolumeQuery,
) -> Result<Listed<VolumeView>, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn get(_engine: &Arc<Inner>, _who: &Caller, _id: DiskId) -> Result<VolumeView, Fault> {
    Err(Fault::internal("not built yet"))
}
