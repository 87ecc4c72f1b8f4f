//! Which parts of a disk changed: one bit for each 64 KiB, dense, and its form in a file.
//!
//! 2 MiB a TiB in memory and on disk, whatever the disk holds. A map may say "changed" of what did not; it must never miss
//! a change. So a file that is not whole is refused by its checksum, and who reads it takes all for changed.
//!
//! ```text
//! 0   "SPMAP\0\0\1"            32  SHA-256 of the size and the bits
//! 8   size of the disk, bytes  64  the bits, lowest first; those behind the end of the disk are 0
//! 16  zeros
//! ```
//! Numbers are big-endian. Pure: who reads and writes files is [`super::Images`].

use sha2::{Digest as _, Sha256};

/// Bytes that one bit stands for: a cluster of our images.
pub const GRANULE_BYTES: u64 = 64 * 1024;

const MAGIC: [u8; 8] = *b"SPMAP\0\0\x01";
const HEADER_BYTES: usize = 64;
/// Largest disk: far above what can be made (limits.rs); a map of it has 256 MiB.
const SIZE_MAX_BYTES: u64 = 128 << 40;

/// The file is no map, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no map of changes, or it is damaged: {0}")]
pub struct BadMap(&'static str);

/// The changed parts of a disk of a fixed size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyMap {
    size_bytes: u64,
    bits: Vec<u8>,
}

fn granules(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(GRANULE_BYTES)
}

fn index(value: u64) -> usize {
    // Sizes are below SIZE_MAX_BYTES, so an index fits into 32 bits.
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl DirtyMap {
    /// Nothing changed on a disk of so many bytes (more than 128 TiB count as that).
    #[must_use]
    pub fn empty(size_bytes: u64) -> Self {
        let size_bytes = size_bytes.min(SIZE_MAX_BYTES);
        let bits = vec![0; index(granules(size_bytes).div_ceil(8))];
        Self { size_bytes, bits }
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Marks all granules that the range touches; what is behind the end is left out.
    pub fn mark(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.size_bytes);
        if offset >= end {
            return;
        }
        let (mut at, last) = (offset / GRANULE_BYTES, (end - 1) / GRANULE_BYTES);
        while at <= last {
            let whole = at.is_multiple_of(8) && last - at >= 7;
            if let Some(byte) = self.bits.get_mut(index(at / 8)) {
                *byte |= if whole { 0xff } else { 1 << (at % 8) };
            }
            at += if whole { 8 } else { 1 };
        }
    }

    /// Marks all.
    pub fn mark_all(&mut self) {
        self.mark(0, self.size_bytes);
    }

    /// Adds what another map has; of a larger disk the part behind our end is left out.
    pub fn add(&mut self, other: &Self) {
        for (byte, more) in self.bits.iter_mut().zip(&other.bits) {
            *byte |= more;
        }
        // A larger disk's last bits may lie behind our end, in our last byte.
        let used = granules(self.size_bytes) % 8;
        if used != 0
            && let Some(last) = self.bits.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }

    /// Keeps only what another map has, too; of what is behind the other's end, all.
    pub fn keep(&mut self, other: &Self) {
        let whole = index(other.size_bytes / GRANULE_BYTES / 8);
        for (byte, only) in self.bits.iter_mut().zip(&other.bits).take(whole) {
            *byte &= only;
        }
    }

    /// Whether the granule of that byte is marked.
    #[must_use]
    pub fn has(&self, offset: u64) -> bool {
        let at = offset / GRANULE_BYTES;
        self.bits
            .get(index(at / 8))
            .is_some_and(|byte| byte & 1 << (at % 8) != 0)
    }

    /// Whether the bytes from `offset` on are marked, and how many of the same kind follow up to the end of the disk:
    /// 0 only at the end.
    #[must_use]
    pub fn run(&self, offset: u64) -> (bool, u64) {
        let is_marked = self.has(offset);
        let same = if is_marked { 0xff } else { 0 };
        let mut at = offset / GRANULE_BYTES;
        let end = granules(self.size_bytes);
        while at < end {
            if at.is_multiple_of(8) && self.bits.get(index(at / 8)) == Some(&same) {
                at += 8;
            } else if self.has(at * GRANULE_BYTES) == is_marked {
                at += 1;
            } else {
                break;
            }
        }
        let stop = at.saturating_mul(GRANULE_BYTES).min(self.size_bytes);
        (is_marked, stop.saturating_sub(offset))
    }

    /// Bytes that are marked.
    #[must_use]
    pub fn marked_bytes(&self) -> u64 {
        let (mut at, mut sum) = (0, 0);
        while at < self.size_bytes {
            let (is_marked, length) = self.run(at);
            sum += if is_marked { length } else { 0 };
            at += length.max(1);
        }
        sum
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.size_bytes.to_be_bytes());
        hash.update(&self.bits);
        hash.finalize().into()
    }

    /// Its form in a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_BYTES + self.bits.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&self.size_bytes.to_be_bytes());
        file.extend_from_slice(&[0; 16]);
        file.extend_from_slice(&self.digest());
        file.extend_from_slice(&self.bits);
        file
    }

    /// Reads the form in a file.
    ///
    /// # Errors
    /// When it is anything but exactly what [`Self::encode`] gave.
    pub fn decode(file: &[u8]) -> Result<Self, BadMap> {
        let (header, bits) = file.split_at_checked(HEADER_BYTES).ok_or(BadMap("too short"))?;
        let size: [u8; 8] = header
            .get(8..16)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BadMap("too short"))?;
        let size_bytes = u64::from_be_bytes(size);
        if header.get(..8) != Some(MAGIC.as_slice()) || size_bytes > SIZE_MAX_BYTES {
            return Err(BadMap("unknown form"));
        }
        if bits.len() != index(granules(size_bytes).div_ceil(8)) {
            return Err(BadMap("its length does not fit the disk's size"));
        }
        let bits = bits.to_vec();
        let map = Self { size_bytes, bits };
        if header.get(32..) == Some(map.digest().as_slice()) {
            Ok(map)
        } else {
            Err(BadMap("the checksum is wrong"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sizes around the edges of granules and of bytes of bits.
    fn size() -> impl Strategy<Value = u64> {
        (0..40_u64, 0..3_u64).prop_map(|(granules, odd)| granules * GRANULE_BYTES + odd * 512)
    }

    proptest! {
        #[test]
        fn a_map_says_of_each_byte_whether_it_was_marked(
            size in size(),
            ranges in prop::collection::vec((0..2_700_000_u64, 0..900_000_u64), 0..6),
            other in size(),
        ) {
            let mut map = DirtyMap::empty(size);
            let mut more = DirtyMap::empty(other);
            for (k, (offset, length)) in ranges.iter().enumerate() {
                if k % 2 == 0 { map.mark(*offset, *length) } else { more.mark(*offset, *length) }
            }
            map.add(&more);
            let mut both = map.clone();
            both.keep(&more);
            for at in (0..size).step_by(4096) {
                prop_assert!(!(map.has(at) && more.has(at)) || both.has(at), "what both have stays");
                prop_assert!(!both.has(at) || map.has(at), "nothing is added");
                prop_assert!(!both.has(at) || more.has(at) || at >= other / GRANULE_BYTES / 8 * GRANULE_BYTES * 8);
            }
            let touched = |granule: u64| ranges.iter().enumerate().any(|(k, (offset, length))| {
                let end = (offset + length).min(if k % 2 == 0 { size } else { other });
                *offset < end && offset / GRANULE_BYTES <= granule && granule <= (end - 1) / GRANULE_BYTES
            });
            let mut at = 0;
            while at < size {
                let (is_marked, length) = map.run(at);
                prop_assert!(length > 0 && at + length <= size);
                for byte in [at, at + length / 2, at + length - 1] {
                    prop_assert_eq!(touched(byte / GRANULE_BYTES), is_marked, "byte {} of {}", byte, size);
                }
                if at + length < size {
                    prop_assert_ne!(map.run(at + length).0, is_marked, "a run is as long as can be");
                }
                at += length;
            }
            prop_assert_eq!(map.run(size).1, 0);
            prop_assert_eq!(DirtyMap::decode(&map.encode()).unwrap(), map);
        }

        #[test]
        fn a_map_that_was_cut_or_changed_in_any_byte_is_refused(size in size(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut map = DirtyMap::empty(size);
            map.mark(size / 2, 1);
            let mut file = map.encode();
            prop_assert!(DirtyMap::decode(&file[..at.index(file.len())]).is_err());
            // The sixteen bytes of zeros carry nothing.
            let at = at.index(file.len());
            if !(16..32).contains(&at) {
                file[at] ^= 1 << bit;
                prop_assert!(DirtyMap::decode(&file).is_err());
            }
        }

        #[test]
        fn no_bytes_at_all_make_it_panic(file in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(DirtyMap::decode(&file).is_err());
        }
    }
}
