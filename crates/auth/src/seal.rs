//! Seals secrets that must be readable again (request signatures need them in clear), with XChaCha20-Poly1305 under a key
//! that lies beside the database, not in it: a copy of the database alone gives nothing away.
//!
//! A sealed secret is `version (1 byte) | nonce (24, random) | ciphertext and tag`, bound to its owner, so that a row cannot
//! be moved to another user. Must not: touch the catalogue.

use crate::{AuthError, private_file, random};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::path::Path;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The opened key.
pub(crate) struct Seal {
    cipher: XChaCha20Poly1305,
    fingerprint: String,
}

impl Seal {
    /// Reads the key. `None` if there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, AuthError> {
        let key = match private_file::read(path, KEY_BYTES as u64) {
            Ok(key) => key,
            Err(AuthError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let open = private_file::is_open_to_others(path).map_err(|source| AuthError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        if open {
            let what = "is open to other users: set its mode to 0600, and take its secrets for known";
            return Err(AuthError::Key {
                path: path.to_owned(),
                what,
            });
        }
        match <[u8; KEY_BYTES]>::try_from(key.as_slice()) {
            Ok(key) => Ok(Some(Self::of(&key))),
            Err(_other_length) => Err(AuthError::Key {
                path: path.to_owned(),
                what: "is damaged: put back a copy",
            }),
        }
    }

    /// Makes a key file where there is none.
    pub(crate) fn make(path: &Path) -> Result<Self, AuthError> {
        let key: [u8; KEY_BYTES] = random()?;
        private_file::write(path, &key, false)?;
        Ok(Self::of(&key))
    }

    fn of(key: &[u8; KEY_BYTES]) -> Self {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(b"stillpoint key fingerprint");
        let fingerprint = STANDARD_NO_PAD.encode(&mac.finalize().into_bytes()[..16]);
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(*key)),
            fingerprint,
        }
    }

    /// Tells this key from others without giving it away; kept in the catalogue.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Seals a secret for its owner.
    pub(crate) fn seal(&self, owner: &str, secret: &str) -> Result<Vec<u8>, AuthError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload {
            msg: secret.as_bytes(),
            aad: owner.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("only a secret of more than 256 GiB cannot be sealed");
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Self::seal`] made for the same owner; `None` if anything about it differs.
    pub(crate) fn open(&self, owner: &str, sealed: &[u8]) -> Option<String> {
        let (&version, rest) = sealed.split_first()?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES)?;
        if version != VERSION {
            return None;
        }
        let nonce = XNonce::try_from(nonce).ok()?;
        let secret = self
            .cipher
            .decrypt(
                &nonce,
                Payload {
                    msg: ciphertext,
                    aad: owner.as_bytes(),
                },
            )
            .ok()?;
        String::from_utf8(secret).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_owner_only_and_not_once_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/secret.key");
        let seal = Seal::make(&path).unwrap();
        let sealed = seal.seal("alice", "s3cret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"s3cret"));
        assert_ne!(sealed, seal.seal("alice", "s3cret").unwrap(), "nonces differ");
        let again = Seal::load(&path).unwrap().unwrap();
        assert_eq!(again.open("alice", &sealed).as_deref(), Some("s3cret"));
        assert_eq!(again.open("bob", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(again.open("alice", &changed), None, "byte {at}");
            assert_eq!(again.open("alice", &sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_key_is_never_overwritten_and_a_damaged_or_open_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/secret.key");
        assert!(Seal::load(&path).unwrap().is_none());
        let first = Seal::make(&path).unwrap();
        assert!(Seal::make(&path).is_err());
        assert_eq!(Seal::load(&path).unwrap().unwrap().fingerprint(), first.fingerprint());

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(Seal::load(&path), Err(AuthError::Key { .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(Seal::load(&path), Err(AuthError::Key { .. })));
    }
}
