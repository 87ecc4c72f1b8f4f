//! What the core needs of the data plane: tickets. A ticket lets whoever knows its id read or write one disk's bytes
//! over HTTP until it expires; the `transfer` room serves them, and knows nothing of VMs, disks and users.
//!
//! Tickets live in the data plane's memory only. After a restart the core adds them anew from its transfers: `add` of
//! a ticket that is there with the same id is "already so".

use super::{Driven, ImageRef};
use async_trait::async_trait;
use std::{path::PathBuf, time::Duration};

pub use stillpoint_types::TicketId;

/// Where the bytes of a ticket are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An NBD server on a unix socket (QEMU's, or a storage daemon's).
    Nbd {
        /// The socket.
        socket: PathBuf,
        /// The export's name.
        export: String,
        /// The metadata context of the dirty extents, for example `qemu:dirty-bitmap:NAME`; none if there are none.
        dirty_context: Option<String>,
    },
    /// A raw file that nobody writes to but this ticket: read and written in this process, without a server between.
    Raw(PathBuf),
    /// A chain of files that nobody writes to, base first, read in this process (ADR 0013). The lowest need not be the
    /// disk's base: what is below it is then read as not there. Only for tickets that read.
    Chain(Vec<ImageRef>),
}

/// What a ticket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// GET, extents, checksum.
    pub read: bool,
    /// PUT, PATCH.
    pub write: bool,
}

/// A capability to one disk's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its secret name.
    pub id: TicketId,
    /// Which bytes.
    pub source: Source,
    /// A file with the map ([`super::DirtyMap`]) of what the client wants of them, of a disk of exactly `size_bytes`: asked
    /// for the dirty extents, these are told. All can be read all the same.
    pub dirty: Option<PathBuf>,
    /// Bytes that may be reached, from 0; the source may be longer.
    pub size_bytes: u64,
    /// What may be done.
    pub rights: Rights,
    /// It expires so long after the last operation that ended well (or after `add` or `extend`).
    pub valid_for: Duration,
    /// For a download's `Content-Disposition`.
    pub file_name: Option<String>,
    /// The transfer, for log lines.
    pub transfer: String,
}

/// What a ticket did so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketStatus {
    /// Distinct bytes that were read or written; reading again does not add.
    pub transferred_bytes: u64,
    /// Time since the last operation ended; zero while one runs.
    pub idle: Duration,
    /// Requests that run now.
    pub running: u32,
    /// It expired: only `extend` revives it.
    pub expired: bool,
    /// The source failed under it (server gone, storage full): what the last such error said.
    pub failure: Option<String>,
}

/// The server of tickets.
#[async_trait]
pub trait DataPlane: Send + Sync + 'static {
    /// Serves a ticket from now on. Opens its source once, so that a bad one is told here. Of a chain that it cannot read
    /// itself, but a QEMU perhaps can, it says [`super::DriverErrorKind::Unsupported`].
    async fn add(&self, ticket: Ticket) -> Driven<()>;

    /// Lets it live on for so long from now.
    async fn extend(&self, id: &TicketId, valid_for: Duration) -> Driven<()>;

    /// What it did; none if it is not served.
    async fn status(&self, id: &TicketId) -> Driven<Option<TicketStatus>>;

    /// How many distinct bytes of each `cell_bytes` of the disk were read or written, from its beginning; none if it is not
    /// served. Cells behind the last such byte may be left out.
    async fn moved(&self, id: &TicketId, cell_bytes: u64) -> Driven<Option<Vec<u64>>>;

    /// Refuses new requests at once, lets running ones end until `limit` and then ends them by force; when this
    /// returns, no byte is read or written any more, and what was written and answered is flushed.
    /// Not there is success.
    async fn remove(&self, id: &TicketId, limit: Duration) -> Driven<()>;

    /// Takes away a ticket whose removal said that what was written may be lost, for somebody who does not want it any
    /// more. Any other one stays.
    async fn forget(&self, id: &TicketId) -> Driven<()>;
}
