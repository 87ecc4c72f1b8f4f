//! Where a ticket's bytes are: one interface over the three kinds of source.
//!
//! Ranges that come here are checked against the ticket already. Nothing here knows HTTP or tickets.

mod chain;
mod nbd;
mod pool;
mod raw;
mod unflushed;

use bytes::Bytes;
use chain::ChainFile;
use nbd::NbdExport;
use raw::RawFile;
use stillpoint_engine::ports::{self, Driven, DriverError, DriverErrorKind, Ticket};

pub(crate) use nbd::CONNECTIONS_MAX;
pub(crate) use unflushed::Unflushed;

/// Zeroes of one step: progress is counted after each, and a storage is not kept busy for minutes by one.
const ZERO_STEP_BYTES: u64 = 128 * 1024 * 1024;

/// Bytes that may be read at once on a thread that serves requests: a copy in memory of some 30 µs.
pub(crate) const READ_NOW_BYTES: u64 = pool::BUFFER_BYTES as u64;

/// What is asked of extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// What reads as zeroes, and what no layer holds.
    Zero,
    /// What changed since a checkpoint, and whether it reads as zeroes.
    Dirty,
}

/// Bytes of one kind; where they begin follows from those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) length: u64,
    pub(crate) zero: bool,
    pub(crate) hole: bool,
    pub(crate) dirty: bool,
}

impl Extent {
    /// Bytes of which nothing is known.
    pub(crate) fn data(length: u64) -> Self {
        Self {
            length,
            zero: false,
            hole: false,
            dirty: false,
        }
    }

    /// The same kind of bytes.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (self.zero, self.hole, self.dirty) == (other.zero, other.hole, other.dirty)
    }
}

/// The source of a ticket.
#[derive(Debug)]
pub(crate) enum Source {
    Nbd(NbdExport),
    Raw(RawFile),
    Chain(ChainFile),
}

impl Source {
    /// Opens it, and checks that it can do what the ticket allows.
    pub(crate) async fn open(ticket: &Ticket) -> Driven<Self> {
        match ticket.source.clone() {
            ports::Source::Nbd {
                socket,
                export,
                dirty_context,
            } => NbdExport::open(socket, export, dirty_context, ticket.size_bytes, ticket.rights.write)
                .await
                .map(Self::Nbd),
            ports::Source::Raw(path) => RawFile::open(path, ticket.size_bytes, ticket.rights.write)
                .await
                .map(Self::Raw),
            ports::Source::Chain(layers) if !ticket.rights.write => {
                ChainFile::open(layers, ticket.size_bytes).await.map(Self::Chain)
            }
            ports::Source::Chain(_) => Err(read_only()),
        }
    }

    /// Bytes that can be read now. A file that is being written grows.
    pub(crate) async fn size_bytes(&self) -> Driven<u64> {
        match self {
            Self::Nbd(export) => Ok(export.size_bytes()),
            Self::Raw(file) => file.size_bytes().await,
            Self::Chain(chain) => Ok(chain.size_bytes()),
        }
    }

    pub(crate) fn has_dirty(&self) -> bool {
        match self {
            Self::Nbd(export) => export.has_dirty(),
            Self::Raw(_) | Self::Chain(_) => false,
        }
    }

    /// Bytes of one read.
    pub(crate) fn chunk_bytes(&self) -> u32 {
        match self {
            Self::Nbd(export) => export.chunk_bytes(),
            Self::Raw(_) | Self::Chain(_) => pool::BUFFER_BYTES,
        }
    }

    /// Bytes of one write.
    pub(crate) fn write_chunk_bytes(&self) -> u32 {
        match self {
            Self::Nbd(export) => export.write_chunk_bytes(),
            Self::Raw(_) | Self::Chain(_) => pool::BUFFER_BYTES,
        }
    }

    /// Reads that one operation keeps in flight: enough to hide the other side's latency, and at most 4 MiB of data. What
    /// is in memory needs none ([`Source::read_now`]).
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Nbd(_) => 16,
            Self::Raw(_) | Self::Chain(_) => 4,
        }
    }

    /// Writes that one operation keeps in flight: at most 4 MiB of data.
    pub(crate) fn write_depth(&self) -> usize {
        4
    }

    /// Reads at most [`Source::chunk_bytes`].
    pub(crate) async fn read(&self, offset: u64, length: u32) -> Driven<Bytes> {
        match self {
            Self::Nbd(export) => export.read(offset, length).await,
            Self::Raw(file) => file.read(offset, length).await,
            Self::Chain(chain) => chain.read(offset, length).await,
        }
    }

    /// Reads what is in memory, without waiting for anything. `None`: it has to be waited for. Not longer than
    /// [`READ_NOW_BYTES`].
    pub(crate) fn read_now(&self, offset: u64, length: u32) -> Option<Driven<Bytes>> {
        match self {
            Self::Nbd(_) => None,
            Self::Raw(file) => file.read_now(offset, length),
            Self::Chain(chain) => chain.read_now(offset, length),
        }
    }

    /// Writes at most [`Source::write_chunk_bytes`], one piece behind the other.
    pub(crate) async fn write(&self, offset: u64, data: Vec<Bytes>) -> Driven<()> {
        match self {
            Self::Nbd(export) => export.write(offset, data).await,
            Self::Raw(file) => file.write(offset, data).await,
            Self::Chain(_) => Err(read_only()),
        }
    }

    /// Makes at most so many bytes read as zeroes as one step may; says how many.
    pub(crate) async fn zero(&self, offset: u64, length: u64) -> Driven<u64> {
        let step = length.min(ZERO_STEP_BYTES);
        match self {
            Self::Nbd(export) => {
                let length = u32::try_from(step).expect("a step is far less than 4 GiB");
                export.zero(offset, length).await?;
            }
            Self::Raw(file) => file.zero(offset, step).await?,
            Self::Chain(_) => return Err(read_only()),
        }
        Ok(step)
    }

    /// Makes durable what was written and answered before.
    pub(crate) async fn flush(&self) -> Driven<()> {
        match self {
            Self::Nbd(export) => export.flush().await,
            Self::Raw(file) => file.flush().await,
            Self::Chain(_) => Ok(()),
        }
    }

    /// Whether all that was written is known to be durable.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Self::Nbd(export) => export.is_flushed(),
            Self::Raw(file) => file.is_flushed(),
            Self::Chain(_) => true,
        }
    }

    /// The next extents from `offset` on: at least one, none beyond `end`.
    pub(crate) async fn extents(&self, offset: u64, end: u64, context: Context) -> Driven<Vec<Extent>> {
        match self {
            Self::Nbd(export) => export.extents(offset, end, context).await,
            Self::Raw(file) => file.extents(offset, end).await,
            Self::Chain(chain) => chain.extents(offset, end).await,
        }
    }

    /// Requests that may run side by side with profit.
    pub(crate) fn connections_max(&self) -> usize {
        match self {
            Self::Nbd(_) | Self::Raw(_) | Self::Chain(_) => CONNECTIONS_MAX,
        }
    }

    /// Lets go of connections, and of locks.
    pub(crate) fn close(&self) {
        match self {
            Self::Nbd(export) => export.close(),
            Self::Raw(_) => {}
            Self::Chain(chain) => chain.close(),
        }
    }
}

fn read_only() -> DriverError {
    let text = "what is read in this process is not written to";
    DriverError::new(DriverErrorKind::Unsupported, "write to chain of images", text)
}
