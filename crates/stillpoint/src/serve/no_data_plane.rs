//! The data plane of a build that has none: every transfer fails and says why. To be replaced by the `transfer` room.

use async_trait::async_trait;
use std::time::Duration;
use stillpoint_engine::ports::{DataPlane, Driven, DriverError, DriverErrorKind, Ticket, TicketId, TicketStatus};

/// See the module.
#[derive(Debug)]
pub(super) struct NoDataPlane;

fn refused() -> DriverError {
    let text = "this build serves no image data";
    DriverError::new(DriverErrorKind::Unsupported, "serve image data", text)
}

#[async_trait]
impl DataPlane for NoDataPlane {
    async fn add(&self, _ticket: Ticket) -> Driven<()> {
        Err(refused())
    }

    async fn extend(&self, _id: &TicketId, _valid_for: Duration) -> Driven<()> {
        Err(refused())
    }

    async fn status(&self, _id: &TicketId) -> Driven<Option<TicketStatus>> {
        Ok(None)
    }

    async fn remove(&self, _id: &TicketId, _limit: Duration) -> Driven<()> {
        Ok(())
    }
}
