//! Who is asking: bearer token, cookie session, or Basic credentials, in that order.
//!
//! | client sends | what happens |
//! |---|---|
//! | `Authorization: Bearer T` | the token's owner, if it has the API's scope |
//! | cookie and `Prefer: persistent-auth` | the session goes on |
//! | cookie without that preference | the session ends first, then credentials are needed |
//! | `Prefer: new-auth` | the session ends, credentials are needed |
//! | Basic | authenticated for this request, or for a session with `persistent-auth` |

use crate::{
    fault::Refused,
    identity::{API_SCOPE, Denied, Identity},
    session::{IDLE_DEFAULT, IDLE_MAX, Sessions},
};
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use stillpoint_types::Caller;
use tokio::sync::Semaphore;

/// Passwords that are checked at the same time; each check costs memory and CPU on purpose.
const LOGINS_MAX: usize = 4;
/// How long a login waits for its turn.
const LOGIN_WAIT: Duration = Duration::from_secs(10);
/// Longest credential or token, in bytes.
const SECRET_MAX: usize = 4096;
/// The session cookie, and the header that repeats it.
const COOKIE: &str = "JSESSIONID";

/// Who guards the API.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) identity: Arc<dyn Identity>,
    sessions: Sessions,
    turns: Semaphore,
    /// Cookies go over TLS only.
    secure: bool,
}

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

impl Gate {
    pub(crate) fn new(identity: Arc<dyn Identity>, secure: bool) -> Self {
        Self {
            identity,
            sessions: Sessions::default(),
            turns: Semaphore::new(LOGINS_MAX),
            secure,
        }
    }

    /// Lets the sender of a request in, or refuses him.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Refused> {
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if let Some(token) = authorization.and_then(|value| credentials(value, "bearer")) {
            return Ok(Admitted {
                caller: self.bearer(token).await?,
                cookie: None,
            });
        }
        let preferences = preferences(headers);
        if let Some(id) = session_cookie(headers) {
            if preferences.persistent && !preferences.new {
                if let Some(caller) = self.session(&id, headers).await? {
                    return Ok(Admitted { caller, cookie: None });
                }
            } else if let Some(token) = self.sessions.end(&id) {
                self.identity.revoke(&token).await.map_err(refused)?;
            }
        }
        let Some(basic) = authorization.and_then(|value| credentials(value, "basic")) else {
            return Err(Refused::unauthorized("Credentials are needed"));
        };
        let (user, password) =
            basic_pair(basic).ok_or_else(|| Refused::unauthorized("The credentials are not readable"))?;
        let caller = self.login(&user, &password).await.map_err(refused)?;
        let cookie = if preferences.persistent {
            Some(self.begin_session(&caller, headers, preferences).await?)
        } else {
            None
        };
        Ok(Admitted { caller, cookie })
    }

    /// Checks a password, a few at a time.
    pub(crate) async fn login(&self, user: &str, password: &str) -> Result<Caller, Denied> {
        if user.len() > SECRET_MAX || password.len() > SECRET_MAX {
            return Err(Denied::BadCredentials);
        }
        let _turn = tokio::time::timeout(LOGIN_WAIT, self.turns.acquire())
            .await
            .map_err(|_elapsed| Denied::TooMany)?
            .map_err(|closed| Denied::Failed(closed.to_string()))?;
        self.identity.login(user, password).await
    }

    async fn bearer(&self, token: &[u8]) -> Result<Caller, Refused> {
        let token = std::str::from_utf8(token)
            .ok()
            .filter(|token| !token.is_empty() && token.len() <= SECRET_MAX)
            .ok_or_else(|| refused(Denied::BadToken))?;
        let bearer = self.identity.caller_of_token(token).await.map_err(refused)?;
        if !bearer.scope.split_whitespace().any(|scope| scope == API_SCOPE) {
            return Err(Refused::unauthorized("The token was not given for the API"));
        }
        Ok(bearer.caller)
    }

    /// The caller of a session; `None`: there is no such session any more.
    async fn session(&self, id: &str, headers: &HeaderMap) -> Result<Option<Caller>, Refused> {
        let Some(continued) = self.sessions.proceed(id, Instant::now()) else {
            return Ok(None);
        };
        if continued.csrf && headers.get(COOKIE).map(HeaderValue::as_bytes) != Some(id.as_bytes()) {
            return Err(Refused::forged());
        }
        match self.identity.caller_of_token(&continued.token).await {
            Ok(bearer) => Ok(Some(bearer.caller)),
            Err(Denied::BadToken) => {
                self.sessions.end(id);
                Ok(None)
            }
            Err(denied) => Err(refused(denied)),
        }
    }

    async fn begin_session(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        preferences: Preferences,
    ) -> Result<HeaderValue, Refused> {
        let token = self.identity.issue_token(caller, API_SCOPE).await.map_err(refused)?;
        let (id, ended) = self
            .sessions
            .begin(token, idle_limit(headers), preferences.csrf, Instant::now());
        for token in ended {
            self.identity.revoke(&token).await.map_err(refused)?;
        }
        let secure = if self.secure { "; Secure" } else { "" };
        HeaderValue::from_str(&format!("{COOKIE}={id}; Path=/ovirt-engine/api; HttpOnly{secure}"))
            .map_err(|error| Refused::internal(&error.to_string()))
    }
}

/// What a denial is on the API.
pub(crate) fn refused(denied: Denied) -> Refused {
    match denied {
        Denied::BadCredentials => Refused::unauthorized("Wrong user name or password"),
        Denied::BadToken => Refused::unauthorized("The token is not valid"),
        Denied::TooMany => Refused::busy("Too many logins at once"),
        Denied::Failed(cause) => Refused::internal(&cause),
    }
}

/// What follows the scheme in an `Authorization` header.
fn credentials<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    (head.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}

fn basic_pair(encoded: &[u8]) -> Option<(String, String)> {
    if encoded.len() > 2 * SECRET_MAX {
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
        .map_or(IDLE_DEFAULT, |minutes| {
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
    fn an_idle_limit_is_at_least_a_minute_and_at_most_a_week() {
        assert_eq!(idle_limit(&headers(&[("session-ttl", "1")])), Duration::from_secs(60));
        assert_eq!(idle_limit(&headers(&[("session-ttl", "0")])), IDLE_DEFAULT);
        assert_eq!(idle_limit(&headers(&[("session-ttl", "x")])), IDLE_DEFAULT);
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
