//! One connection to a QMP monitor (QEMU's `docs/interop/qmp-spec`).
//!
//! Commands carry an id and replies are routed by it, so many may be under way. Events go to every subscriber; a
//! subscriber must subscribe *before* it sends what causes the event, and must read the state again when it lagged or
//! reconnected: events may be lost, they only wake. Unknown events and members are passed over.
//!
//! A command has a deadline, but QEMU may still execute it after that: whoever gets [`QmpError::Timeout`] must look.
//! Two tasks own the socket, so a caller that is dropped in the middle never leaves half a line behind.
//! Replies are kept as text until their reader decodes the few members it needs: the reply to `query-block` nests as
//! deep as a chain of images, more than a JSON tree parser's recursion limit.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{broadcast, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// Longest line that is read. `query-named-block-nodes` takes about 2 KiB a node.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Events a slow subscriber may lag behind before it is told that it lost some.
const EVENTS_KEPT: usize = 1024;
/// Commands that wait for the socket.
const COMMANDS_QUEUED: usize = 64;

/// Why a command gave no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QmpError {
    /// QEMU answered with an error.
    #[error("QEMU refused: {text}")]
    Refused {
        /// QEMU's error class.
        class: String,
        /// QEMU's description.
        text: String,
    },
    /// No answer in time; QEMU may still execute the command.
    #[error("no answer from the monitor within {0:?}")]
    Timeout(Duration),
    /// The process ended or closed the monitor.
    #[error("the monitor's socket is closed")]
    Disconnected,
    /// The answer is not what the protocol says.
    #[error("the monitor's answer cannot be understood: {0}")]
    Malformed(String),
}

/// An event of the monitor.
#[derive(Debug, Clone)]
pub struct Event {
    /// `event`.
    pub name: String,
    /// `data`, or null.
    pub data: Value,
}

impl Event {
    /// A text member of the data.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.data.get(member).and_then(Value::as_str)
    }
}

type Answer = Result<Box<RawValue>, QmpError>;

/// What ends with the connection. Taking it tells every waiter and subscriber.
struct Live {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    events: broadcast::Sender<Event>,
}

type SharedLive = Arc<Mutex<Option<Live>>>;

fn lock(live: &SharedLive) -> std::sync::MutexGuard<'_, Option<Live>> {
    // The map is never left half changed: every critical section is one call.
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection.
pub struct Qmp {
    live: SharedLive,
    lines: mpsc::Sender<String>,
    next: AtomicU64,
    limit: Duration,
    tasks: [JoinHandle<()>; 2],
}

impl fmt::Debug for Qmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qmp(connected: {})", self.is_connected())
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        // QEMU serves one client a socket: close it now, not when QEMU notices.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A command as it goes over the wire, made before it is sent.
#[derive(Debug)]
pub struct Prepared {
    id: u64,
    line: String,
}

/// A command that is on its way; dropping it forgets its answer.
#[derive(Debug)]
pub struct Pending {
    id: u64,
    answer: oneshot::Receiver<Answer>,
    live: SharedLive,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({} waiting)", self.waiting.len())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(live) = lock(&self.live).as_mut() {
            drop(live.waiting.remove(&self.id));
        }
    }
}

impl Pending {
    /// Waits for the answer. After a timeout it may be waited for again.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn wait(&mut self, limit: Duration) -> Answer {
        match timeout_at(Instant::now() + limit, &mut self.answer).await {
            Err(_elapsed) => Err(QmpError::Timeout(limit)),
            Ok(Err(_dropped)) => Err(QmpError::Disconnected),
            Ok(Ok(answer)) => answer,
        }
    }
}

impl Qmp {
    /// Connects, reads the greeting and negotiates capabilities, all within `limit`, which is also every later
    /// command's deadline.
    ///
    /// # Errors
    /// `Disconnected` when nobody listens, `Timeout` when the process does not answer (it may be stopped, or serve
    /// another client).
    pub async fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let end = Instant::now() + limit;
        let stream = timeout_at(end, UnixStream::connect(path))
            .await
            .map_err(|_elapsed| QmpError::Timeout(limit))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => QmpError::Disconnected,
                _ => QmpError::Malformed(format!("cannot connect: {error}")),
            })?;
        Self::over(stream, end.saturating_duration_since(Instant::now()), limit).await
    }

    /// The same over a connection that is there: the greeting has to come within `greeting_limit`.
    pub(crate) async fn over(stream: UnixStream, greeting_limit: Duration, limit: Duration) -> Result<Self, QmpError> {
        let end = Instant::now() + greeting_limit;
        let (read, mut write) = stream.into_split();
        let mut reader = BufReader::new(read);
        timeout_at(end, greeted(&mut reader))
            .await
            .map_err(|_elapsed| QmpError::Timeout(limit))??;
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let live: SharedLive = Arc::new(Mutex::new(Some(Live {
            waiting: HashMap::new(),
            events,
        })));
        let (lines, mut queue) = mpsc::channel::<String>(COMMANDS_QUEUED);
        let writer = tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                if write.write_all(line.as_bytes()).await.is_err() {
                    break; // The reading side sees the close and tells everyone.
                }
            }
        });
        let routed = Arc::clone(&live);
        let reader = tokio::spawn(async move {
            if let Err(error) = route(&mut reader, &routed).await {
                tracing::debug!(%error, "monitor connection ended");
            }
            drop(lock(&routed).take());
        });
        let qmp = Self {
            live,
            lines,
            next: AtomicU64::new(1),
            limit,
            tasks: [writer, reader],
        };
        let left = end.saturating_duration_since(Instant::now());
        let hello = qmp.prepare("qmp_capabilities", &json!({}));
        drop(qmp.send(hello).await?.wait(left).await?);
        Ok(qmp)
    }

    /// Whether the socket is open as far as we know.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.live).is_some()
    }

    /// All events from now on. The channel closes with the connection.
    ///
    /// # Errors
    /// `Disconnected`.
    pub fn subscribe(&self) -> Result<broadcast::Receiver<Event>, QmpError> {
        let live = lock(&self.live);
        live.as_ref()
            .map(|live| live.events.subscribe())
            .ok_or(QmpError::Disconnected)
    }

    /// Makes a command ready to be sent, so that nothing but the sending is left for a critical moment.
    pub fn prepare(&self, command: &str, arguments: &Value) -> Prepared {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let message = json!({"execute": command, "arguments": arguments, "id": id});
        Prepared {
            id,
            line: format!("{message}\n"),
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// `Disconnected`, or `Timeout` when the socket takes no more.
    pub async fn send(&self, command: Prepared) -> Result<Pending, QmpError> {
        let (tell, answer) = oneshot::channel();
        match lock(&self.live).as_mut() {
            None => return Err(QmpError::Disconnected),
            Some(live) => drop(live.waiting.insert(command.id, tell)),
        }
        let pending = Pending {
            id: command.id,
            answer,
            live: Arc::clone(&self.live),
        };
        match self.lines.send_timeout(command.line, self.limit).await {
            Ok(()) => Ok(pending),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(QmpError::Timeout(self.limit)),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(QmpError::Disconnected),
        }
    }

    /// Sends a command and decodes its result.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn call<T: DeserializeOwned>(&self, command: &str, arguments: Value) -> Result<T, QmpError> {
        let answer = self
            .send(self.prepare(command, &arguments))
            .await?
            .wait(self.limit)
            .await?;
        serde_json::from_str(answer.get()).map_err(|error| QmpError::Malformed(format!("{command}: {error}")))
    }

    /// Sends a command whose result says nothing.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub async fn run(&self, command: &str, arguments: Value) -> Result<(), QmpError> {
        self.call::<serde::de::IgnoredAny>(command, arguments).await.map(drop)
    }
}

#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    #[serde(rename = "return")]
    result: Option<Box<RawValue>>,
    error: Option<Refusal>,
    event: Option<String>,
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

/// Reads until the greeting. Until a monitor's negotiation begins QEMU tells it of events (7.2, `monitor_qapi_event_emit`), so
/// one may come between the connection and the greeting.
async fn greeted(reader: &mut (impl AsyncRead + Unpin + AsyncBufReadExt)) -> Result<(), QmpError> {
    loop {
        let line = read_line(reader).await?;
        match serde_json::from_slice::<Value>(&line) {
            Ok(message) if message.get("QMP").is_some() => return Ok(()),
            Ok(message) if message.get("event").is_some() => {}
            _ => {
                let said: String = String::from_utf8_lossy(&line).chars().take(120).collect();
                return Err(QmpError::Malformed(format!("no greeting, but {said:?}")));
            }
        }
    }
}

async fn read_line(reader: &mut (impl AsyncRead + Unpin + AsyncBufReadExt)) -> Result<Vec<u8>, QmpError> {
    let mut line = Vec::new();
    let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await;
    match read {
        Ok(_) if line.ends_with(b"\n") => Ok(line),
        Ok(n) if n as u64 >= LINE_BYTES_MAX => Err(QmpError::Malformed("a line without an end".to_owned())),
        Ok(_) | Err(_) => Err(QmpError::Disconnected),
    }
}

async fn route(reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>, live: &SharedLive) -> Result<(), QmpError> {
    loop {
        let line = read_line(reader).await?;
        let message: Message =
            serde_json::from_slice(&line).map_err(|error| QmpError::Malformed(format!("no QMP message: {error}")))?;
        let mut live = lock(live);
        let Some(live) = live.as_mut() else { return Ok(()) };
        if let Some(name) = message.event {
            let data = message.data.and_then(|d| serde_json::from_str(d.get()).ok());
            // No subscriber is no error.
            let _heard = live.events.send(Event {
                name,
                data: data.unwrap_or(Value::Null),
            });
        } else if let Some(tell) = message
            .id
            .and_then(|id| id.as_u64())
            .and_then(|id| live.waiting.remove(&id))
        {
            let answer = match (message.result, message.error) {
                (Some(result), _) => Ok(result),
                (None, Some(refusal)) => Err(QmpError::Refused {
                    class: refusal.class,
                    text: refusal.desc,
                }),
                (None, None) => Err(QmpError::Malformed("neither result nor error".to_owned())),
            };
            drop(tell.send(answer)); // The waiter may have given up.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_greeting_may_follow_events_and_nothing_else() {
        let greeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
        let event = "{\"timestamp\": {}, \"event\": \"RESUME\"}\r\n";
        for (said, good) in [
            (greeting.to_owned(), true),
            (format!("{event}{event}{greeting}"), true),
            (format!("{{\"return\": {{}}}}\r\n{greeting}"), false),
            (format!("hello\n{greeting}"), false),
            (event.to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(greeted(&mut said.as_bytes()).await.is_ok(), good, "{said}");
        }
    }
}
