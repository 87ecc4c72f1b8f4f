//! What this dialect needs to know of users and tokens; the binary connects it to the room that keeps them.

use std::fmt;
use stillpoint_types::{Caller, UserId};

/// The scope that a token must have to be used on the API.
pub const API_SCOPE: &str = "ovirt-app-api";

/// Why a login or a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Unknown user, wrong password, or a locked account: all the same to the client.
    #[error("wrong user name or password")]
    BadCredentials,
    /// The token is unknown, revoked or expired.
    #[error("the token is not valid")]
    BadToken,
    /// Too many attempts: later.
    #[error("too many attempts, try again later")]
    TooMany,
    /// A fault of our own; the cause is for the log.
    #[error("the identity store failed")]
    Failed(String),
}

/// A token's owner and what it was given for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The owner.
    pub caller: Caller,
    /// Scopes, separated by spaces.
    pub scope: String,
}

/// A user, as a list of users shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// Its id.
    pub id: UserId,
    /// `name@profile`.
    pub name: String,
}

/// Users and tokens.
#[async_trait::async_trait]
pub trait Identity: fmt::Debug + Send + Sync + 'static {
    /// Checks a password; `user` is `name@profile`, split at the last `@`.
    ///
    /// # Errors
    /// [`Denied`].
    async fn login(&self, user: &str, password: &str) -> Result<Caller, Denied>;

    /// Makes a token with these scopes (separated by spaces); it expires by idleness.
    ///
    /// # Errors
    /// [`Denied::Failed`].
    async fn issue_token(&self, caller: &Caller, scope: &str) -> Result<String, Denied>;

    /// The owner of a token, with his present roles; counts as use of the token.
    ///
    /// # Errors
    /// [`Denied::BadToken`], [`Denied::Failed`].
    async fn caller_of_token(&self, token: &str) -> Result<Bearer, Denied>;

    /// Ends a token. An unknown one is ended already.
    ///
    /// # Errors
    /// [`Denied::Failed`].
    async fn revoke(&self, token: &str) -> Result<(), Denied>;

    /// The users that a caller may see, himself at least, in the order of names.
    ///
    /// # Errors
    /// [`Denied::Failed`].
    async fn users(&self, who: &Caller) -> Result<Vec<UserView>, Denied>;
}
