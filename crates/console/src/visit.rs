//! Who looks at a page, and what was posted from one.
//!
//! A session is a token of its own kind in a cookie that scripts cannot read and that other sites' pages do not send
//! (`HttpOnly`, `SameSite=Strict`). A posted form must also hold the session's own word, which only our pages know, and come
//! from our own origin where the browser says from where.

use crate::{Console, trouble::Trouble};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, time::Duration};
use stillpoint_auth::{AuthError, TokenKind};
use stillpoint_engine::command::Origin;
use stillpoint_types::Caller;
use subtle::ConstantTimeEq as _;

/// The session's cookie.
pub(crate) const COOKIE: &str = "stillpoint_session";
/// What a page says once, after a form that led to it.
pub(crate) const SAID: &str = "stillpoint_said";
/// The field that holds the session's word.
pub(crate) const WORD: &str = "_word";
/// The scope of the console's tokens: they are for nothing else.
pub(crate) const SCOPE: &str = "console";
/// Longest form, in bytes.
const FORM_MAX: usize = 256 << 10;
/// How long a form may take to arrive.
const FORM_WAIT: Duration = Duration::from_secs(30);

/// Somebody who looks at a page.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) console: Console,
    pub(crate) who: Caller,
    /// The fields of the query.
    pub(crate) query: Fields,
    /// What the form before has to say here, once.
    pub(crate) said: Option<String>,
    /// The session's word, for the forms of the page.
    pub(crate) word: String,
    /// The session's token.
    pub(crate) token: String,
    /// For jobs and events.
    pub(crate) origin: Origin,
}

impl Visit {
    /// The core.
    pub(crate) fn engine(&self) -> &stillpoint_engine::Engine {
        self.console.engine()
    }
}

/// What was posted, by somebody who may look at pages.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) visit: Visit,
    pub(crate) form: Fields,
}

/// Fields of a form or a query. The last one of a name counts, but for [`Fields::all`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(HashMap<String, Vec<String>>);

impl Fields {
    fn parse(bytes: &[u8]) -> Self {
        let mut fields: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            fields.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self(fields)
    }

    /// The field, without the white space around it; `None` if it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// The field as it came.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }

    /// Whether a box is ticked.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All fields of the name.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The session's word: follows from its token and does not tell it.
fn word_of(token: &str) -> String {
    use base64::Engine as _;
    let digest = Sha256::new()
        .chain_update("console form ")
        .chain_update(token)
        .finalize();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

impl FromRequestParts<Console> for Visit {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Trouble> {
        let place = parts
            .uri
            .path_and_query()
            .map_or_else(|| "/console/".to_owned(), ToString::to_string);
        let stranger = || Trouble::Stranger(place.clone());
        let token = cookie(&parts.headers, COOKIE).ok_or_else(stranger)?.to_owned();
        let grant = match console.auth().caller_of_token(&token).await {
            Ok(grant) => grant,
            Err(AuthError::BadToken | AuthError::TooLong { .. }) => return Err(stranger()),
            Err(error) => return Err(error.into()),
        };
        if !matches!(grant.kind, TokenKind::Session { .. }) || !grant.has_scope(SCOPE) {
            return Err(stranger());
        }
        let said = cookie(&parts.headers, SAID).and_then(decoded);
        Ok(Self {
            console: console.clone(),
            who: grant.caller,
            query: Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
            said,
            word: word_of(&token),
            token,
            origin: Origin {
                correlation_id: format!("console-{}", uuid::Uuid::new_v4()),
            },
        })
    }
}

impl FromRequest<Console> for Posted {
    type Rejection = Trouble;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Trouble> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, console).await?;
        if !is_from_here(&parts.headers, console) {
            return Err(Trouble::Forged);
        }
        let form = read_form(body).await?;
        let word = form.raw(WORD).unwrap_or_default();
        if !bool::from(word.as_bytes().ct_eq(visit.word.as_bytes())) {
            return Err(Trouble::Forged);
        }
        Ok(Self { visit, form })
    }
}

/// What was posted, before anybody is known.
pub(crate) async fn read_form(body: Body) -> Result<Fields, Trouble> {
    let read = Limited::new(body, FORM_MAX).collect();
    let bytes = tokio::time::timeout(FORM_WAIT, read)
        .await
        .map_err(|_elapsed| Trouble::BadForm("The form did not arrive in time."))?
        .map_err(|_broken| Trouble::BadForm("The form is longer than 256 KiB, or broke off."))?
        .to_bytes();
    Ok(Fields::parse(&bytes))
}

/// Whether the browser does not say that the form came from somewhere else. The host is compared with the request's own: the
/// daemon may be reached by more names than it knows.
pub(crate) fn is_from_here(headers: &HeaderMap, console: &Console) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin == console.settings().public_url || origin.split_once("://").map(|(_, rest)| rest) == host
}

/// Text as a cookie can hold it.
pub(crate) fn encoded(text: &str) -> String {
    use base64::Engine as _;
    let mut text = text;
    while text.len() > 1024 {
        let end = (0..=1024).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text = &text[..end];
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn decoded(value: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value).ok()?;
    String::from_utf8(bytes).ok()
}
