//! `/health/live`, `/health/ready`, and the versions document at `/`: what needs no token and tells nothing of anybody.

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use stillpoint_engine::Engine;

pub(crate) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/", get(versions))
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

/// 300: the dialects that are served, each with its root.
async fn versions() -> impl IntoResponse {
    let body = serde_json::json!({"versions": [
        {"id": "ovirt-v4", "status": "CURRENT", "links": [{"rel": "self", "href": "/ovirt-engine/api"}]},
    ]});
    (StatusCode::MULTIPLE_CHOICES, axum::Json(body))
}
