//! Hashes passwords and checks them, so slowly that guessing does not pay, and never more than two at once.
//!
//! argon2id with 19 MiB, two passes, one lane: the OWASP password storage recommendation, and the crate's default. A user
//! who does not exist costs as much as one who does. Must not: touch the catalogue.

use crate::{AuthError, random};
use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use stillpoint_types::UserId;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// The longest password, in bytes of UTF-8: longer ones are refused before anything is computed of them.
pub const PASSWORD_MAX_BYTES: usize = 1024;
/// Hashes at once: bounds memory to 38 MiB, and leaves cores to the guests.
const HASHES_AT_ONCE: usize = 2;
/// How long a login waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a proof is remembered.
const PROOF_LIFE: Duration = Duration::from_secs(60);
/// How many proofs are remembered.
const PROOFS_MAX: usize = 1024;

/// Computes hashes in turn.
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    /// What users without a hash are checked against; nobody knows its password.
    nobody: String,
}

impl Hasher {
    pub(crate) async fn new() -> Result<Self, AuthError> {
        let turns = Arc::new(Semaphore::new(HASHES_AT_ONCE));
        let unknown: [u8; 32] = random()?;
        let hasher = Self {
            turns,
            nobody: String::new(),
        };
        let nobody = hasher.hash(SecretString::from(URL_SAFE_NO_PAD.encode(unknown))).await?;
        Ok(Self { nobody, ..hasher })
    }

    /// The PHC string of a password, with a fresh salt.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, AuthError> {
        self.in_turn(move || {
            let hash = Argon2::default().hash_password(password.expose_secret().as_bytes())?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is the one of `hash`. Without a hash: takes as long, and says no.
    pub(crate) async fn verify(&self, password: SecretString, hash: Option<&str>) -> Result<bool, AuthError> {
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let matches = self
            .in_turn(move || {
                match Argon2::default().verify_password(password.expose_secret().as_bytes(), hash.as_str()) {
                    Ok(()) => Ok(true),
                    Err(password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        Ok(matches && is_somebody)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
    ) -> Result<T, AuthError> {
        let turn = timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_elapsed| AuthError::Busy)?
            .expect("the semaphore is never closed");
        // The turn moves into the work: a caller who goes away does not let more than two run.
        spawn_blocking(move || {
            let outcome = compute();
            drop(turn);
            outcome
        })
        .await
        .map_err(|error| AuthError::Hash(error.to_string()))?
        .map_err(|error| AuthError::Hash(error.to_string()))
    }
}

/// Remembers for a minute who has proved a password, so that a client that sends it with each request (Basic) pays for one
/// hash, not for one a request. What is remembered is a keyed hash, whose key never leaves the process.
pub(crate) struct Proofs {
    key: [u8; 32],
    proofs: Mutex<HashMap<[u8; 32], Proof>>,
}

struct Proof {
    user: UserId,
    /// The stored hash that was proved: another one (a changed password) makes the proof void, whoever changed it.
    hash: String,
    until: Instant,
}

impl Proofs {
    pub(crate) fn new() -> Result<Self, AuthError> {
        Ok(Self {
            key: random()?,
            proofs: Mutex::default(),
        })
    }

    /// Under what a pair is remembered.
    pub(crate) fn name(&self, user: &str, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether that pair was proved lately against that very hash.
    pub(crate) fn holds(&self, name: &[u8; 32], user: UserId, hash: &str, now: Instant) -> bool {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs
            .get(name)
            .is_some_and(|proof| proof.user == user && proof.hash == hash && now < proof.until)
    }

    /// Remembers a proof.
    pub(crate) fn remember(&self, name: [u8; 32], user: UserId, hash: String, now: Instant) {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= PROOFS_MAX {
            proofs.retain(|_, proof| now < proof.until);
        }
        if proofs.len() >= PROOFS_MAX
            && let Some(oldest) = proofs
                .iter()
                .min_by_key(|(_, proof)| proof.until)
                .map(|(name, _)| *name)
        {
            proofs.remove(&oldest);
        }
        proofs.insert(
            name,
            Proof {
                user,
                hash,
                until: now + PROOF_LIFE,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_ends_with_its_minute_with_another_password_and_never_fills_memory() {
        let proofs = Proofs::new().unwrap();
        let (user, now) = (UserId::fresh(), Instant::now());
        let name = proofs.name("a@internal", "pw");
        assert_ne!(
            name,
            proofs.name("a@internalp", "w"),
            "the boundary is part of the name"
        );
        assert_ne!(
            name,
            Proofs::new().unwrap().name("a@internal", "pw"),
            "each process has its own key"
        );
        proofs.remember(name, user, "hash".to_owned(), now);
        assert!(proofs.holds(&name, user, "hash", now));
        assert!(!proofs.holds(&name, user, "changed", now));
        assert!(!proofs.holds(&name, UserId::fresh(), "hash", now));
        assert!(!proofs.holds(&name, user, "hash", now + PROOF_LIFE));
        for n in 0..2 * PROOFS_MAX {
            proofs.remember(proofs.name("b", &n.to_string()), user, "hash".to_owned(), now);
        }
        assert_eq!(proofs.proofs.lock().unwrap().len(), PROOFS_MAX);
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_and_nobody_has_no_password() {
        let hasher = Hasher::new().await.unwrap();
        let hash = hasher.hash("pw".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify("pw".into(), Some(&hash)).await.unwrap());
        assert!(!hasher.verify("PW".into(), Some(&hash)).await.unwrap());
        assert!(!hasher.verify("".into(), None).await.unwrap());
        assert!(matches!(
            hasher.verify("pw".into(), Some("$argon2id$junk")).await,
            Err(AuthError::Hash(_))
        ));
    }
}
