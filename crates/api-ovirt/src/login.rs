//! Who is asking: bearer token, cookie session, or Basic credentials, in that order.
//!
//! | client sends | what happens |
//! |---|---|
//! | `Authorization: Bearer T` | the token's owner, if it has the API's scope |
//! | cookie and `Prefer: persistent-auth` | the session goes on |
//! | cookie without that preference | the session ends first, then credentials are needed |
//! | `Prefer: new-auth` | the session ends, credentials are needed |
//! | Basic | authenticated for this request, or for a session with `persistent-auth` |
//!
//! A session is a token of its own kind, carried in the cookie: it survives a restart of the daemon, and ends with the
//! user or his password. Idle limits are kept where tokens are kept.

use crate::fault::Refused;
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;
use stillpoint_auth::{Auth, AuthError, IDLE_MAX, SCOPE_API, SESSION_IDLE, TokenKind};
use stillpoint_types::Caller;

/// Longest Basic credentials, in bytes of their encoded form.
const BASIC_MAX: usize = 8192;
/// The session cookie, and the header that repeats it.
const COOKIE: &str = "JSESSIONID";

/// A caller who was let in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    /// The cookie of a session that has just begun.
    pub(crate) cookie: Option<HeaderValue>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Preferences {
    persistent: bool,
    new: bool,
    csrf: bool,
}

/// Lets the sender of a request in, or refuses him. `secure`: cookies go over TLS only.
pub(crate) async fn admit(auth: &Auth, secure: bool, headers: &HeaderMap) -> Result<Admitted, Refused> {
    let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if let Some(token) = authorization.and_then(|value| credentials(value, "bearer")) {
        let caller = bearer(auth, token).await?;
        return Ok(Admitted { caller, cookie: None });
    }
    let preferences = preferences(headers);
    if let Some(id) = session_cookie(headers) {
        if preferences.persistent && !preferences.new {
            if let Some(caller) = session(auth, &id, headers).await? {
                return Ok(Admitted { caller, cookie: None });
            }
        } else {
            end_session(auth, &id).await?;
        }
    }
    let Some(basic) = authorization.and_then(|value| credentials(value, "basic")) else {
        return Err(Refused::unauthorized("Credentials are needed"));
    };
    let (user, password) =
        basic_pair(basic).ok_or_else(|| Refused::unauthorized("The credentials are not readable"))?;
    let caller = auth.login(&user, &password).await.map_err(refused)?;
    let cookie = if preferences.persistent {
        Some(begin_session(auth, &caller, idle_limit(headers), preferences.csrf, secure).await?)
    } else {
        None
    };
    Ok(Admitted { caller, cookie })
}

async fn bearer(auth: &Auth, token: &[u8]) -> Result<Caller, Refused> {
    let token = std::str::from_utf8(token).map_err(|_not_text| refused(AuthError::BadToken))?;
    let grant = auth.caller_of_token(token).await.map_err(refused)?;
    if grant.kind != TokenKind::Bearer {
        return Err(refused(AuthError::BadToken));
    }
    if !grant.has_scope(SCOPE_API) {
        return Err(Refused::unauthorized("The token was not given for the API"));
    }
    Ok(grant.caller)
}

/// The caller of a session; `None`: there is no such session any more.
async fn session(auth: &Auth, id: &str, headers: &HeaderMap) -> Result<Option<Caller>, Refused> {
    let grant = match auth.caller_of_token(id).await {
        Ok(grant) => grant,
        Err(error) if error.is_unauthorized() => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    match grant.kind {
        // A bearer token in a cookie would escape the protection against forged requests.
        TokenKind::Bearer => Ok(None),
        TokenKind::Session { csrf } => {
            if csrf && headers.get(COOKIE).map(HeaderValue::as_bytes) != Some(id.as_bytes()) {
                return Err(Refused::forged());
            }
            // A session of the console is for the console alone.
            Ok(grant.has_scope(SCOPE_API).then_some(grant.caller))
        }
    }
}

/// Ends a session, and nothing else that may be in the cookie.
async fn end_session(auth: &Auth, id: &str) -> Result<(), Refused> {
    match auth.caller_of_token(id).await {
        Ok(grant) if grant.kind != TokenKind::Bearer => {
            auth.revoke(id).await.map_err(refused)?;
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if error.is_unauthorized() => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

async fn begin_session(
    auth: &Auth,
    caller: &Caller,
    idle: Duration,
    csrf: bool,
    secure: bool,
) -> Result<HeaderValue, Refused> {
    let kind = TokenKind::Session { csrf };
    let id = auth.issue_token(caller, SCOPE_API, kind, idle).await.map_err(refused)?;
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{COOKIE}={id}; Path=/ovirt-engine/api; HttpOnly{secure}"))
        .map_err(|error| Refused::internal(&error.to_string()))
}

/// What a failure of the auth room is on the API.
#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
pub(crate) fn refused(error: AuthError) -> Refused {
    match &error {
        AuthError::BadCredentials | AuthError::TooLong { .. } => Refused::unauthorized("Wrong user name or password"),
        AuthError::BadToken => Refused::unauthorized("The token is not valid"),
        AuthError::Busy => Refused::busy("Too many logins at once, try again later"),
        other => Refused::internal(&chain(other)),
    }
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
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

fn preferences(headers: &HeaderMap) -> Preferences {
    let mut found = Preferences::default();
    for value in headers.get_all("prefer") {
        for name in value.to_str().unwrap_or_default().split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "persistent-auth" => found.persistent = true,
                "new-auth" => found.new = true,
                "csrf-protection" => found.csrf = true,
                _ => {}
            }
        }
    }
    found
}

fn session_cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

fn idle_limit(headers: &HeaderMap) -> Duration {
    headers
        .get("session-ttl")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .filter(|minutes| *minutes >= 1)
        .map_or(SESSION_IDLE, |minutes| {
            Duration::from_secs(minutes.saturating_mul(60)).min(IDLE_MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).try_into().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn preferences_are_a_list_without_case() {
        let found = preferences(&headers(&[("prefer", "Persistent-Auth, CSRF-protection")]));
        assert!(found.persistent && found.csrf && !found.new);
        assert_eq!(preferences(&HeaderMap::new()), Preferences::default());
    }

    #[test]
    fn an_idle_limit_is_at_least_a_minute_and_bounded() {
        assert_eq!(idle_limit(&headers(&[("session-ttl", "1")])), Duration::from_secs(60));
        assert_eq!(idle_limit(&headers(&[("session-ttl", "0")])), SESSION_IDLE);
        assert_eq!(idle_limit(&headers(&[("session-ttl", "x")])), SESSION_IDLE);
        assert_eq!(
            idle_limit(&headers(&[("session-ttl", &u64::MAX.to_string())])),
            IDLE_MAX
        );
    }

    #[test]
    fn credentials_are_read_or_refused_whatever_they_hold() {
        assert_eq!(credentials(b"Bearer abc", "bearer"), Some(b"abc".as_slice()));
        assert_eq!(credentials(b"Basic abc", "bearer"), None);
        assert_eq!(credentials(b"B", "bearer"), None);
        let encode = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text);
        let pair = |text: &[u8]| basic_pair(encode(text).as_bytes());
        assert_eq!(
            pair("a@b@internal:p:w ö".as_bytes()),
            Some(("a@b@internal".into(), "p:w ö".into()))
        );
        assert_eq!(pair(b"nocolon"), None);
        assert_eq!(pair(b"\xff:\xfe"), None);
        assert_eq!(basic_pair(b"%%%"), None);
        assert_eq!(
            session_cookie(&headers(&[("cookie", "a=b; JSESSIONID=xyz; c=d")])),
            Some("xyz".into())
        );
    }
}
