//! Room `transfer`: the data plane. Whoever knows a ticket's id reads or writes a disk's bytes over HTTP, as with
//! ovirt-imageio 2.5: `/images/{ticket}`, its `extents` and its `checksum`; and of our own many ranges in one answer
//! (`/stillpoint/v1/images/{ticket}/read`).
//!
//! It implements the core's [`DataPlane`] and is a service to be mounted; it knows nothing of VMs, disks and users, no SQL,
//! no QMP. Its tickets are in memory only.
//!
//! ```text
//! http ── registry ── source ── nbd   an NBD server on a unix socket
//!            │           ├───── raw   a file
//!          ranges        └───── chain files of a disk, through room `qcow2`
//! ```
//! Mounting it: merge [`router`] into the server's; it serves everything below `/images/` and
//! `/stillpoint/v1/images/`.

mod checksum;
mod extents;
mod http;
mod ranges;
mod refusal;
mod registry;
mod source;

use async_trait::async_trait;
use registry::Registry;
use std::{sync::Arc, time::Duration};
use stillpoint_engine::ports::{DataPlane, Driven, Ticket, TicketId, TicketStatus};

/// The data plane. Cloning it is cheap; all clones have the same tickets.
#[derive(Debug, Clone, Default)]
pub struct Transfer(Arc<Registry>);

impl Transfer {
    /// A data plane without tickets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that clients have read and written since the start, zeroes that were not sent among the written.
    #[must_use]
    pub fn moved_bytes(&self) -> (u64, u64) {
        self.0.totals()
    }
}

#[async_trait]
impl DataPlane for Transfer {
    /// # Errors
    /// `AlreadyExists`: another ticket has the id, or this one is being removed. What opening the source says:
    /// `Disconnected` or `Timeout` (no NBD server), `NotFound` (no such export, context or file), `InvalidImage` (shorter
    /// than the ticket), `Unsupported` (read-only, but the ticket may write; or a chain that is not for us to read).
    async fn add(&self, ticket: Ticket) -> Driven<()> {
        self.0.add(ticket).await
    }

    /// # Errors
    /// `NotFound`: it is not served.
    async fn extend(&self, id: &TicketId, valid_for: Duration) -> Driven<()> {
        self.0.extend(id, valid_for)
    }

    /// # Errors
    /// None.
    async fn status(&self, id: &TicketId) -> Driven<Option<TicketStatus>> {
        Ok(self.0.status(id))
    }

    /// # Errors
    /// None.
    async fn moved(&self, id: &TicketId, cell_bytes: u64) -> Driven<Option<Vec<u64>>> {
        Ok(self.0.moved(id, cell_bytes))
    }

    /// # Errors
    /// `Timeout`: the source does not answer, so it is unknown whether something is still being written. `Io` and others:
    /// what was written could not be flushed, so data may be lost. In both cases the ticket stays refused, and the error
    /// comes again with every call; after the second kind, `add` of the same id begins anew, and `forget` ends it.
    async fn remove(&self, id: &TicketId, limit: Duration) -> Driven<()> {
        self.0.remove(id, limit).await
    }

    /// # Errors
    /// None.
    async fn forget(&self, id: &TicketId) -> Driven<()> {
        self.0.forget(id);
        Ok(())
    }
}

/// The service: `/images/{ticket}` and what is below, and `/stillpoint/v1/images/{ticket}/read`. To be merged into the server's
/// router, and served alone on `unix_socket`, if that is given: it is offered to clients on this host. A NUL at its begin: it
/// is an abstract one.
pub fn router(transfer: Transfer, unix_socket: Option<String>) -> axum::Router {
    http::router(transfer.0, unix_socket)
}
