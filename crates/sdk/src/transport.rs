//! HTTP/1.1 over TCP or TLS, with connections that are kept: hyper's pooled client, and nothing of our own.
//!
//! Control plane and data plane share it. No proxy is used: a backup's bytes go straight to where the server said.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{io, time::Duration};

/// How long a TCP connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long an idle connection is kept. Servers close theirs after about a minute.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// A body that is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// The client that all requests go through.
pub(crate) type Client = Pooled<HttpsConnector<HttpConnector>, Body>;

/// A client that trusts as `tls` says.
pub(crate) fn client(tls: rustls::ClientConfig) -> Client {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Pooled::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// A body that is at hand.
pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
