//! The ways in which somebody proves to the identity service who he is.
//!
//! Whatever is wrong (user, password, secret, an account that is disabled, a token that ended), the error is the same.

use crate::{Auth, AuthError, INTERNAL, NAME_MAX_BYTES, PASSWORD_MAX_BYTES};
use secrecy::{ExposeSecret, SecretString};
use stillpoint_store::{
    Conn, application_credential, application_credential::ApplicationCredential, scoped_token, token::TokenHash, user,
};
use stillpoint_types::{Micros, UserId, now_micros};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// How a login names its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRef {
    /// By id.
    Id(UserId),
    /// By name within our own domain.
    Name(String),
    /// By what cannot be: a domain that is not there, an id that is none.
    Nobody,
}

/// Which application credential a login names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialRef {
    /// By id.
    Id(Uuid),
    /// By name, and whose it is.
    Name(String, UserRef),
}

/// Somebody has proved who he is.
#[derive(Debug, Clone)]
pub struct Proven {
    pub(crate) user: UserId,
    pub(crate) methods: Vec<String>,
    pub(crate) credential: Option<ApplicationCredential>,
    /// A token that comes of it lives no longer.
    pub(crate) ends_by: Option<Micros>,
    pub(crate) first_audit_id: Option<String>,
    /// The hash of the password that was proved.
    password_hash: Option<String>,
    /// The token that was shown.
    token: Option<TokenHash>,
}

impl Proven {
    /// Somebody whom another of our doors has let in already; his token ends then.
    pub(crate) fn known(user: UserId, ends_by: Micros) -> Self {
        Self {
            ends_by: Some(ends_by),
            ..Self::new(user, "token")
        }
    }

    fn new(user: UserId, method: &str) -> Self {
        Self {
            user,
            methods: vec![method.to_owned()],
            credential: None,
            ends_by: None,
            first_audit_id: None,
            password_hash: None,
            token: None,
        }
    }

    /// Whether what the proof rests on has not changed since.
    pub(crate) fn holds(&self, conn: &Conn) -> Result<bool, AuthError> {
        let Some(user) = user::by_id(conn, self.user)?.filter(|user| user.enabled) else {
            return Ok(false);
        };
        if self.password_hash.is_some() && self.password_hash != user.password_hash {
            return Ok(false);
        }
        if let Some(hash) = &self.token
            && scoped_token::by_hash(conn, hash)?.is_none()
        {
            return Ok(false);
        }
        match &self.credential {
            Some(credential) => Ok(application_credential::by_id(conn, credential.id)?.is_some()),
            None => Ok(true),
        }
    }

    /// Two proofs of one user are one of both kinds.
    ///
    /// # Errors
    /// `BadCredentials` if they are of different users.
    pub fn and(mut self, other: Self) -> Result<Self, AuthError> {
        if self.user != other.user {
            return Err(AuthError::BadCredentials);
        }
        self.methods.extend(other.methods);
        self.methods.dedup();
        self.credential = self.credential.or(other.credential);
        self.ends_by = match (self.ends_by, other.ends_by) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.first_audit_id = self.first_audit_id.or(other.first_audit_id);
        self.password_hash = self.password_hash.or(other.password_hash);
        self.token = self.token.or(other.token);
        Ok(self)
    }
}

impl Auth {
    /// By a password.
    ///
    /// # Errors
    /// As those of [`Auth::login`].
    pub async fn prove_password(&self, who: &UserRef, password: &str) -> Result<Proven, AuthError> {
        let found = self.user_of(who).await?;
        // A login of nobody costs as much as any other: no name holds a control character.
        let name = found.as_ref().map_or("\0", |user| user.name.as_str());
        let caller = self.login(&format!("{name}@{INTERNAL}"), password).await?;
        Ok(Proven {
            password_hash: found.and_then(|user| user.password_hash),
            ..Proven::new(caller.user, "password")
        })
    }

    /// By a token of this API, which is exchanged for one of another scope; the new one ends when the old one would have.
    ///
    /// # Errors
    /// `BadToken`, also for one that was given for an application credential: its scope is what it is for. `Store`.
    pub async fn prove_token(&self, text: &str) -> Result<Proven, AuthError> {
        let view = self.scoped_token(text).await?;
        if view.credential.is_some() {
            return Err(AuthError::BadToken);
        }
        let mut methods = view.methods;
        if methods.iter().all(|method| method != "token") {
            methods.push("token".to_owned());
        }
        Ok(Proven {
            methods,
            ends_by: Some(view.expires_at),
            first_audit_id: view.audit_ids.last().cloned(),
            token: Some(crate::token::hash_of(text)),
            ..Proven::new(view.user.id, "token")
        })
    }

    /// By an application credential.
    ///
    /// # Errors
    /// `BadCredentials`, `TooLong`, `Busy`, `Hash`, `Store`.
    pub async fn prove_credential(&self, which: &CredentialRef, secret: &str) -> Result<Proven, AuthError> {
        if secret.len() > PASSWORD_MAX_BYTES {
            return Err(AuthError::TooLong {
                what: "the secret",
                max_bytes: PASSWORD_MAX_BYTES,
            });
        }
        let found = match which {
            CredentialRef::Id(id) => {
                let id = *id;
                self.store
                    .read(move |conn| -> Result<_, AuthError> { Ok(application_credential::by_id(conn, id)?) })
                    .await?
            }
            CredentialRef::Name(name, who) => match self.user_of(who).await? {
                Some(owner) => {
                    let name = name.clone();
                    let find = move |conn: &Conn| -> Result<_, AuthError> {
                        Ok(application_credential::of_user(conn, owner.id, Some(&name))?)
                    };
                    self.store.read(find).await?.pop()
                }
                None => None,
            },
        };
        let hash = found.as_ref().map(|credential| credential.secret_hash.as_str());
        let is_right = self.hasher.verify(SecretString::from(secret), hash).await?;
        let credential = found
            .filter(|credential| is_right && credential.expires_at.is_none_or(|end| now_micros() < end))
            .ok_or(AuthError::BadCredentials)?;
        Ok(Proven {
            ends_by: credential.expires_at,
            ..Proven {
                credential: Some(credential.clone()),
                ..Proven::new(credential.user, "application_credential")
            }
        })
    }

    /// By an access key and its secret, in clear.
    ///
    /// # Errors
    /// `BadCredentials`, `Sealed`, `Store`.
    pub async fn prove_access_key(&self, access: &str, secret: &str) -> Result<Proven, AuthError> {
        let (caller, held) = self.access_key(access).await?.ok_or(AuthError::BadCredentials)?;
        if !bool::from(held.expose_secret().as_bytes().ct_eq(secret.as_bytes())) {
            return Err(AuthError::BadCredentials);
        }
        Ok(Proven::new(caller.user, "hw_ak_sk"))
    }

    async fn user_of(&self, who: &UserRef) -> Result<Option<user::User>, AuthError> {
        match who {
            UserRef::Id(id) => {
                let id = *id;
                self.store
                    .read(move |conn| -> Result<_, AuthError> { Ok(user::by_id(conn, id)?) })
                    .await
            }
            UserRef::Name(name) if name.len() <= NAME_MAX_BYTES => self.user_by_name(name, INTERNAL).await,
            UserRef::Name(_) | UserRef::Nobody => Ok(None),
        }
    }
}
