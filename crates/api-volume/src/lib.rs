//! The volume API's edge: OpenStack Cinder v3 and Huawei Cloud EVS, with the Keystone identity service that both log in at.
//!
//! A request is parsed into a command or a question of the core (or of the auth room) and answered in JSON. Nothing is decided
//! here. The path alone chooses the dialect (`family`), and with it the shape of errors.
//!
//! * [`routes`]: the whole surface, as data; `identity`, `cinder` and `evs` hold their own rows and handlers.
//! * `server`: one request, from its head to its answer; `login`: who sends it.
//! * `fault`: what goes wrong, as each family says it.
//!
//! Mounting it: [`router`] with an [`Api`]; it serves its own prefixes only, so that another router can be the fallback.

mod answer;
mod call;
mod cinder;
mod evs;
mod family;
mod fault;
mod identity;
mod login;
mod microversion;
mod route;
mod routes;
mod server;
mod signature;
mod text;

pub use family::Family;
pub use route::{Access, Route};

use std::sync::Arc;
use stillpoint_auth::Auth;
use stillpoint_engine::Engine;

/// What this edge has to be told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Scheme, host and port under which clients reach the daemon, such as `https://kvm1.example.com:8080`, without a slash at the
    /// end. The catalogue and all links begin with it.
    pub public_url: String,
    /// Whether the catalogue names a network service that is not there: its URL answers 404. Only for tempest, whose dynamic
    /// credentials ask one when they take a project down.
    pub network_stub: bool,
}

/// The edge's state. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    auth: Auth,
    settings: Settings,
}

impl Api {
    /// Puts the edge together.
    pub fn new(engine: Engine, auth: Auth, mut settings: Settings) -> Self {
        settings
            .public_url
            .truncate(settings.public_url.trim_end_matches('/').len());
        Self(Arc::new(Inner { engine, auth, settings }))
    }

    /// The core.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Users, projects and tokens.
    pub(crate) fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// What links begin with; no slash at its end.
    pub(crate) fn public_url(&self) -> &str {
        &self.0.settings.public_url
    }

    /// Whether the catalogue names the network service that is not there.
    pub(crate) fn network_stub(&self) -> bool {
        self.0.settings.network_stub
    }
}

/// How this room tells a fault of the core: Cinder's and Keystone's status, EVS's status and code.
#[must_use]
pub fn told(code: stillpoint_types::FaultCode) -> (u16, u16, &'static str) {
    fault::told(code)
}

/// The service: the prefixes of [`family::PREFIXES`] and `/`, nothing else.
pub fn router(api: Api) -> axum::Router {
    let serve = move |request: axum::extract::Request| {
        let api = api.clone();
        async move { server::serve(api, request).await }
    };
    let mut router = axum::Router::new().route("/", axum::routing::any(serve.clone()));
    for prefix in family::PREFIXES {
        router = router
            .route(&format!("/{prefix}"), axum::routing::any(serve.clone()))
            .route(&format!("/{prefix}/"), axum::routing::any(serve.clone()))
            .route(&format!("/{prefix}/{{*rest}}"), axum::routing::any(serve.clone()));
    }
    router
}

/// All routes, for documents and for tests that walk them.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    routes::all()
}
