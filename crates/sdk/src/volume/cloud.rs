//! The client itself: it logs in, sends, and logs in once more when the token is no longer good.

use super::{
    answer,
    builder::{CloudBuilder, Scope, Who},
    login::{self, Login},
};
use crate::{
    Error,
    transport::{self, Client},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The version of Cinder's API that is spoken.
const MICROVERSION: &str = "volume 3.42";
/// The longest answer.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// All that is not unreserved in a path (RFC 3986, 2.3) is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of one cloud, as one user. It is cheap to clone, and all clones share the login. See the module's head.
#[derive(Debug, Clone)]
pub struct Cloud(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) http: Client,
    /// Of the identity service's version 3.
    pub(super) identity: String,
    pub(super) who: Who,
    pub(super) domain: String,
    pub(super) scope: Scope,
    pub(super) login: Mutex<Option<Login>>,
    pub(super) timeout: Duration,
    pub(super) user_agent: String,
}

/// Which service a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Identity,
    Volume,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) service: Service,
    pub(super) method: Method,
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl Ask {
    pub(super) fn new(service: Service, method: Method, path: &[&str]) -> Self {
        Self {
            service,
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            body: None,
        }
    }

    pub(super) fn body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// Method and path, for errors.
    pub(super) fn name(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }

    fn url(&self, base: &str) -> Result<String, Error> {
        let mut url = base.to_owned();
        for segment in &self.path {
            // Whoever reads the URL takes such segments away: the request would go to another object.
            if matches!(segment.as_str(), "" | "." | "..") {
                return Err(Error::Usage(format!("{segment:?} is no id or name")));
            }
            url.push('/');
            url.extend(utf8_percent_encode(segment, SEGMENT));
        }
        if !self.query.is_empty() {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&self.query)
                .finish();
            url.push('?');
            url.push_str(&query);
        }
        Ok(url)
    }
}

impl Cloud {
    /// Begins a client, by the URL of the identity service (`OS_AUTH_URL`), with or without `/v3`.
    #[must_use]
    pub fn builder(identity_url: impl Into<String>) -> CloudBuilder {
        CloudBuilder::new(identity_url.into())
    }

    /// Who is logged in, and where he works. Logs in if need be.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn login(&self) -> Result<Login, Error> {
        self.limited("POST /auth/tokens", self.log_in(None)).await
    }

    /// Ends the login; a token that the caller gave stays good.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn close(&self) -> Result<(), Error> {
        let Some(login) = self.0.login.lock().await.take() else {
            return Ok(());
        };
        let name = "DELETE /auth/tokens";
        let sent = self.request(Method::DELETE, &format!("{}/auth/tokens", self.0.identity), None)?;
        let mut sent = self.with_token(sent, &login.token)?;
        let subject = token_header(&login.token)?;
        sent.headers_mut().insert("x-subject-token", subject);
        let (status, _, body) = self.limited(name, self.exchange(name, sent)).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(answer::refusal(name, status, &body))
    }

    /// Sends a request; the answer's body, null if it has none.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Value, Error> {
        let name = ask.name();
        self.limited(&name, self.ask_with_login(&name, ask)).await
    }

    async fn limited<T>(&self, name: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.0.timeout, work)
            .await
            .map_err(|_elapsed| Error::Timeout {
                request: name.to_owned(),
                limit: self.0.timeout,
            })?
    }

    async fn ask_with_login(&self, name: &str, ask: &Ask) -> Result<Value, Error> {
        let login = self.log_in(None).await?;
        match self.ask_once(name, ask, &login).await {
            // The token may have come to its end; whoever gave a token has no other.
            Err(Error::Auth(refusal)) if refusal.status == 401 && matches!(self.0.who, Who::Password(..)) => {
                let login = self.log_in(Some(&login.token)).await?;
                self.ask_once(name, ask, &login).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, name: &str, ask: &Ask, login: &Login) -> Result<Value, Error> {
        let base = match ask.service {
            Service::Identity => self.0.identity.as_str(),
            Service::Volume => login.volume_url.as_deref().ok_or_else(|| match &login.project {
                None => Error::Usage("volumes are in projects, and the login is of none: name the project".into()),
                Some(project) => Error::Usage(format!(
                    "the cloud's catalogue has no volume service for project {:?}",
                    project.name
                )),
            })?,
        };
        let sent = self.request(ask.method.clone(), &ask.url(base)?, ask.body.as_ref())?;
        let mut sent = self.with_token(sent, &login.token)?;
        if ask.service == Service::Volume {
            let version = HeaderValue::from_static(MICROVERSION);
            sent.headers_mut().insert("openstack-api-version", version);
        }
        let (status, _, body) = self.exchange(name, sent).await?;
        if !status.is_success() {
            return Err(answer::refusal(name, status, &body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Error::protocol(name, error))
    }

    /// A login whose token is not `expired`. One at a time: whoever waited takes the new one.
    async fn log_in(&self, expired: Option<&SecretString>) -> Result<Login, Error> {
        let mut known = self.0.login.lock().await;
        if let Some(login) = known.as_ref()
            && expired.is_none_or(|old| old.expose_secret() != login.token.expose_secret())
        {
            return Ok(login.clone());
        }
        let login = self.log_in_as(&self.0.who, &self.0.scope).await?;
        let login = match self.0.scope {
            Scope::Default if login.project.is_none() => self.in_the_only_project(login).await?,
            _ => login,
        };
        *known = Some(login.clone());
        Ok(login)
    }

    /// A user who can work in one project works there; else it is as it is.
    async fn in_the_only_project(&self, login: Login) -> Result<Login, Error> {
        let name = "GET /auth/projects";
        let sent = self.request(Method::GET, &format!("{}/auth/projects", self.0.identity), None)?;
        let (status, _, body) = self.exchange(name, self.with_token(sent, &login.token)?).await?;
        if !status.is_success() {
            return Err(answer::refusal(name, status, &body));
        }
        let body = serde_json::from_slice(&body).map_err(|error| Error::protocol(name, error))?;
        let projects: Vec<login::Place> = answer::member(name, body, "projects")?;
        match projects.as_slice() {
            [one] => {
                let scope = Scope::Project(one.id.clone());
                self.log_in_as(&self.0.who, &scope).await
            }
            _ => Ok(login),
        }
    }

    async fn log_in_as(&self, who: &Who, scope: &Scope) -> Result<Login, Error> {
        let name = "POST /auth/tokens";
        let body = login::body(who, &self.0.domain, scope);
        let sent = self.request(Method::POST, &format!("{}/auth/tokens", self.0.identity), Some(&body))?;
        let (status, token, body) = self.exchange(name, sent).await?;
        if !status.is_success() {
            return Err(answer::refusal(name, status, &body));
        }
        let token = token.ok_or_else(|| Error::protocol(name, "it has no header X-Subject-Token"))?;
        let body = serde_json::from_slice(&body).map_err(|error| Error::protocol(name, error))?;
        login::read(name, token, body)
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<http::Request<transport::Body>, Error> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let has_length = body.is_some() || method == Method::POST || method == Method::PUT;
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .header(header::USER_AGENT, &self.0.user_agent)
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if has_length {
            request = request.header(header::CONTENT_LENGTH, text.len());
        }
        request
            .body(transport::whole(text.into()))
            .map_err(|error| Error::Usage(format!("this cannot be sent to {url}: {error}")))
    }

    fn with_token(
        &self,
        mut request: http::Request<transport::Body>,
        token: &SecretString,
    ) -> Result<http::Request<transport::Body>, Error> {
        request.headers_mut().insert("x-auth-token", token_header(token)?);
        Ok(request)
    }

    /// Status, the token in the header if there is one, body.
    async fn exchange(
        &self,
        name: &str,
        sent: http::Request<transport::Body>,
    ) -> Result<(StatusCode, Option<SecretString>, Bytes), Error> {
        let answer = self
            .0
            .http
            .request(sent)
            .await
            .map_err(|error| Error::transport(name, error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES)
            .collect()
            .await
            .map_err(|error| Error::transport(name, error))?
            .to_bytes();
        let token = head
            .headers
            .get("x-subject-token")
            .and_then(|value| value.to_str().ok());
        Ok((head.status, token.map(SecretString::from), body))
    }
}

fn token_header(token: &SecretString) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(token.expose_secret())
        .map_err(|_no_header| Error::Usage("the token has characters that no token has".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
