//! Application credentials: what a user makes so that a program can work as he in one project, with no more than chosen roles.

use crate::{Auth, AuthError, NAME_MAX_BYTES, Scoped, admin::TEXT_MAX_BYTES, caller, random};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use stillpoint_store::{
    application_credential, application_credential::ApplicationCredential, scoped_token::Scope, user,
};
use stillpoint_types::{Micros, Role, UserId, now_micros};
use uuid::Uuid;

/// Application credentials that a user may have.
pub const CREDENTIALS_MAX: usize = 100;

/// What a new application credential shall be.
#[derive(Debug)]
pub struct NewCredential {
    /// Unique for its user.
    pub name: String,
    /// What for.
    pub description: Option<String>,
    /// The secret; one is made up if it is not given.
    pub secret: Option<SecretString>,
    /// The roles that it has; empty: all of the maker's.
    pub roles: Vec<Role>,
    /// Whether its tokens may make and delete application credentials.
    pub unrestricted: bool,
    /// When it ends.
    pub expires_at: Option<Micros>,
}

impl Auth {
    /// Makes an application credential for whom that token is, in the token's project; its secret is never told again.
    ///
    /// # Errors
    /// `Invalid`, also without a project, for an end in the past and for a role that the maker has not; `Taken`, `InUse` (too
    /// many), `TooLong`, `Busy`, `Hash`, `Random`, `Store`.
    pub async fn create_credential(
        &self,
        maker: &Scoped,
        new: NewCredential,
    ) -> Result<(ApplicationCredential, SecretString), AuthError> {
        use secrecy::ExposeSecret;
        let (Some(project), Some(role)) = (maker.scope.project(), maker.role()) else {
            return Err(AuthError::Invalid(
                "an application credential is made with a token of a project",
            ));
        };
        if new.name.trim().is_empty() || new.name.len() > NAME_MAX_BYTES {
            return Err(AuthError::Invalid("a name has 1 to 255 bytes"));
        }
        if new.description.as_ref().is_some_and(|text| text.len() > TEXT_MAX_BYTES) {
            return Err(AuthError::Invalid("a text is longer than 1024 bytes"));
        }
        if new.roles.iter().any(|asked| !role.includes(*asked)) {
            return Err(AuthError::Invalid(
                "an application credential has no role that its maker has not",
            ));
        }
        if new.expires_at.is_some_and(|end| end <= now_micros()) {
            return Err(AuthError::Invalid(
                "the end of an application credential is in the future",
            ));
        }
        let secret = match new.secret {
            Some(secret) => secret,
            None => SecretString::from(URL_SAFE_NO_PAD.encode(random::<48>()?)),
        };
        let roles = if new.roles.is_empty() {
            role.with_implied().to_vec()
        } else {
            new.roles
        };
        let made = ApplicationCredential {
            id: Uuid::new_v4(),
            user: maker.caller.user,
            project,
            name: new.name,
            description: new.description,
            secret_hash: self.hash_new(SecretString::from(secret.expose_secret())).await?,
            roles: roles.iter().map(|role| role.label()).collect::<Vec<_>>().join(" "),
            unrestricted: new.unrestricted,
            expires_at: new.expires_at,
            created_at: now_micros(),
        };
        let made = self
            .change(move |tx| -> Result<_, AuthError> {
                let user = user::by_id(tx, made.user)?.ok_or(AuthError::NoSuchUser)?;
                Scoped::narrow(&caller::of_user(tx, &user)?, Scope::Project(project))
                    .ok_or(AuthError::NoSuchProject)?;
                if application_credential::of_user(tx, made.user, None)?.len() >= CREDENTIALS_MAX {
                    return Err(AuthError::InUse(format!(
                        "a user has at most {CREDENTIALS_MAX} application credentials"
                    )));
                }
                application_credential::insert(tx, &made).map_err(|error| {
                    if error.is_duplicate() {
                        AuthError::Taken("an application credential of that name")
                    } else {
                        error.into()
                    }
                })?;
                Ok(made)
            })
            .await?;
        Ok((made, secret))
    }

    /// A user's application credentials by name: all, or the one of that name.
    ///
    /// # Errors
    /// `Store`.
    pub async fn credentials(
        &self,
        user: UserId,
        named: Option<String>,
    ) -> Result<Vec<ApplicationCredential>, AuthError> {
        self.store
            .read(move |conn| -> Result<_, AuthError> {
                Ok(application_credential::of_user(conn, user, named.as_deref())?)
            })
            .await
    }

    /// One application credential of a user.
    ///
    /// # Errors
    /// `Store`.
    pub async fn credential(&self, user: UserId, id: Uuid) -> Result<Option<ApplicationCredential>, AuthError> {
        let found = self
            .store
            .read(move |conn| -> Result<_, AuthError> { Ok(application_credential::by_id(conn, id)?) })
            .await?;
        Ok(found.filter(|credential| credential.user == user))
    }

    /// Deletes an application credential, and its tokens with it; false if the user has none of that id.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_credential(&self, user: UserId, id: Uuid) -> Result<bool, AuthError> {
        self.change(move |tx| application_credential::delete(tx, user, id))
            .await
    }
}

/// A secret in clear, for the one answer that tells it to whom it was made for.
#[must_use]
pub fn shown_once(secret: &SecretString) -> &str {
    secrecy::ExposeSecret::expose_secret(secret)
}
