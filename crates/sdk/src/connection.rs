//! The connection: where the server is, who asks, whom it trusts. All requests of a program go through one.
//!
//! It is cheap to clone, and all clones share TCP connections and the login. Nothing is sent until the first request:
//! that one logs in. When the server says that the token is no longer good, the connection logs in again, once, and
//! sends the same request again, as the other SDKs of the API do.

use crate::{Error, Refusal, SystemService, service::Locator, tls, transport};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use secrecy::{ExposeSecret as _, SecretString};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;
use transport::{Body, Client, Https};

/// Where the API is, if the URL says no path.
const API_PATH: &str = "/ovirt-engine/api";
/// How long an answer of the control plane may take, if the caller says nothing.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer of the control plane: a list of tens of thousands of VMs.
pub(crate) const ANSWER_MAX_BYTES: usize = 64 << 20;
/// The longest answer to a login.
const LOGIN_MAX_BYTES: usize = 64 << 10;

/// How a [`Connection`] is made.
#[derive(Debug, Clone)]
pub struct Builder {
    url: String,
    user: Option<(String, SecretString)>,
    token: Option<SecretString>,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    is_insecure: bool,
    user_agent: String,
}

impl Builder {
    /// Logs in with a name (`admin@internal`) and a password.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), SecretString::from(password.into())));
        self
    }

    /// Uses a token that the caller has; it wins over a password, and [`Connection::close`] leaves it alone.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(SecretString::from(token.into()));
        self
    }

    /// Trusts the CAs in this file (PEM), and no other. Default: those of the system.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Limits the time until an answer is there; a call may have its own limit. Default: 120 s.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Trusts any server. Whoever is between it and the client reads and changes all: for tests only.
    #[must_use]
    pub fn insecure(mut self, is_insecure: bool) -> Self {
        self.is_insecure = is_insecure;
        self
    }

    /// The program's name in the server's log. Default: this crate and its version.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Makes the connection; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Usage`]: the URL is none, or there are no credentials. [`Error::Setup`]: the CA file cannot be used.
    pub fn build(self) -> Result<Connection, Error> {
        let usage = |text: &str| Error::Usage(format!("{:?} is no URL of a server: {text}", self.url));
        let url: Uri = self.url.parse().map_err(|error| usage(&format!("{error}")))?;
        let scheme = url.scheme_str().unwrap_or_default().to_owned();
        if scheme != "http" && scheme != "https" {
            return Err(usage("it must begin with http:// or https://"));
        }
        let authority = url.authority().ok_or_else(|| usage("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(usage("give user and password apart from it"));
        }
        let path = match url.path().trim_end_matches('/') {
            "" => API_PATH,
            path => path,
        };
        if self.user.is_none() && self.token.is_none() {
            return Err(Error::Usage(
                "no credentials: give user and password, or a token".into(),
            ));
        }
        let tls = tls::config(self.ca_file.as_deref(), self.is_insecure)?;
        let has_own_token = self.token.is_some();
        let connector = transport::connector(tls);
        Ok(Connection(Arc::new(Inner {
            http: transport::client(connector.clone()),
            connector,
            root: format!("{scheme}://{authority}"),
            path: path.to_owned(),
            user: self.user,
            has_own_token,
            token: Mutex::new(self.token),
            timeout: self.timeout,
            user_agent: self.user_agent,
        })))
    }
}

/// A connection to a server. See the module's head.
///
/// ```no_run
/// use stillpoint_sdk::{Connection, ListOptions};
///
/// # async fn example() -> Result<(), stillpoint_sdk::Error> {
/// let connection = Connection::builder("https://engine.example.com/ovirt-engine/api")
///     .user("admin@internal", "secret")
///     .ca_file("/etc/pki/engine-ca.pem")
///     .build()?;
/// for vm in connection.system_service().vms_service().list(ListOptions::new().max(10)).await? {
///     println!("{:?}", vm.head.name);
/// }
/// connection.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Client,
    connector: Https,
    /// Scheme and authority.
    root: String,
    /// Of the API, without a slash at its end.
    path: String,
    user: Option<(String, SecretString)>,
    has_own_token: bool,
    token: Mutex<Option<SecretString>>,
    timeout: Duration,
    user_agent: String,
}

/// A request as the services make it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// Below the API's path, with a slash at its begin; empty for the root.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    /// XML.
    pub(crate) body: Option<String>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// For errors.
    pub(crate) request: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Incoming {
    pub(crate) fn correlation_id(&self) -> Option<String> {
        correlation_id(&self.headers)
    }
}

/// The text by which the server names a request in its log.
pub(crate) fn correlation_id(headers: &HeaderMap) -> Option<String> {
    let sent = headers.get("correlation-id").and_then(|value| value.to_str().ok());
    sent.map(str::to_owned)
}

impl Connection {
    /// Begins a connection to a server, by the URL of its API. Without a path, `/ovirt-engine/api` is meant.
    #[must_use]
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            user: None,
            token: None,
            ca_file: None,
            timeout: TIMEOUT,
            is_insecure: false,
            user_agent: concat!("stillpoint-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The root of all services.
    #[must_use]
    pub fn system_service(&self) -> SystemService {
        SystemService(Locator::root(self.clone()))
    }

    /// Finds out whether the server is there and lets this user in; the first request would do the same.
    ///
    /// # Errors
    /// [`Error::Auth`]: it does not let the user in. Others: as of any request.
    pub async fn test(&self) -> Result<(), Error> {
        self.system_service().get(crate::GetOptions::new()).await.map(drop)
    }

    /// Ends the login that this connection made; a token that it was given stays good.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn close(&self) -> Result<(), Error> {
        if self.0.has_own_token {
            return Ok(());
        }
        let Some(token) = self.0.token.lock().await.take() else {
            return Ok(());
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("scope", "ovirt-app-api")
            .append_pair("token", token.expose_secret())
            .finish();
        self.form("/services/sso-logout", form).await.map(drop)
    }

    pub(crate) fn http(&self) -> &Client {
        &self.0.http
    }

    /// What makes its connections, for clients beside [`Self::http`].
    pub(crate) fn connector(&self) -> Https {
        self.0.connector.clone()
    }

    pub(crate) fn user_agent(&self) -> &str {
        &self.0.user_agent
    }

    /// How long an answer may take, if the call says nothing.
    pub(crate) fn limit(&self) -> Duration {
        self.0.timeout
    }

    /// The token is the caller's: there is no other one to be had.
    pub(crate) fn has_own_token(&self) -> bool {
        self.0.has_own_token
    }

    /// The path of the API, for hrefs.
    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }

    /// Sends a request and returns the answer, refusals included.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Incoming, Error> {
        let limit = outgoing.timeout.unwrap_or(self.0.timeout);
        let request = format!("{} {}", outgoing.method, or_slash(&outgoing.path));
        tokio::time::timeout(limit, self.send_with_login(&request, outgoing))
            .await
            .map_err(|_elapsed| Error::Timeout {
                request: request.clone(),
                limit,
            })?
    }

    async fn send_with_login(&self, request: &str, outgoing: &Outgoing) -> Result<Incoming, Error> {
        let token = self.log_in(None).await?;
        let answer = self.send_once(request, outgoing, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED || self.0.has_own_token {
            return Ok(answer);
        }
        let token = self.log_in(Some(&token)).await?;
        self.send_once(request, outgoing, &token).await
    }

    async fn send_once(&self, request: &str, outgoing: &Outgoing, token: &SecretString) -> Result<Incoming, Error> {
        let mut path = format!("{}{}", self.0.path, outgoing.path);
        if !outgoing.query.is_empty() {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&outgoing.query)
                .finish();
            path.push('?');
            path.push_str(&query);
        }
        let body = outgoing.body.clone().map(Bytes::from).unwrap_or_default();
        let mut sent = self.request(outgoing.method.clone(), &path, body)?;
        let headers = sent.headers_mut();
        headers.insert("Version", HeaderValue::from_static("4"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/xml"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        headers.insert(header::AUTHORIZATION, bearer(token)?);
        // The other SDKs say it twice as well: old engines look at the header only.
        if let Some((_, value)) = outgoing.query.iter().find(|(name, _)| name == "all_content") {
            headers.insert("All-Content", header_value("All-Content", value)?);
        }
        for (name, value) in &outgoing.headers {
            let key = HeaderName::try_from(name.as_str())
                .map_err(|_no_name| Error::Usage(format!("{name:?} is no name of a header")))?;
            headers.insert(key, header_value(name, value)?);
        }
        self.exchange(request, sent, ANSWER_MAX_BYTES).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<http::Request<Body>, Error> {
        let path: PathAndQuery = path
            .parse()
            .map_err(|error| Error::Usage(format!("{path:?} is no path of a URL: {error}")))?;
        let has_body = method == Method::POST || method == Method::PUT || !body.is_empty();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.0.root))
            .header(header::USER_AGENT, &self.0.user_agent);
        if has_body {
            request = request.header(header::CONTENT_LENGTH, body.len());
        }
        request
            .body(transport::whole(body))
            .map_err(|error| Error::Usage(format!("this cannot be sent: {error}")))
    }

    /// A request for what is beside the API: an absolute path, a body that is JSON or empty.
    pub(crate) fn json_request(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        token: &SecretString,
    ) -> Result<http::Request<Body>, Error> {
        let has_body = !body.is_empty();
        let mut sent = self.request(method.clone(), path, body)?;
        let headers = sent.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(header::AUTHORIZATION, bearer(token)?);
        Ok(sent)
    }

    pub(crate) async fn exchange(
        &self,
        request: &str,
        sent: http::Request<Body>,
        max_bytes: usize,
    ) -> Result<Incoming, Error> {
        let answer = self
            .0
            .http
            .request(sent)
            .await
            .map_err(|error| Error::transport(request, error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, max_bytes)
            .collect()
            .await
            .map_err(|error| Error::transport(request, error))?
            .to_bytes();
        Ok(Incoming {
            request: request.to_owned(),
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// A token that is not `expired`. One login at a time: whoever waited takes the new token.
    pub(crate) async fn log_in(&self, expired: Option<&SecretString>) -> Result<SecretString, Error> {
        let mut known = self.0.token.lock().await;
        if let Some(token) = known.as_ref()
            && expired.is_none_or(|old| old.expose_secret() != token.expose_secret())
        {
            return Ok(token.clone());
        }
        let (name, password) = self
            .0
            .user
            .as_ref()
            .expect("build() refuses a connection that has neither a token nor a user");
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "password")
            .append_pair("scope", "ovirt-app-api")
            .append_pair("username", name)
            .append_pair("password", password.expose_secret())
            .finish();
        let answer = self.form("/sso/oauth/token", form).await?;
        let token = answer
            .get("access_token")
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| Error::protocol("the login", "it names no access_token"))?;
        let token = SecretString::from(token);
        *known = Some(token.clone());
        Ok(token)
    }

    /// Posts a form to one of the services beside the API, whose answers are JSON.
    async fn form(&self, path: &str, form: String) -> Result<serde_json::Value, Error> {
        // The services are beside the API: `/ovirt-engine/api` and `/ovirt-engine/sso`.
        let base = match self.0.path.find("/api") {
            Some(at) if at > 0 => &self.0.path[..at],
            _ => "/ovirt-engine",
        };
        let name = format!("POST {base}{path}");
        let mut sent = self.request(Method::POST, &format!("{base}{path}"), form.into())?;
        let headers = sent.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, kind);
        let answer = self.exchange(&name, sent, LOGIN_MAX_BYTES).await?;
        let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // An engine may answer with a list of one.
        let value = match value {
            serde_json::Value::Array(mut items) if !items.is_empty() => items.swap_remove(0),
            value => value,
        };
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        if answer.status != StatusCode::OK || value.get("error").is_some() || value.get("error_code").is_some() {
            let refusal = Refusal {
                request: name,
                status: answer.status.as_u16(),
                reason: text("error_code"),
                detail: text("error_description").or_else(|| text("error")),
                correlation_id: answer.correlation_id(),
            };
            // Servers refuse a login with 400: what is meant is 401.
            let is_server = answer.status.is_server_error() || answer.status == StatusCode::NOT_FOUND;
            return Err(if is_server {
                Error::refused(refusal)
            } else {
                Error::Auth(refusal)
            });
        }
        Ok(value)
    }
}

fn or_slash(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// The token as a header.
fn bearer(token: &SecretString) -> Result<HeaderValue, Error> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_no_header| Error::Usage("the token has characters that no token has".into()))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

pub(crate) fn header_value(name: &str, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(value)
        .map_err(|_no_value| Error::Usage(format!("{value:?} is no value of the header {name}")))
}
