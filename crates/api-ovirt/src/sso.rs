//! The token endpoints: get, check and end a token; and the two liveness texts.
//!
//! Answers are JSON whatever is asked for: the SDKs refuse anything else here. A failed login is 400 in oVirt's own
//! shape, `error_code` and `error`, because both SDKs look for the member `error` and not at the status.

use crate::{answer::Answer, call::Visit, fault::Refused, login::chain, negotiate, param::Params};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_auth::{AuthError, BEARER_IDLE, TokenKind};

/// Longest form, in bytes.
pub(crate) const FORM_MAX: usize = 16 << 10;
/// What `exp` says: tokens end by idleness, which the server alone knows.
const NEVER: &str = "9223372036854775807";
/// The scope with which a client asks whether a token is valid, without a secret of its own.
const VALIDATE: &str = "ovirt-ext=token-info:validate";

/// A failure of these endpoints.
struct Error(&'static str, String);

/// `sso/oauth/token`: a token for a password.
pub(crate) async fn token(visit: Visit) -> Result<Answer, Refused> {
    Ok(finish(issue(&visit).await))
}

/// `sso/oauth/token-info`: whether a token is valid.
pub(crate) async fn token_info(visit: Visit) -> Result<Answer, Refused> {
    Ok(finish(validate(&visit).await))
}

/// `services/sso-logout` and `sso/oauth/revoke`: ends a token. An unknown one has ended already, and that is success.
pub(crate) async fn logout(visit: Visit) -> Result<Answer, Refused> {
    Ok(finish(revoke(&visit).await))
}

/// `services/health`: whether the catalogue answers. The text is oVirt's, monitors look for it.
pub(crate) async fn health(visit: Visit) -> Result<Answer, Refused> {
    visit.api.0.engine.ready().await?;
    let text = "DB Up!Welcome to Health Status!";
    Ok(Answer::text(StatusCode::OK, "text/plain", text))
}

/// `sso/status`.
pub(crate) async fn status(_visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::text(
        StatusCode::OK,
        "application/json",
        json!({ "status": "up" }).to_string(),
    ))
}

async fn issue(visit: &Visit) -> Result<Value, Error> {
    if !negotiate::takes_json(&visit.headers) {
        return Err(Error(
            "invalid_request",
            "The answer is application/json: the header Accept must allow it".into(),
        ));
    }
    let form = form(visit);
    match mandatory(&form, "grant_type")? {
        "password" => {}
        _ => {
            return Err(Error(
                "unsupported_grant_type",
                "Only the grant type password is served".into(),
            ));
        }
    }
    let user = mandatory(&form, "username")?;
    // A password is taken as it is: spaces at its ends belong to it.
    let password = form
        .raw("password")
        .filter(|password| !password.is_empty())
        .ok_or_else(|| Error("invalid_request", "Missing parameter: password".into()))?;
    let scope = mandatory(&form, "scope")?;
    let auth = &visit.api.0.auth;
    let caller = auth
        .login(user, password)
        .await
        .map_err(|error| failure(user, &error))?;
    let token = auth
        .issue_token(&caller, scope, TokenKind::Bearer, BEARER_IDLE)
        .await
        .map_err(|error| failure(user, &error))?;
    Ok(json!({ "access_token": token, "scope": scope, "exp": NEVER, "token_type": "bearer" }))
}

async fn validate(visit: &Visit) -> Result<Value, Error> {
    let form = form(visit);
    if form.text("scope") != Some(VALIDATE) {
        return Err(Error(
            "unauthorized_client",
            format!("Only the scope {VALIDATE} is served here"),
        ));
    }
    let token = mandatory(&form, "token")?;
    match visit.api.0.auth.caller_of_token(token).await {
        Ok(_) => Ok(json!({})),
        Err(error) if error.is_unauthorized() => Err(Error(
            "invalid_grant",
            "The provided authorization grant is not valid".into(),
        )),
        Err(error) => Err(server_error(&error)),
    }
}

async fn revoke(visit: &Visit) -> Result<Value, Error> {
    let form = form(visit);
    if let Some(token) = form.text("token") {
        let ended = visit.api.0.auth.revoke(token).await;
        ended.map_err(|error| server_error(&error))?;
    }
    Ok(json!({}))
}

/// What URL and body say together.
fn form(visit: &Visit) -> Params {
    let mut form = visit.params.clone();
    form.add_form(&visit.body);
    form
}

fn mandatory<'a>(form: &'a Params, name: &str) -> Result<&'a str, Error> {
    form.text(name)
        .ok_or_else(|| Error("invalid_request", format!("Missing parameter: {name}")))
}

fn failure(user: &str, error: &AuthError) -> Error {
    let shown: String = user.chars().take(64).collect();
    match error {
        AuthError::BadCredentials => Error(
            "access_denied",
            format!("Cannot authenticate user {shown}: wrong user name or password"),
        ),
        AuthError::TooLong { .. } => Error("invalid_request", error.to_string()),
        AuthError::Busy => Error("access_denied", "Too many logins at once, try again later".into()),
        other => server_error(other),
    }
}

fn server_error(error: &AuthError) -> Error {
    tracing::error!(fault = chain(error), "the auth room failed");
    Error(
        "server_error",
        "Internal error; the daemon's log has the cause under this correlation id".into(),
    )
}

fn finish(result: Result<Value, Error>) -> Answer {
    match result {
        Ok(value) => Answer::text(StatusCode::OK, "application/json", value.to_string()),
        Err(Error(code, text)) => {
            let status = if code == "server_error" {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::BAD_REQUEST
            };
            // The scope of the API gets oVirt's shape; the members of OpenID beside them serve every other reader.
            let body = json!({ "error_code": code, "error": text, "error_description": text });
            Answer::text(status, "application/json", body.to_string())
        }
    }
}
