//! The L1/L2 tables, walked only as far as it takes to know whether the file holds anything.

use super::{Damage, Header, ReadError, Source};
use stillpoint_qcow2::source::{u32_at, u64_at};

/// Bytes of L2 tables that are read before the walk gives up and says "data" (the answer on which nothing is dropped).
///
/// Only tables full of zeros count: the first entry that is not zero ends the walk. QEMU leaves such tables behind
/// rarely (discards in an image without backing), so 64 MiB (1,024 tables of 64 KiB) is far from any real image.
pub const L2_BYTES_MAX: u64 = 64 << 20;

pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const CHUNK: usize = 64 << 10;

/// Whether any cluster of this file is allocated, compressed, or explicitly zero.
///
/// On a live image the answer may be old but not torn: QEMU writes an L2 table before the L1 entry that names it.
///
/// # Errors
/// [`Damage::L1Entry`] for a table outside the file, or the storage's.
pub fn has_data(source: &impl Source, header: &Header) -> Result<bool, ReadError> {
    let file_bytes = source.length()?;
    let cluster_bytes = 1_u64 << header.cluster_bits;
    let mut budget = L2_BYTES_MAX;
    let mut left = u64::from(header.l1_entries) * 8;
    let mut at = header.l1_offset;
    let mut chunk = vec![0; CHUNK];
    while left > 0 && at < file_bytes {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let part = chunk.get_mut(..length).unwrap_or_default();
        source.read_padded(part, at)?;
        for entry in part.chunks_exact(8).filter_map(|entry| u64_at(entry, 0)) {
            let table_at = entry & OFFSET_MASK;
            if entry & !OFFSET_MASK & !COPIED != 0 || !table_at.is_multiple_of(cluster_bytes) || table_at >= file_bytes
            {
                return Err(Damage::L1Entry(entry).into());
            }
            if table_at == 0 {
                continue;
            }
            if budget < cluster_bytes || table_has_data(source, table_at, cluster_bytes, header.extended_l2)? {
                return Ok(true);
            }
            budget -= cluster_bytes;
        }
        let step = u64::try_from(length).map_err(std::io::Error::other)?;
        left -= step;
        at = at.checked_add(step).ok_or(Damage::L1Table(header.l1_offset))?;
    }
    Ok(false)
}

/// Whether an L2 table has an entry with an offset, a zero flag, a compressed cluster, or a subcluster's bit.
fn table_has_data(source: &impl Source, table_at: u64, bytes: u64, extended: bool) -> Result<bool, ReadError> {
    const USED: u64 = OFFSET_MASK | 1 | 1 << 62;
    let mut chunk = vec![0; usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK)];
    let step = if extended { 16 } else { 8 };
    let mut done = 0;
    while done < bytes {
        source.read_padded(&mut chunk, table_at.saturating_add(done))?;
        for entry in chunk.chunks_exact(step) {
            let is_used = u64_at(entry, 0).is_some_and(|word| word & USED != 0);
            let has_subclusters = extended && (u32_at(entry, 8), u32_at(entry, 12)) != (Some(0), Some(0));
            if is_used || has_subclusters {
                return Ok(true);
            }
        }
        done += u64::try_from(chunk.len()).map_err(std::io::Error::other)?;
    }
    Ok(false)
}
