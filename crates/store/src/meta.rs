//! Facts about the installation itself: a small table of keys and values.

use crate::{Conn, StoreError, Tx};
use rusqlite::OptionalExtension;

/// The value of a key, if it was ever put.
///
/// # Errors
/// `Sql`.
pub fn value(conn: &Conn, key: &str) -> Result<Option<String>, StoreError> {
    let mut statement = conn.sql().prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// Sets a key, over whatever it held.
///
/// # Errors
/// `Sql`.
pub fn put(tx: &Tx, key: &str, value: &str) -> Result<(), StoreError> {
    let mut statement = tx.sql().prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute((key, value))?;
    Ok(())
}

/// The value of a key; puts `fresh` first if it has none.
///
/// # Errors
/// `Sql`.
pub fn value_or_put(tx: &Tx, key: &str, fresh: &str) -> Result<String, StoreError> {
    if let Some(there) = value(tx, key)? {
        return Ok(there);
    }
    put(tx, key, fresh)?;
    Ok(fresh.to_owned())
}
