//! Who sends a request: a signature if there is one, else the token in `X-Auth-Token`.

use crate::{Api, fault::Refused};
use http::{HeaderMap, header};
use std::sync::Arc;
use stillpoint_auth::{AuthError, Scoped, signature::Claim};

/// Whether the request carries a signature, which wins over a token.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| Claim::is_meant(value.as_bytes()))
}

/// The owner of the request's token, narrowed to its scope.
///
/// # Errors
/// 401 without a token or for one that is not valid.
pub(crate) async fn by_token(api: &Api, headers: &HeaderMap) -> Result<Arc<Scoped>, Refused> {
    let token = headers
        .get("x-auth-token")
        .ok_or_else(|| Refused::unauthorized("The request you have made requires authentication."))?;
    let token = token.to_str().map_err(|_not_text| refused(&AuthError::BadToken))?;
    api.auth().scoped_of_token(token).await.map_err(|error| refused(&error))
}

/// What a failure of the auth room is on these dialects. All failed logins look the same.
pub(crate) fn refused(error: &AuthError) -> Refused {
    match error {
        AuthError::BadCredentials | AuthError::BadToken | AuthError::TooLong { .. } => {
            Refused::unauthorized("The request you have made requires authentication.")
        }
        AuthError::Busy => Refused::unavailable("Too many logins at once: try again later"),
        AuthError::Invalid(what) => Refused::bad_request(*what),
        AuthError::NoSuchUser => Refused::not_found("Could not find the user"),
        AuthError::NoSuchProject => Refused::not_found("Could not find the project"),
        AuthError::Taken(_) | AuthError::InUse(_) => Refused::conflict(error.to_string()),
        other => Refused::internal(&chain(other)),
    }
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
