//! Who is asking: a bearer token of the single sign-on, or Basic credentials.
//!
//! No cookies: what a browser sends by itself opens nothing here, so no request can be forged from another page.

use crate::fault::Refused;
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use stillpoint_auth::{Auth, AuthError, SCOPE_API, TokenKind};
use stillpoint_types::{Caller, FaultCode};

/// Longest Basic credentials, in bytes of their encoded form.
const BASIC_MAX: usize = 8192;

/// Lets the sender of a request in, or refuses him.
pub(crate) async fn admit(auth: &Auth, headers: &HeaderMap) -> Result<Caller, Refused> {
    let sent = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if let Some(token) = sent.and_then(|value| credentials(value, "bearer")) {
        let token = std::str::from_utf8(token).map_err(|_not_text| refused(&AuthError::BadToken))?;
        return by_token(auth, token).await;
    }
    let Some(basic) = sent.and_then(|value| credentials(value, "basic")) else {
        return Err(unauthorized("Credentials are needed"));
    };
    let (user, password) = basic_pair(basic).ok_or_else(|| unauthorized("The credentials are not readable"))?;
    auth.login(&user, &password).await.map_err(|error| refused(&error))
}

async fn by_token(auth: &Auth, token: &str) -> Result<Caller, Refused> {
    let grant = auth.caller_of_token(token).await.map_err(|error| refused(&error))?;
    if grant.kind != TokenKind::Bearer {
        return Err(refused(&AuthError::BadToken));
    }
    if !grant.has_scope(SCOPE_API) {
        return Err(unauthorized("The token was not given for the API"));
    }
    Ok(grant.caller)
}

fn unauthorized(text: &str) -> Refused {
    Refused::new(FaultCode::Unauthorized, text)
}

fn refused(error: &AuthError) -> Refused {
    match error {
        AuthError::BadCredentials | AuthError::TooLong { .. } => unauthorized("Wrong user name or password"),
        AuthError::BadToken => unauthorized("The token is not valid"),
        AuthError::Busy => Refused::new(FaultCode::Unavailable, "Too many logins at once, try again later"),
        other => Refused::internal(other),
    }
}

/// What follows the scheme in an `Authorization` header.
fn credentials<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    (head.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}

fn basic_pair(encoded: &[u8]) -> Option<(String, String)> {
    if encoded.len() > BASIC_MAX {
        return None;
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
