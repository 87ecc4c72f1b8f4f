//! Signed requests (`SDK-HMAC-SHA256`): a client proves that he has an access key's secret without sending it.
//!
//! ```text
//! Authorization: SDK-HMAC-SHA256 Access=<key>, SignedHeaders=host;x-sdk-date, Signature=<hex>
//! ```
//!
//! [`Claim::of`] judges everything that needs neither the body nor a secret, so that most rubbish is refused before a body is
//! read; [`Auth::caller_of_claim`] then proves the rest. Nothing may be done for the request before that. What differs on the
//! way (a byte of the body, a signed header, the order of equal parameters) makes the signature wrong.
//!
//! Stricter than the signer, so that what is done is what was signed:
//! * What the server acts on must be signed: `host`, `x-sdk-date`, and `x-project-id` where it is sent. A header that was sent
//!   twice or named twice is refused: it has two meanings.
//! * `UNSIGNED-PAYLOAD` vouches for no body, so it is taken for an empty body only (which the signer hashes all the same).
//!   Signers use it for bodies that are not JSON, and no call of ours has such a body: a client loses nothing, and nobody on
//!   the way can put his own body under somebody's signature.
//! * `%2F` in the path and `+` in the query: see [`canonical`].
//!
//! An unknown key and a wrong signature are one refusal, after the same work. The same request may come again: clients send
//! their retries with the first signature, so within [`WINDOW`] a repetition is accepted; of one that changes things the log tells.
//!
//! The algorithm is that of huaweicloudsdkcore 3.1.219 (`signer/signer.py`); both worked examples of the API's contract are tests.
//! Must not: know HTTP types, read a clock of its own where a test must hold it still.

mod canonical;
mod claim;
mod repeats;

#[cfg(test)]
mod tests;

pub use claim::{Claim, Head};
pub(crate) use repeats::Repeats;

use crate::{Auth, AuthError, Scope, Scoped};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::time::Duration;
use stillpoint_store::project;
use stillpoint_types::{Caller, ProjectId, now_micros};

/// The one algorithm that is served.
pub const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// How far `X-Sdk-Date` may be from our clock, to either side: the gateway's published figure.
pub const WINDOW: Duration = Duration::from_mins(15);
/// Stands where the hash of a body would, and says nothing about it.
const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";

/// Why a signed request was not let in. The messages may be shown; none says whether a key exists.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The header is not of the form above.
    #[error("the Authorization header cannot be read: {0}")]
    Malformed(&'static str),
    /// Signed with something else.
    #[error("this signing algorithm is not served: use SDK-HMAC-SHA256")]
    Algorithm,
    /// A header that has to be signed is not, or is not clear.
    #[error("the header {name} {what}")]
    Header {
        /// Its name, in lower case.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Signed too long ago, or by a clock that is ahead.
    #[error("X-Sdk-Date is more than 15 minutes from the server's time")]
    Date,
    /// The body is not the one of which the client sent a hash.
    #[error("the body is not the one that was signed")]
    Body,
    /// The path or the query has two readings.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// No such key, or its secret did not make this signature of this request: not said which.
    #[error("the access key or the signature is wrong")]
    Wrong,
    /// The auth room failed; no matter of this request.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl Auth {
    /// The owner of the key that signed the request, if he did sign it with this body.
    ///
    /// # Errors
    /// `Body`, `Wrong`, `Auth`.
    pub async fn caller_of_claim(&self, claim: &Claim, body: &[u8]) -> Result<Caller, SignatureError> {
        let hash = claim.hash_of(body)?;
        let found = self.access_key(claim.access()).await?;
        // The work is the same whether or not there is such a key: the time of the answer tells nothing.
        let absent = SecretString::from("no key has this secret");
        let secret = found.as_ref().map_or(&absent, |(_, secret)| secret);
        let is_right = claim.is_signed_by(secret.expose_secret().as_bytes(), &hash);
        match found {
            Some((caller, _)) if is_right => {
                if claim.is_change() && self.repeats.note(claim.signature(), now_micros()) {
                    tracing::warn!(
                        access = claim.access(),
                        "a signed request came again: it was sent anew by its client, or by somebody who could read it"
                    );
                }
                Ok(caller)
            }
            _ => Err(SignatureError::Wrong),
        }
    }

    /// What is left of the owner of a key within the project that he names; `None` if it is not there, not enabled, or he has
    /// no role on it: not said which. Without a project he may ask only who he is and where he may work.
    ///
    /// # Errors
    /// `Store`.
    pub async fn narrow_key(&self, caller: &Caller, project: Option<ProjectId>) -> Result<Option<Scoped>, AuthError> {
        let Some(project) = project else {
            return Ok(Scoped::narrow(caller, Scope::Unscoped));
        };
        let is_open = self
            .store
            .read(move |conn| -> Result<_, AuthError> {
                Ok(project::by_id(conn, project)?.is_some_and(|project| project.enabled))
            })
            .await?;
        Ok(Scoped::narrow(caller, Scope::Project(project)).filter(|_| is_open))
    }
}

impl Claim {
    /// The hash that stands for the body in what was signed.
    fn hash_of(&self, body: &[u8]) -> Result<String, SignatureError> {
        let actual = hex(&Sha256::digest(body));
        match self.payload_hash() {
            Some(UNSIGNED_PAYLOAD) if body.is_empty() => Ok(actual),
            Some(stated) if !stated.eq_ignore_ascii_case(actual.as_bytes()) => Err(SignatureError::Body),
            _ => Ok(actual),
        }
    }

    /// Compares in a time that does not depend on how much is right.
    fn is_signed_by(&self, secret: &[u8], body_hash: &str) -> bool {
        let request = Sha256::digest(self.canonical_request(body_hash));
        let text = format!("{ALGORITHM}\n{}\n{}", self.date(), hex(&request));
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        mac.verify_slice(&self.signature()).is_ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes all text");
            text
        })
}
