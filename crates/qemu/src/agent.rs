//! The QEMU guest agent (QEMU's `docs/interop/qemu-ga-ref`), over the host side of its serial port.
//!
//! The other side is the guest, which is untrusted: it may be silent, slow, answer twice, or send garbage without an
//! end. So every call has a deadline, lines are bounded, and whenever the conversation may be out of step (after a
//! connect, a missed deadline, a call that was dropped, an answer that makes no sense) the next call first
//! synchronises: the byte 0xFF makes the agent drop half a command, and everything up to the answer that carries our
//! random number, behind a 0xFF of its own, is thrown away.
//!
//! The port serves one client, and an agent that is absent just does not answer: ask `query-chardev` before.
//! A freeze that was not answered may have frozen the guest all the same: always thaw after it.

use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Mutex,
    time::{Instant, timeout_at},
};

/// Longest answer that is read. Ours are tiny; `guest-get-fsinfo` of a large guest takes some 100 KiB.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes thrown away in one synchronisation before the guest is taken for hostile.
const SYNC_BYTES_MAX: usize = 8 << 20;

/// Why the agent did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// It answered with an error.
    #[error("the guest agent refused: {0}")]
    Refused(String),
    /// It did not answer in time. It may still do what was asked.
    #[error("the guest agent did not answer within {0:?}")]
    Timeout(Duration),
    /// QEMU closed the port.
    #[error("the guest agent's port is closed: {0}")]
    Disconnected(String),
    /// The answer makes no sense.
    #[error("the guest agent's answer cannot be understood: {0}")]
    Malformed(String),
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    buffer: Vec<u8>,
    in_step: bool,
}

/// A client of one guest's agent. Calls are made one at a time.
#[derive(Debug)]
pub struct Agent {
    path: PathBuf,
    link: Mutex<Option<Link>>,
}

impl Agent {
    /// A client of the agent port at `path`; connects at the first call.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            link: Mutex::new(None),
        }
    }

    /// Makes sure that the conversation is in step, so that the next call loses no time with it.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn sync(&self, limit: Duration) -> Result<(), AgentError> {
        self.call_inner(None, limit).await.map(drop)
    }

    /// Freezes the guest's file systems: how many.
    ///
    /// # Errors
    /// See [`AgentError`]; after any error thaw.
    pub async fn freeze(&self, limit: Duration) -> Result<u64, AgentError> {
        let answer = self.call("guest-fsfreeze-freeze", json!({}), limit).await?;
        count(&answer)
    }

    /// Thaws the guest's file systems: how many were frozen. A thawed guest answers 0.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn thaw(&self, limit: Duration) -> Result<u64, AgentError> {
        let answer = self.call("guest-fsfreeze-thaw", json!({}), limit).await?;
        count(&answer)
    }

    /// Whether the guest's file systems are frozen.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn is_frozen(&self, limit: Duration) -> Result<bool, AgentError> {
        let answer = self.call("guest-fsfreeze-status", json!({}), limit).await?;
        Ok(answer == "frozen")
    }

    /// Whether it answers at all.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn ping(&self, limit: Duration) -> Result<(), AgentError> {
        self.call("guest-ping", json!({}), limit).await.map(drop)
    }

    /// Asks the guest to power down. Success has no answer by the agent's protocol: only that it was sent to an agent
    /// that was in step is known.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn shutdown(&self, limit: Duration) -> Result<(), AgentError> {
        self.end_guest("powerdown", limit).await
    }

    /// Asks the guest to restart; what is known is as after [`Self::shutdown`].
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn reboot(&self, limit: Duration) -> Result<(), AgentError> {
        self.end_guest("reboot", limit).await
    }

    async fn end_guest(&self, mode: &str, limit: Duration) -> Result<(), AgentError> {
        let end = Instant::now() + limit;
        let mut link = self.link.lock().await;
        let mut ready = self.ready(link.take(), end, limit).await?;
        ready.in_step = false; // It may answer with an error at any time: the next call synchronises.
        let message = json!({"execute": "guest-shutdown", "arguments": {"mode": mode}});
        write(&mut ready.stream, format!("{message}\n").as_bytes(), end, limit).await?;
        *link = Some(ready);
        Ok(())
    }

    async fn call(&self, command: &str, arguments: Value, limit: Duration) -> Result<Value, AgentError> {
        let message = json!({"execute": command, "arguments": arguments});
        self.call_inner(Some(message), limit).await
    }

    /// A dropped or failed call leaves no link behind (it is taken out before anything is awaited), so the next one
    /// starts with a new connection and a synchronisation.
    async fn call_inner(&self, message: Option<Value>, limit: Duration) -> Result<Value, AgentError> {
        let end = Instant::now() + limit;
        let mut link = timeout_at(end, self.link.lock())
            .await
            .map_err(|_elapsed| AgentError::Timeout(limit))?;
        let mut ready = self.ready(link.take(), end, limit).await?;
        let Some(message) = message else {
            *link = Some(ready);
            return Ok(Value::Null);
        };
        write(&mut ready.stream, format!("{message}\n").as_bytes(), end, limit).await?;
        let line = read_line(&mut ready, end, limit).await?;
        let mut answer: Value =
            serde_json::from_slice(&line).map_err(|error| AgentError::Malformed(error.to_string()))?;
        let result = if let Some(error) = answer.get("error") {
            let text = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
            Err(AgentError::Refused(text.chars().take(300).collect()))
        } else if let Some(result) = answer.get_mut("return") {
            Ok(result.take())
        } else {
            return Err(AgentError::Malformed("neither result nor error".to_owned()));
        };
        *link = Some(ready);
        result
    }

    async fn ready(&self, link: Option<Link>, end: Instant, limit: Duration) -> Result<Link, AgentError> {
        let mut link = match link {
            Some(link) => link,
            None => Link {
                stream: timeout_at(end, UnixStream::connect(&self.path))
                    .await
                    .map_err(|_elapsed| AgentError::Timeout(limit))?
                    .map_err(|error| AgentError::Disconnected(error.to_string()))?,
                buffer: Vec::new(),
                in_step: false,
            },
        };
        if !link.in_step {
            synchronise(&mut link, end, limit).await?;
            link.in_step = true;
        }
        Ok(link)
    }
}

fn count(answer: &Value) -> Result<u64, AgentError> {
    answer
        .as_u64()
        .ok_or_else(|| AgentError::Malformed("no number of file systems".to_owned()))
}

async fn synchronise(link: &mut Link, end: Instant, limit: Duration) -> Result<(), AgentError> {
    // Random, and small enough for every JSON number: the low 31 bits of a version 4 UUID's random tail.
    let number = uuid::Uuid::new_v4().as_u128() & 0x7fff_ffff;
    let number = u64::try_from(number).expect("31 bits fit into 64");
    let message = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
    let mut bytes = vec![0xff];
    bytes.extend_from_slice(format!("{message}\n").as_bytes());
    write(&mut link.stream, &bytes, end, limit).await?;
    let mut thrown = 0;
    while thrown <= SYNC_BYTES_MAX {
        let line = match read_line(link, end, limit).await {
            Ok(line) => line,
            // A line without an end is stale garbage like any other; its tail is cut off at the next 0xFF.
            Err(AgentError::Malformed(_)) => {
                thrown += link.buffer.len();
                link.buffer.clear();
                continue;
            }
            Err(error) => return Err(error),
        };
        thrown += line.len() + 1;
        let Some(start) = line.iter().rposition(|byte| *byte == 0xff) else {
            continue;
        };
        let answer: Option<Value> = serde_json::from_slice(&line[start + 1..]).ok();
        if answer.is_some_and(|answer| answer.get("return").and_then(Value::as_u64) == Some(number)) {
            return Ok(());
        }
    }
    Err(AgentError::Malformed("it floods its port".to_owned()))
}

async fn write(stream: &mut UnixStream, bytes: &[u8], end: Instant, limit: Duration) -> Result<(), AgentError> {
    timeout_at(end, stream.write_all(bytes))
        .await
        .map_err(|_elapsed| AgentError::Timeout(limit))?
        .map_err(|error| AgentError::Disconnected(error.to_string()))
}

async fn read_line(link: &mut Link, end: Instant, limit: Duration) -> Result<Vec<u8>, AgentError> {
    let mut searched = 0;
    loop {
        if let Some(at) = link.buffer[searched..].iter().position(|byte| *byte == b'\n') {
            let rest = link.buffer.split_off(searched + at + 1);
            let mut line = std::mem::replace(&mut link.buffer, rest);
            line.pop();
            return Ok(line);
        }
        searched = link.buffer.len();
        if searched > LINE_BYTES_MAX {
            return Err(AgentError::Malformed("a line without an end".to_owned()));
        }
        let read = timeout_at(end, link.stream.read_buf(&mut link.buffer))
            .await
            .map_err(|_elapsed| AgentError::Timeout(limit))?
            .map_err(|error| AgentError::Disconnected(error.to_string()))?;
        if read == 0 {
            return Err(AgentError::Disconnected("QEMU closed it".to_owned()));
        }
    }
}
