//! Users, as they log in: a name within a domain (oVirt: profile), and the hash of a password.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, ProjectId, UserId};

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Stable for its life.
    pub id: UserId,
    /// Unique within the domain; may hold an `@`.
    pub name: String,
    /// `internal` for users that are ours.
    pub domain: String,
    /// A PHC string; `None` if the user cannot log in by password.
    pub password_hash: Option<String>,
    /// May do everything.
    pub is_admin: bool,
    /// Whether he can log in at all.
    pub enabled: bool,
    /// What is said of him.
    pub profile: Profile,
    /// When it was made.
    pub created_at: Micros,
}

/// What is said of a user; it decides nothing but where a login without scope goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Free text.
    pub description: Option<String>,
    /// An address; nothing is sent there.
    pub email: Option<String>,
    /// The project that a login of the volume API without scope is scoped to, if he has a role on it.
    pub default_project: Option<ProjectId>,
}

impl std::fmt::Debug for User {
    /// Without the hash: it must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("domain", &self.domain)
            .field("is_admin", &self.is_admin)
            .finish_non_exhaustive()
    }
}

const COLUMNS: &str =
    "id, name, domain, password_hash, is_admin, enabled, description, email, default_project_id, created_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: column::text(row, "id")?,
        name: row.get("name")?,
        domain: row.get("domain")?,
        password_hash: row.get("password_hash")?,
        is_admin: row.get("is_admin")?,
        enabled: row.get("enabled")?,
        profile: Profile {
            description: row.get("description")?,
            email: row.get("email")?,
            default_project: column::text_opt(row, "default_project_id")?,
        },
        created_at: row.get("created_at")?,
    })
}

/// The user of that id.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_id(conn: &Conn, id: UserId) -> Result<Option<User>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached(&format!("SELECT {COLUMNS} FROM app_user WHERE id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// The user of that name in that domain; both are compared byte for byte.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_name(conn: &Conn, name: &str, domain: &str) -> Result<Option<User>, StoreError> {
    let mut statement = conn.sql().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM app_user WHERE name = ?1 AND domain = ?2"
    ))?;
    Ok(statement.query_row([name, domain], from_row).optional()?)
}

/// Users in the order of name and domain: at most `limit` that come after the pair `after`.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn page(conn: &Conn, after: (&str, &str), limit: u32) -> Result<Vec<User>, StoreError> {
    let mut statement = conn.sql().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM app_user WHERE (name, domain) > (?1, ?2) ORDER BY name, domain LIMIT ?3"
    ))?;
    let rows = statement.query_map((after.0, after.1, limit), from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether there is any user.
///
/// # Errors
/// `Sql`.
pub fn any(conn: &Conn) -> Result<bool, StoreError> {
    Ok(conn
        .sql()
        .query_row("SELECT EXISTS (SELECT 1 FROM app_user)", [], |row| row.get(0))?)
}

/// Adds a user.
///
/// # Errors
/// `Duplicate` if the id or the name is taken, `Sql`.
pub fn insert(tx: &Tx, user: &User) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(&format!(
            "INSERT INTO app_user ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute((
            user.id.to_string(),
            &user.name,
            &user.domain,
            &user.password_hash,
            user.is_admin,
            user.enabled,
            &user.profile.description,
            &user.profile.email,
            user.profile.default_project.map(|id| id.to_string()),
            user.created_at,
        ))?;
    Ok(())
}

/// Sets the hash of a user's password. Does nothing if there is no such user.
///
/// # Errors
/// `Sql`.
pub fn set_password_hash(tx: &Tx, id: UserId, hash: &str) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached("UPDATE app_user SET password_hash = ?2 WHERE id = ?1")?
        .execute((id.to_string(), hash))?;
    Ok(())
}

/// Makes a user an administrator, or no more. Does nothing if there is no such user.
///
/// # Errors
/// `Sql`.
pub fn set_admin(tx: &Tx, id: UserId, is_admin: bool) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached("UPDATE app_user SET is_admin = ?2 WHERE id = ?1")?
        .execute((id.to_string(), is_admin))?;
    Ok(())
}

/// Writes name, password, whether he is enabled, and what is said of him. Does nothing if there is no such user.
///
/// # Errors
/// `Duplicate` if the name is taken, `Sql`.
pub fn update(tx: &Tx, user: &User) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached(
            "UPDATE app_user SET name = ?2, password_hash = ?3, enabled = ?4, description = ?5, email = ?6,
                 default_project_id = ?7 WHERE id = ?1",
        )?
        .execute((
            user.id.to_string(),
            &user.name,
            &user.password_hash,
            user.enabled,
            &user.profile.description,
            &user.profile.email,
            user.profile.default_project.map(|id| id.to_string()),
        ))?;
    Ok(())
}

/// Whether there is an administrator who can log in, beside that user.
///
/// # Errors
/// `Sql`.
pub fn another_admin(conn: &Conn, but: UserId) -> Result<bool, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM app_user WHERE is_admin = 1 AND enabled = 1 AND id <> ?1)")?;
    Ok(statement.query_row([but.to_string()], |row| row.get(0))?)
}

/// Deletes a user with his roles, keys, credentials and tokens; false if there was none.
///
/// # Errors
/// `Sql`.
pub fn delete(tx: &Tx, id: UserId) -> Result<bool, StoreError> {
    let mut statement = tx.sql().prepare_cached("DELETE FROM app_user WHERE id = ?1")?;
    Ok(statement.execute([id.to_string()])? > 0)
}
