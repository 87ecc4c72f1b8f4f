//! Access keys: a public name and a sealed secret, with which a user signs requests.
//!
//! This room stores the sealed bytes; only the auth room can open them.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use stillpoint_types::{Micros, UserId};

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public name; unique.
    pub access: String,
    /// Whose it is.
    pub user: UserId,
    /// The sealed secret.
    pub secret_enc: Vec<u8>,
    /// When it was made.
    pub created_at: Micros,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AccessKey> {
    Ok(AccessKey {
        access: row.get("access")?,
        user: column::text(row, "user_id")?,
        secret_enc: row.get("secret_enc")?,
        created_at: row.get("created_at")?,
    })
}

/// The key of that public name.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_access(conn: &Conn, access: &str) -> Result<Option<AccessKey>, StoreError> {
    let mut statement = conn
        .sql()
        .prepare_cached("SELECT access, user_id, secret_enc, created_at FROM access_key WHERE access = ?1")?;
    Ok(statement.query_row([access], from_row).optional()?)
}

/// Whether there is any key.
///
/// # Errors
/// `Sql`.
pub fn any(conn: &Conn) -> Result<bool, StoreError> {
    Ok(conn
        .sql()
        .query_row("SELECT EXISTS (SELECT 1 FROM access_key)", [], |row| row.get(0))?)
}

/// Adds a key, or gives the one of that name and user another secret.
///
/// # Errors
/// `Duplicate` if another user has a key of that name, `Sql`.
pub fn put(tx: &Tx, key: &AccessKey) -> Result<(), StoreError> {
    let changed = tx
        .sql()
        .prepare_cached(
            "INSERT INTO access_key (access, user_id, secret_enc, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (access) DO UPDATE SET secret_enc = excluded.secret_enc WHERE user_id = excluded.user_id",
        )?
        .execute((&key.access, key.user.to_string(), &key.secret_enc, key.created_at))?;
    if changed == 0 {
        return Err(StoreError::Duplicate("access_key.access".to_owned()));
    }
    Ok(())
}
