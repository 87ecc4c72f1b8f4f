//! `/metrics`: numbers about the daemon, in the text format that Prometheus reads (OpenMetrics), for administrators.
//!
//! What is counted is in `numbers.rs`; requests are counted by `http.rs` as they go by. A scraper sends Basic credentials or
//! a bearer token, as any client does. Must not: tell names of anybody's things.

mod http;
mod numbers;

pub(crate) use http::{count, count_local};
pub(crate) use numbers::Numbers;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::Engine as _;
use std::sync::Arc;
use stillpoint_auth::{Auth, AuthError, SCOPE_API, TokenKind};
use stillpoint_engine::Engine;
use stillpoint_store::Store;
use stillpoint_transfer::Transfer;
use stillpoint_types::Caller;

/// The format's media type (OpenMetrics 1.0).
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Longest credentials, in bytes.
const CREDENTIALS_MAX: usize = 8192;

/// What is counted, and who may read it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) store: Store,
    pub(crate) auth: Auth,
    pub(crate) engine: Engine,
    pub(crate) data_plane: Transfer,
    pub(crate) numbers: Arc<Numbers>,
}

pub(crate) fn router(sources: Sources) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(sources)
}

async fn metrics(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let caller = match admit(&sources.auth, &headers).await {
        Ok(Some(caller)) => caller,
        Ok(None) => {
            let asked = [(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"metrics\""),
            )];
            return (StatusCode::UNAUTHORIZED, asked, "send an administrator's credentials\n").into_response();
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "who asks for metrics could not be found out"
            );
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                "the catalogue does not answer; see the log\n",
            )
                .into_response();
        }
    };
    if !caller.is_admin {
        return (StatusCode::FORBIDDEN, "only administrators may read metrics\n").into_response();
    }
    match sources.numbers.tell(&sources, &caller).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "metrics could not be read");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the catalogue does not answer; see the log\n",
            )
                .into_response()
        }
    }
}

/// Who sends these headers; `None`: nobody who is known.
async fn admit(auth: &Auth, headers: &HeaderMap) -> Result<Option<Caller>, AuthError> {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, rest)) = sent.and_then(|sent| sent.split_once(' ')) else {
        return Ok(None);
    };
    let rest = rest.trim();
    let found = if rest.len() > CREDENTIALS_MAX {
        return Ok(None);
    } else if scheme.eq_ignore_ascii_case("bearer") {
        let grant = auth.caller_of_token(rest).await;
        grant.map(|grant| (grant.kind == TokenKind::Bearer && grant.has_scope(SCOPE_API)).then_some(grant.caller))
    } else if scheme.eq_ignore_ascii_case("basic") {
        let Some((user, password)) = basic(rest) else {
            return Ok(None);
        };
        auth.login(&user, &password).await.map(Some)
    } else {
        return Ok(None);
    };
    match found {
        Err(error) if error.is_unauthorized() => Ok(None),
        other => other,
    }
}

fn basic(encoded: &str) -> Option<(String, String)> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
