//! Opaque tokens: 256 random bits that stand for a login until they are revoked or not used for too long.
//!
//! The catalogue holds the SHA-256 of each. A use is written at most once in 30 s a token; between, it is remembered here, so
//! that idleness is judged exactly. Crash consistency: after a crash a token may seem unused for up to 30 s more than it
//! was, and may so end that much early; it never lives longer.

use crate::{Auth, AuthError, caller, random};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use stillpoint_store::{
    StoreError,
    token::{self, Token, TokenHash, TokenKind},
    user,
};
use stillpoint_types::{Caller, Micros, now_micros};
use subtle::ConstantTimeEq;

/// The scope that the oVirt API demands of a token.
pub const SCOPE_API: &str = "ovirt-app-api";
/// Default idle limit of a bearer token.
pub const BEARER_IDLE: Duration = Duration::from_hours(6);
/// Default idle limit of a cookie session: the Engine's servlet session, 180 minutes.
pub const SESSION_IDLE: Duration = Duration::from_mins(180);
/// The longest idle limit; what asks for more gets this.
pub const IDLE_MAX: Duration = Duration::from_hours(30 * 24);
/// The longest scope, in bytes.
pub const SCOPE_MAX_BYTES: usize = 1024;

/// Tokens are 43 characters; what is longer than this is not even hashed.
const TOKEN_MAX_BYTES: usize = 128;
/// At most one write of the last use in this time, a token.
const USE_WRITE_EVERY: Micros = 30_000_000;
/// Uses remembered; beyond, each use of a further token is written.
const USES_MAX: usize = 16_384;
/// How often tokens that ended are deleted, at most.
const SWEEP_EVERY: Micros = 60_000_000;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user, with what he may do now (not: at login).
    pub caller: Caller,
    /// How the token must be carried; the edge compares the header if `csrf`.
    pub kind: TokenKind,
    /// Space-separated, as asked for at login.
    pub scope: String,
    /// When it ends unless it is used again.
    pub expires_at: Micros,
}

impl Grant {
    /// Whether the scope holds that word.
    #[must_use]
    pub fn has_scope(&self, word: &str) -> bool {
        self.scope.split_ascii_whitespace().any(|held| held == word)
    }
}

/// Last uses that are not in the catalogue yet.
#[derive(Default)]
pub(crate) struct Uses {
    uses: Mutex<HashMap<TokenHash, Use>>,
    swept_at: Mutex<Micros>,
}

#[derive(Clone, Copy)]
struct Use {
    at: Micros,
    written_at: Micros,
}

impl Uses {
    /// The last use, as far as it is known here.
    fn last(&self, hash: &TokenHash) -> Option<Micros> {
        self.uses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash)
            .map(|known| known.at)
    }

    /// Notes a use; true if it is to be written now.
    fn note(&self, token: &Token, now: Micros) -> bool {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() >= USES_MAX && !uses.contains_key(&token.hash) {
            uses.retain(|_, known| now.saturating_sub(known.at) < USE_WRITE_EVERY);
            if uses.len() >= USES_MAX {
                return true;
            }
        }
        let known = uses.entry(token.hash).or_insert(Use {
            at: now,
            written_at: token.last_used_at,
        });
        known.at = known.at.max(now);
        let write = now.saturating_sub(known.written_at) >= USE_WRITE_EVERY;
        if write {
            known.written_at = now;
        }
        write
    }

    fn forget(&self, hash: &TokenHash) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// True once in [`SWEEP_EVERY`].
    fn sweep_is_due(&self, now: Micros) -> bool {
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now.saturating_sub(*swept_at) >= SWEEP_EVERY;
        if due {
            *swept_at = now;
        }
        due
    }
}

pub(crate) fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

impl Auth {
    /// Makes a token for somebody who has logged in: 43 characters of URL-safe base64. It is durable when it is returned.
    ///
    /// # Errors
    /// `TooLong` (scope), `Invalid` (an idle limit under a second), `Random`, `Store`.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        scope: &str,
        kind: TokenKind,
        idle: Duration,
    ) -> Result<String, AuthError> {
        self.issue_token_at(caller, scope, kind, idle, now_micros()).await
    }

    pub(crate) async fn issue_token_at(
        &self,
        caller: &Caller,
        scope: &str,
        kind: TokenKind,
        idle: Duration,
        now: Micros,
    ) -> Result<String, AuthError> {
        if scope.len() > SCOPE_MAX_BYTES {
            return Err(AuthError::TooLong {
                what: "the scope",
                max_bytes: SCOPE_MAX_BYTES,
            });
        }
        let idle_limit_s = u32::try_from(idle.min(IDLE_MAX).as_secs()).expect("30 days are few seconds");
        if idle_limit_s == 0 {
            return Err(AuthError::Invalid("the idle limit of a token is at least one second"));
        }
        let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let token = Token {
            hash: hash_of(&text),
            user: caller.user,
            kind,
            scope: scope.to_owned(),
            created_at: now,
            last_used_at: now,
            idle_limit_s,
        };
        let sweep = self.uses.sweep_is_due(now);
        self.store
            .write(move |tx| -> Result<_, AuthError> {
                if sweep {
                    // Uses that are not written yet lag by less than this.
                    token::delete_void(tx, now.saturating_sub(2 * USE_WRITE_EVERY))?;
                }
                Ok(token::insert(tx, &token)?)
            })
            .await?;
        Ok(text)
    }

    /// Who a token stands for, and with what scope and carriage. Counts as a use.
    ///
    /// # Errors
    /// `BadToken`, `Store`, `NotStarted`.
    pub async fn caller_of_token(&self, text: &str) -> Result<Grant, AuthError> {
        self.caller_of_token_at(text, now_micros()).await
    }

    pub(crate) async fn caller_of_token_at(&self, text: &str, now: Micros) -> Result<Grant, AuthError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::BadToken);
        }
        let hash = hash_of(text);
        let found = self
            .store
            .read(move |conn| -> Result<_, AuthError> {
                let Some(token) = token::by_hash(conn, &hash)? else {
                    return Ok(None);
                };
                let Some(user) = user::by_id(conn, token.user)?.filter(|user| user.enabled) else {
                    return Ok(None);
                };
                Ok(Some((token, caller::of_user(conn, &user)?)))
            })
            .await?;
        let Some((mut token, caller)) = found else {
            return Err(AuthError::BadToken);
        };
        if !bool::from(token.hash.ct_eq(&hash)) {
            return Err(AuthError::BadToken);
        }
        token.last_used_at = token.last_used_at.max(self.uses.last(&hash).unwrap_or(Micros::MIN));
        if now >= token.expires_at() {
            self.delete_token(hash).await?;
            return Err(AuthError::BadToken);
        }
        if self.uses.note(&token, now) {
            let written = self.store.write(move |tx| token::touch(tx, &hash, now)).await;
            if let Err(error) = written {
                // A full disk must not lock the operator out; the use is remembered in memory.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the use of a token was not written"
                );
            }
        }
        token.last_used_at = token.last_used_at.max(now);
        Ok(Grant {
            caller,
            kind: token.kind,
            expires_at: token.expires_at(),
            scope: token.scope,
        })
    }

    /// Ends a token (logout). False if there was none: for most dialects that is no error.
    ///
    /// # Errors
    /// `Store`.
    pub async fn revoke(&self, text: &str) -> Result<bool, AuthError> {
        if text.len() > TOKEN_MAX_BYTES {
            return Ok(false);
        }
        self.delete_token(hash_of(text)).await
    }

    async fn delete_token(&self, hash: TokenHash) -> Result<bool, AuthError> {
        let was_there = self
            .store
            .write(move |tx| -> Result<_, StoreError> { token::delete(tx, &hash) })
            .await?;
        self.uses.forget(&hash);
        Ok(was_there)
    }
}
