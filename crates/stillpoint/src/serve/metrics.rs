//! `/metrics`: numbers about the daemon, in Prometheus's text format, for administrators.
//!
//! A scraper sends Basic credentials or a bearer token, as any client does. Must not: tell names of anybody's things.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::Engine as _;
use std::fmt::Write as _;
use stillpoint_auth::{Auth, AuthError, SCOPE_API, TokenKind};
use stillpoint_engine::Engine;
use stillpoint_store::Store;
use stillpoint_types::Caller;

/// The text format's media type (Prometheus, exposition formats).
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Longest credentials, in bytes.
const CREDENTIALS_MAX: usize = 8192;

/// What is counted, and who may read it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) store: Store,
    pub(crate) auth: Auth,
    pub(crate) engine: Engine,
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
    match sources.engine.vm_counts(&caller).await {
        Ok(vms) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text(&sources.store, vms)).into_response(),
        Err(fault) => {
            tracing::error!(fault = fault.log_chain(), "metrics could not be read");
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

fn text(store: &Store, (vms, running): (u64, u64)) -> String {
    let mut text = String::new();
    let mut tell = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    tell("stillpoint_vms", "gauge", "VMs in the catalogue.", vms);
    tell("stillpoint_vms_running", "gauge", "VMs that have a process.", running);
    let statements = "SQL statements since the start, those that begin and end transactions among them.";
    tell(
        "stillpoint_store_statements_total",
        "counter",
        statements,
        store.statements(),
    );
    let commits = "Durable commits since the start.";
    tell("stillpoint_store_commits_total", "counter", commits, store.commits());
    if let Some(bytes) = resident_bytes() {
        tell(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the daemon.",
            bytes,
        );
    }
    text
}

/// `VmRSS` of `/proc/self/status` (proc(5)), which is in KiB.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}
