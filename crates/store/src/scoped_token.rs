//! Tokens of the volume API: of one scope, and with an absolute end. The row holds a hash, as those of [`crate::token`] do.

use crate::{Conn, StoreError, Tx, column, token::TokenHash};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, ProjectId, UserId};
use uuid::Uuid;

/// What a token is scoped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing: it only tells who its owner is, and can be exchanged.
    Unscoped,
    /// One project.
    Project(ProjectId),
    /// The one domain; administrators only.
    Domain,
    /// The installation; administrators only.
    System,
}

impl Scope {
    /// The project, if it is one.
    #[must_use]
    pub const fn project(self) -> Option<ProjectId> {
        match self {
            Self::Project(project) => Some(project),
            Self::Unscoped | Self::Domain | Self::System => None,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Unscoped => "unscoped",
            Self::Project(_) => "project",
            Self::Domain => "domain",
            Self::System => "system",
        }
    }
}

/// A token, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedToken {
    /// What the token hashes to.
    pub hash: TokenHash,
    /// Whose it is.
    pub user: UserId,
    /// Its scope.
    pub scope: Scope,
    /// The application credential that it was given for; the token ends with it.
    pub credential: Option<Uuid>,
    /// How its owner proved who he is: labels with blanks between.
    pub methods: String,
    /// Its name in audit trails, then that of the first token it came from, if any; a blank between.
    pub audit_ids: String,
    /// When it was issued.
    pub issued_at: Micros,
    /// When it ends, used or not.
    pub expires_at: Micros,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ScopedToken> {
    let project: Option<ProjectId> = column::text_opt(row, "project_id")?;
    let label: String = row.get("scope")?;
    let scope = match (label.as_str(), project) {
        (_, Some(project)) => Scope::Project(project),
        ("domain", None) => Scope::Domain,
        ("system", None) => Scope::System,
        // The table allows no other word, and 'project' with a project only.
        (_, None) => Scope::Unscoped,
    };
    Ok(ScopedToken {
        hash: row.get("hash")?,
        user: column::text(row, "user_id")?,
        scope,
        credential: column::text_opt(row, "credential_id")?,
        methods: row.get("methods")?,
        audit_ids: row.get("audit_ids")?,
        issued_at: row.get("issued_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// The token of that hash, void or not.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_hash(conn: &Conn, hash: &TokenHash) -> Result<Option<ScopedToken>, StoreError> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT hash, user_id, scope, project_id, credential_id, methods, audit_ids, issued_at, expires_at
         FROM scoped_token WHERE hash = ?1",
    )?;
    Ok(statement.query_row([hash.as_slice()], from_row).optional()?)
}

/// Adds a token.
///
/// # Errors
/// `Duplicate`, `Sql`, also if its user, project or credential is gone.
pub fn insert(tx: &Tx, token: &ScopedToken) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(
            "INSERT INTO scoped_token
                 (hash, user_id, scope, project_id, credential_id, methods, audit_ids, issued_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            token.hash.as_slice(),
            token.user.to_string(),
            token.scope.label(),
            token.scope.project().map(|id| id.to_string()),
            token.credential.map(|id| id.to_string()),
            &token.methods,
            &token.audit_ids,
            token.issued_at,
            token.expires_at,
        ))?;
    Ok(())
}

/// Deletes a token; false if there was none.
///
/// # Errors
/// `Sql`.
pub fn delete(tx: &Tx, hash: &TokenHash) -> Result<bool, StoreError> {
    let mut statement = tx.sql().prepare_cached("DELETE FROM scoped_token WHERE hash = ?1")?;
    Ok(statement.execute([hash.as_slice()])? > 0)
}

/// Deletes every token of a user; returns how many.
///
/// # Errors
/// `Sql`.
pub fn delete_of_user(tx: &Tx, user: UserId) -> Result<usize, StoreError> {
    let mut statement = tx.sql().prepare_cached("DELETE FROM scoped_token WHERE user_id = ?1")?;
    Ok(statement.execute([user.to_string()])?)
}

/// Deletes every token of a project; returns how many.
///
/// # Errors
/// `Sql`.
pub fn delete_of_project(tx: &Tx, project: ProjectId) -> Result<usize, StoreError> {
    let mut statement = tx
        .sql()
        .prepare_cached("DELETE FROM scoped_token WHERE project_id = ?1")?;
    Ok(statement.execute([project.to_string()])?)
}

/// Deletes every token that was void at `now`; returns how many.
///
/// # Errors
/// `Sql`.
pub fn delete_void(tx: &Tx, now: Micros) -> Result<usize, StoreError> {
    let mut statement = tx
        .sql()
        .prepare_cached("DELETE FROM scoped_token WHERE expires_at <= ?1")?;
    Ok(statement.execute([now])?)
}
