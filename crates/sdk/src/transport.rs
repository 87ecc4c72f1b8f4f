//! HTTP/1.1 over TCP or TLS, with connections that are kept: hyper's pooled client, and nothing of our own.
//!
//! Control plane and data plane share it. No proxy is used: a backup's bytes go straight to where the server said.

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client as Pooled,
        connect::{Connect, Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    net::TcpStream,
};
use tower_service::Service;

/// How long a TCP connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long an idle connection is kept. Servers close theirs after about a minute.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// What is read of a connection at once: four records of TLS.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// A body that is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What makes connections.
pub(crate) type Https = HttpsConnector<Connector>;
/// The client that all requests go through, but those to a unix socket.
pub(crate) type Client = Pooled<Https, Body>;

/// Connections that trust as `tls` says.
pub(crate) fn connector(tls: rustls::ClientConfig) -> Https {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(Connector(tcp))
}

/// A client that keeps the connections that are made so.
pub(crate) fn client<C>(connector: C) -> Pooled<C, Body>
where
    C: Connect + Clone,
{
    Pooled::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// Makes connections that are read ahead of: rustls asks for 4 KiB at a time, which is a system call each.
#[derive(Debug, Clone)]
pub(crate) struct Connector(HttpConnector);

impl Service<Uri> for Connector {
    type Response = TokioIo<Ahead>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(Ahead(BufReader::with_capacity(READ_AHEAD_BYTES, stream))))
        })
    }
}

/// A connection that is read ahead of.
#[derive(Debug)]
pub(crate) struct Ahead(BufReader<TcpStream>);

impl Connection for Ahead {
    fn connected(&self) -> Connected {
        self.0.get_ref().connected()
    }
}

impl AsyncRead for Ahead {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A body that is at hand.
pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
