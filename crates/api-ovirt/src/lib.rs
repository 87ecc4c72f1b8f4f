//! The oVirt Engine REST API, version 4 and RHEV's version 3: one of the product's dialects, and nothing but a dialect.
//!
//! A request is parsed into a command or a question of the core and the answer is written in the encoding that was asked
//! for. Nothing is decided here: who may do what, what state allows what and what happens is the core's. No SQL, no QMP.
//!
//! * [`routes`]: the whole surface, as data.
//! * `server`: one request, from the connection to the connection.
//! * one file per noun: what it looks like (`represent`) and its handlers.
//! * `fault`: what goes wrong, as this dialect says it.
//!
//! * `dialect`: which version a request speaks; `v3`: what version 3 has differently.
//!
//! Mounting it: [`router`] with an [`Api`]; it serves everything below `/ovirt-engine` and `/api`.

mod answer;
mod attachment;
mod backup;
mod call;
mod checkpoint;
#[cfg(test)]
mod cold;
mod correlation;
mod dialect;
mod disk;
mod disk_action;
mod disk_snapshot;
mod domain;
mod event;
mod external;
mod fault;
mod follow;
mod gzip;
#[cfg(test)]
mod hostile;
mod house;
mod image_transfer;
mod job;
mod list;
mod login;
mod negotiate;
mod nic;
mod ovf;
mod param;
mod pki;
mod preview;
mod root;
mod route;
mod routes;
mod search;
mod server;
mod snapshot;
mod sso;
mod statistic;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod transfers;
mod user;
mod v3;
mod vm;
mod vm_action;

pub use route::{Access, Place, Route, Shape};
pub use stillpoint_wire::Dialect;

use std::sync::Arc;
use stillpoint_auth::Auth;
use stillpoint_engine::Engine;

/// What this dialect has to be told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Scheme, host and port under which clients reach the daemon, such as `https://kvm1.example.com:8080`. Used where a
    /// whole URL is needed (the root's `Link` header, texts); hrefs are paths.
    pub public_url: String,
    /// The certificates to give away; `None` while the daemon serves without TLS.
    pub certificates: Option<Certificates>,
    /// What a request speaks that names no version, neither in its path nor in its header.
    pub default_dialect: Dialect,
}

/// The certificates that clients can fetch without authentication.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// PEM of the CA that signed the daemon's certificate.
    pub ca_pem: String,
    /// PEM of the daemon's own certificate.
    pub server_pem: String,
}

/// The dialect's state. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    auth: Auth,
    settings: Settings,
}

impl Api {
    /// Puts the dialect together.
    pub fn new(engine: Engine, auth: Auth, settings: Settings) -> Self {
        Self(Arc::new(Inner { engine, auth, settings }))
    }
}

/// The status and the reason by which this dialect tells a fault of the core.
#[must_use]
pub fn told(code: stillpoint_types::FaultCode) -> (u16, &'static str) {
    fault::told(code)
}

/// The service: everything below `/ovirt-engine` and `/api`, however its slashes are doubled; 404 in its own form for all else. To be
/// mounted as the fallback of whatever serves beside it.
pub fn router(api: Api) -> axum::Router {
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let api = api.clone();
        async move { server::serve(api, request).await }
    })
}

/// All routes of version 4, for documents and for tests that walk them.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    routes::ROUTES.iter()
}

/// All routes of version 3. Those that version 4 has too have the same name, though the pattern may be spelled differently.
pub fn routes_v3() -> impl Iterator<Item = &'static Route> {
    v3::routes().iter()
}
