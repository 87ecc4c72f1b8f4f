//! Why somebody was not let in, or why the auth room cannot work.
//!
//! Messages of what a client caused do not say whether the user, the password or the token was wrong.

use std::path::PathBuf;
use stillpoint_store::StoreError;

/// A failure of the auth room.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No such user, or the password is wrong: not said which.
    #[error("wrong user name or password")]
    BadCredentials,
    /// The token was never issued, was revoked, or was not used for too long: not said which.
    #[error("the token is not valid")]
    BadToken,
    /// Not even looked at.
    #[error("{what} is longer than {max_bytes} bytes")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its limit.
        max_bytes: usize,
    },
    /// An argument has no meaning.
    #[error("{0}")]
    Invalid(&'static str),
    /// Too many passwords are being checked; the client may try again later.
    #[error("too many logins at once: try again later")]
    Busy,
    /// No user of that id.
    #[error("there is no such user")]
    NoSuchUser,
    /// No project of that id.
    #[error("there is no such project")]
    NoSuchProject,
    /// The name is another's.
    #[error("there is {0} already")]
    Taken(&'static str),
    /// It cannot go, or there cannot be one more; says why.
    #[error("{0}")]
    InUse(String),
    /// The bootstrap file cannot be used; nothing of it was applied.
    #[error("{}:{line}: {what}", file.display())]
    Bootstrap {
        /// The bootstrap file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it and what to do. Never holds a password.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file is lost, is not the one that sealed the catalogue's secrets, or is open to others.
    #[error("the key file {} {what}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: &'static str,
    },
    /// A sealed secret cannot be opened: its row was changed by somebody else.
    #[error("the secret of access key {0:?} cannot be opened")]
    Sealed(String),
    /// A password cannot be hashed, or a stored hash is damaged.
    #[error("password hashing failed: {0}")]
    Hash(String),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// Neither [`crate::Auth::apply_bootstrap`] nor [`crate::Auth::first_start`] has run.
    #[error("there is no project yet")]
    NotStarted,
    /// The catalogue failed.
    #[error("the catalogue failed")]
    Store(#[from] StoreError),
}

impl AuthError {
    /// Whether the client must prove who he is (again); everything else is no matter of credentials.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::BadCredentials | Self::BadToken | Self::TooLong { .. })
    }
}
