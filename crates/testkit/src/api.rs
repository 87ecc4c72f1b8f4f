//! A plain HTTP client for tests: it sends what it is told and hides nothing of the answer.
//!
//! Paths that begin with `/` are taken as they are; others are below `/ovirt-engine/api/`, or what [`Api::speaking`] says. It follows no redirect and
//! speaks HTTP only, no TLS: HTTPS is tested with real clients. An expired token is renewed once, as the SDKs do.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ureq::Agent;
use ureq::http::Request;

use crate::Xml;

/// A single request may take this long; a restore that blocks is the longest.
const REQUEST_MAX: Duration = Duration::from_secs(180);
/// Bodies beyond this are no answer of the control API.
const BODY_MAX: u64 = 64 << 20;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body as sent.
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a header, by its lower case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are no UTF-8 are shown as such.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as an XML tree.
    ///
    /// # Errors
    /// When it is not well-formed.
    pub fn xml(&self) -> Result<Xml> {
        Xml::parse(&self.text()).with_context(|| format!("answer {}: {}", self.status, self.text()))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("answer {}: {}", self.status, self.text()))
    }

    /// The answer itself, if its status is one of `good`.
    ///
    /// # Errors
    /// Otherwise; the error shows the body.
    pub fn expect(self, good: &[u16]) -> Result<Self> {
        if good.contains(&self.status) {
            return Ok(self);
        }
        bail!("expected status {good:?}, got {}: {}", self.status, self.text())
    }
}

/// A client of one daemon, as one user.
#[derive(Debug)]
pub struct Api {
    agent: Agent,
    url: String,
    user: Option<(String, String)>,
    token: Mutex<Option<String>>,
    version: Option<&'static str>,
    root: &'static str,
}

impl Api {
    /// A client without credentials.
    #[must_use]
    pub fn anonymous(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(REQUEST_MAX))
            .proxy(None)
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Self {
            agent: config.into(),
            url,
            user: None,
            token: Mutex::new(None),
            version: Some("4"),
            root: "/ovirt-engine/api",
        }
    }

    /// The same client, with this `Version` header and this root of paths.
    #[must_use]
    pub fn speaking(&self, version: Option<&'static str>, root: &'static str) -> Self {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            user: self.user.clone(),
            token: Mutex::new(token),
            version,
            root,
            ..Self::anonymous(&self.url)
        }
    }

    /// Gets a token as the SDKs do. `user` is a full name such as `admin@internal`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn login(url: &str, user: &str, password: &str) -> Result<Self> {
        let api = Self {
            user: Some((user.to_owned(), password.to_owned())),
            ..Self::anonymous(url)
        };
        api.renew_token()?;
        Ok(api)
    }

    fn renew_token(&self) -> Result<()> {
        let Some((user, password)) = &self.user else {
            return Ok(());
        };
        let form = format!(
            "grant_type=password&scope=ovirt-app-api&username={}&password={}",
            percent_encode(user),
            percent_encode(password)
        );
        let headers = [
            ("Accept", "application/json"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let answer = self.send("POST", "/ovirt-engine/sso/oauth/token", &headers, Some(form.as_bytes()))?;
        let json = answer.expect(&[200])?.json()?;
        let token = json["access_token"].as_str().context("no access_token")?.to_owned();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Sends exactly this, with no credentials and no renewal. An answer of any status is no error.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Answer> {
        let whole = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.root)
        };
        let what = || format!("{method} {whole}");
        let mut request = Request::builder().method(method).uri(format!("{}{whole}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = match body {
            Some(bytes) => self.agent.run(request.body(bytes.to_vec())?),
            None => self.agent.run(request.body(())?),
        }
        .with_context(what)?;
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer
                .body_mut()
                .with_config()
                .limit(BODY_MAX)
                .read_to_vec()
                .with_context(what)?,
        })
    }

    /// Sends with this client's token and `Version: 4` (or as [`Self::speaking`] says); renews the token once when it has expired.
    ///
    /// # Errors
    /// When there is no answer, or the login is refused.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Answer> {
        let answer = self.send_with_token(method, path, headers, body)?;
        if answer.status != 401 || self.user.is_none() {
            return Ok(answer);
        }
        self.renew_token()?;
        self.send_with_token(method, path, headers, body)
    }

    fn send_with_token(&self, method: &str, path: &str, extra: &[(&str, &str)], body: Option<&[u8]>) -> Result<Answer> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers: Vec<(&str, &str)> = self.version.map(|version| ("Version", version)).into_iter().collect();
        headers.extend(bearer.iter().map(|value| ("Authorization", value.as_str())));
        headers.extend_from_slice(extra);
        self.send(method, path, &headers, body)
    }

    /// GET, asking for XML.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[("Accept", "application/xml")], None)
    }

    /// GET, asking for JSON.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn get_json(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[("Accept", "application/json")], None)
    }

    /// POST of an XML document.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn post(&self, path: &str, xml: &str) -> Result<Answer> {
        let headers = [("Accept", "application/xml"), ("Content-Type", "application/xml")];
        self.request("POST", path, &headers, Some(xml.as_bytes()))
    }

    /// POST of a JSON document.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn post_json(&self, path: &str, json: &serde_json::Value) -> Result<Answer> {
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        self.request("POST", path, &headers, Some(json.to_string().as_bytes()))
    }

    /// PUT of an XML document.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn put(&self, path: &str, xml: &str) -> Result<Answer> {
        let headers = [("Accept", "application/xml"), ("Content-Type", "application/xml")];
        self.request("PUT", path, &headers, Some(xml.as_bytes()))
    }

    /// DELETE.
    ///
    /// # Errors
    /// See [`Self::request`].
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.request("DELETE", path, &[("Accept", "application/xml")], None)
    }
}

/// Form encoding of everything but letters, digits and `-_.~`.
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
