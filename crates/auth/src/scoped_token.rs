//! Tokens of the volume API: opaque as the others, but each of one scope, and with an absolute end.

use crate::{Auth, AuthError, Scoped};
use std::sync::Arc;

impl Auth {
    /// Who a token of the volume API stands for.
    ///
    /// # Errors
    /// `BadToken`, `Store`.
    #[expect(clippy::unused_async, reason = "the catalogue has no such tokens yet")]
    pub async fn scoped_of_token(&self, _text: &str) -> Result<Arc<Scoped>, AuthError> {
        Err(AuthError::BadToken)
    }
}
