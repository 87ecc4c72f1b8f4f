//! Application credentials: keys for programs, which can do what their owner can do in one project, or less.

use super::{Cloud, identity::ask};
use crate::{Error, volume::Named};
use http::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An application credential, as the server shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// Its id, which a program logs in with.
    pub id: String,
    /// Its name; one user has one of a name.
    pub name: String,
    /// A text about it.
    pub description: Option<String>,
    /// The project that it is good for.
    pub project_id: String,
    /// The roles that it has there.
    #[serde(default)]
    pub roles: Vec<Named>,
    /// When it ends, UTC; `None`: never.
    pub expires_at: Option<String>,
    /// All else that the server says, but the secret.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What a new application credential shall be.
#[derive(Debug, Clone, Default)]
pub struct NewCredential {
    /// Its name.
    pub name: String,
    /// A text about it.
    pub description: Option<String>,
    /// The names of its roles. None: all that its owner has in the project.
    pub roles: Vec<String>,
    /// When it ends, UTC: `2026-01-02T03:04:05`.
    pub expires_at: Option<String>,
}

impl Cloud {
    /// A user's application credentials.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn credentials(&self, user: &str) -> Result<Vec<Credential>, Error> {
        let ask = ask(Method::GET, &["users", user, "application_credentials"]);
        self.whole(ask, "application_credentials").await
    }

    /// Makes an application credential for the one who is logged in, in the project of the login. The secret is in this
    /// answer, and in no other.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn create_credential(
        &self,
        user: &str,
        credential: &NewCredential,
    ) -> Result<(Credential, SecretString), Error> {
        let mut wanted = json!({"name": credential.name});
        if let Some(text) = &credential.description {
            wanted["description"] = json!(text);
        }
        if !credential.roles.is_empty() {
            wanted["roles"] = credential.roles.iter().map(|name| json!({ "name": name })).collect();
        }
        if let Some(instant) = &credential.expires_at {
            wanted["expires_at"] = json!(instant);
        }
        let ask = ask(Method::POST, &["users", user, "application_credentials"])
            .body(json!({ "application_credential": wanted }));
        let mut made: Credential = self.one(&ask, "application_credential").await?;
        match made.more.remove("secret") {
            Some(Value::String(secret)) => Ok((made, SecretString::from(secret))),
            _ => Err(Error::protocol(&ask.name(), "it has no secret")),
        }
    }

    /// Deletes one of the application credentials of the one who is logged in: what was logged in by it is logged out.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn delete_credential(&self, user: &str, id: &str) -> Result<(), Error> {
        let path = ["users", user, "application_credentials", id];
        self.ask(&ask(Method::DELETE, &path)).await.map(drop)
    }
}
