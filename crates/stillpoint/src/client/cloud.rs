//! One command's talk with the volume API and the identity service: as `session` is for the oVirt API.
//!
//! These APIs have no correlation ids. So a change whose answer was lost is sent again only where that is safe: what is
//! deleted stays deleted, what is set stays set. Of all others the command says how to look whether it was carried out.

use super::{
    Common, Session, Trouble, code,
    progress::Waited,
    retry::Patience,
    server::{Secret, Server},
    session::{READS_MAX, Waiting},
};
use clap::Args;
use secrecy::SecretString;
use std::time::Duration;
use stillpoint_sdk::{
    Error,
    volume::{Cloud, Login, Scope},
};

/// In which project, and where its server is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct CloudOptions {
    /// The project to work in, by name or id. Variable: STILLPOINT_PROJECT. Default: the user's default project, or the
    /// only one that he can work in.
    #[arg(long, value_name = "PROJECT", global = true)]
    project: Option<String>,
    /// URL of the identity service (Keystone v3). Variable: STILLPOINT_IDENTITY_URL. Default: /identity/v3 at the
    /// server's URL.
    #[arg(long, value_name = "URL", global = true)]
    identity_url: Option<String>,
}

/// What every command of volumes, users, projects and keys can be given.
#[derive(Debug, Clone, Args)]
pub(crate) struct CloudCommon {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    cloud: CloudOptions,
}

/// The talk.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) session: Session,
    /// In a project.
    pub(crate) cloud: Cloud,
    /// For who administers the installation, if no project was named.
    whole: Option<Cloud>,
    /// The project that was named.
    project: Option<String>,
    /// By which he is known, if by one.
    pub(crate) password: Option<SecretString>,
}

impl CloudCommon {
    pub(crate) fn open(&self) -> Result<Talk, Trouble> {
        let mut server = self.common.server.resolve()?;
        server.project = self.cloud.project.clone().or(server.project);
        server.identity_url = self.cloud.identity_url.clone().or(server.identity_url);
        let project = server.project.clone().map_or(Scope::Default, Scope::Project);
        let whole = match project {
            Scope::Default => Some(cloud(&server, Scope::System)?),
            _ => None,
        };
        Ok(Talk {
            cloud: cloud(&server, project)?,
            whole,
            project: server.project.clone(),
            password: match &server.secret {
                Secret::Password(password) => Some(SecretString::from(password.as_str())),
                Secret::Token(_) => None,
            },
            session: Session::of(&server, self.common.json)?,
        })
    }
}

fn cloud(server: &Server, scope: Scope) -> Result<Cloud, Trouble> {
    let url = match &server.identity_url {
        Some(url) => url.clone(),
        None => format!("{}/identity/v3", root(&server.url)),
    };
    // `admin@internal` of the oVirt API is `admin` of the domain `Default` here.
    let (name, domain) = match server.user.rsplit_once('@') {
        Some((name, "internal")) => (name, "Default"),
        Some((name, domain)) => (name, domain),
        None => (server.user.as_str(), "Default"),
    };
    let builder = Cloud::builder(url)
        .domain(domain)
        .scope(scope)
        .user_agent(concat!("stillpoint/", env!("CARGO_PKG_VERSION")));
    let builder = match &server.secret {
        Secret::Token(token) => builder.token(token),
        Secret::Password(password) => builder.user(name, password),
    };
    let builder = match &server.ca_file {
        Some(path) => builder.ca_file(path),
        None => builder,
    };
    builder.build().map_err(|error| {
        let hint = match error {
            Error::Setup { .. } => "check --ca-file or STILLPOINT_CA",
            _ => "check --url, --identity-url, or their variables",
        };
        Trouble::of("the connection cannot be made", error)
            .hint(hint)
            .code(code::USAGE)
    })
}

/// Scheme and host of a URL.
fn root(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    url[from..].find('/').map_or(url, |at| &url[..from + at])
}

impl Talk {
    /// The same in the scope of the installation, if this user has it; else it stays in the project.
    pub(crate) async fn for_administration(mut self) -> Result<Self, Trouble> {
        let Some(whole) = self.whole.take() else {
            return Ok(self);
        };
        match self.read(|| whole.login()).await {
            Ok(_login) => self.cloud = whole,
            Err(Error::Auth(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self)
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.cloud.close().await {
            tracing::debug!(%error, "the logout failed");
        }
        self.session.close().await;
    }

    /// Who is logged in.
    pub(crate) async fn login(&self) -> Result<Login, Trouble> {
        self.read(|| self.cloud.login()).await.map_err(|error| {
            let is_unknown = error.status() == Some(401);
            let trouble = Trouble::from(error);
            match &self.project {
                // The identity service does not say which of them it is.
                Some(project) if is_unknown => trouble.replace_hint(format!(
                    "check --user, his password, and that he has a role on the project {project:?}"
                )),
                _ => trouble,
            }
        })
    }

    /// Refuses when the login is of no project, which volumes and keys are in.
    pub(crate) async fn expect_project(&self) -> Result<(), Trouble> {
        if self.login().await?.project.is_some() {
            return Ok(());
        }
        let projects = self.read(|| self.cloud.own_projects()).await?;
        let names: Vec<_> = projects.iter().map(|project| project.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "this user has no role on any project: stillpoint user grant USER ROLE --on PROJECT".to_owned(),
            names => format!(
                "give --project or set STILLPOINT_PROJECT, to one of: {}",
                names.join(", ")
            ),
        };
        Err(Trouble::new("it is not said in which project")
            .hint(hint)
            .code(code::USAGE))
    }

    /// Reads; again and again for a few seconds while the connection breaks.
    pub(crate) async fn read<T>(&self, look: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        let mut patience = Patience::of(READS_MAX);
        loop {
            match look().await {
                Ok(read) => return Ok(read),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Sends a change, once. `failure` says what has not happened if it fails, `look` by which command it is seen.
    pub(crate) async fn change<T, W>(
        &self,
        failure: &str,
        look: &str,
        make: impl FnOnce(Cloud) -> W,
    ) -> Result<T, Trouble>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let sent = self.session.send_to_the_end(look, make(self.cloud.clone())).await;
        sent.map_err(|error| {
            let is_lost = error.is_transient() && error.status().is_none();
            let trouble = Trouble::from(error);
            if is_lost {
                return trouble
                    .context(format!("whether it was carried out is not known ({failure}, perhaps)"))
                    .replace_hint(format!("look before it is sent again: {look}"));
            }
            trouble.context(failure)
        })
    }

    /// Sends a change that may be sent again when its answer was lost.
    pub(crate) async fn set<T, W>(&self, failure: &str, look: &str, make: impl Fn(Cloud) -> W) -> Result<T, Trouble>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut patience = Patience::of(READS_MAX);
        loop {
            match self.session.send_to_the_end(look, make(self.cloud.clone())).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match patience.after(error).await {
                    Ok(()) => {}
                    Err(error) => return Err(Trouble::from(error).context(failure)),
                },
            }
        }
    }

    /// Removes. What is not there when it is sent again was removed by the first.
    pub(crate) async fn remove<W>(&self, failure: &str, look: &str, make: impl Fn(Cloud) -> W) -> Result<(), Trouble>
    where
        W: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut patience = Patience::of(READS_MAX);
        let mut is_again = false;
        loop {
            match self.session.send_to_the_end(look, make(self.cloud.clone())).await {
                Ok(()) => return Ok(()),
                Err(Error::NotFound(_)) if is_again => return Ok(()),
                Err(error) => match patience.after(error).await {
                    Ok(()) => is_again = true,
                    Err(error) => return Err(Trouble::from(error).context(failure)),
                },
            }
        }
    }

    /// Waits for the end of what a change began.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        look: &str,
        waiting: &Waiting,
        end: impl AsyncFnOnce(Duration) -> Result<T, Error>,
    ) -> Result<Option<T>, Trouble> {
        if !waiting.waits() {
            return Ok(None);
        }
        let shown = Waited::new();
        shown.say(what.to_owned());
        match end(waiting.limit()).await {
            Ok(ended) => Ok(Some(ended)),
            Err(Error::Timeout { .. }) => Err(waiting.not_within(&format!("the end: {what}")).hint(look)),
            Err(error) => Err(Trouble::from(error)
                .context(format!("it was begun and failed: {what}"))
                .hint(look)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_url_is_its_scheme_and_host() {
        for (url, wanted) in [
            ("http://h:8080", "http://h:8080"),
            ("https://h/ovirt-engine/api", "https://h"),
            ("https://h/", "https://h"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(root(url), wanted);
        }
    }
}
