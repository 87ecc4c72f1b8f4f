//! Reads the bootstrap file: the projects, users, roles and keys that an operator wants to be there at every start.
//!
//! Everything about the text is checked here, before anything is applied; an error names the file and the line, and never
//! holds a password. What can only be judged against the catalogue is `apply`'s.

use crate::{AuthError, INTERNAL, NAME_MAX_BYTES, PASSWORD_MAX_BYTES, private_file};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::{
    collections::HashMap,
    hash::Hash,
    ops::Range,
    path::{Path, PathBuf},
};
use stillpoint_types::{ProjectId, Role};
use toml::Spanned;
use uuid::Uuid;

/// The largest bootstrap file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// The longest public name of an access key.
const ACCESS_MAX_BYTES: usize = 128;

/// A bootstrap file that was read and makes sense in itself.
#[derive(Debug)]
pub struct Bootstrap {
    pub(crate) file: PathBuf,
    pub(crate) projects: Vec<ProjectEntry>,
    pub(crate) users: Vec<UserEntry>,
}

#[derive(Debug)]
pub(crate) struct ProjectEntry {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) id: Option<ProjectId>,
}

#[derive(Debug)]
pub(crate) struct UserEntry {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) is_admin: bool,
    pub(crate) roles: Vec<RoleEntry>,
    pub(crate) access_keys: Vec<AccessKeyEntry>,
}

#[derive(Debug)]
pub(crate) struct RoleEntry {
    pub(crate) line: usize,
    pub(crate) project: String,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) struct AccessKeyEntry {
    pub(crate) line: usize,
    pub(crate) access: String,
    pub(crate) secret: SecretString,
}

/// The file as it is written, before its meaning is checked.
mod raw {
    use super::{Deserialize, PathBuf, Role, SecretString, Spanned};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct File {
        #[serde(default)]
        pub(super) project: Vec<Project>,
        #[serde(default)]
        pub(super) user: Vec<User>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Project {
        pub(super) name: Spanned<String>,
        pub(super) id: Option<Spanned<String>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct User {
        pub(super) name: Spanned<String>,
        pub(super) password: Option<Spanned<SecretString>>,
        pub(super) password_file: Option<Spanned<PathBuf>>,
        #[serde(default)]
        pub(super) admin: bool,
        #[serde(default)]
        pub(super) role: Vec<Grant>,
        #[serde(default)]
        pub(super) access_key: Vec<AccessKey>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Grant {
        pub(super) project: Spanned<String>,
        pub(super) role: Role,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct AccessKey {
        pub(super) access: Spanned<String>,
        pub(super) secret: Spanned<SecretString>,
    }
}

impl Bootstrap {
    /// Reads the file, and the password files that it names (relative to its own folder). Blocks.
    ///
    /// # Errors
    /// `File` if it cannot be read, else `Bootstrap`.
    pub fn load(file: &Path) -> Result<Self, AuthError> {
        let content = private_file::read(file, FILE_MAX_BYTES)?;
        let text = String::from_utf8(content).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            fault(
                file,
                good.iter().filter(|byte| **byte == b'\n').count() + 1,
                "the file is not UTF-8",
            )
        })?;
        Self::parse(&text, file)
    }

    /// Reads the text of a bootstrap file; `file` is for messages, and its folder for password files. Blocks for those.
    ///
    /// # Errors
    /// `Bootstrap`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, AuthError> {
        let reader = Reader { text, file };
        let raw: raw::File = toml::from_str(text).map_err(|error| reader.syntax(&error))?;
        reader.check(raw)
    }
}

fn fault(file: &Path, line: usize, what: impl Into<String>) -> AuthError {
    AuthError::Bootstrap {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let end = span.start.min(self.text.len());
        self.text.as_bytes()[..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }

    fn fault(&self, span: &Range<usize>, what: impl Into<String>) -> AuthError {
        fault(self.file, self.line(span), what)
    }

    /// The parser's message, without the excerpt that it prints; and without the value, if that may be a secret.
    fn syntax(&self, error: &toml::de::Error) -> AuthError {
        let line = self.line(&error.span().unwrap_or(0..0));
        let words = self.text.lines().nth(line - 1).unwrap_or_default().trim_start();
        let may_be_secret = ["password", "secret"]
            .iter()
            .any(|key| words.trim_start_matches(['"', '\'']).starts_with(key));
        let what = if may_be_secret {
            "the value is no text in quotes, or the key is unknown"
        } else {
            error.message()
        };
        fault(self.file, line, what)
    }

    fn check(&self, raw: raw::File) -> Result<Bootstrap, AuthError> {
        let mut names = Seen::new("project name");
        let mut ids = Seen::new("project id");
        let mut projects = Vec::with_capacity(raw.project.len());
        for project in raw.project {
            let line = self.name(&project.name)?;
            names.add(self, project.name.get_ref().clone(), line)?;
            let id = project.id.map(|id| self.project_id(&id)).transpose()?;
            if let Some(id) = id {
                ids.add(self, id, line)?;
            }
            projects.push(ProjectEntry {
                line,
                name: project.name.into_inner(),
                id,
            });
        }
        let mut names = Seen::new("user name");
        let mut keys = Seen::new("access key");
        let mut users = Vec::with_capacity(raw.user.len());
        for user in raw.user {
            let user = self.user(user)?;
            names.add(self, user.name.clone(), user.line)?;
            for key in &user.access_keys {
                keys.add(self, key.access.clone(), key.line)?;
            }
            users.push(user);
        }
        Ok(Bootstrap {
            file: self.file.to_owned(),
            projects,
            users,
        })
    }

    fn user(&self, user: raw::User) -> Result<UserEntry, AuthError> {
        let line = self.name(&user.name)?;
        if user.name.get_ref().ends_with(&format!("@{INTERNAL}")) {
            return Err(self.fault(&user.name.span(), format!("write the user name without @{INTERNAL}")));
        }
        let password = match (user.password, user.password_file) {
            (Some(_), Some(file)) => {
                return Err(self.fault(&file.span(), "give password or password_file, not both"));
            }
            (Some(password), None) => Some(self.secret(&password)?),
            (None, Some(path)) => Some(self.password_of_file(&path)?),
            // Somebody who only signs requests needs none.
            (None, None) if !user.access_key.is_empty() => None,
            (None, None) => {
                return Err(self.fault(
                    &user.name.span(),
                    "the user has no password, password_file or access_key",
                ));
            }
        };
        let mut granted = Seen::new("role in project");
        let mut roles = Vec::with_capacity(user.role.len());
        for grant in user.role {
            let line = self.name(&grant.project)?;
            granted.add(self, grant.project.get_ref().clone(), line)?;
            roles.push(RoleEntry {
                line,
                project: grant.project.into_inner(),
                role: grant.role,
            });
        }
        let mut access_keys = Vec::with_capacity(user.access_key.len());
        for key in user.access_key {
            let access = key.access.get_ref();
            if access.is_empty()
                || access.len() > ACCESS_MAX_BYTES
                || !access.bytes().all(|byte| byte.is_ascii_graphic())
            {
                let what = format!("access is 1 to {ACCESS_MAX_BYTES} visible ASCII characters");
                return Err(self.fault(&key.access.span(), what));
            }
            let secret = self.secret(&key.secret)?;
            access_keys.push(AccessKeyEntry {
                line: self.line(&key.access.span()),
                access: key.access.into_inner(),
                secret,
            });
        }
        Ok(UserEntry {
            line,
            name: user.name.into_inner(),
            password,
            is_admin: user.admin,
            roles,
            access_keys,
        })
    }

    /// Checks a name; its line.
    fn name(&self, name: &Spanned<String>) -> Result<usize, AuthError> {
        let text = name.get_ref();
        let span = name.span();
        if text.is_empty() || text.trim() != text {
            return Err(self.fault(&span, "a name is not empty and has no space at its ends"));
        }
        if text.len() > NAME_MAX_BYTES {
            return Err(self.fault(&span, format!("a name is longer than {NAME_MAX_BYTES} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.fault(&span, "a name holds a control character"));
        }
        Ok(self.line(&span))
    }

    fn project_id(&self, id: &Spanned<String>) -> Result<ProjectId, AuthError> {
        let text = id.get_ref();
        // 32 digits (Keystone's way) or hyphenated (oVirt's); not what else the parser takes.
        let parsed = if matches!(text.len(), 32 | 36) {
            Uuid::try_parse(text).ok()
        } else {
            None
        };
        parsed
            .map(ProjectId)
            .ok_or_else(|| self.fault(&id.span(), "id is 32 hexadecimal digits, or a UUID with hyphens"))
    }

    fn secret(&self, secret: &Spanned<SecretString>) -> Result<SecretString, AuthError> {
        match secret.get_ref().expose_secret().len() {
            1..=PASSWORD_MAX_BYTES => Ok(secret.get_ref().clone()),
            _ => Err(self.fault(
                &secret.span(),
                format!("a password or secret has 1 to {PASSWORD_MAX_BYTES} bytes"),
            )),
        }
    }

    /// The content without its line end.
    fn password_of_file(&self, path: &Spanned<PathBuf>) -> Result<SecretString, AuthError> {
        let at = |what: String| self.fault(&path.span(), what);
        let whole = self.file.parent().unwrap_or(Path::new("")).join(path.get_ref());
        let content = private_file::read(&whole, PASSWORD_MAX_BYTES as u64 + 2).map_err(|error| match error {
            AuthError::File { source, .. } => at(format!("password_file {}: {source}", whole.display())),
            other => other,
        })?;
        if private_file::is_open_to_others(&whole).unwrap_or(false) {
            tracing::warn!(path = %whole.display(), "other users of the host can read or write this password file");
        }
        let text = String::from_utf8(content)
            .map_err(|_secret| at(format!("password_file {}: not UTF-8", whole.display())))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.len() {
            1..=PASSWORD_MAX_BYTES => Ok(SecretString::from(line)),
            _ => Err(at(format!(
                "password_file {}: has not 1 to {PASSWORD_MAX_BYTES} bytes",
                whole.display()
            ))),
        }
    }
}

/// Refuses the second of a kind, naming the line of the first.
struct Seen<T> {
    kind: &'static str,
    lines: HashMap<T, usize>,
}

impl<T: Eq + Hash> Seen<T> {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            lines: HashMap::new(),
        }
    }

    fn add(&mut self, reader: &Reader<'_>, value: T, line: usize) -> Result<(), AuthError> {
        match self.lines.insert(value, line) {
            None => Ok(()),
            Some(first) => Err(fault(
                reader.file,
                line,
                format!("this {} is in line {first} already", self.kind),
            )),
        }
    }
}
