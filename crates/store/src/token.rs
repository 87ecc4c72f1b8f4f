//! Tokens: what a client shows after it logged in. The row holds a hash, so reading the database gives no access.

use crate::{Conn, StoreError, Tx, column};
use rusqlite::{OptionalExtension, Row};
use std::str::FromStr;
use stillpoint_types::{Micros, UserId};

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// How a client carries a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// In `Authorization: Bearer`.
    Bearer,
    /// In the session cookie. `csrf`: each request must repeat it in a header.
    Session {
        /// Whether the header is demanded.
        csrf: bool,
    },
}

/// A token, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the token hashes to.
    pub hash: TokenHash,
    /// Whose it is.
    pub user: UserId,
    /// How it is carried.
    pub kind: TokenKind,
    /// Space-separated, as asked for at login.
    pub scope: String,
    /// When it was issued.
    pub created_at: Micros,
    /// When it was last used; may lag behind by as much as the auth room coalesces.
    pub last_used_at: Micros,
    /// Seconds without use after which it is void.
    pub idle_limit_s: u32,
}

impl Token {
    /// The instant at which it becomes void if it is not used before.
    #[must_use]
    pub fn expires_at(&self) -> Micros {
        self.last_used_at
            .saturating_add(i64::from(self.idle_limit_s) * 1_000_000)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no kind of token")]
struct BadKind(String);

/// The stored label: the part of [`TokenKind`] that is not a flag of its own.
enum Label {
    Bearer,
    Session,
}

impl FromStr for Label {
    type Err = BadKind;

    fn from_str(text: &str) -> Result<Self, BadKind> {
        match text {
            "bearer" => Ok(Self::Bearer),
            "session" => Ok(Self::Session),
            other => Err(BadKind(other.chars().take(64).collect())),
        }
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Token> {
    let kind = match column::text(row, "kind")? {
        Label::Bearer => TokenKind::Bearer,
        Label::Session => TokenKind::Session { csrf: row.get("csrf")? },
    };
    Ok(Token {
        hash: row.get("hash")?,
        user: column::text(row, "user_id")?,
        kind,
        scope: row.get("scope")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        idle_limit_s: row.get("idle_limit_s")?,
    })
}

/// The token of that hash, void or not.
///
/// # Errors
/// `Sql`, `BadValue`.
pub fn by_hash(conn: &Conn, hash: &TokenHash) -> Result<Option<Token>, StoreError> {
    let mut statement = conn.sql().prepare_cached(
        "SELECT hash, user_id, kind, scope, csrf, created_at, last_used_at, idle_limit_s FROM token WHERE hash = ?1",
    )?;
    Ok(statement.query_row([hash.as_slice()], from_row).optional()?)
}

/// Adds a token.
///
/// # Errors
/// `Duplicate`, `Sql`, also if there is no such user.
pub fn insert(tx: &Tx, token: &Token) -> Result<(), StoreError> {
    let (kind, csrf) = match token.kind {
        TokenKind::Bearer => ("bearer", false),
        TokenKind::Session { csrf } => ("session", csrf),
    };
    tx.sql()
        .prepare_cached(
            "INSERT INTO token (hash, user_id, kind, scope, csrf, created_at, last_used_at, idle_limit_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            token.hash.as_slice(),
            token.user.to_string(),
            kind,
            &token.scope,
            csrf,
            token.created_at,
            token.last_used_at,
            token.idle_limit_s,
        ))?;
    Ok(())
}

/// Moves the last use forward, never back. Does nothing if the token is gone.
///
/// # Errors
/// `Sql`.
pub fn touch(tx: &Tx, hash: &TokenHash, used_at: Micros) -> Result<(), StoreError> {
    tx.sql()
        .prepare_cached("UPDATE token SET last_used_at = ?2 WHERE hash = ?1 AND last_used_at < ?2")?
        .execute((hash.as_slice(), used_at))?;
    Ok(())
}

/// Deletes a token; false if there was none.
///
/// # Errors
/// `Sql`.
pub fn delete(tx: &Tx, hash: &TokenHash) -> Result<bool, StoreError> {
    Ok(tx
        .sql()
        .prepare_cached("DELETE FROM token WHERE hash = ?1")?
        .execute([hash.as_slice()])?
        > 0)
}

/// Deletes every token of a user; returns how many.
///
/// # Errors
/// `Sql`.
pub fn delete_of_user(tx: &Tx, user: UserId) -> Result<usize, StoreError> {
    Ok(tx
        .sql()
        .prepare_cached("DELETE FROM token WHERE user_id = ?1")?
        .execute([user.to_string()])?)
}

/// Deletes every token that was void at `now`; returns how many.
///
/// # Errors
/// `Sql`.
pub fn delete_void(tx: &Tx, now: Micros) -> Result<usize, StoreError> {
    Ok(tx
        .sql()
        .prepare_cached("DELETE FROM token WHERE last_used_at + idle_limit_s * 1000000 <= ?1")?
        .execute([now])?)
}
