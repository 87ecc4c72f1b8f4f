//! Types of volumes.

use crate::command::{
    Origin,
    volume::{Metadata, MetadataChange, TypeFields},
};
use crate::view::volume::VolumeTypeView;
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, ProjectId, VolumeTypeId};

pub(crate) async fn create(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _fields: TypeFields,
) -> Result<VolumeTypeView, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn update(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _id: VolumeTypeId,
    _fields: TypeFields,
) -> Result<VolumeTypeView, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn delete(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _id: VolumeTypeId,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn specs(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _id: VolumeTypeId,
    _change: MetadataChange,
) -> Result<Metadata, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn share(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _id: VolumeTypeId,
    _project: ProjectId,
    _seen: bool,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn all(_engine: &Arc<Inner>, _who: &Caller) -> Result<Vec<VolumeTypeView>, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn get(_engine: &Arc<Inner>, _who: &Caller, _id: VolumeTypeId) -> Result<VolumeTypeView, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn default(_engine: &Arc<Inner>, _who: &Caller) -> Result<VolumeTypeView, Fault> {
    Err(Fault::internal("not built yet"))
}
