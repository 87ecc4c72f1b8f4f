//! The short way to a server on this host: the unix socket that it offers for images' bytes, instead of TCP and TLS.
//!
//! Whether the server is here is judged by the connection that its answer came over, as imageio's client does, and by
//! nothing that the answer says. Whoever has bound the socket when it is offered is remembered, and nobody else gets a
//! request: a name outlives its daemon, and a ticket's URL is all that a stranger would need. Whatever fails here, the way
//! is TCP again.

use crate::transport::{Body, Https, client};
use http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{Connected, Connection, HttpInfo},
    },
    rt::TokioIo,
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::net::{UnixStream, unix::UCred};
use tower_service::Service;

/// Whether the connection that an answer came over ends on this host.
pub(crate) fn is_near(answer: &Response<Incoming>) -> bool {
    let info = answer.extensions().get::<HttpInfo>();
    info.is_some_and(|info| is_one_host(info.local_addr(), info.remote_addr()))
}

fn is_one_host(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let (ours, theirs) = (ours.ip().to_canonical(), theirs.ip().to_canonical());
    ours == theirs || theirs.is_loopback()
}

/// Which way an image's requests go. It is found out as they go.
#[derive(Debug, Default)]
pub(crate) struct Way(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nothing came back yet.
    #[default]
    Unknown,
    /// The server is on this host, and was not asked for a socket.
    Near,
    Tcp,
    Socket(Arc<Socket>),
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to ask the server for a socket now. It says so once.
    pub(crate) fn is_to_ask(&self) -> bool {
        let mut state = self.state();
        let is_near = matches!(*state, State::Near);
        if is_near {
            *state = State::Tcp;
        }
        is_near
    }

    /// The socket to use, if there is one.
    pub(crate) fn socket(&self) -> Option<Arc<Socket>> {
        let mut state = self.state();
        match &*state {
            State::Socket(socket) if !socket.is_broken() => Some(Arc::clone(socket)),
            State::Socket(_) => {
                // The daemon has been started anew, perhaps: then it offers another one.
                *state = State::Unknown;
                None
            }
            _ => None,
        }
    }

    /// An answer has come over TCP.
    pub(crate) fn saw(&self, answer: &Response<Incoming>) {
        let mut state = self.state();
        if matches!(*state, State::Unknown) {
            *state = if is_near(answer) { State::Near } else { State::Tcp };
        }
    }

    pub(crate) fn take_socket(&self, socket: Socket) {
        *self.state() = State::Socket(Arc::new(socket));
    }

    pub(crate) fn take_tcp(&self) {
        *self.state() = State::Tcp;
    }
}

/// A client of a server's unix socket.
#[derive(Debug)]
pub(crate) struct Socket {
    client: Client<SocketFirst, Body>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    /// A path; of an abstract socket, with a NUL at its begin.
    name: String,
    /// Who was there when it was offered.
    owner: UCred,
    /// A connection failed: all others go over TCP.
    is_broken: AtomicBool,
}

impl Socket {
    /// Looks whether there is such a socket.
    pub(crate) async fn find(name: &str, tcp: Https) -> io::Result<Self> {
        let is_abstract = name.starts_with('\0');
        if name.len() < 2 || !is_abstract && !Path::new(name).is_absolute() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no name of a unix socket",
            ));
        }
        let owner = UnixStream::connect(name).await?.peer_cred()?;
        let place = Arc::new(Place {
            name: name.to_owned(),
            owner,
            is_broken: AtomicBool::new(false),
        });
        Ok(Self {
            client: client(SocketFirst {
                place: Arc::clone(&place),
                tcp,
            }),
            place,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.place.name
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.place.is_broken.load(Ordering::Relaxed)
    }

    pub(crate) async fn request(&self, sent: Request<Body>) -> Result<Response<Incoming>, Error> {
        self.client.request(sent).await
    }
}

impl Place {
    async fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.name).await?;
        if stream.peer_cred()? != self.owner {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another program has taken its name",
            ));
        }
        Ok(stream)
    }
}

/// Connects to the socket; and as without it when that fails.
#[derive(Debug, Clone)]
struct SocketFirst {
    place: Arc<Place>,
    tcp: Https,
}

impl Service<Uri> for SocketFirst {
    type Response = Stream;
    type Error = <Https as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The one that is ready is taken along.
        let mut tcp = self.tcp.clone();
        std::mem::swap(&mut tcp, &mut self.tcp);
        let place = Arc::clone(&self.place);
        Box::pin(async move {
            if !place.is_broken.load(Ordering::Relaxed) {
                match place.connect().await {
                    Ok(stream) => return Ok(Stream::Socket(TokioIo::new(stream))),
                    Err(error) => {
                        place.is_broken.store(true, Ordering::Relaxed);
                        tracing::debug!(name = ?place.name, %error, "no connection to the server's unix socket; going on over TCP");
                    }
                }
            }
            Ok(Stream::Tcp(Box::new(tcp.call(uri).await?)))
        })
    }
}

/// A connection of either kind.
#[derive(Debug)]
enum Stream {
    Socket(TokioIo<UnixStream>),
    Tcp(Box<<Https as Service<Uri>>::Response>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Socket(_) => Connected::new(),
            Self::Tcp(stream) => MaybeHttpsStream::connected(stream),
        }
    }
}

/// Both kinds can be moved, so what is within can be pinned anew.
macro_rules! of_either {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match $stream.get_mut() {
            Self::Socket(stream) => Pin::new(stream).$method($($argument),*),
            Self::Tcp(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        of_either!(self, poll_read, context, into)
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        of_either!(self, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_either!(self, poll_write_vectored, context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Socket(stream) => stream.is_write_vectored(),
            Self::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, poll_shutdown, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_near_if_its_address_is_ours_or_of_the_loopback() {
        for (ours, theirs, is_near) in [
            ("10.0.0.7:40000", "10.0.0.7:8443", true),
            ("127.0.0.1:40000", "127.0.0.2:8443", true),
            ("[::1]:40000", "[::1]:8443", true),
            ("[::ffff:10.0.0.7]:40000", "10.0.0.7:8443", true),
            ("[::1]:40000", "[::ffff:127.0.0.1]:8443", true),
            ("10.0.0.7:40000", "10.0.0.8:8443", false),
            ("127.0.0.1:8443", "10.0.0.8:8443", false),
            ("[fd00::7]:40000", "[fd00::8]:8443", false),
        ] {
            let (ours, theirs) = (ours.parse().unwrap(), theirs.parse().unwrap());
            assert_eq!(is_one_host(ours, theirs), is_near, "{ours} {theirs}");
        }
    }
}
