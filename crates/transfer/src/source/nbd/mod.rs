//! An NBD export as the source of a ticket: connections to it, and what was written but not flushed.
//!
//! # Consistency
//! Several connections are used only if the server says that a flush on one covers writes on all. What was written and
//! answered counts as unflushed until a flush that began later has ended well. If a connection ends while something is
//! unflushed, or a flush fails, nobody can say any more what is durable: from then on every flush fails, also over new
//! connections, so that an upload is never called complete by mistake.

mod connection;
mod handshake;
mod reply;
mod wire;

use super::{Context, Extent, Unflushed};
use bytes::Bytes;
use connection::Connection;
use handshake::{ALLOCATION, Agreed, DEPTH};
use reply::Status;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use wire::{Command, EXPORT_FLUSH, EXPORT_MULTI_CONN, EXPORT_READ_ONLY, EXPORT_WRITE_ZEROES, broken};

/// Connections to one export at most. More than there are cores bring nothing.
pub(crate) const CONNECTIONS_MAX: usize = 8;
/// Requests in flight on every connection before another one is opened.
const BUSY: usize = 16;
/// Bytes that one block status asks for: fewer than 4 GiB, and as large as imageio's own.
const STATUS_STEP_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The export of a ticket.
#[derive(Debug)]
pub(crate) struct NbdExport {
    socket: PathBuf,
    export: String,
    contexts: Vec<String>,
    dirty: Option<String>,
    agreed: Agreed,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while a connection is made: one at a time.
    opening: tokio::sync::Mutex<()>,
    unflushed: Unflushed,
}

impl NbdExport {
    /// Connects once, so that what is wrong is told now.
    pub(crate) async fn open(
        socket: PathBuf,
        export: String,
        dirty: Option<String>,
        size_bytes: u64,
        write: bool,
    ) -> Driven<Self> {
        let mut contexts = vec![ALLOCATION.to_owned(), DEPTH.to_owned()];
        contexts.extend(dirty.clone());
        let first = Connection::open(&socket, &export, &contexts).await?;
        let agreed = first.agreed.clone();
        let refuse = |kind, what: String| Err(DriverError::new(kind, "open NBD export", what));
        if agreed.size_bytes < size_bytes {
            let what = format!("the export has {} bytes, the ticket {size_bytes}", agreed.size_bytes);
            return refuse(DriverErrorKind::InvalidImage, what);
        }
        if write && agreed.has(EXPORT_READ_ONLY) {
            return refuse(DriverErrorKind::Unsupported, "the export is read-only".to_owned());
        }
        if write && !agreed.has(EXPORT_FLUSH) {
            return refuse(DriverErrorKind::Unsupported, "the export cannot be flushed".to_owned());
        }
        if let Some(dirty) = &dirty
            && agreed.context(dirty).is_none()
        {
            return refuse(DriverErrorKind::NotFound, format!("the export has no context {dirty}"));
        }
        Ok(Self {
            socket,
            export,
            contexts,
            dirty,
            agreed,
            connections: Mutex::new(vec![Arc::new(first)]),
            opening: tokio::sync::Mutex::new(()),
            unflushed: Unflushed::default(),
        })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.agreed.size_bytes
    }

    pub(crate) fn has_dirty(&self) -> bool {
        self.dirty.is_some()
    }

    pub(crate) fn connections_max(&self) -> usize {
        if self.agreed.has(EXPORT_MULTI_CONN) {
            CONNECTIONS_MAX
        } else {
            1
        }
    }

    /// The connection with the least to do, and how much; forgets those that ended.
    fn idlest(&self) -> (Option<(usize, Arc<Connection>)>, usize) {
        // Every change of the list is one call: a panic elsewhere leaves it whole.
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let before = connections.len();
        connections.retain(|connection| !connection.is_ended());
        if connections.len() < before {
            self.unflushed
                .lose("a connection to the NBD server ended before all was flushed");
        }
        let idlest = connections
            .iter()
            .map(|connection| (connection.load(), Arc::clone(connection)))
            .min_by_key(|(load, _)| *load);
        (idlest, connections.len())
    }

    async fn connection(&self) -> Driven<Arc<Connection>> {
        let enough = |(idlest, count): (Option<(usize, Arc<Connection>)>, usize)| {
            idlest.filter(|(load, _)| *load < BUSY || count >= self.connections_max())
        };
        if let Some((_, connection)) = enough(self.idlest()) {
            return Ok(connection);
        }
        let _one_at_a_time = self.opening.lock().await;
        // Somebody else may have opened it meanwhile.
        if let Some((_, connection)) = enough(self.idlest()) {
            return Ok(connection);
        }
        match Connection::open(&self.socket, &self.export, &self.contexts).await {
            Ok(opened) => {
                if opened.agreed.size_bytes != self.agreed.size_bytes
                    || opened.agreed.flags != self.agreed.flags
                    || opened.agreed.contexts.len() != self.agreed.contexts.len()
                {
                    return Err(broken("open NBD export", "offers another export under the same name"));
                }
                let opened = Arc::new(opened);
                let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
                connections.push(Arc::clone(&opened));
                Ok(opened)
            }
            Err(error) => match self.idlest().0 {
                // One less is slower, but no failure.
                Some((_, connection)) => Ok(connection),
                None => Err(error),
            },
        }
    }

    /// Reads; the range is within the export. Widened to the server's blocks, if it has any.
    pub(crate) async fn read(&self, offset: u64, length: u32) -> Driven<Bytes> {
        let block = u64::from(self.agreed.block_min_bytes);
        let start = offset - offset % block;
        let end = (offset + u64::from(length))
            .next_multiple_of(block)
            .min(self.agreed.size_bytes);
        let wide = request_length(end - start)?;
        let answer = self
            .connection()
            .await?
            .ask(Command::Read, start, wide, Vec::new())
            .await?;
        let skip = usize::try_from(offset - start).map_err(too_large)?;
        if answer.data.len() < skip + length as usize {
            return Err(broken("read from NBD server", "sent less than was asked for"));
        }
        Ok(answer.data.slice(skip..skip + length as usize))
    }

    fn check_blocks(&self, offset: u64, length: u32) -> Driven<()> {
        let block = u64::from(self.agreed.block_min_bytes);
        if offset.is_multiple_of(block) && u64::from(length).is_multiple_of(block) {
            return Ok(());
        }
        let context = format!("the NBD server takes only whole blocks of {block} bytes");
        Err(DriverError::new(
            DriverErrorKind::Unsupported,
            "write to NBD server",
            context,
        ))
    }

    /// A request that changes the disk.
    async fn change(&self, command: Command, offset: u64, length: u32, data: Vec<Bytes>) -> Driven<()> {
        self.check_blocks(offset, length)?;
        let connection = self.connection().await?;
        match connection.ask(command, offset, length, data).await {
            Ok(_) => self.unflushed.wrote(),
            Err(error) => {
                if error.kind == DriverErrorKind::Timeout {
                    self.unflushed.doubt(&error.chain());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) async fn write(&self, offset: u64, data: Vec<Bytes>) -> Driven<()> {
        let length = request_length(data.iter().map(|piece| piece.len() as u64).sum())?;
        self.change(Command::Write, offset, length, data).await
    }

    /// Makes a range read as zeroes; the server may free its space.
    pub(crate) async fn zero(&self, offset: u64, length: u32) -> Driven<()> {
        if self.agreed.has(EXPORT_WRITE_ZEROES) {
            return self.change(Command::WriteZeroes, offset, length, Vec::new()).await;
        }
        let zeroes = Bytes::from(vec![0; self.chunk_bytes() as usize]);
        let mut done = 0;
        while done < length {
            let step = (length - done).min(self.chunk_bytes());
            self.write(offset + u64::from(done), vec![zeroes.slice(..step as usize)])
                .await?;
            done += step;
        }
        Ok(())
    }

    pub(crate) async fn flush(&self) -> Driven<()> {
        // Looks at the connections first: one that ended may have taken unflushed writes with it.
        let connection = self.connection().await;
        let flush = self.unflushed.begin()?;
        let flushed = match connection {
            Ok(connection) => connection.ask(Command::Flush, 0, 0, Vec::new()).await.map(drop),
            Err(error) => Err(error),
        };
        self.idlest();
        self.unflushed.end(flush, flushed)
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.idlest();
        self.unflushed.is_none()
    }

    /// Says goodbye on all connections that nobody uses any more.
    pub(crate) fn close(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.clear();
    }

    /// Bytes of a read that goes fast: larger ones are slower with QEMU.
    pub(crate) fn chunk_bytes(&self) -> u32 {
        self.whole_blocks(256 * 1024)
    }

    /// The same of a write: each costs QEMU a look into its tables, and both sides a few changes of task.
    pub(crate) fn write_chunk_bytes(&self) -> u32 {
        self.whole_blocks(1024 * 1024)
    }

    /// No more than the server takes. The block's minimum is a power of two that is at most 64 KiB.
    fn whole_blocks(&self, bytes: u32) -> u32 {
        let max = self.agreed.request_max_bytes;
        bytes.min(max - max % self.agreed.block_min_bytes)
    }

    /// The next extents from `offset` on: at least one, none beyond `end`.
    pub(crate) async fn extents(&self, offset: u64, end: u64, context: Context) -> Driven<Vec<Extent>> {
        let op = "ask NBD server for extents";
        let Some(allocation) = self.agreed.context(ALLOCATION) else {
            if context == Context::Dirty {
                return Err(broken(op, "has no base:allocation"));
            }
            return Ok(vec![Extent::data(end - offset)]);
        };
        let second = match context {
            Context::Zero => self.agreed.context(DEPTH),
            Context::Dirty => self.dirty.as_deref().and_then(|dirty| self.agreed.context(dirty)),
        };
        let block = u64::from(self.agreed.block_min_bytes);
        let start = offset - offset % block;
        let step = (end - start).min(STATUS_STEP_BYTES).next_multiple_of(block);
        let step = request_length(step.min(self.agreed.size_bytes - start))?;
        let connection = self.connection().await?;
        let answer = connection.ask(Command::BlockStatus, start, step, Vec::new()).await?;
        let of = |id: u32| {
            let found = answer.statuses.iter().find(|(known, _)| *known == id);
            found.map(|(_, extents)| extents.as_slice())
        };
        let first = of(allocation).ok_or_else(|| broken(op, "left base:allocation out"))?;
        let everywhere = [(u32::MAX, 1)];
        let second = match second {
            Some(id) => of(id).ok_or_else(|| broken(op, "left a context out"))?,
            // Without depths nothing is a hole.
            None => &everywhere,
        };
        let found = both(first, second, offset - start, end - offset, context);
        if found.is_empty() {
            return Err(broken(op, "answered with no extent"));
        }
        Ok(found)
    }
}

/// Puts two contexts together, as far as both reach; leaves `skip` bytes out and stops after `limit`.
fn both(first: &[Status], second: &[Status], mut skip: u64, mut limit: u64, context: Context) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    let (mut first, mut second) = (first.iter().copied(), second.iter().copied());
    let (mut a, mut b) = (first.next(), second.next());
    while let (Some((a_length, a_flags)), Some((b_length, b_flags))) = (a, b) {
        let common = a_length.min(b_length);
        a = if a_length == common {
            first.next()
        } else {
            Some((a_length - common, a_flags))
        };
        b = if b_length == common {
            second.next()
        } else {
            Some((b_length - common, b_flags))
        };
        let skipped = skip.min(common.into());
        skip -= skipped;
        let length = (u64::from(common) - skipped).min(limit);
        limit -= length;
        if length == 0 {
            continue;
        }
        found.push(Extent {
            length,
            zero: a_flags & 2 != 0,
            hole: context == Context::Zero && b_flags == 0,
            dirty: context == Context::Dirty && b_flags & 1 != 0,
        });
    }
    found
}

fn request_length(bytes: u64) -> Driven<u32> {
    u32::try_from(bytes).map_err(too_large)
}

fn too_large(error: std::num::TryFromIntError) -> DriverError {
    DriverError::new(
        DriverErrorKind::Protocol,
        "ask NBD server",
        "more than one request can hold",
    )
    .caused_by(error)
}
