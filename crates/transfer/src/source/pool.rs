//! Buffers of one source that are used again: fresh memory costs a page fault for every 4 KiB, which is as much as the
//! reading itself.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a buffer; no piece is longer.
pub(crate) const BUFFER_BYTES: u32 = 256 * 1024;
/// Buffers that are kept: enough for a client's few connections, and 4 MiB.
const KEPT_MAX: usize = 16;
/// Shorter pieces are allocated as they are.
const POOLED_MIN: usize = 64 * 1024;

/// The buffers that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Every change is one call of the list's.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that `fill` writes, all of them: what a buffer holds before is of an earlier piece.
    pub(crate) fn filled<E>(&self, length: u32, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
        let length = length as usize;
        if length < POOLED_MIN || length > BUFFER_BYTES as usize {
            let mut bytes = vec![0; length];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let bytes = self.waiting().pop();
        let mut buffer = Buffer {
            bytes: bytes.unwrap_or_else(|| vec![0; BUFFER_BYTES as usize]),
            length,
            home: self.clone(),
        };
        let (used, _) = buffer.bytes.split_at_mut(length);
        fill(used)?;
        Ok(Bytes::from_owner(buffer))
    }
}

/// A buffer in use. Goes home when the last who reads it has done.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Pool,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.split_at(self.length).0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut waiting = self.home.waiting();
        if waiting.len() < KEPT_MAX {
            waiting.push(std::mem::take(&mut self.bytes));
        }
    }
}
