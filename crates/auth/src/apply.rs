//! Makes the catalogue agree with the bootstrap file, or starts without one.
//!
//! Applying is idempotent: a password is hashed again only if the stored hash is not its own, a secret sealed again only
//! if it changed. It adds and changes, and never deletes. Crash consistency: all rows change in one transaction. On a first
//! start the password file is durable before the user is: a crash between leaves a file whose password is worth nothing,
//! and the next start makes both anew.

use crate::{
    Auth, AuthError, Bootstrap, INTERNAL, blocking,
    bootstrap::{AccessKeyEntry, ProjectEntry, UserEntry},
    caller::{HOME_PROJECT, home_project},
    key_owner, private_file, random,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, TryStreamExt, stream};
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use stillpoint_store::{
    Tx, access_key, access_key::AccessKey, meta, project, project::Project, role, scoped_token, token, user, user::User,
};
use stillpoint_types::{ProjectId, Role, UserId, now_micros};

/// The project of an installation whose bootstrap names none.
pub const DEFAULT_PROJECT: &str = "default";
/// The file in the data directory that holds the password of the first start.
pub const ADMIN_PASSWORD_FILE: &str = "admin-password";
/// The user of the first start.
const ADMIN: &str = "admin";

/// A user of the bootstrap file, with everything computed that is slow.
struct Prepared {
    id: UserId,
    name: String,
    is_admin: bool,
    /// Only if it must be written.
    new_hash: Option<String>,
    roles: Vec<(usize, String, Role)>,
    /// Only those that must be written.
    new_keys: Vec<(usize, AccessKey)>,
}

impl Auth {
    /// Makes the catalogue agree with the file; all or nothing. The first project of the file becomes the home of what
    /// administrators make. If the file names no project, `default` is made where it is missing, and the home stays what an
    /// earlier bootstrap made it, else is `default`. Tokens of users whose passwords change end.
    ///
    /// # Errors
    /// `Bootstrap` if the file contradicts the catalogue (an unknown project, an id or key that belongs to another);
    /// `Busy`, `Hash`, `Random`, `Store`.
    pub async fn apply_bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), AuthError> {
        let file = bootstrap.file.clone();
        let projects: Vec<_> = bootstrap
            .projects
            .iter()
            .map(|entry| (entry.line, entry.name.clone(), entry.id))
            .collect();
        let users: Vec<Prepared> = stream::iter(bootstrap.users.iter().map(|entry| self.prepare(entry)))
            .buffered(2)
            .try_collect()
            .await?;
        self.change(move |tx| -> Result<_, AuthError> {
            let writer = Writer { tx, file: &file };
            let mut first = None;
            for (line, name, id) in projects {
                let id = writer.project(&ProjectEntry { line, name, id })?;
                first.get_or_insert(id);
            }
            match first {
                Some(id) => meta::put(tx, HOME_PROJECT, &id.to_string())?,
                None => ensure_default(tx)?,
            }
            users.into_iter().try_for_each(|user| writer.user(user))
        })
        .await
    }

    /// Starts without a bootstrap file: sees to it that there is a home project and, if there is no user at all, makes
    /// `admin@internal` with a random password in `data_dir/admin-password` (mode 0600), whose path it returns. To be
    /// called at every start without a bootstrap.
    ///
    /// # Errors
    /// `File`, `Random`, `Hash`, `Store`.
    pub async fn first_start(&self, data_dir: &Path) -> Result<Option<PathBuf>, AuthError> {
        let has_users = self
            .store
            .read(|conn| -> Result<_, AuthError> { Ok(user::any(conn)?) })
            .await?;
        if has_users {
            self.store
                .write(|tx| -> Result<_, AuthError> {
                    if home_project(tx)?.is_none() {
                        ensure_default(tx)
                    } else {
                        Ok(())
                    }
                })
                .await?;
            return Ok(None);
        }
        let password = URL_SAFE_NO_PAD.encode(random::<18>()?);
        let hash = self.hash_new(SecretString::from(password.as_str())).await?;
        let path = data_dir.join(ADMIN_PASSWORD_FILE);
        let written = path.clone();
        blocking(move || private_file::write(&written, format!("{password}\n").as_bytes(), true)).await?;
        let admin = User {
            id: UserId::fresh(),
            name: ADMIN.to_owned(),
            domain: INTERNAL.to_owned(),
            password_hash: Some(hash),
            is_admin: true,
            enabled: true,
            profile: user::Profile::default(),
            created_at: now_micros(),
        };
        self.store
            .write(move |tx| -> Result<_, AuthError> {
                if home_project(tx)?.is_none() {
                    ensure_default(tx)?;
                }
                Ok(user::insert(tx, &admin)?)
            })
            .await?;
        Ok(Some(path))
    }

    async fn prepare(&self, entry: &UserEntry) -> Result<Prepared, AuthError> {
        let found = self.user_by_name(&entry.name, INTERNAL).await?;
        let (id, hash) = found.map_or_else(|| (UserId::fresh(), None), |user| (user.id, user.password_hash));
        let new_hash = match (&entry.password, hash) {
            (Some(password), Some(hash)) if self.hasher.verify(password.clone(), Some(&hash)).await? => None,
            (Some(password), _) => Some(self.hash_new(password.clone()).await?),
            (None, _) => None,
        };
        let mut new_keys = Vec::new();
        for key in &entry.access_keys {
            new_keys.extend(self.prepare_key(id, key).await?.map(|sealed| (key.line, sealed)));
        }
        Ok(Prepared {
            id,
            name: entry.name.clone(),
            is_admin: entry.is_admin,
            new_hash,
            roles: entry
                .roles
                .iter()
                .map(|grant| (grant.line, grant.project.clone(), grant.role))
                .collect(),
            new_keys,
        })
    }

    /// The row to write, if it differs from the one that is there.
    async fn prepare_key(&self, user: UserId, entry: &AccessKeyEntry) -> Result<Option<AccessKey>, AuthError> {
        let access = entry.access.clone();
        let found = self
            .store
            .read(move |conn| -> Result<_, AuthError> { Ok(access_key::by_access(conn, &access)?) })
            .await?;
        let owner = key_owner(user, &entry.access);
        let secret = entry.secret.expose_secret();
        let is_same = found
            .is_some_and(|key| key.user == user && self.seal.open(&owner, &key.secret_enc).as_deref() == Some(secret));
        if is_same {
            return Ok(None);
        }
        let secret_enc = self.seal.seal(&owner, secret)?;
        Ok(Some(AccessKey {
            access: entry.access.clone(),
            user,
            secret_enc,
            created_at: now_micros(),
        }))
    }
}

/// Sees to it that `default` exists, and that there is a home.
fn ensure_default(tx: &Tx) -> Result<(), AuthError> {
    let id = match project::by_name(tx, DEFAULT_PROJECT)? {
        Some(there) => there.id,
        None => {
            let fresh = Project::fresh(ProjectId::fresh(), DEFAULT_PROJECT);
            project::insert(tx, &fresh)?;
            fresh.id
        }
    };
    meta::value_or_put(tx, HOME_PROJECT, &id.to_string())?;
    Ok(())
}

/// Writes entries, and says of what contradicts the catalogue in which line it stands.
struct Writer<'a> {
    tx: &'a Tx,
    file: &'a Path,
}

impl Writer<'_> {
    fn fault(&self, line: usize, what: impl Into<String>) -> AuthError {
        AuthError::Bootstrap {
            file: self.file.to_owned(),
            line,
            what: what.into(),
        }
    }

    /// Adds the project, or renames the one of that id; its id.
    fn project(&self, entry: &ProjectEntry) -> Result<ProjectId, AuthError> {
        let named = project::by_name(self.tx, &entry.name)?;
        let Some(id) = entry.id else {
            return match named {
                Some(there) => Ok(there.id),
                None => self.new_project(ProjectId::fresh(), &entry.name),
            };
        };
        if let Some(there) = named {
            if there.id == id {
                return Ok(id);
            }
            let what = format!(
                "there is a project {:?} with id {}; an id cannot change",
                entry.name, there.id
            );
            return Err(self.fault(entry.line, what));
        }
        if project::by_id(self.tx, id)?.is_some() {
            project::rename(self.tx, id, &entry.name)?;
            return Ok(id);
        }
        self.new_project(id, &entry.name)
    }

    fn new_project(&self, id: ProjectId, name: &str) -> Result<ProjectId, AuthError> {
        project::insert(self.tx, &Project::fresh(id, name))?;
        Ok(id)
    }

    fn user(&self, entry: Prepared) -> Result<(), AuthError> {
        let id = entry.id;
        match user::by_id(self.tx, id)? {
            None => user::insert(
                self.tx,
                &User {
                    id,
                    name: entry.name,
                    domain: INTERNAL.to_owned(),
                    password_hash: entry.new_hash,
                    is_admin: entry.is_admin,
                    enabled: true,
                    profile: user::Profile::default(),
                    created_at: now_micros(),
                },
            )?,
            Some(there) => {
                if let Some(hash) = entry.new_hash {
                    user::set_password_hash(self.tx, id, &hash)?;
                    token::delete_of_user(self.tx, id)?;
                    scoped_token::delete_of_user(self.tx, id)?;
                }
                if there.is_admin != entry.is_admin {
                    user::set_admin(self.tx, id, entry.is_admin)?;
                }
            }
        }
        for (line, name, role) in entry.roles {
            let project = project::by_name(self.tx, &name)?
                .ok_or_else(|| self.fault(line, format!("there is no project {name:?}: add a [[project]]")))?;
            role::grant(self.tx, id, project.id, role)?;
        }
        for (line, key) in entry.new_keys {
            access_key::put(self.tx, &key).map_err(|error| {
                if error.is_duplicate() {
                    self.fault(line, format!("access key {:?} belongs to another user", key.access))
                } else {
                    error.into()
                }
            })?;
        }
        Ok(())
    }
}
