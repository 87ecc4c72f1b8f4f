//! What one entry of an L2 table means.

use crate::{Damage, Header};

/// Where a table or a cluster lies, in an entry of L1 or L2.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// The refcount is exactly one: nothing to a reader.
pub(crate) const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Subclusters of a cluster.
pub(crate) const SUBCLUSTERS: u64 = 32;
/// Compressed data are counted in sectors of so many bytes.
const SECTOR: u64 = 512;

/// What stands at a place of the disk, as far as one file knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The layer below is asked.
    Unallocated,
    Zero,
    /// Bytes as they are, from here on in the file.
    Data(u64),
    /// A whole cluster, compressed.
    Compressed(Packed),
}

/// Where a compressed cluster lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Packed {
    pub(crate) at: u64,
    /// At most so many bytes of the file.
    pub(crate) bytes: u64,
}

/// The meaning of the entry `word`, or with extended entries of its subcluster `sub`, whose bits are `bits`. A place is
/// that of the cluster, or of the subcluster.
pub(crate) fn kind(header: &Header, file_bytes: u64, word: u64, extended: Option<(u64, u64)>) -> Result<Kind, Damage> {
    let bad = Damage::L2Entry(word);
    if word & COMPRESSED != 0 {
        return packed(header, file_bytes, word).map(Kind::Compressed);
    }
    if word & !(OFFSET_MASK | COPIED | ZERO) != 0 {
        return Err(bad);
    }
    let cluster = 1_u64 << header.cluster_bits;
    let at = word & OFFSET_MASK;
    if !at.is_multiple_of(cluster) {
        return Err(bad);
    }
    let (is_zero, is_data, skip) = match extended {
        None => {
            if word & ZERO != 0 && header.version < 3 {
                return Err(bad);
            }
            (word & ZERO != 0, at != 0, 0)
        }
        Some((bits, sub)) => {
            let is_zero = bits >> (32 + sub) & 1 != 0;
            let is_data = bits >> sub & 1 != 0;
            // An entry of extended ones has no zero bit of its own.
            if word & ZERO != 0 {
                return Err(bad);
            }
            if is_data && (is_zero || at == 0) {
                return Err(Damage::SubClusterBits(bits));
            }
            (is_zero, is_data, sub * (cluster / SUBCLUSTERS))
        }
    };
    if is_zero {
        return Ok(Kind::Zero);
    }
    if !is_data {
        return Ok(Kind::Unallocated);
    }
    // The last cluster of a file may be cut; one that is wholly outside is none.
    if at >= file_bytes {
        return Err(bad);
    }
    Ok(Kind::Data(at + skip))
}

fn packed(header: &Header, file_bytes: u64, word: u64) -> Result<Packed, Damage> {
    let offset_bits = 62 - (header.cluster_bits - 8);
    let at = word & ((1 << offset_bits) - 1);
    let sectors = (word & (COMPRESSED - 1)) >> offset_bits;
    // Never in the header's cluster.
    if at < 1 << header.cluster_bits || at >= file_bytes {
        return Err(Damage::L2Entry(word));
    }
    Ok(Packed {
        at,
        bytes: (sectors + 1) * SECTOR - at % SECTOR,
    })
}
