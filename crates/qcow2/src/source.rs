//! Where qcow2 bytes come from: an open file, or memory in tests and fuzzers. Positioned reads only.

use super::Damage;
use std::{fs::File, io, os::unix::fs::FileExt};

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error("reading the image")]
    Io(#[from] io::Error),
    /// The file says something that cannot be accepted.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Bytes that can be read at a position.
pub trait Source {
    /// Length in bytes.
    ///
    /// # Errors
    /// The storage's.
    fn length(&self) -> io::Result<u64>;

    /// Reads some bytes at `offset`; 0 at and behind the end.
    ///
    /// # Errors
    /// The storage's.
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buffer`; what lies behind the end reads as zeros, as it does in QEMU.
    ///
    /// # Errors
    /// The storage's.
    fn read_padded(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let count = match self.read_some(rest, at) {
                Ok(0) => {
                    rest.fill(0);
                    return Ok(());
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let step = u64::try_from(count).map_err(io::Error::other)?;
            at = at.checked_add(step).ok_or(io::ErrorKind::InvalidInput)?;
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }
}

impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        u64::try_from(self.len()).map_err(io::Error::other)
    }

    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_some(buffer, offset)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The big-endian number at `at`, if the bytes reach that far.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// See [`u16_at`].
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// See [`u16_at`].
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}
