//! The first half of an NBD connection: options, until the export is open or the server has refused.
//!
//! Untrusted: every length is bounded before it is read, and the number of answers to an option is bounded, too.

use super::wire::*;
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// Longest answer to an option.
const REPLY_MAX_BYTES: u32 = 64 * 1024;
/// Most answers to one option.
const REPLIES_MAX: usize = 256;
/// Longest request unless the server says less; the protocol's own default.
const REQUEST_MAX_BYTES: u32 = 32 * 1024 * 1024;
const OP: &str = "open NBD export";

/// The context that says what is allocated and what reads as zeroes.
pub(super) const ALLOCATION: &str = "base:allocation";
/// QEMU's context that says how deep in the chain data is; 0 means that no layer has any.
pub(super) const DEPTH: &str = "qemu:allocation-depth";

/// What was agreed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Agreed {
    pub(super) size_bytes: u64,
    pub(super) flags: u16,
    /// Replies come in chunks.
    pub(super) structured: bool,
    pub(super) block_min_bytes: u32,
    pub(super) request_max_bytes: u32,
    /// Metadata contexts and the numbers that the server gave them.
    pub(super) contexts: Vec<(u32, String)>,
}

impl Agreed {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn context(&self, name: &str) -> Option<u32> {
        self.contexts.iter().find(|(_, known)| known == name).map(|(id, _)| *id)
    }
}

fn lost(error: std::io::Error) -> DriverError {
    closed(OP, error)
}

/// Opens an export with as many of the contexts as the server has.
pub(super) async fn handshake(stream: &mut UnixStream, export: &str, contexts: &[String]) -> Driven<Agreed> {
    if stream.read_u64().await.map_err(lost)? != HELLO {
        return Err(broken(OP, "is no NBD server"));
    }
    if stream.read_u64().await.map_err(lost)? != OPTION {
        return Err(broken(OP, "speaks only the old style of NBD"));
    }
    let offered = stream.read_u16().await.map_err(lost)?;
    if offered & HANDSHAKE_FIXED == 0 {
        return Err(broken(OP, "does not speak fixed newstyle"));
    }
    let taken = offered & (HANDSHAKE_FIXED | HANDSHAKE_NO_ZEROES);
    stream.write_u32(taken.into()).await.map_err(lost)?;

    let mut agreed = Agreed {
        block_min_bytes: 1,
        request_max_bytes: REQUEST_MAX_BYTES,
        ..Agreed::default()
    };
    option(stream, OPT_STRUCTURED_REPLY, &[]).await?;
    agreed.structured = reply(stream, OPT_STRUCTURED_REPLY).await?.0 == REP_ACK;
    if agreed.structured {
        set_contexts(stream, export, contexts, &mut agreed).await?;
    }
    go(stream, export, &mut agreed).await?;
    Ok(agreed)
}

async fn set_contexts(stream: &mut UnixStream, export: &str, contexts: &[String], agreed: &mut Agreed) -> Driven<()> {
    let mut data = named(export)?;
    data.extend(length(contexts.len())?.to_be_bytes());
    for context in contexts {
        data.extend(named(context)?);
    }
    option(stream, OPT_SET_META_CONTEXT, &data).await?;
    for _ in 0..REPLIES_MAX {
        let (kind, data) = reply(stream, OPT_SET_META_CONTEXT).await?;
        match kind {
            REP_ACK => return Ok(()),
            REP_META_CONTEXT => {
                let mut data = Cursor(&data);
                let id = data.u32().ok_or_else(|| broken(OP, "sent half a context"))?;
                let name = String::from_utf8_lossy(data.0).into_owned();
                let known = contexts.contains(&name) && agreed.context(&name).is_none();
                if !known || agreed.contexts.iter().any(|(other, _)| *other == id) {
                    return Err(broken(OP, "gave a context that was not asked for, or one twice"));
                }
                agreed.contexts.push((id, name));
            }
            // A server without contexts, or without this export: `go` tells which.
            kind if kind & REP_ERROR != 0 => {
                agreed.contexts.clear();
                return Ok(());
            }
            _ => return Err(broken(OP, "answered the contexts with something else")),
        }
    }
    Err(broken(OP, "answers an option without end"))
}

async fn go(stream: &mut UnixStream, export: &str, agreed: &mut Agreed) -> Driven<()> {
    let mut data = named(export)?;
    data.extend(1_u16.to_be_bytes());
    data.extend(INFO_BLOCK_SIZE.to_be_bytes());
    option(stream, OPT_GO, &data).await?;
    let mut is_told = false;
    for _ in 0..REPLIES_MAX {
        let (kind, data) = reply(stream, OPT_GO).await?;
        match kind {
            REP_ACK if is_told => return Ok(()),
            REP_ACK => return Err(broken(OP, "does not tell the export's size")),
            REP_INFO => {
                info(&data, agreed, &mut is_told).ok_or_else(|| broken(OP, "told impossible facts of the export"))?;
            }
            kind if kind & REP_ERROR != 0 => {
                let context = format!("the NBD server refuses the export ({kind:#x}): {}", clean(&data));
                return Err(DriverError::new(DriverErrorKind::NotFound, OP, context));
            }
            _ => return Err(broken(OP, "answered the opening with something else")),
        }
    }
    Err(broken(OP, "answers an option without end"))
}

fn info(data: &[u8], agreed: &mut Agreed, is_told: &mut bool) -> Option<()> {
    let mut data = Cursor(data);
    match data.u16()? {
        INFO_EXPORT => {
            (agreed.size_bytes, agreed.flags) = (data.u64()?, data.u16()?);
            // No file of the host can be longer.
            i64::try_from(agreed.size_bytes).ok()?;
            *is_told = true;
        }
        INFO_BLOCK_SIZE => {
            let (min, _preferred, max) = (data.u32()?, data.u32()?, data.u32()?);
            if !min.is_power_of_two() || min > 64 * 1024 || max < min {
                return None;
            }
            agreed.block_min_bytes = min;
            agreed.request_max_bytes = max.min(REQUEST_MAX_BYTES);
        }
        _ => {}
    }
    Some(())
}

fn length(bytes: usize) -> Driven<u32> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= 4096)
        .ok_or_else(|| DriverError::new(DriverErrorKind::Unsupported, OP, "a name is longer than NBD allows"))
}

fn named(text: &str) -> Driven<Vec<u8>> {
    let mut data = length(text.len())?.to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    Ok(data)
}

async fn option(stream: &mut UnixStream, option: u32, data: &[u8]) -> Driven<()> {
    let mut message = OPTION.to_be_bytes().to_vec();
    message.extend(option.to_be_bytes());
    let bytes =
        u32::try_from(data.len()).map_err(|error| broken(OP, "would be sent too long an option").caused_by(error))?;
    message.extend(bytes.to_be_bytes());
    message.extend(data);
    stream.write_all(&message).await.map_err(lost)
}

async fn reply(stream: &mut UnixStream, to: u32) -> Driven<(u32, Vec<u8>)> {
    if stream.read_u64().await.map_err(lost)? != OPTION_REPLY || stream.read_u32().await.map_err(lost)? != to {
        return Err(broken(OP, "answers another question"));
    }
    let kind = stream.read_u32().await.map_err(lost)?;
    let bytes = stream.read_u32().await.map_err(lost)?;
    if bytes > REPLY_MAX_BYTES {
        return Err(broken(OP, "answers an option at excessive length"));
    }
    let mut data = vec![0; bytes as usize];
    stream.read_exact(&mut data).await.map_err(lost)?;
    Ok((kind, data))
}
