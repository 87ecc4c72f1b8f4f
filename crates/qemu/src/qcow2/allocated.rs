//! Which parts of a disk a file holds itself: what changed since the layer below it was frozen.
//!
//! An entry that is not zero counts: data, compressed data, and explicit zeros. Zeros are what QEMU makes of a cluster that
//! the guest discards in an overlay, so a discard is never missed (QEMU `discard_in_l2_slice`). With extended entries a
//! subcluster's bit counts for its whole cluster: more than changed may be marked, never less.
//!
//! Only for files that nobody writes to. QEMU flushes its tables before a layer becomes one below another
//! (`external_snapshot_action`), so the file of such a layer is whole.
//!
//! Bounds: one L1 piece and one L2 piece of [`CHUNK`] bytes in memory, and as many L2 tables read as the file has room for.

use super::{
    Damage, Header, ReadError, Source,
    tables::{CHUNK, COPIED, OFFSET_MASK},
};
use stillpoint_engine::ports::DirtyMap;
use stillpoint_qcow2::source::u64_at;

/// Marks in `map` all clusters that the file holds.
///
/// # Errors
/// [`Damage::L1Entry`] for a table outside the file, [`Damage::L2Tables`] for more tables than it can hold, or the
/// storage's. What was marked until then is not all.
pub fn mark(source: &impl Source, header: &Header, map: &mut DirtyMap) -> Result<(), ReadError> {
    let file_bytes = source.length()?;
    let cluster_bytes = 1_u64 << header.cluster_bits;
    let mut tables_left = file_bytes.div_ceil(cluster_bytes);
    let mut chunk = vec![0; CHUNK];
    let mut buffer = vec![0; usize::try_from(cluster_bytes).unwrap_or(CHUNK).min(CHUNK)];
    let l1_bytes = u64::from(header.l1_entries) * 8;
    let (mut done, mut covers) = (0, 0_u64);
    while done < l1_bytes && covers < header.size_bytes {
        let length = usize::try_from(l1_bytes - done).unwrap_or(CHUNK).min(CHUNK);
        let part = chunk.get_mut(..length).unwrap_or_default();
        let at = header.l1_offset.checked_add(done);
        source.read_padded(part, at.ok_or(Damage::L1Table(header.l1_offset))?)?;
        for entry in part.chunks_exact(8).filter_map(|entry| u64_at(entry, 0)) {
            let table_at = entry & OFFSET_MASK;
            if entry & !OFFSET_MASK & !COPIED != 0 || !table_at.is_multiple_of(cluster_bytes) || table_at >= file_bytes
            {
                return Err(Damage::L1Entry(entry).into());
            }
            if table_at != 0 {
                tables_left = tables_left.checked_sub(1).ok_or(Damage::L2Tables)?;
                mark_table(source, header, (table_at, covers), &mut buffer, map)?;
            }
            covers = covers.saturating_add(header.bytes_per_l2());
        }
        done += u64::try_from(length).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Marks what the table at `table_at` holds of the disk from `covers` on.
fn mark_table(
    source: &impl Source,
    header: &Header,
    (table_at, covers): (u64, u64),
    buffer: &mut [u8],
    map: &mut DirtyMap,
) -> Result<(), ReadError> {
    let cluster_bytes = 1_u64 << header.cluster_bits;
    let step = if header.extended_l2 { 16 } else { 8 };
    let (mut done, mut offset) = (0, covers);
    while done < cluster_bytes {
        source.read_padded(buffer, table_at.saturating_add(done))?;
        for entry in buffer.chunks_exact(step) {
            if entry.iter().any(|byte| *byte != 0) {
                map.mark(offset, cluster_bytes);
            }
            offset = offset.saturating_add(cluster_bytes);
        }
        done += u64::try_from(buffer.len()).map_err(std::io::Error::other)?;
    }
    Ok(())
}
