//! Tokens that were looked up lately, so that a request costs no look into the catalogue; and never longer than they live.
//!
//! Whatever may end a token or change what it allows goes through [`Auth::change`], which makes all that is known void once it is
//! committed. A lookup that began before keeps the old mark, so what it found is void with the rest. The daemon is the only writer of
//! its catalogue (the lock of the data directory), so nothing changes behind its back.

use crate::{Auth, AuthError, Scoped};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use stillpoint_store::{StoreError, Tx, token::TokenHash};
use stillpoint_types::Micros;

/// Tokens known at once; beyond, all are looked up anew.
const KNOWN_MAX: usize = 4096;
/// How often tokens that ended are deleted, at most.
const SWEEP_EVERY: Micros = 60_000_000;

/// What is known of tokens.
#[derive(Default)]
pub(crate) struct Known {
    /// Grows with each change.
    mark: AtomicU64,
    tokens: Mutex<HashMap<TokenHash, Entry>>,
    swept_at: Mutex<Micros>,
}

struct Entry {
    mark: u64,
    expires_at: Micros,
    scoped: Arc<Scoped>,
}

impl Known {
    /// To be read before a lookup, and given back with what it found.
    pub(crate) fn mark(&self) -> u64 {
        self.mark.load(Ordering::SeqCst)
    }

    /// Who a token stands for, if that is known and holds.
    pub(crate) fn get(&self, hash: &TokenHash, now: Micros) -> Option<Arc<Scoped>> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(hash)
            .filter(|entry| entry.mark == self.mark() && now < entry.expires_at)
            .map(|entry| Arc::clone(&entry.scoped))
    }

    /// Remembers what a lookup found that began at `mark`.
    pub(crate) fn put(&self, hash: TokenHash, mark: u64, expires_at: Micros, scoped: Arc<Scoped>) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= KNOWN_MAX {
            tokens.clear();
        }
        tokens.insert(
            hash,
            Entry {
                mark,
                expires_at,
                scoped,
            },
        );
    }

    /// True once in [`SWEEP_EVERY`].
    pub(crate) fn sweep_is_due(&self, now: Micros) -> bool {
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now.saturating_sub(*swept_at) >= SWEEP_EVERY;
        if due {
            *swept_at = now;
        }
        due
    }

    fn forget_all(&self) {
        self.mark.fetch_add(1, Ordering::SeqCst);
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Auth {
    /// A write after which tokens may mean something else. It is finished even if whoever asked for it goes away.
    pub(crate) async fn change<T, E>(
        &self,
        write: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, AuthError>
    where
        T: Send + 'static,
        E: From<StoreError> + Into<AuthError> + Send + 'static,
    {
        let auth = self.clone();
        let work = tokio::spawn(async move {
            let done = auth.store.write(write).await;
            // Also after a failure: nobody may rely on what a write left whose end is not known.
            auth.known.forget_all();
            done.map_err(Into::into)
        });
        work.await.map_err(|_panicked| StoreError::Unanswered)?
    }
}
