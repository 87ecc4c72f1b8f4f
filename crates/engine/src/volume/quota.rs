//! What projects may have, and have.

use crate::command::{Origin, volume::Limits};
use crate::view::volume::QuotaView;
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, ProjectId};

pub(crate) async fn set(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _project: ProjectId,
    _limits: Vec<(&'static str, Option<u64>)>,
) -> Result<QuotaView, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn reset(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _project: ProjectId,
) -> Result<(), Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn set_default(
    _engine: &Arc<Inner>,
    _who: &Caller,
    _origin: &Origin,
    _limits: Vec<(&'static str, Option<u64>)>,
) -> Result<Limits, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn get(_engine: &Arc<Inner>, _who: &Caller, _project: ProjectId) -> Result<QuotaView, Fault> {
    Err(Fault::internal("not built yet"))
}

pub(crate) async fn defaults(_engine: &Arc<Inner>, _who: &Caller) -> Result<Limits, Fault> {
    Err(Fault::internal("not built yet"))
}

/// Refuses (`Quota`) what would take a project beyond its quota.
#[expect(dead_code, reason = "asked by the commands that this is for")]
pub(crate) fn expect_room(
    _tx: &stillpoint_store::Tx,
    _project: ProjectId,
    _more: crate::view::volume::Usage,
) -> Result<(), Fault> {
    Ok(())
}
