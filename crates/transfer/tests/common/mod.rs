//! What the tests of this room stand on: the service on a port of its own, real NBD servers, real images, and a client
//! that can be as rude as a test needs.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{DataPlane as _, Rights, Source, Ticket, TicketId};
use stillpoint_transfer::{Transfer, router};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) const MIB: u64 = 1024 * 1024;
pub(crate) const READ: Rights = Rights {
    read: true,
    write: false,
};
pub(crate) const WRITE: Rights = Rights {
    read: false,
    write: true,
};

/// The socket that the service offers, where nobody listens: clients go on without it.
pub(crate) const DEAD_SOCKET: &str = "\0stillpoint/images/nobody-listens-here";

/// The service, served.
pub(crate) struct Plane {
    pub(crate) transfer: Transfer,
    pub(crate) address: std::net::SocketAddr,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        let transfer = Transfer::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = router(transfer.clone(), Some(DEAD_SOCKET.to_owned()));
        tokio::spawn(async move { axum::serve(listener, served).await.unwrap() });
        Self { transfer, address }
    }

    pub(crate) async fn add(&self, source: Source, size_bytes: u64, rights: Rights) -> TicketId {
        self.add_valid_for(source, size_bytes, rights, Duration::from_secs(300))
            .await
    }

    pub(crate) async fn add_valid_for(
        &self,
        source: Source,
        size_bytes: u64,
        rights: Rights,
        valid_for: Duration,
    ) -> TicketId {
        let ticket = ticket(source, size_bytes, rights, valid_for);
        let id = ticket.id.clone();
        self.transfer.add(ticket).await.unwrap();
        id
    }

    pub(crate) async fn transferred(&self, id: &TicketId) -> u64 {
        self.transfer.status(id).await.unwrap().unwrap().transferred_bytes
    }

    /// A request on a connection of its own, answered.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.send(method, path, headers, body).await;
        read_answer(&mut stream).await
    }

    /// A request that is sent, whatever comes then.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses early may have closed.
        drop(stream.write_all(body).await);
        stream
    }

    pub(crate) async fn get_range(&self, id: &TicketId, first: u64, length: u64) -> Answer {
        let range = format!("bytes={first}-{}", first + length - 1);
        self.ask("GET", &path(id), &[("Range", &range)], b"").await
    }

    pub(crate) async fn put_range(&self, id: &TicketId, first: u64, data: &[u8]) -> Answer {
        let range = format!("bytes {first}-{}/*", first + data.len() as u64 - 1);
        self.ask("PUT", &path(id), &[("Content-Range", &range)], data).await
    }

    pub(crate) async fn extents(&self, id: &TicketId, context: &str) -> Vec<serde_json::Value> {
        let answer = self
            .ask("GET", &format!("{}/extents?context={context}", path(id)), &[], b"")
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

pub(crate) fn ticket(source: Source, size_bytes: u64, rights: Rights, valid_for: Duration) -> Ticket {
    Ticket {
        id: TicketId(uuid::Uuid::new_v4()),
        source,
        dirty: None,
        size_bytes,
        rights,
        valid_for,
        file_name: Some("disk 1.raw".into()),
        transfer: "transfer-1".into(),
    }
}

pub(crate) fn path(id: &TicketId) -> String {
    format!("/images/{}", id.0)
}

pub(crate) fn many(id: &TicketId) -> String {
    format!("/stillpoint/v1{}/read", path(id))
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// The body ended where it should.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads until the server closes.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    let reading = stream.read_to_end(&mut all);
    // A reset counts as an end, too.
    drop(
        tokio::time::timeout(Duration::from_secs(60), reading)
            .await
            .expect("an answer in time"),
    );
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = all.split_off(end + 4);
    let is_whole = if headers.contains_key("transfer-encoding") {
        unchunk(&mut body)
    } else {
        headers
            .get("content-length")
            .is_some_and(|length| length.parse() == Ok(body.len()))
    };
    Answer {
        status,
        headers,
        body,
        is_whole,
    }
}

fn unchunk(body: &mut Vec<u8>) -> bool {
    let (mut plain, mut rest) = (Vec::new(), body.as_slice());
    let is_whole = loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else {
            break false;
        };
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            break true;
        }
        rest = &rest[line + 2..];
        if rest.len() < length + 2 {
            break false;
        }
        plain.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    };
    *body = plain;
    is_whole
}

/// Runs a tool, which must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// Makes an empty qcow2 image.
pub(crate) fn make_qcow2(image: &Path, size_bytes: u64) {
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(image), &size_bytes.to_string()],
    );
}

/// Lets `qemu-io` work on an image.
pub(crate) fn qemu_io(image: &Path, commands: &[&str]) {
    let mut arguments = vec!["-f", "qcow2"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(text(image));
    let said = run("qemu-io", &arguments);
    assert!(!said.contains("error") && !said.contains("failed"), "{said}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A real NBD server, ended with the test.
pub(crate) struct Nbd {
    pub(crate) process: Child,
    pub(crate) socket: PathBuf,
}

impl Nbd {
    /// `qemu-nbd` over an image, with these options more.
    pub(crate) async fn start(directory: &Path, image: &Path, options: &[&str]) -> Self {
        let socket = directory.join(format!("{}.sock", uuid::Uuid::new_v4().simple()));
        let process = Command::new("qemu-nbd")
            .args(["--persistent", "--shared=16", "--export-name=disk", "--format=qcow2"])
            .args(options)
            .arg(format!("--socket={}", text(&socket)))
            .arg(image)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut nbd = Self { process, socket };
        let begin = Instant::now();
        while tokio::net::UnixStream::connect(&nbd.socket).await.is_err() {
            assert!(nbd.process.try_wait().unwrap().is_none(), "qemu-nbd ended");
            assert!(begin.elapsed() < Duration::from_secs(30), "qemu-nbd does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nbd
    }

    pub(crate) fn source(&self, dirty: Option<&str>) -> Source {
        Source::Nbd {
            socket: self.socket.clone(),
            export: "disk".into(),
            dirty_context: dirty.map(|name| format!("qemu:dirty-bitmap:{name}")),
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
