//! Which server, and who asks: options, variables, and profiles in `~/.config/stillpoint/config.toml`.
//!
//! What is said nearest to the command wins: an option, then a profile that was named by `--profile`, then a variable,
//! then the profile of `STILLPOINT_PROFILE` or the file's default one. So a named profile is never mixed with the
//! variables of another server, but for a password that it does not have.

use super::{Trouble, code};
use clap::Args;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env::{self, VarError},
    path::{Path, PathBuf},
};

/// Where the daemon listens if nobody says anything.
const URL: &str = "http://127.0.0.1:8080";
const USER: &str = "admin@internal";

/// Which server, and who asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerOptions {
    /// The server's URL; without a path, its oVirt API is meant. Variable: STILLPOINT_URL. Default:
    /// http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) url: Option<String>,
    /// Who asks. Variable: STILLPOINT_USER. Default: admin@internal.
    #[arg(long, value_name = "USER", global = true)]
    pub(crate) user: Option<String>,
    /// File with the password in its first line; wins over the variable STILLPOINT_PASSWORD.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) password_file: Option<PathBuf>,
    /// A token instead of a password. Others on this host can read command lines: prefer the variable STILLPOINT_TOKEN.
    #[arg(long, value_name = "TOKEN", global = true)]
    pub(crate) token: Option<String>,
    /// File with the CA of the server's certificate (PEM). Variable: STILLPOINT_CA. Default: the CAs of this system.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// A profile of ~/.config/stillpoint/config.toml. Variable: STILLPOINT_PROFILE.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) profile: Option<String>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The profile that is used when none is named.
    default: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
}

/// One server of the configuration file. Passwords are in files of their own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    url: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// The project of volumes and keys.
    project: Option<String>,
    /// Of the identity service, where it is not the server's.
    identity_url: Option<String>,
}

/// What a connection is made of.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) secret: Secret,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) project: Option<String>,
    pub(crate) identity_url: Option<String>,
}

/// By what the user is known.
pub(crate) enum Secret {
    Token(String),
    Password(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl ServerOptions {
    /// Everything that is known about the server, from all places.
    pub(crate) fn resolve(&self) -> Result<Server, Trouble> {
        self.merged(&variable, &config_file())
    }

    fn merged(
        &self,
        variable: &dyn Fn(&str) -> Result<Option<String>, Trouble>,
        file: &Option<PathBuf>,
    ) -> Result<Server, Trouble> {
        let named = self.profile.as_deref();
        let by_variable = variable("STILLPOINT_PROFILE")?;
        let chosen = profile(file.as_deref(), named.or(by_variable.as_deref()))?;
        let (first, last) = match named {
            Some(_) => (chosen, Profile::default()),
            None => (Profile::default(), chosen),
        };
        let url = pick(&self.url, first.url, variable("STILLPOINT_URL")?, last.url);
        let user = pick(&self.user, first.user, variable("STILLPOINT_USER")?, last.user);
        let ca = variable("STILLPOINT_CA")?.map(PathBuf::from);
        let project = pick(&None, first.project, variable("STILLPOINT_PROJECT")?, last.project);
        let identity = variable("STILLPOINT_IDENTITY_URL")?;
        let secret = self.secret(variable, first.password_file, last.password_file)?;
        Ok(Server {
            url: url.unwrap_or_else(|| URL.to_owned()),
            user: user.unwrap_or_else(|| USER.to_owned()),
            secret,
            ca_file: pick(&self.ca_file, first.ca_file, ca, last.ca_file),
            project,
            identity_url: pick(&None, first.identity_url, identity, last.identity_url),
        })
    }

    fn secret(
        &self,
        variable: &dyn Fn(&str) -> Result<Option<String>, Trouble>,
        first: Option<PathBuf>,
        last: Option<PathBuf>,
    ) -> Result<Secret, Trouble> {
        if let Some(token) = &self.token {
            return Ok(Secret::Token(token.clone()));
        }
        if let Some(file) = self.password_file.clone().or(first) {
            return read_password(&file).map(Secret::Password);
        }
        if let Some(token) = variable("STILLPOINT_TOKEN")? {
            return Ok(Secret::Token(token));
        }
        if let Some(password) = variable("STILLPOINT_PASSWORD")? {
            return Ok(Secret::Password(password));
        }
        match last {
            Some(file) => read_password(&file).map(Secret::Password),
            None => Err(Trouble::new("there is no password")
                .hint(
                    "give --password-file FILE or set STILLPOINT_PASSWORD; the daemon's first one is in \
                     DATA_DIR/admin-password",
                )
                .code(code::USAGE)),
        }
    }
}

fn pick<T: Clone>(option: &Option<T>, named: Option<T>, variable: Option<T>, default: Option<T>) -> Option<T> {
    option.clone().or(named).or(variable).or(default)
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Result<Option<String>, Trouble> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(Trouble::of(format!("the variable {name} cannot be used"), error).code(code::USAGE)),
    }
}

fn config_file() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let base = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let base = base.map(PathBuf::from).or_else(home)?;
    Some(base.join("stillpoint/config.toml"))
}

/// The profile of this name, or the file's default one; without either, an empty one.
fn profile(file: Option<&Path>, name: Option<&str>) -> Result<Profile, Trouble> {
    let shown = file.map_or_else(
        || "~/.config/stillpoint/config.toml".to_owned(),
        |file| file.display().to_string(),
    );
    let usage = |text: String| Trouble::new(text).code(code::USAGE);
    let text = match file.map(std::fs::read_to_string) {
        Some(Ok(text)) => text,
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Trouble::of(format!("reading {shown} failed"), error).code(code::USAGE));
        }
        _ => String::new(),
    };
    let config: Config = toml::from_str(&text)
        .map_err(|error| Trouble::of(format!("{shown} is not understood"), error).code(code::USAGE))?;
    let Some(name) = name.or(config.default.as_deref()) else {
        return Ok(Profile::default());
    };
    config.profile.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = config.profile.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        usage(format!("there is no profile {name:?} in {shown}")).hint(format!(
            "profiles there: {known}; one is written as [profile.{name}] with url, user, password_file, ca_file, \
             project, identity_url"
        ))
    })
}

fn read_password(path: &Path) -> Result<String, Trouble> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::of(format!("reading the password file {} failed", path.display()), error).code(code::USAGE)
    })?;
    // Editors end a file with a line end; it is not part of the password.
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_to_the_command_wins_and_a_named_profile_is_not_mixed_with_variables() {
        let dir = tempfile::tempdir().unwrap();
        let (file, password) = (dir.path().join("config.toml"), dir.path().join("pw"));
        std::fs::write(&password, "lab-secret\nnot this\n").unwrap();
        let text = format!(
            "default = \"home\"\n[profile.home]\nurl = \"http://home\"\nuser = \"me@internal\"\n\
             [profile.lab]\nurl = \"http://lab\"\npassword_file = {password:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        let file = Some(file);
        let none = |_: &str| Ok(None);
        let some = |name: &str| {
            Ok(match name {
                "STILLPOINT_URL" => Some("http://variable".to_owned()),
                "STILLPOINT_PASSWORD" => Some("variable-secret".to_owned()),
                _ => None,
            })
        };
        let shown = |server: Server| match server.secret {
            Secret::Password(password) => (server.url, server.user, password),
            Secret::Token(token) => (server.url, server.user, token),
        };
        let plain = ServerOptions::default();
        let lab = ServerOptions {
            profile: Some("lab".into()),
            ..ServerOptions::default()
        };
        let strings = |one: &str, two: &str, three: &str| (one.to_owned(), two.to_owned(), three.to_owned());
        let got = shown(plain.merged(&some, &file).unwrap());
        assert_eq!(got, strings("http://variable", "me@internal", "variable-secret"));
        let got = shown(lab.merged(&some, &file).unwrap());
        assert_eq!(got, strings("http://lab", "admin@internal", "lab-secret"));
        let option = ServerOptions {
            url: Some("http://option".into()),
            ..lab.clone()
        };
        assert_eq!(shown(option.merged(&some, &file).unwrap()).0, "http://option");
        assert!(plain.merged(&none, &file).unwrap_err().chain().contains("no password"));
        let wrong = ServerOptions {
            profile: Some("lap".into()),
            ..ServerOptions::default()
        };
        let failure = wrong.merged(&none, &file).unwrap_err().into_failure();
        assert!(failure.message.contains("profiles there: home, lab"), "{failure:?}");
        assert_eq!(failure.code, code::USAGE);
    }
}
