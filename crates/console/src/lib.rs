//! The web console at `/console/`: an edge that answers in HTML. It asks the core and the auth room, and decides nothing.
//!
//! Pages are written on the server and work without script: every action is a form of its own page that says what will happen
//! and what will be lost, is posted, and leads back. `assets/console.js` only makes pages live: the stream of [`live`] says that
//! something has changed, and the page is asked for again; its regions marked `data-live` are replaced where they differ (ADR
//! 0021).
//!
//! * [`routes`]: all pages on one page. * `visit`: who looks, from the session cookie; what was posted, against forgery.
//! * `layout`, `ui`: the frame, and the pieces of which pages are made. * `trouble`: what goes wrong, as a page.
//! * one folder a noun: `vm`, `snapshot`, `backup`, `job`, ...
//!
//! Must not: know SQL, QMP or another edge's code. The dialect view asks the daemon's own API through [`Settings::apis`].

mod answer;
mod assets;
mod backup;
mod dialect;
mod disk;
mod event;
mod home;
mod job;
mod layout;
mod list;
mod live;
mod point;
mod routes;
mod session;
mod snapshot;
mod storage;
mod trouble;
mod ui;
mod user;
mod visit;
mod vm;
mod volume;

pub use routes::router;

use std::sync::Arc;
use stillpoint_auth::Auth;
use stillpoint_engine::Engine;
use tokio_util::sync::CancellationToken;

/// What the console has to be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme, host and port under which clients reach the daemon, without a slash at the end. Cookies are `Secure` if it begins
    /// with `https`.
    pub public_url: String,
    /// The daemon's APIs, to show what they answer.
    pub apis: axum::Router,
    /// Ends the live streams when the daemon stops.
    pub stopping: CancellationToken,
}

/// The console's state. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Console(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    auth: Auth,
    settings: Settings,
    rates: backup::rate::Rates,
}

impl Console {
    /// Puts the console together.
    #[must_use]
    pub fn new(engine: Engine, auth: Auth, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            engine,
            auth,
            settings,
            rates: backup::rate::Rates::default(),
        }))
    }

    /// The core.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Users, projects and tokens.
    pub(crate) fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// What it was told.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How fast backups go that somebody watches.
    pub(crate) fn rates(&self) -> &backup::rate::Rates {
        &self.0.rates
    }

    /// Whether the daemon is reached over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.settings.public_url.starts_with("https:")
    }
}
