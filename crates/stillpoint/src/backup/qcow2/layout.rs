//! Where everything is in a file: computed from the map, by the writer and by the reader alike.

use super::{CLUSTER_BITS, CLUSTER_BYTES, Kind, L2_ENTRIES, Map, Qcow2Error};

/// Refcounts of 16 bits in a refcount block.
const REFCOUNTS_PER_BLOCK: u64 = CLUSTER_BYTES / 2;
/// "This cluster is referred to once": it may be written in place. All of ours are.
pub(super) const COPIED: u64 = 1 << 63;
/// An L2 entry of a cluster that reads as zeroes and has no place.
pub(super) const ZERO: u64 = 1;
/// Length of a header of version 3 without a compression type.
pub(super) const HEADER_BYTES: u32 = 104;
/// Header extension: the backing file's format.
const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// The longest name of a backing file (the format's limit).
const BACKING_MAX_BYTES: usize = 1023;

/// The places of all structures, in clusters of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) l1_entries: u64,
    /// The L1 index of every L2 table, in order.
    pub(super) l2_of: Vec<u64>,
    pub(super) l2_first: u64,
    pub(super) refcount_table: u64,
    pub(super) refcount_table_clusters: u64,
    pub(super) blocks_first: u64,
    pub(super) blocks: u64,
    data_first: u64,
    total: u64,
}

/// The L1 table comes after the header.
pub(super) const L1_CLUSTER: u64 = 1;

impl Layout {
    pub(crate) fn of(map: &Map) -> Self {
        let l1_entries = map.clusters().div_ceil(L2_ENTRIES);
        let mut l2_of: Vec<u64> = Vec::new();
        for run in map.runs() {
            let (first, last) = (run.first / L2_ENTRIES, (run.end() - 1) / L2_ENTRIES);
            let from = l2_of.last().map_or(first, |known| first.max(known + 1));
            l2_of.extend(from..=last);
        }
        let l2_first = L1_CLUSTER + (l1_entries * 8).div_ceil(CLUSTER_BYTES);
        let refcount_table = l2_first + l2_of.len() as u64;
        // The refcounts count themselves: a few rounds until their number is enough.
        let (mut blocks, mut table) = (1, 1);
        let total = loop {
            let total = refcount_table + table + blocks + map.data_clusters();
            let blocks_needed = total.div_ceil(REFCOUNTS_PER_BLOCK);
            let table_needed = (blocks_needed * 8).div_ceil(CLUSTER_BYTES);
            if blocks_needed <= blocks && table_needed <= table {
                break total;
            }
            (blocks, table) = (blocks.max(blocks_needed), table.max(table_needed));
        };
        let blocks_first = refcount_table + table;
        Self {
            l1_entries,
            l2_of,
            l2_first,
            refcount_table,
            refcount_table_clusters: table,
            blocks_first,
            blocks,
            data_first: blocks_first + blocks,
            total,
        }
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.total * CLUSTER_BYTES
    }

    /// Where in the file the first data cluster starts.
    pub(crate) fn data_offset(&self) -> u64 {
        self.data_first * CLUSTER_BYTES
    }

    /// Where in the file a data cluster starts.
    pub(crate) fn data_at(&self, data_index: u64) -> u64 {
        (self.data_first + data_index) * CLUSTER_BYTES
    }

    /// The header's cluster.
    pub(super) fn header(&self, size_bytes: u64, backing: Option<&str>) -> Result<Vec<u8>, Qcow2Error> {
        let backing = backing.unwrap_or_default();
        if backing.len() > BACKING_MAX_BYTES {
            let text = format!(
                "the backing file's name has {} bytes, {BACKING_MAX_BYTES} at most",
                backing.len()
            );
            return Err(Qcow2Error::Unfit(text));
        }
        let mut extensions = Vec::new();
        if !backing.is_empty() {
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend(5_u32.to_be_bytes());
            extensions.extend(*b"qcow2\0\0\0");
        }
        extensions.extend([0; 8]);
        let backing_at = u64::from(HEADER_BYTES) + extensions.len() as u64;
        let mut header = Vec::with_capacity(1 << CLUSTER_BITS);
        header.extend(*b"QFI\xfb");
        header.extend(3_u32.to_be_bytes());
        header.extend((if backing.is_empty() { 0 } else { backing_at }).to_be_bytes());
        header.extend(u32::try_from(backing.len()).expect("1023 at most").to_be_bytes());
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(size_bytes.to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // no encryption
        let l1_entries = u32::try_from(self.l1_entries).expect("the largest disk has 2^21 of them");
        header.extend(l1_entries.to_be_bytes());
        header.extend((L1_CLUSTER * CLUSTER_BYTES).to_be_bytes());
        header.extend((self.refcount_table * CLUSTER_BYTES).to_be_bytes());
        let table = u32::try_from(self.refcount_table_clusters).expect("less than the file's data by a factor of 2^28");
        header.extend(table.to_be_bytes());
        header.extend([0; 4 + 8]); // no snapshots
        header.extend([0; 8 + 8 + 8]); // no incompatible, compatible or autoclear features
        header.extend(4_u32.to_be_bytes()); // refcounts of 16 bits
        header.extend(HEADER_BYTES.to_be_bytes());
        header.extend(&extensions);
        header.extend(backing.as_bytes());
        header.resize(1 << CLUSTER_BITS, 0);
        Ok(header)
    }

    /// The L1 table, in whole clusters.
    pub(super) fn l1(&self) -> Vec<u8> {
        let mut entries = vec![0; usize::try_from(self.l1_entries).expect("2^21 at most")];
        for (number, index) in self.l2_of.iter().enumerate() {
            let entry = ((self.l2_first + number as u64) * CLUSTER_BYTES) | COPIED;
            entries[usize::try_from(*index).expect("below the number of entries")] = entry;
        }
        words(&entries)
    }

    /// Calls `each` with every L2 table, as its number and its entries.
    pub(super) fn l2_tables<E>(&self, map: &Map, mut each: impl FnMut(u64, &[u64]) -> Result<(), E>) -> Result<(), E> {
        let mut runs = map.runs();
        let mut entries = vec![0_u64; 1 << (CLUSTER_BITS - 3)];
        for (number, index) in self.l2_of.iter().enumerate() {
            let (begin, end) = (index * L2_ENTRIES, (index + 1) * L2_ENTRIES);
            entries.fill(0);
            while let Some(run) = runs.first().filter(|run| run.first < end) {
                for cluster in run.first.max(begin)..run.end().min(end) {
                    let slot = usize::try_from(cluster - begin).expect("below 8192");
                    entries[slot] = match run.kind {
                        Kind::Zero => ZERO,
                        Kind::Data => self.data_at(run.data_index + (cluster - run.first)) | COPIED,
                    };
                }
                if run.end() > end {
                    break;
                }
                runs = &runs[1..];
            }
            each(number as u64, &entries)?;
        }
        Ok(())
    }

    /// The refcount table, in whole clusters.
    pub(super) fn refcounts(&self) -> Vec<u8> {
        let blocks = (0..self.blocks).map(|block| (self.blocks_first + block) * CLUSTER_BYTES);
        words(&blocks.collect::<Vec<_>>())
    }

    /// One refcount block: every cluster of the file is referred to once.
    pub(super) fn refcount_block(&self, block: u64) -> Vec<u8> {
        let first = block * REFCOUNTS_PER_BLOCK;
        let used = self.total.saturating_sub(first).min(REFCOUNTS_PER_BLOCK);
        let mut bytes = [0, 1].repeat(usize::try_from(used).expect("32768 at most"));
        bytes.resize(1 << CLUSTER_BITS, 0);
        bytes
    }
}

/// Big-endian words, filled up to whole clusters.
pub(super) fn words(entries: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(1 << CLUSTER_BITS), 0);
    bytes
}
