//! A TCP proxy that breaks or halts connections: a bad network between a client and the daemon.

use anyhow::Result;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// What the proxy does to each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// It breaks after so many bytes from the server.
    Breaks(u64),
    /// All connections together halt after so many bytes from the server, until the weather changes.
    Halts(u64),
}

/// A proxy in front of a server. It works until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    changed: Condvar,
    /// From the server, of all connections.
    bytes: AtomicU64,
    broken: AtomicU64,
}

impl Proxy {
    /// A proxy in front of a server (`host:port`, which need not be there yet), on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn to(server: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            weather: Mutex::new(Weather::Fair),
            changed: Condvar::new(),
            bytes: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        });
        let (proxy, server) = (Self { port, shared }, server.to_owned());
        let shared = Arc::clone(&proxy.shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else {
                    continue;
                };
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                let shared = Arc::clone(&shared);
                thread::spawn(move || copy(client_too, server_too, |_| true));
                thread::spawn(move || shared.answer(server, client));
            }
        });
        Ok(proxy)
    }

    /// The URL that clients use.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes the weather, for connections that are on as well.
    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
        self.shared.changed.notify_all();
    }

    /// Bytes that came from the server so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Connections that were broken so far.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn answer(&self, server: TcpStream, client: TcpStream) {
        let mut of_this = 0;
        copy(server, client, |length| {
            of_this += length;
            let all = self.bytes.fetch_add(length, Ordering::SeqCst) + length;
            let mut weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match *weather {
                    Weather::Fair => return true,
                    Weather::Breaks(limit) => {
                        let is_whole = of_this < limit;
                        self.broken.fetch_add(u64::from(!is_whole), Ordering::SeqCst);
                        return is_whole;
                    }
                    Weather::Halts(limit) if all < limit => return true,
                    Weather::Halts(_) => {
                        weather = self.changed.wait(weather).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        });
    }
}

/// Copies until one side ends, or `may_go_on` says no: then both sides are closed.
fn copy(mut from: TcpStream, mut to: TcpStream, mut may_go_on: impl FnMut(u64) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || !may_go_on(length as u64) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
