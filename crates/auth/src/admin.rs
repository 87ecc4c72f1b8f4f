//! Projects, users and roles, administered while the daemon runs. The edge lets administrators only come here.
//!
//! Crash consistency: each is one transaction. What they change counts for tokens at once ([`crate::known`]).

use crate::{Auth, AuthError, INTERNAL, NAME_MAX_BYTES, UserRef, caller};
use secrecy::SecretString;
use stillpoint_store::{
    Conn, Tx, project,
    project::Project,
    role,
    role::Grant,
    scoped_token, token, user,
    user::{Profile, User},
};
use stillpoint_types::{ProjectId, Role, UserId, now_micros};

/// The longest description or address, in bytes.
pub const TEXT_MAX_BYTES: usize = 1024;

/// What is to be changed of a project.
#[derive(Debug, Clone, Default)]
pub struct ProjectChange {
    /// Another name.
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// Whether it is enabled. When it is disabled, its tokens end.
    pub enabled: Option<bool>,
}

/// What is to be changed of a user; what is made of a new one.
#[derive(Debug, Default)]
pub struct UserChange {
    /// Another name.
    pub name: Option<String>,
    /// Another password; his tokens end.
    pub password: Option<SecretString>,
    /// Whether he is enabled. When he is disabled, his tokens end.
    pub enabled: Option<bool>,
    /// Another description; `Some(None)`: none.
    pub description: Option<Option<String>>,
    /// Another address; `Some(None)`: none.
    pub email: Option<Option<String>>,
    /// Another default project; `Some(None)`: none.
    pub default_project: Option<Option<ProjectId>>,
}

fn check_name(name: &str) -> Result<(), AuthError> {
    if name.len() > NAME_MAX_BYTES {
        return Err(AuthError::Invalid("a name is longer than 255 bytes"));
    }
    if name.trim().is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Err(AuthError::Invalid(
            "a name is not empty, has no space at its ends and no control character",
        ));
    }
    Ok(())
}

fn check_text(text: Option<&str>) -> Result<(), AuthError> {
    if text.is_some_and(|text| text.len() > TEXT_MAX_BYTES) {
        return Err(AuthError::Invalid("a text is longer than 1024 bytes"));
    }
    Ok(())
}

impl UserChange {
    fn check(&self) -> Result<(), AuthError> {
        self.name.as_deref().map_or(Ok(()), check_name)?;
        check_text(self.description.as_ref().and_then(Option::as_deref))?;
        check_text(self.email.as_ref().and_then(Option::as_deref))
    }

    fn apply(self, profile: &mut Profile) {
        if let Some(description) = self.description {
            profile.description = description;
        }
        if let Some(email) = self.email {
            profile.email = email;
        }
        if let Some(project) = self.default_project {
            profile.default_project = project;
        }
    }
}

/// Ends all tokens of a user, of whatever API.
fn end_tokens(tx: &Tx, user: UserId) -> Result<(), AuthError> {
    token::delete_of_user(tx, user)?;
    scoped_token::delete_of_user(tx, user)?;
    Ok(())
}

fn taken(what: &'static str) -> impl Fn(stillpoint_store::StoreError) -> AuthError {
    move |error| {
        if error.is_duplicate() {
            AuthError::Taken(what)
        } else {
            error.into()
        }
    }
}

impl Auth {
    /// Makes a project.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `Store`.
    pub async fn create_project(&self, name: &str, change: ProjectChange) -> Result<Project, AuthError> {
        check_name(name)?;
        check_text(change.description.as_deref())?;
        let mut project = Project::fresh(ProjectId::fresh(), name);
        project.description = change.description.unwrap_or_default();
        project.enabled = change.enabled.unwrap_or(true);
        let made = project.clone();
        self.change(move |tx| -> Result<_, AuthError> {
            project::insert(tx, &made).map_err(taken("a project of that name"))
        })
        .await?;
        Ok(project)
    }

    /// Changes a project.
    ///
    /// # Errors
    /// `NoSuchProject`, `Invalid`, `Taken`, `Store`.
    pub async fn update_project(&self, id: ProjectId, change: ProjectChange) -> Result<Project, AuthError> {
        change.name.as_deref().map_or(Ok(()), check_name)?;
        check_text(change.description.as_deref())?;
        self.change(move |tx| -> Result<_, AuthError> {
            let mut project = project::by_id(tx, id)?.ok_or(AuthError::NoSuchProject)?;
            if change.enabled == Some(false) {
                scoped_token::delete_of_project(tx, id)?;
            }
            project.enabled = change.enabled.unwrap_or(project.enabled);
            project.name = change.name.unwrap_or(project.name);
            project.description = change.description.unwrap_or(project.description);
            project::update(tx, &project).map_err(taken("a project of that name"))?;
            Ok(project)
        })
        .await
    }

    /// Deletes a project to which nothing belongs, with its roles, application credentials and tokens.
    ///
    /// # Errors
    /// `NoSuchProject`; `InUse` while VMs or disks belong to it, and for the installation's own project; `Store`.
    pub async fn delete_project(&self, id: ProjectId) -> Result<(), AuthError> {
        self.change(move |tx| -> Result<_, AuthError> {
            let project = project::by_id(tx, id)?.ok_or(AuthError::NoSuchProject)?;
            if caller::home_project(tx)? == Some(id) {
                return Err(AuthError::InUse(format!(
                    "project {:?} is the installation's own: what administrators make belongs to it",
                    project.name
                )));
            }
            let (vms, disks) = project::contents(tx, id)?;
            if vms + disks > 0 {
                return Err(AuthError::InUse(format!(
                    "{vms} VMs and {disks} disks belong to project {:?}: delete them first",
                    project.name
                )));
            }
            project::delete(tx, id)?;
            Ok(())
        })
        .await
    }

    /// The project of that name, whoever may see it.
    ///
    /// # Errors
    /// `Store`.
    pub async fn project_by_name(&self, name: &str) -> Result<Option<Project>, AuthError> {
        let name = name.to_owned();
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(project::by_name(conn, &name)?) })
            .await
    }

    /// Makes a user. Without a password he cannot log in by one.
    ///
    /// # Errors
    /// `Invalid`, `TooLong`, `Taken`, `NoSuchProject` (the default one), `Busy`, `Hash`, `Store`.
    pub async fn create_user(&self, name: &str, mut change: UserChange) -> Result<User, AuthError> {
        check_name(name)?;
        change.check()?;
        let password_hash = match change.password.take() {
            Some(password) => Some(self.hash_new(password).await?),
            None => None,
        };
        let mut made = User {
            id: UserId::fresh(),
            name: name.to_owned(),
            domain: INTERNAL.to_owned(),
            password_hash,
            is_admin: false,
            enabled: change.enabled.unwrap_or(true),
            profile: Profile::default(),
            created_at: now_micros(),
        };
        change.apply(&mut made.profile);
        self.change(move |tx| -> Result<_, AuthError> {
            check_default(tx, &made)?;
            user::insert(tx, &made).map_err(taken("a user of that name"))?;
            Ok(made)
        })
        .await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// `NoSuchUser`, `Invalid`, `TooLong`, `Taken`, `NoSuchProject`, `InUse` (disabling the last administrator), `Busy`, `Hash`,
    /// `Store`.
    pub async fn update_user(&self, id: UserId, mut change: UserChange) -> Result<User, AuthError> {
        change.check()?;
        let password_hash = match change.password.take() {
            Some(password) => Some(self.hash_new(password).await?),
            None => None,
        };
        self.change(move |tx| -> Result<_, AuthError> {
            let mut user = user::by_id(tx, id)?.ok_or(AuthError::NoSuchUser)?;
            let is_disabled = change.enabled == Some(false);
            if is_disabled {
                keep_an_admin(tx, &user)?;
            }
            if is_disabled || password_hash.is_some() {
                end_tokens(tx, id)?;
            }
            user.enabled = change.enabled.unwrap_or(user.enabled);
            user.password_hash = password_hash.or(user.password_hash);
            user.name = change.name.take().unwrap_or(user.name);
            change.apply(&mut user.profile);
            check_default(tx, &user)?;
            user::update(tx, &user).map_err(taken("a user of that name"))?;
            Ok(user)
        })
        .await
    }

    /// Gives a user another password, if the one that he says is his is. All his tokens end.
    ///
    /// # Errors
    /// `BadCredentials`, `Invalid`, `TooLong`, `Busy`, `Hash`, `Store`.
    pub async fn change_password(&self, id: UserId, original: &str, password: &str) -> Result<(), AuthError> {
        self.prove_password(&UserRef::Id(id), original).await?;
        self.set_password(id, password).await
    }

    /// Deletes a user with his roles, keys, application credentials and tokens. What he made stays: it is the project's.
    ///
    /// # Errors
    /// `NoSuchUser`, `InUse` (the last administrator), `Store`.
    pub async fn delete_user(&self, id: UserId) -> Result<(), AuthError> {
        self.change(move |tx| -> Result<_, AuthError> {
            let user = user::by_id(tx, id)?.ok_or(AuthError::NoSuchUser)?;
            keep_an_admin(tx, &user)?;
            user::delete(tx, id)?;
            Ok(())
        })
        .await
    }

    /// The whole user, whoever may see him.
    ///
    /// # Errors
    /// `Store`.
    pub async fn user_row(&self, id: UserId) -> Result<Option<User>, AuthError> {
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(user::by_id(conn, id)?) })
            .await
    }

    /// Whole users by name: at most `limit` after `after`, or the one of that name.
    ///
    /// # Errors
    /// `Store`.
    pub async fn user_rows(&self, named: Option<&str>, after: &str, limit: u32) -> Result<Vec<User>, AuthError> {
        if let Some(name) = named {
            return Ok(self.user_by_name(name, INTERNAL).await?.into_iter().collect());
        }
        let after = after.to_owned();
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(user::page(conn, (&after, INTERNAL), limit)?) })
            .await
    }

    /// The projects in which a user can work: all for an administrator, else those in which he has a role.
    ///
    /// # Errors
    /// `NoSuchUser`, `Store`, `NotStarted`.
    pub async fn projects_of(&self, id: UserId) -> Result<Vec<Project>, AuthError> {
        let caller = self
            .store
            .read(move |conn| -> Result<_, AuthError> {
                let user = user::by_id(conn, id)?.ok_or(AuthError::NoSuchUser)?;
                caller::of_user(conn, &user)
            })
            .await?;
        self.projects(&caller, "", u32::MAX).await
    }

    /// Grants a role beside those that are there. It counts at once.
    ///
    /// # Errors
    /// `NoSuchUser`, `NoSuchProject`, `Store`.
    pub async fn grant_role(&self, grant: Grant) -> Result<(), AuthError> {
        self.change(move |tx| -> Result<_, AuthError> {
            check_ends(tx, grant)?;
            Ok(role::add(tx, grant)?)
        })
        .await
    }

    /// Takes a role back; false if it was not granted (it may be implied by a higher one). It counts at once.
    ///
    /// # Errors
    /// `NoSuchUser`, `NoSuchProject`, `Store`.
    pub async fn revoke_role(&self, grant: Grant) -> Result<bool, AuthError> {
        self.change(move |tx| -> Result<_, AuthError> {
            check_ends(tx, grant)?;
            Ok(role::remove(tx, grant)?)
        })
        .await
    }

    /// Roles as they were granted: of a user, of a project, of both, or all.
    ///
    /// # Errors
    /// `Store`.
    pub async fn grants(&self, user: Option<UserId>, project: Option<ProjectId>) -> Result<Vec<Grant>, AuthError> {
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(role::grants(conn, user, project)?) })
            .await
    }

    /// The roles that a user was granted on a project.
    ///
    /// # Errors
    /// `NoSuchUser`, `NoSuchProject`, `Store`.
    pub async fn roles_on(&self, user: UserId, project: ProjectId) -> Result<Vec<Role>, AuthError> {
        let grant = Grant {
            user,
            project,
            role: Role::Reader,
        };
        let rows = self
            .store
            .read(move |conn| -> Result<_, AuthError> {
                check_ends(conn, grant)?;
                Ok(role::grants(conn, Some(user), Some(project))?)
            })
            .await?;
        Ok(rows.into_iter().map(|grant| grant.role).collect())
    }
}

fn check_ends(conn: &Conn, grant: Grant) -> Result<(), AuthError> {
    user::by_id(conn, grant.user)?.ok_or(AuthError::NoSuchUser)?;
    project::by_id(conn, grant.project)?.ok_or(AuthError::NoSuchProject)?;
    Ok(())
}

fn check_default(tx: &Tx, user: &User) -> Result<(), AuthError> {
    if let Some(id) = user.profile.default_project {
        project::by_id(tx, id)?.ok_or(AuthError::NoSuchProject)?;
    }
    Ok(())
}

/// An installation without an administrator could be administered by nobody.
fn keep_an_admin(tx: &Tx, user: &User) -> Result<(), AuthError> {
    if user.is_admin && !user::another_admin(tx, user.id)? {
        return Err(AuthError::InUse(format!(
            "{:?} is the only administrator of the installation",
            user.name
        )));
    }
    Ok(())
}
