//! Who may come in: users, projects and roles, password hashes, opaque tokens, sealed access keys, the bootstrap file.
//!
//! The edges turn what a client sends into a [`Caller`] here; the core then asks the caller alone. No HTTP and no SQL text in
//! this room. Secrets are never logged and never in an error.
//!
//! Which door for which header:
//!
//! | client sends | edge calls |
//! |---|---|
//! | `Authorization: Basic` | [`Auth::login`] with each request: a proof is remembered for a minute |
//! | SSO `grant_type=password` | [`Auth::login`], then [`Auth::issue_token`] with [`TokenKind::Bearer`] |
//! | `Prefer: persistent-auth` at login | [`Auth::login`], then [`Auth::issue_token`] with [`TokenKind::Session`] |
//! | `Authorization: Bearer`, session cookie | [`Auth::caller_of_token`], then looks at [`Grant::kind`] and scope |
//! | logout | [`Auth::revoke`] |
//! | a signed request | [`signature::Claim::of`], then [`Auth::caller_of_claim`] with the body |
//! | `POST /v3/auth/tokens` | `prove_...` as its method says, then [`Auth::issue_scoped`] |
//! | `X-Auth-Token` | [`Auth::scoped_of_token`] |

mod admin;
mod apply;
mod bootstrap;
mod caller;
mod credential;
mod error;
mod known;
mod password;
mod private_file;
mod prove;
mod scope;
mod scoped_token;
mod seal;
pub mod signature;
mod token;
mod view;

#[cfg(test)]
mod scoped_tests;
#[cfg(test)]
mod tests;

pub use admin::{ProjectChange, TEXT_MAX_BYTES, UserChange};
pub use apply::{ADMIN_PASSWORD_FILE, DEFAULT_PROJECT};
pub use bootstrap::Bootstrap;
pub use credential::{CREDENTIALS_MAX, NewCredential, shown_once};
pub use error::AuthError;
pub use password::PASSWORD_MAX_BYTES;
pub use prove::{CredentialRef, Proven, UserRef};
pub use scope::{Scope, Scoped};
pub use scoped_token::{SCOPED_LIFE, ScopeAsked, TokenView};
pub use stillpoint_store::token::TokenKind;
pub use stillpoint_store::{
    application_credential::ApplicationCredential,
    project::Project,
    role::Grant as RoleGrant,
    user::{Profile, User},
};
pub use stillpoint_types::{Access, Caller, Need};
pub use token::{BEARER_IDLE, Grant, IDLE_MAX, SCOPE_API, SCOPE_MAX_BYTES, SESSION_IDLE};
pub use view::UserView;

use password::{Hasher, Proofs};
use seal::Seal;
use secrecy::SecretString;
use std::{fmt, path::Path, sync::Arc, time::Instant};
use stillpoint_store::{Store, StoreError, access_key, meta, user};
use stillpoint_types::UserId;
use token::Uses;

/// The profile (oVirt) of the users that are ours.
pub const INTERNAL: &str = "internal";
/// The longest name of a user or project, in bytes of UTF-8.
pub const NAME_MAX_BYTES: usize = 255;

/// The key under which the catalogue keeps the fingerprint of the key file.
const KEY_FINGERPRINT: &str = "secret_key_fingerprint";

/// The open auth room. Clones share it.
#[derive(Clone)]
pub struct Auth {
    store: Store,
    hasher: Arc<Hasher>,
    proofs: Arc<Proofs>,
    seal: Arc<Seal>,
    uses: Arc<Uses>,
    repeats: Arc<signature::Repeats>,
    known: Arc<known::Known>,
}

impl fmt::Debug for Auth {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Opens the room on an open catalogue. Makes the key file (mode 0600, its folder 0700) where there is none.
    ///
    /// # Errors
    /// `Key` if the file is lost or another one while the catalogue holds secrets that it sealed, or open to others.
    /// `File`, `Random`, `Store`.
    pub async fn open(store: Store, key_file: &Path) -> Result<Self, AuthError> {
        let (known, in_use) = store
            .read(|conn| -> Result<_, StoreError> { Ok((meta::value(conn, KEY_FINGERPRINT)?, access_key::any(conn)?)) })
            .await?;
        let path = key_file.to_owned();
        let seal = blocking(move || open_seal(&path, known.as_deref(), in_use)).await?;
        let fingerprint = seal.fingerprint().to_owned();
        store
            .write(move |tx| -> Result<_, StoreError> { meta::put(tx, KEY_FINGERPRINT, &fingerprint) })
            .await?;
        Ok(Self {
            store,
            hasher: Arc::new(Hasher::new().await?),
            proofs: Arc::new(Proofs::new()?),
            seal: Arc::new(seal),
            uses: Arc::default(),
            repeats: Arc::default(),
            known: Arc::default(),
        })
    }

    /// Checks a password. `user_at_profile` is split at its last `@` (`john@corp@internal` is `john@corp`).
    ///
    /// Slow by design, unless the same pair was right within the last minute. As slow for a user who does not exist.
    ///
    /// # Errors
    /// `BadCredentials`, `TooLong` (before any work), `Busy`, `NotStarted`, `Store`, `Hash`.
    pub async fn login(&self, user_at_profile: &str, password: &str) -> Result<Caller, AuthError> {
        if password.len() > PASSWORD_MAX_BYTES {
            return Err(AuthError::TooLong {
                what: "the password",
                max_bytes: PASSWORD_MAX_BYTES,
            });
        }
        if user_at_profile.len() > 2 * NAME_MAX_BYTES {
            return Err(AuthError::TooLong {
                what: "the user name",
                max_bytes: 2 * NAME_MAX_BYTES,
            });
        }
        let (name, domain) = user_at_profile.rsplit_once('@').unwrap_or((user_at_profile, ""));
        let found = self.user_by_name(name, domain).await?;
        let hash = found.as_ref().and_then(|user| user.password_hash.clone());
        let proof = self.proofs.name(user_at_profile, password);
        let now = Instant::now();
        if let (Some(user), Some(hash)) = (&found, &hash)
            && self.proofs.holds(&proof, user.id, hash, now)
        {
            return self.caller_if(user.id, hash.clone()).await;
        }
        let is_right = self
            .hasher
            .verify(SecretString::from(password), hash.as_deref())
            .await?;
        let (Some(user), Some(hash), true) = (found, hash, is_right) else {
            return Err(AuthError::BadCredentials);
        };
        let caller = self.caller_if(user.id, hash.clone()).await?;
        self.proofs.remember(proof, user.id, hash, now);
        Ok(caller)
    }

    async fn user_by_name(&self, name: &str, domain: &str) -> Result<Option<User>, AuthError> {
        let (name, domain) = (name.to_owned(), domain.to_owned());
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(user::by_name(conn, &name, &domain)?) })
            .await
    }

    /// The caller, if his password is still the one that was proved.
    async fn caller_if(&self, id: UserId, hash: String) -> Result<Caller, AuthError> {
        self.store
            .read(move |conn| -> Result<_, AuthError> {
                let user =
                    user::by_id(conn, id)?.filter(|user| user.enabled && user.password_hash.as_ref() == Some(&hash));
                caller::of_user(conn, &user.ok_or(AuthError::BadCredentials)?)
            })
            .await
    }

    /// Changes a password. The user's tokens end with it.
    ///
    /// # Errors
    /// `TooLong`, `Invalid` (empty), `NoSuchUser`, `Busy`, `Store`, `Hash`.
    pub async fn set_password(&self, user: UserId, password: &str) -> Result<(), AuthError> {
        let hash = self.hash_new(SecretString::from(password)).await?;
        self.change(move |tx| -> Result<_, AuthError> {
            user::by_id(tx, user)?.ok_or(AuthError::NoSuchUser)?;
            user::set_password_hash(tx, user, &hash)?;
            stillpoint_store::token::delete_of_user(tx, user)?;
            stillpoint_store::scoped_token::delete_of_user(tx, user)?;
            Ok(())
        })
        .await
    }

    async fn hash_new(&self, password: SecretString) -> Result<String, AuthError> {
        use secrecy::ExposeSecret;
        match password.expose_secret().len() {
            0 => Err(AuthError::Invalid("a password is not empty")),
            1..=PASSWORD_MAX_BYTES => self.hasher.hash(password).await,
            _ => Err(AuthError::TooLong {
                what: "the password",
                max_bytes: PASSWORD_MAX_BYTES,
            }),
        }
    }

    /// The owner and the secret of an access key, to check a request's signature with. `None` if there is no such key.
    ///
    /// # Errors
    /// `Sealed`, `NotStarted`, `Store`.
    pub async fn access_key(&self, access: &str) -> Result<Option<(Caller, SecretString)>, AuthError> {
        let access = access.to_owned();
        let found = self
            .store
            .read(move |conn| -> Result<_, AuthError> {
                let Some(key) = access_key::by_access(conn, &access)? else {
                    return Ok(None);
                };
                let Some(user) = user::by_id(conn, key.user)?.filter(|user| user.enabled) else {
                    return Ok(None);
                };
                Ok(Some((caller::of_user(conn, &user)?, key)))
            })
            .await?;
        let Some((caller, key)) = found else { return Ok(None) };
        let secret = self.seal.open(&key_owner(key.user, &key.access), &key.secret_enc);
        let secret = secret.ok_or(AuthError::Sealed(key.access))?;
        Ok(Some((caller, SecretString::from(secret))))
    }
}

/// What a sealed secret is bound to.
fn key_owner(user: UserId, access: &str) -> String {
    format!("{user} {access}")
}

fn open_seal(path: &Path, known: Option<&str>, in_use: bool) -> Result<Seal, AuthError> {
    let key = |what| AuthError::Key {
        path: path.to_owned(),
        what,
    };
    let Some(seal) = Seal::load(path)? else {
        if in_use {
            return Err(key(
                "is gone, and it sealed the access keys in the database: put back a copy of it",
            ));
        }
        return Seal::make(path);
    };
    if in_use && known.is_some_and(|known| known != seal.fingerprint()) {
        return Err(key(
            "is not the one that sealed the access keys in the database: put back that one",
        ));
    }
    Ok(seal)
}

/// Random bytes of the operating system.
fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(AuthError::Random)?;
    Ok(bytes)
}

/// File work, away from the async workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthError> + Send + 'static,
) -> Result<T, AuthError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_panicked| StoreError::Unanswered)?
}
