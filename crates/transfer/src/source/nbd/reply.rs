//! Replies of an NBD server, in either form, put together until each is whole.
//!
//! The data of a read must cover the request exactly, once: a gap would be read as zeroes, silently wrong data.

use super::{connection::Shared, wire::*};
use bytes::Bytes;
use stillpoint_engine::ports::{Driven, DriverError};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::oneshot,
};

/// Longest block status or error: QEMU sends at most 1 MiB.
const STATUS_MAX_BYTES: u32 = 8 * 1024 * 1024;
/// Most chunks of one reply, so that a server cannot keep us busy for ever with one answer.
const CHUNKS_MAX: usize = 100_000;
const OP: &str = "read NBD replies";

/// An extent: bytes from where the one before ended, and the context's flags.
pub(super) type Status = (u32, u32);

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Of a read.
    pub(super) data: Bytes,
    /// Of a block status: by context.
    pub(super) statuses: Vec<(u32, Vec<Status>)>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Pending {
    op: &'static str,
    command: Command,
    offset: u64,
    length: u32,
    data: Vec<u8>,
    /// What of `data` came, as (start, end).
    covered: Vec<(usize, usize)>,
    statuses: Vec<(u32, Vec<Status>)>,
    error: Option<DriverError>,
    chunks: usize,
    sender: oneshot::Sender<Driven<Answer>>,
}

impl Pending {
    pub(super) fn new(
        op: &'static str,
        command: Command,
        offset: u64,
        length: u32,
        sender: oneshot::Sender<Driven<Answer>>,
    ) -> Self {
        Self {
            op,
            command,
            offset,
            length,
            data: Vec::new(),
            covered: Vec::new(),
            statuses: Vec::new(),
            error: None,
            chunks: 0,
            sender,
        }
    }

    /// The part of the data that a chunk brings; `None` if it is outside of what was asked for.
    fn part(&mut self, offset: u64, length: u32) -> Option<&mut [u8]> {
        if self.command != Command::Read || length == 0 {
            return None;
        }
        self.data.resize(self.length as usize, 0);
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let end = start.checked_add(length as usize)?;
        self.covered.push((start, end));
        self.data.get_mut(start..end)
    }

    /// Every byte came exactly once.
    fn is_covered(&mut self) -> bool {
        self.covered.sort_unstable();
        let mut reached = 0;
        for (start, end) in &self.covered {
            if *start != reached {
                return false;
            }
            reached = *end;
        }
        reached == self.length as usize
    }

    fn done(mut self) -> Driven<()> {
        let answer = if let Some(error) = self.error.take() {
            Err(error)
        } else if self.command == Command::Read && !self.is_covered() {
            return Err(broken(self.op, "left out a part of the data, or sent one twice"));
        } else {
            Ok(Answer {
                data: std::mem::take(&mut self.data).into(),
                statuses: std::mem::take(&mut self.statuses),
            })
        };
        // Nobody waits any more: that is no error.
        drop(self.sender.send(answer));
        Ok(())
    }
}

fn lost(error: std::io::Error) -> DriverError {
    closed(OP, error)
}

/// Reads replies until something is wrong.
pub(super) async fn read_replies(
    reader: &mut (impl AsyncRead + Unpin),
    structured: bool,
    shared: &Shared,
) -> DriverError {
    loop {
        let read = match reader.read_u32().await {
            Ok(SIMPLE_REPLY) => simple(reader, structured, shared).await,
            Ok(STRUCTURED_REPLY) if structured => chunk(reader, shared).await,
            Ok(_) => Err(broken(OP, "sent something that is no reply")),
            Err(error) => Err(lost(error)),
        };
        if let Err(error) = read {
            return error;
        }
    }
}

fn unknown() -> DriverError {
    broken(OP, "answered a request that was not made")
}

async fn simple(reader: &mut (impl AsyncRead + Unpin), structured: bool, shared: &Shared) -> Driven<()> {
    let error = reader.read_u32().await.map_err(lost)?;
    let cookie = reader.read_u64().await.map_err(lost)?;
    let mut pending = shared.take(cookie).ok_or_else(unknown)?;
    if pending.chunks > 0 {
        return Err(broken(OP, "mixed two forms of reply"));
    }
    if error != 0 {
        pending.error = Some(refused(pending.op, error, b""));
    } else if matches!(pending.command, Command::Read | Command::BlockStatus) {
        if structured || pending.command == Command::BlockStatus {
            return Err(broken(OP, "answered in a form that was not agreed on"));
        }
        let (offset, length) = (pending.offset, pending.length);
        let part = pending.part(offset, length).ok_or_else(unknown)?;
        reader.read_exact(part).await.map_err(lost)?;
    }
    pending.done()
}

async fn chunk(reader: &mut (impl AsyncRead + Unpin), shared: &Shared) -> Driven<()> {
    let flags = reader.read_u16().await.map_err(lost)?;
    let kind = reader.read_u16().await.map_err(lost)?;
    let cookie = reader.read_u64().await.map_err(lost)?;
    let length = reader.read_u32().await.map_err(lost)?;
    let mut pending = shared.take(cookie).ok_or_else(unknown)?;
    pending.chunks += 1;
    if pending.chunks > CHUNKS_MAX {
        return Err(broken(OP, "answers one request without end"));
    }
    if kind == CHUNK_DATA {
        let wrong = || broken(OP, "sent data that were not asked for");
        // Before anything is waited for that a chunk so short does not have.
        let length = length.checked_sub(8).ok_or_else(wrong)?;
        let offset = reader.read_u64().await.map_err(lost)?;
        let part = pending.part(offset, length).ok_or_else(wrong)?;
        reader.read_exact(part).await.map_err(lost)?;
    } else {
        if length > STATUS_MAX_BYTES {
            return Err(broken(OP, "sent an excessively long reply"));
        }
        let mut payload = vec![0; length as usize];
        reader.read_exact(&mut payload).await.map_err(lost)?;
        take_in(&mut pending, kind, &payload).ok_or_else(|| broken(OP, "sent a reply that makes no sense"))?;
    }
    if flags & CHUNK_DONE != 0 {
        pending.done()
    } else {
        shared.put_back(cookie, pending);
        Ok(())
    }
}

/// A chunk without data.
fn take_in(pending: &mut Pending, kind: u16, payload: &[u8]) -> Option<()> {
    let mut payload = Cursor(payload);
    match kind {
        CHUNK_NONE => payload.0.is_empty().then_some(()),
        CHUNK_HOLE => {
            let (offset, length) = (payload.u64()?, payload.u32()?);
            // The buffer is zeroes, and no other chunk may write there.
            pending.part(offset, length).map(|_| ())
        }
        CHUNK_BLOCK_STATUS if pending.command == Command::BlockStatus => {
            let context = payload.u32()?;
            if pending.statuses.iter().any(|(known, _)| *known == context) {
                return None;
            }
            let mut extents = Vec::with_capacity(payload.0.len() / 8);
            while !payload.0.is_empty() {
                let extent = (payload.u32()?, payload.u32()?);
                if extent.0 == 0 {
                    return None;
                }
                extents.push(extent);
            }
            pending.statuses.push((context, extents));
            Some(())
        }
        kind if kind & CHUNK_ERROR != 0 => {
            let (error, bytes) = (payload.u32()?, payload.u16()?);
            let text = payload.bytes(bytes.into())?;
            if error == 0 {
                return None;
            }
            pending.error.get_or_insert_with(|| refused(pending.op, error, text));
            Some(())
        }
        _ => None,
    }
}
