//! The accept loops: limits, TLS, and an orderly end. One is for TCP; one for the unix socket of the data plane (ADR 0025).

use crate::Failure;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at a time: file descriptors are finite, and one client must not take them all.
const CONNECTIONS_MAX: usize = 1024;
/// Longest time for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// Longest time for the head of a request, and so between two requests of a connection: clients of the data plane keep
/// theirs while they write to slow storage (a minute in ovirt-imageio).
const HEAD_LIMIT: Duration = Duration::from_secs(75);
/// What is read of a TLS connection at once: four records of an upload.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// What is encrypted of an answer before it is sent: a piece of the data plane's. rustls's own limit makes packets of the
/// largest size, each with a small one behind it.
const WRITE_AHEAD_BYTES: usize = 256 * 1024;
/// Longest head of a request.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// Binds the address.
///
/// # Errors
/// Exit code 3 when it is taken.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            3,
            format!("{address} is taken by another program: stop it, or choose another address with --listen"),
        ),
        _ => Failure::new(
            2,
            format!("cannot listen on {address}: {error}; choose another address with --listen"),
        ),
    })
}

/// Binds a socket for clients on this host, and tells its name. The name is abstract, so nothing is left behind by a daemon
/// that was killed; and a new one at each start, so nobody can have it before us.
///
/// `None`: there can be none here. Clients do without.
pub(crate) fn bind_local() -> Option<(UnixListener, String)> {
    let name = format!("\0stillpoint/images/{}", uuid::Uuid::new_v4());
    match UnixListener::bind(&name) {
        Ok(listener) => Some((listener, name)),
        Err(error) => {
            tracing::warn!(%error, "no unix socket for disks' bytes: clients on this host use TCP as others do");
            None
        }
    }
}

/// A place where clients come in, and what they find behind it.
pub(crate) struct Door {
    listener: Listener,
    router: Router,
}

enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Local(UnixListener),
}

enum Visitor {
    Tcp(TcpStream, Peer, Option<TlsAcceptor>),
    Local(UnixStream, Peer),
}

/// Who it is, for the log.
#[derive(Debug, Clone, Copy)]
enum Peer {
    Tcp(SocketAddr),
    /// A process, if it can be told.
    Local(Option<i32>),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Local(Some(process)) => write!(f, "process {process}"),
            Self::Local(None) => f.write_str("a process"),
        }
    }
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Visitor> {
        match self {
            Self::Tcp(listener, acceptor) => {
                let (stream, address) = listener.accept().await?;
                Ok(Visitor::Tcp(stream, Peer::Tcp(address), acceptor.clone()))
            }
            Self::Local(listener) => {
                let (stream, _) = listener.accept().await?;
                let process = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
                Ok(Visitor::Local(stream, Peer::Local(process)))
            }
        }
    }
}

impl Door {
    pub(crate) fn tcp(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, router: Router) -> Self {
        let listener = Listener::Tcp(listener, tls.map(TlsAcceptor::from));
        Self { listener, router }
    }

    pub(crate) fn local(listener: UnixListener, router: Router) -> Self {
        let listener = Listener::Local(listener);
        Self { listener, router }
    }

    /// Lets clients in until `stopping`.
    async fn stand_open(self, seats: Arc<Semaphore>, connections: TaskTracker, stopping: CancellationToken) {
        let next = async || {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (seat, self.listener.accept().await)
        };
        loop {
            let (seat, visitor) = tokio::select! {
                () = stopping.cancelled() => break,
                next = next() => next,
            };
            let visitor = match visitor {
                Ok(visitor) => visitor,
                Err(error) => {
                    // Out of descriptors or memory: whoever holds them needs a moment to let go.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (router, stopping) = (self.router.clone(), stopping.clone());
            connections.spawn(async move {
                let _seat = seat;
                one(visitor, router, stopping).await;
            });
        }
    }
}

/// Serves until `stopping`, then lets what is under way end within `limit`. All doors have the same seats.
pub(crate) async fn serve(doors: Vec<Door>, stopping: CancellationToken, limit: Duration) {
    let (seats, connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    let standing = doors
        .into_iter()
        .map(|door| door.stand_open(Arc::clone(&seats), connections.clone(), stopping.clone()));
    futures_util::future::join_all(standing).await;
    connections.close();
    if tokio::time::timeout(limit, connections.wait()).await.is_err() {
        tracing::info!("connections that did not end in time are cut");
    }
}

async fn one(visitor: Visitor, router: Router, stopping: CancellationToken) {
    let (stream, peer, acceptor) = match visitor {
        Visitor::Local(stream, peer) => return http(stream, peer, router, stopping).await,
        Visitor::Tcp(stream, peer, acceptor) => (stream, peer, acceptor),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no TCP_NODELAY");
    }
    match acceptor {
        None => http(stream, peer, router, stopping).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(ahead(stream))).await {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(WRITE_AHEAD_BYTES));
                http(stream, peer, router, stopping).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_elapsed) => tracing::debug!(%peer, "no TLS in time"),
        },
    }
}

/// rustls asks for 4 KiB at a time, which is a system call each; uploads want less of them.
fn ahead(stream: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ_AHEAD_BYTES, stream)
}

async fn http<S>(stream: S, peer: Peer, router: Router, stopping: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_MAX_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}
