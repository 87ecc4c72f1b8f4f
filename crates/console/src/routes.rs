//! All pages of the console, on one page.

use crate::{Console, assets, home, live, session};
use axum::{
    Router,
    routing::{any, get, post},
};

/// The console's service: `/console` and what is below it. To be merged into the daemon's router.
pub fn router(console: Console) -> Router {
    Router::new()
        .route("/console", get(home::to_front))
        .route("/console/", get(home::show))
        .route("/console/login", get(session::login_page).post(session::login))
        .route("/console/logout", post(session::logout))
        .route("/console/assets/{name}", get(assets::get))
        .route("/console/live", get(live::stream))
        .route("/console/{*rest}", any(home::nowhere))
        .with_state(console)
}
