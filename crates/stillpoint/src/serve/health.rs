//! `/health/live`, `/health/ready`: what needs no token and tells nothing of anybody.

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use stillpoint_engine::Engine;

pub(crate) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/health/live", get(|| async { "ok\n" }))
        .route("/health/ready", get(ready))
        .with_state(engine)
}

async fn ready(State(engine): State<Engine>) -> impl IntoResponse {
    match engine.ready().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(fault) => {
            tracing::error!(fault = fault.log_chain(), "not ready");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the catalogue does not answer; see the log\n",
            )
        }
    }
}
