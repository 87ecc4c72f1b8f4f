//! Numbers and forms of the NBD protocol, as far as this client speaks it: fixed newstyle, structured replies,
//! metadata contexts. From the public protocol document (`doc/proto.md` of the NBD project).
//!
//! Nothing here does I/O; what comes from a server is taken apart with checks, never by indexing.

use stillpoint_engine::ports::{DriverError, DriverErrorKind};

/// `NBDMAGIC`, first bytes of a server.
pub(super) const HELLO: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`, newstyle; also the head of every option.
pub(super) const OPTION: u64 = 0x4948_4156_454f_5054;
/// Head of a server's answer to an option.
pub(super) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Head of a request.
pub(super) const REQUEST: u32 = 0x2560_9513;
/// Head of a simple reply.
pub(super) const SIMPLE_REPLY: u32 = 0x6744_6698;
/// Head of a structured reply's chunk.
pub(super) const STRUCTURED_REPLY: u32 = 0x668e_33ef;

/// Handshake flags, the same bits in both directions: fixed newstyle, no zeroes.
pub(super) const HANDSHAKE_FIXED: u16 = 1;
pub(super) const HANDSHAKE_NO_ZEROES: u16 = 2;

pub(super) const OPT_GO: u32 = 7;
pub(super) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(super) const OPT_SET_META_CONTEXT: u32 = 10;

pub(super) const REP_ACK: u32 = 1;
pub(super) const REP_INFO: u32 = 3;
pub(super) const REP_META_CONTEXT: u32 = 4;
pub(super) const REP_ERROR: u32 = 1 << 31;

pub(super) const INFO_EXPORT: u16 = 0;
pub(super) const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags of an export.
pub(super) const EXPORT_READ_ONLY: u16 = 1 << 1;
pub(super) const EXPORT_FLUSH: u16 = 1 << 2;
pub(super) const EXPORT_WRITE_ZEROES: u16 = 1 << 6;
/// What one connection flushed is flushed for all.
pub(super) const EXPORT_MULTI_CONN: u16 = 1 << 8;

pub(super) const CHUNK_DONE: u16 = 1;
pub(super) const CHUNK_NONE: u16 = 0;
pub(super) const CHUNK_DATA: u16 = 1;
pub(super) const CHUNK_HOLE: u16 = 2;
pub(super) const CHUNK_BLOCK_STATUS: u16 = 5;
/// Chunk types with this bit are errors.
pub(super) const CHUNK_ERROR: u16 = 1 << 15;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// A request's head; the data of a write follows it.
pub(super) fn request(command: Command, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut head = [0; 28];
    let (magic, rest) = head.split_at_mut(4);
    magic.copy_from_slice(&REQUEST.to_be_bytes());
    let (flags, rest) = rest.split_at_mut(2);
    flags.copy_from_slice(&0_u16.to_be_bytes());
    let (kind, rest) = rest.split_at_mut(2);
    kind.copy_from_slice(&(command as u16).to_be_bytes());
    let (name, rest) = rest.split_at_mut(8);
    name.copy_from_slice(&cookie.to_be_bytes());
    let (from, size) = rest.split_at_mut(8);
    from.copy_from_slice(&offset.to_be_bytes());
    size.copy_from_slice(&length.to_be_bytes());
    head
}

/// Takes big-endian numbers from a server's bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// A text of the server, fit for a log line.
pub(super) fn clean(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

/// The error that a server answered a request with; the numbers are the protocol's own, not the host's.
pub(super) fn refused(op: &'static str, error: u32, text: &[u8]) -> DriverError {
    let (kind, name) = match error {
        1 => (DriverErrorKind::Unsupported, "not permitted"),
        5 => (DriverErrorKind::Io, "input/output error"),
        12 => (DriverErrorKind::Io, "server out of memory"),
        22 => (DriverErrorKind::Io, "invalid request"),
        28 => (DriverErrorKind::NoSpace, "no space left"),
        75 => (DriverErrorKind::Protocol, "request too large"),
        95 => (DriverErrorKind::Unsupported, "not supported"),
        108 => (DriverErrorKind::Disconnected, "server is shutting down"),
        _ => (DriverErrorKind::Io, "error"),
    };
    let text = clean(text);
    let text = if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    };
    DriverError::new(kind, op, format!("the NBD server answered {name} ({error}){text}"))
}

/// What a server must not do.
pub(super) fn broken(op: &'static str, what: &str) -> DriverError {
    DriverError::new(DriverErrorKind::Protocol, op, format!("the NBD server {what}"))
}

/// The connection ended where the server had something to say.
pub(super) fn closed(op: &'static str, error: std::io::Error) -> DriverError {
    DriverError::new(
        DriverErrorKind::Disconnected,
        op,
        "the NBD server closed the connection",
    )
    .caused_by(error)
}
