//! The edge of our own JSON family, `/stillpoint/v1`: what no dialect of somebody else's has.
//!
//! A request is parsed into a command or a question of the core and answered in JSON. Nothing is decided here.
//!
//! * [`routes`]: the whole surface, as data; `discovery` makes the list of it and the OpenAPI document from that table, with
//!   the answers of `schema`.
//! * `server`: one request, from its head to its answer; `login`: who sends it.
//! * `explain`, `stream`: the questions; `document`: the core's values as JSON.
//! * `fault`: what goes wrong, in the family's one shape.
//!
//! Mounting it: [`router`] with an [`Api`]; it serves its own prefix only. `/stillpoint/v1/images/` is the data plane's.

mod answer;
mod call;
mod discovery;
mod document;
mod explain;
mod fault;
mod login;
mod repair;
mod route;
mod routes;
mod schema;
mod server;
mod stream;

pub use route::{Access, Param, Route};

use std::sync::Arc;
use stillpoint_auth::Auth;
use stillpoint_engine::Engine;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Where the family begins.
pub const ROOT: &str = "/stillpoint/v1";

/// What this edge has to be told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Scheme, host and port under which clients reach the daemon, such as `https://kvm1.example.com:8080`.
    pub public_url: String,
    /// Cancelled when the daemon stops: what would go on for ever ends then.
    pub stopping: CancellationToken,
}

/// The edge's state. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    auth: Auth,
    public_url: String,
    stopping: CancellationToken,
    /// Who listens to events has one.
    seats: Arc<Semaphore>,
}

impl Api {
    /// Puts the edge together.
    #[must_use]
    pub fn new(engine: Engine, auth: Auth, settings: Settings) -> Self {
        let mut public_url = settings.public_url;
        public_url.truncate(public_url.trim_end_matches('/').len());
        Self(Arc::new(Inner {
            engine,
            auth,
            public_url,
            stopping: settings.stopping,
            seats: Arc::new(Semaphore::new(stream::LISTENERS_MAX)),
        }))
    }

    /// The core.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Users and tokens.
    pub(crate) fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// What links begin with; no slash at its end.
    pub(crate) fn public_url(&self) -> &str {
        &self.0.public_url
    }

    /// Cancelled when the daemon stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// A place among those who listen to events; `None`: all are taken.
    pub(crate) fn take_seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.seats).try_acquire_owned().ok()
    }
}

/// The service: all below [`ROOT`] but the data plane's.
pub fn router(api: Api) -> axum::Router {
    let serve = move |request: axum::extract::Request| {
        let api = api.clone();
        async move { server::serve(api, request).await }
    };
    let mut router = axum::Router::new();
    for path in ["", "/", "/{*rest}"] {
        router = router.route(&format!("{ROOT}{path}"), axum::routing::any(serve.clone()));
    }
    router
}

/// All routes, for documents and for tests that walk them.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    routes::ROUTES.iter()
}
