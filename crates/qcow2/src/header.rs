//! The header and its extensions, parsed from the first cluster.
//!
//! Limits are QEMU's own (`block/qcow2.c`, `block/qcow2.h`), so that nothing is refused that QEMU would make, and
//! nothing is accepted that QEMU would read differently: a NUL inside a name, for example, ends it for QEMU.

use super::{
    MAGIC, ReadError, Source,
    source::{u32_at, u64_at},
};

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN_FEATURES: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
const AUTOCLEAR_BITMAPS: u64 = 1;

const EXT_END: u32 = 0;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXT_BITMAPS: u32 = 0x2385_2875;
const EXT_CRYPTO: u32 = 0x0537_be77;
const EXT_DATA_FILE: u32 = 0x4441_5441;

/// QEMU's limit for the active L1 table, in bytes.
pub const L1_BYTES_MAX: u64 = 32 << 20;
const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
const SNAPSHOTS_MAX: u32 = 65_536;
const BACKING_NAME_MAX: u32 = 1_023;
const BACKING_FORMAT_MAX: usize = 15;

/// What makes a qcow2 file unacceptable. The text names what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No qcow2 magic.
    #[error("there is no qcow2 magic at its beginning")]
    NoMagic,
    /// The file ends inside its header.
    #[error("the file ends inside its qcow2 header")]
    Truncated,
    /// Neither version 2 nor 3.
    #[error("qcow2 version {0} is unknown")]
    Version(u32),
    /// Cluster size outside 512 bytes to 2 MiB.
    #[error("cluster_bits is {0}, not 9 to 21")]
    ClusterBits(u32),
    /// The header's own length is impossible.
    #[error("header_length is {0}")]
    HeaderLength(u32),
    /// Incompatible feature bits that are not known.
    #[error("unknown incompatible features {0:#x}")]
    UnknownFeatures(u64),
    /// Guest data in another file.
    #[error("it has an external data file")]
    DataFile,
    /// Encrypted.
    #[error("it is encrypted (method {0})")]
    Encrypted(u32),
    /// Compression type unknown or contradicting its feature bit.
    #[error("compression type {0} is unknown or contradicts the feature bits")]
    Compression(u8),
    /// Virtual size not a multiple of 512 or beyond what the L1 table may map.
    #[error("a virtual size of {0} bytes is absurd")]
    Size(u64),
    /// Refcount width impossible.
    #[error("refcount_order is {0}, above 6")]
    RefcountOrder(u32),
    /// Refcount table absent, too large, unaligned or outside the file.
    #[error("the refcount table (offset {0:#x}) cannot be where the header says")]
    RefcountTable(u64),
    /// L1 table too small, too large, unaligned or outside the file.
    #[error("the L1 table (offset {0:#x}) cannot be where the header says")]
    L1Table(u64),
    /// Internal snapshots: too many, or table misplaced.
    #[error("the internal snapshot table (offset {0:#x}) cannot be where the header says")]
    SnapshotTable(u64),
    /// Extended L2 entries with clusters that are too small for them.
    #[error("extended L2 entries need clusters of 16 KiB at least")]
    SubClusters,
    /// A header extension runs over the end of its area.
    #[error("header extension {0:#010x} runs over the end of the extension area or is malformed")]
    Extension(u32),
    /// Backing name too long, outside the first cluster, not UTF-8, or with a NUL.
    #[error("the backing file name is too long, misplaced, or no text")]
    BackingName,
    /// Backing format too long or no text.
    #[error("the backing format is too long or no text")]
    BackingFormat,
    /// The bitmap directory is absurd or malformed.
    #[error("the bitmap directory is malformed: {0}")]
    BitmapDirectory(&'static str),
    /// An L1 entry names an impossible place.
    #[error("L1 entry {0:#018x} names an impossible place")]
    L1Entry(u64),
    /// More L2 tables than fit into the file: some are named twice.
    #[error("its L1 table names more tables than the file can hold")]
    L2Tables,
    /// An L2 entry names an impossible place, or says what cannot be.
    #[error("L2 entry {0:#018x} is impossible")]
    L2Entry(u64),
    /// The subclusters of an entry are impossible.
    #[error("the subcluster bits {0:#018x} of an L2 entry are impossible")]
    SubClusterBits(u64),
    /// A compressed cluster that does not unpack to a whole cluster.
    #[error("the compressed cluster at {0:#x} does not unpack to a whole cluster")]
    Compressed(u64),
}

/// Where the bitmap directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapsAt {
    /// Number of bitmaps.
    pub count: u32,
    /// Length of the directory in bytes.
    pub bytes: u64,
    /// Its offset in the file, bytes.
    pub offset: u64,
}

/// A header that was found acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// log2 of the cluster size in bytes, 9 to 21.
    pub cluster_bits: u32,
    /// Virtual size in bytes, a multiple of 512.
    pub size_bytes: u64,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// Its offset, bytes.
    pub l1_offset: u64,
    /// L2 entries have 16 bytes.
    pub extended_l2: bool,
    /// Refcounts may be behind (lazy refcounts, not closed cleanly).
    pub is_dirty: bool,
    /// Compressed clusters are of zstd, not of deflate.
    pub is_zstd: bool,
    /// QEMU met an inconsistency and will open it read-only.
    pub is_corrupt: bool,
    /// Number of internal snapshots.
    pub snapshots: u32,
    /// The backing file's name, byte for byte.
    pub backing_name: Option<String>,
    /// The backing format that is recorded.
    pub backing_format: Option<String>,
    /// The bitmap directory, if it is valid (its autoclear bit is set).
    pub bitmaps: Option<BitmapsAt>,
}

impl Header {
    /// Reads and judges the header.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(source: &impl Source) -> Result<Self, ReadError> {
        let file_bytes = source.length()?;
        let mut fixed = [0; 24];
        source.read_padded(&mut fixed, 0)?;
        if u32_at(&fixed, 0) != Some(MAGIC) {
            return Err(Damage::NoMagic.into());
        }
        let bits = u32_at(&fixed, 20).ok_or(Damage::Truncated)?;
        if !(9..=21).contains(&bits) {
            return Err(Damage::ClusterBits(bits).into());
        }
        // One read for all of it, so that a live image's header cannot be seen half old and half new.
        let length = (1_u64 << bits).min(file_bytes);
        let mut cluster = vec![0; usize::try_from(length).map_err(|_too_big| Damage::Truncated)?];
        source.read_padded(&mut cluster, 0)?;
        Ok(Self::parse(&cluster, file_bytes)?)
    }

    /// Judges the first cluster of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// The first damage found.
    pub fn parse(cluster: &[u8], file_bytes: u64) -> Result<Self, Damage> {
        let word = |at| u32_at(cluster, at).ok_or(Damage::Truncated);
        let long = |at| u64_at(cluster, at).ok_or(Damage::Truncated);
        if word(0)? != MAGIC {
            return Err(Damage::NoMagic);
        }
        let version = word(4)?;
        if !(2..=3).contains(&version) {
            return Err(Damage::Version(version));
        }
        let cluster_bits = word(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Damage::ClusterBits(cluster_bits));
        }
        let cluster_bytes = 1_u64 << cluster_bits;
        let (features, autoclear, refcount_order, header_length) = match version {
            2 => (0, 0, 4, 72),
            _ => (long(72)?, long(88)?, word(96)?, word(100)?),
        };
        if version == 3 && (header_length < 104 || u64::from(header_length) > cluster_bytes || header_length % 8 != 0) {
            return Err(Damage::HeaderLength(header_length));
        }
        judge_features(cluster, features, header_length)?;
        if word(32)? != 0 {
            return Err(Damage::Encrypted(word(32)?));
        }
        if refcount_order > 6 {
            return Err(Damage::RefcountOrder(refcount_order));
        }
        let mut header = Self {
            version,
            cluster_bits,
            size_bytes: long(24)?,
            l1_entries: word(36)?,
            l1_offset: long(40)?,
            extended_l2: features & EXTENDED_L2 != 0,
            is_dirty: features & DIRTY != 0,
            is_zstd: features & COMPRESSION != 0,
            is_corrupt: features & CORRUPT != 0,
            snapshots: word(60)?,
            backing_name: None,
            backing_format: None,
            bitmaps: None,
        };
        if header.extended_l2 && cluster_bits < 14 {
            return Err(Damage::SubClusters);
        }
        header.judge_tables((long(48)?, word(56)?), long(64)?, file_bytes)?;
        let backing = (long(8)?, word(16)?);
        header.read_extensions(cluster, header_length, backing.0, autoclear)?;
        header.backing_name = backing_name(cluster, backing, cluster_bytes)?;
        Ok(header)
    }

    /// Bytes that one L2 table maps.
    #[must_use]
    pub fn bytes_per_l2(&self) -> u64 {
        let entry_bits = if self.extended_l2 { 4 } else { 3 };
        1 << (2 * self.cluster_bits - entry_bits)
    }

    fn judge_tables(&self, refcount: (u64, u32), snapshots_at: u64, file_bytes: u64) -> Result<(), Damage> {
        let cluster_bytes = 1_u64 << self.cluster_bits;
        let is_misplaced = |at: u64| !at.is_multiple_of(cluster_bytes) || at >= file_bytes;
        let needed = self.size_bytes.div_ceil(self.bytes_per_l2());
        if !self.size_bytes.is_multiple_of(512) || needed > L1_BYTES_MAX / 8 {
            return Err(Damage::Size(self.size_bytes));
        }
        let l1_entries = u64::from(self.l1_entries);
        if l1_entries < needed
            || l1_entries > L1_BYTES_MAX / 8
            || !self.l1_offset.is_multiple_of(cluster_bytes)
            || (l1_entries > 0 && is_misplaced(self.l1_offset))
        {
            return Err(Damage::L1Table(self.l1_offset));
        }
        let (refcount_at, refcount_clusters) = refcount;
        if refcount_clusters == 0
            || u64::from(refcount_clusters) > REFCOUNT_TABLE_BYTES_MAX >> self.cluster_bits
            || is_misplaced(refcount_at)
        {
            return Err(Damage::RefcountTable(refcount_at));
        }
        if self.snapshots > SNAPSHOTS_MAX || (self.snapshots > 0 && is_misplaced(snapshots_at)) {
            return Err(Damage::SnapshotTable(snapshots_at));
        }
        Ok(())
    }

    fn read_extensions(&mut self, cluster: &[u8], from: u32, backing_at: u64, autoclear: u64) -> Result<(), Damage> {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let end = match backing_at {
            0 => cluster.len(),
            at => size(at).min(cluster.len()),
        };
        let area = cluster.get(..end).unwrap_or_default();
        let mut at = size(u64::from(from));
        while at < end {
            // The area may end without an end marker, at the backing name.
            let (Some(kind), Some(length)) = (u32_at(area, at), u32_at(area, at.saturating_add(4))) else {
                return Ok(());
            };
            if kind == EXT_END {
                return Ok(());
            }
            let begin = at.saturating_add(8);
            let length = size(u64::from(length));
            let stop = begin.checked_add(length).ok_or(Damage::Extension(kind))?;
            let data = area.get(begin..stop).ok_or(Damage::Extension(kind))?;
            self.take_extension(kind, data, autoclear)?;
            at = stop.checked_next_multiple_of(8).ok_or(Damage::Extension(kind))?;
        }
        Ok(())
    }

    fn take_extension(&mut self, kind: u32, data: &[u8], autoclear: u64) -> Result<(), Damage> {
        match kind {
            EXT_BACKING_FORMAT => {
                let text = text(data, BACKING_FORMAT_MAX).ok_or(Damage::BackingFormat)?;
                self.backing_format = Some(text);
            }
            EXT_DATA_FILE => return Err(Damage::DataFile),
            EXT_CRYPTO => return Err(Damage::Encrypted(2)),
            // Without its autoclear bit a program that knows no bitmaps has written to the file: they are void.
            EXT_BITMAPS if autoclear & AUTOCLEAR_BITMAPS != 0 => {
                let (Some(count), Some(bytes), Some(offset), 24) =
                    (u32_at(data, 0), u64_at(data, 8), u64_at(data, 16), data.len())
                else {
                    return Err(Damage::Extension(kind));
                };
                self.bitmaps = Some(BitmapsAt { count, bytes, offset });
            }
            _ => {}
        }
        Ok(())
    }
}

fn judge_features(cluster: &[u8], features: u64, header_length: u32) -> Result<(), Damage> {
    if features & !KNOWN_FEATURES != 0 {
        return Err(Damage::UnknownFeatures(features & !KNOWN_FEATURES));
    }
    if features & DATA_FILE != 0 {
        return Err(Damage::DataFile);
    }
    let compression = match header_length {
        0..=104 => 0,
        _ => cluster.get(104).copied().ok_or(Damage::Truncated)?,
    };
    if compression > 1 || (compression == 1) != (features & COMPRESSION != 0) {
        return Err(Damage::Compression(compression));
    }
    Ok(())
}

fn backing_name(cluster: &[u8], (at, length): (u64, u32), cluster_bytes: u64) -> Result<Option<String>, Damage> {
    if at == 0 || length == 0 {
        return Ok(None);
    }
    if length > BACKING_NAME_MAX || at > cluster_bytes {
        return Err(Damage::BackingName);
    }
    let begin = usize::try_from(at).map_err(|_too_big| Damage::BackingName)?;
    let length = usize::try_from(length).map_err(|_too_big| Damage::BackingName)?;
    let end = begin.checked_add(length).ok_or(Damage::BackingName)?;
    let bytes = cluster.get(begin..end).ok_or(Damage::BackingName)?;
    text(bytes, length).map(Some).ok_or(Damage::BackingName)
}

/// Text that QEMU, which ends it at a NUL, reads as we do.
pub fn text(bytes: &[u8], length_max: usize) -> Option<String> {
    if bytes.len() > length_max || bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
