//! Why things went to `error`.

use crate::view::volume::MessageView;
use crate::{engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_types::{Caller, ProjectId};

pub(crate) async fn all(_engine: &Arc<Inner>, _who: &Caller, _project: ProjectId) -> Result<Vec<MessageView>, Fault> {
    Err(Fault::internal("not built yet"))
}
