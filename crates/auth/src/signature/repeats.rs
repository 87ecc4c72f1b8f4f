//! Tells which signed requests come again. They are accepted: clients send their retries with the first signature.

use super::WINDOW;
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};
use stillpoint_types::Micros;

/// Most signatures that are remembered: half a MiB. Beyond it all are forgotten, which costs warnings and nothing else.
const REMEMBERED_MAX: usize = 8192;

/// The signatures of requests that were let in and change things, and when they came.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<HashMap<[u8; 32], Micros>>);

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").finish_non_exhaustive()
    }
}

impl Repeats {
    /// Notes one; whether it was noted before, and not too long ago for it to be let in again.
    pub(super) fn note(&self, signature: [u8; 32], now: Micros) -> bool {
        // Signed up to a window ahead of our clock, and good for a window after that.
        let life = i64::try_from(2 * WINDOW.as_micros()).unwrap_or(i64::MAX);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.retain(|_, at| now.saturating_sub(*at) <= life);
            if seen.len() >= REMEMBERED_MAX {
                seen.clear();
            }
        }
        let before = seen.insert(signature, now);
        before.is_some_and(|at| now.saturating_sub(at) <= life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_again_as_long_as_it_is_good_and_few_are_kept() {
        let repeats = Repeats::default();
        assert!(!repeats.note([1; 32], 0));
        assert!(repeats.note([1; 32], 1));
        assert!(!repeats.note([1; 32], 31 * 60_000_000), "it is let in no more");
        for number in 0..20_000_u32 {
            let mut signature = [0; 32];
            signature[..4].copy_from_slice(&number.to_be_bytes());
            repeats.note(signature, 0);
        }
        assert!(repeats.0.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
