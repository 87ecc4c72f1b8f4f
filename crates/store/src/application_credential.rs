//! Application credentials: a name and a secret with which a program works as a user, in one project and with chosen roles.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, ProjectId, UserId};
use uuid::Uuid;

/// An application credential.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplicationCredential {
    /// Stable for its life.
    pub id: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// Where it works.
    pub project: ProjectId,
    /// Unique for its user.
    pub name: String,
    /// What for.
    pub description: Option<String>,
    /// A PHC string of the secret.
    pub secret_hash: String,
    /// Labels of roles with blanks between.
    pub roles: String,
    /// Whether its tokens may make and delete application credentials.
    pub unrestricted: bool,
    /// When it ends, if it does.
    pub expires_at: Option<Micros>,
    /// When it was made.
    pub created_at: Micros,
}

impl std::fmt::Debug for ApplicationCredential {
    /// Without the hash: it must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplicationCredential")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

const COLUMNS: &str =
    "id, user_id, project_id, name, description, secret_hash, roles, unrestricted, expires_at, created_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ApplicationCredential> {
    Ok(ApplicationCredential {
        id: column::text(row, "id")?,
        user: column::text(row, "user_id")?,
        project: column::text(row, "project_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        secret_hash: row.get("secret_hash")?,
        roles: row.get("roles")?,
        unrestricted: row.get("unrestricted")?,
        expires_at: row.get("expires_at")?,
        created_at: row.get("created_at")?,
    })
}

/// The credential of that id.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_id(conn: &Conn, id: Uuid) -> Result<Option<ApplicationCredential>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached(&format!("SELECT {COLUMNS} FROM application_credential WHERE id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// A user's credentials by name: all, or the one of that name.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn of_user(conn: &Conn, user: UserId, name: Option<&str>) -> Result<Vec<ApplicationCredential>, StoreError> {
    let mut statement = conn.sql().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM application_credential WHERE user_id = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name"
    ))?;
    let rows = statement.query_map((user.to_string(), name), from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a credential.
///
/// # Errors
/// `Duplicate` if its user has one of that name, `Sql`.
pub fn insert(tx: &Tx, credential: &ApplicationCredential) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(&format!(
            "INSERT INTO application_credential ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute((
            credential.id.to_string(),
            credential.user.to_string(),
            credential.project.to_string(),
            &credential.name,
            &credential.description,
            &credential.secret_hash,
            &credential.roles,
            credential.unrestricted,
            credential.expires_at,
            credential.created_at,
        ))?;
    Ok(())
}

/// Deletes a credential of a user, and its tokens with it; false if there was none.
///
/// # Errors
/// `Sql`.
pub fn delete(tx: &Tx, user: UserId, id: Uuid) -> Result<bool, StoreError> {
    let mut statement = tx
        .sql()
        .prepare_cached("DELETE FROM application_credential WHERE id = ?1 AND user_id = ?2")?;
    Ok(statement.execute((id.to_string(), user.to_string()))? > 0)
}
