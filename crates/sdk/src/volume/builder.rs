//! Where a cloud's identity service is, who asks, and in what he wants to work.

use super::{Cloud, cloud::Inner};
use crate::{Error, tls, transport};
use http::Uri;
use secrecy::SecretString;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// How long an answer may take, if the caller says nothing.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a login works in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// The user's default project; without one, nothing.
    #[default]
    Default,
    /// A project, by its name or by its id (32 hexadecimal digits).
    Project(String),
    /// The installation: for its administrators.
    System,
}

/// How a [`Cloud`] is made.
#[derive(Debug, Clone)]
pub struct CloudBuilder {
    identity_url: String,
    who: Option<Who>,
    domain: String,
    scope: Scope,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    is_insecure: bool,
    user_agent: String,
}

/// By what the user is known.
#[derive(Debug, Clone)]
pub(super) enum Who {
    Password(String, SecretString),
    Token(SecretString),
}

impl CloudBuilder {
    pub(super) fn new(identity_url: String) -> Self {
        Self {
            identity_url,
            who: None,
            domain: "Default".to_owned(),
            scope: Scope::Default,
            ca_file: None,
            timeout: TIMEOUT,
            is_insecure: false,
            user_agent: concat!("stillpoint-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Logs in with a name and a password.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.who = Some(Who::Password(name.into(), SecretString::from(password.into())));
        self
    }

    /// Logs in with a token of the identity service that the caller has; [`Cloud::close`] leaves it alone.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.who = Some(Who::Token(SecretString::from(token.into())));
        self
    }

    /// The name of the domain that user and project are in. Default: `Default`.
    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = name.into();
        self
    }

    /// Works in this project, named by its name or its id.
    #[must_use]
    pub fn project(self, project: impl Into<String>) -> Self {
        self.scope(Scope::Project(project.into()))
    }

    /// Works in this scope. Default: [`Scope::Default`].
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Trusts the CAs in this file (PEM), and no other. Default: those of the system.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Limits the time until an answer is there. Default: 120 s.
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

    /// Makes the client; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Usage`]: the URL is none, or there are no credentials. [`Error::Setup`]: the CA file cannot be used.
    pub fn build(self) -> Result<Cloud, Error> {
        let shown = &self.identity_url;
        let usage = |text: &str| Error::Usage(format!("{shown:?} is no URL of an identity service: {text}"));
        let url: Uri = shown.parse().map_err(|error| usage(&format!("{error}")))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(usage("it must begin with http:// or https://"));
        }
        if url.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(usage("it must name a host, and no user"));
        }
        let who = self
            .who
            .ok_or_else(|| Error::Usage("no credentials: give user and password, or a token".into()))?;
        Ok(Cloud(Arc::new(Inner {
            http: transport::client(transport::connector(tls::config(
                self.ca_file.as_deref(),
                self.is_insecure,
            )?)),
            identity: identity_root(&url),
            who,
            domain: self.domain,
            scope: self.scope,
            login: Mutex::default(),
            timeout: self.timeout,
            user_agent: self.user_agent,
        })))
    }
}

/// The identity service's version 3, without a slash at its end. Clouds' `OS_AUTH_URL` are written with it and without.
fn identity_root(url: &Uri) -> String {
    let path = url.path().trim_end_matches('/');
    let version = if path.ends_with("/v3") { "" } else { "/v3" };
    let scheme = url.scheme_str().unwrap_or("http");
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{path}{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_url_is_understood_with_its_version_and_without() {
        for url in [
            "https://h:5000",
            "https://h:5000/",
            "https://h:5000/v3",
            "https://h:5000/v3/",
        ] {
            assert_eq!(identity_root(&url.parse().unwrap()), "https://h:5000/v3", "{url}");
        }
        let url = "http://h/identity/v3/".parse().unwrap();
        assert_eq!(identity_root(&url), "http://h/identity/v3");
        for wrong in ["ftp://h", "h", "http://u:p@h/v3", ""] {
            let built = Cloud::builder(wrong).token("t").build();
            assert!(matches!(built, Err(Error::Usage(_))), "{wrong}");
        }
        assert!(matches!(Cloud::builder("http://h").build(), Err(Error::Usage(_))));
    }
}
