//! The qcow2 files of backups: one file per disk and point, written once and never changed.
//!
//! Format: QEMU's `docs/interop/qcow2`, version 3, 64 KiB clusters, 16-bit refcounts, nothing compressed or encrypted,
//! no snapshots inside. An incremental file names the one before it as its backing file, so any tool that reads qcow2
//! reads a point. What a file shall hold is known before its first byte is read from the server ([`Map`]), so every
//! structure has its place from the start ([`Layout`]), data may come in any order, and data lies in the order of the
//! disk:
//!
//! ```text
//! header | L1 | L2 tables | refcount table | refcount blocks | data clusters, in the order of the disk
//! ```
//!
//! Reading trusts nothing in a file: [`Image::open`] accepts files of exactly this layout, and checks all of their
//! metadata.

mod digest;
mod direct;
mod layout;
mod map;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use digest::{AREA_BYTES, AREA_CLUSTERS, Checks, areas, check, digest, hex};
pub(crate) use direct::{Buffer, Way};
pub(crate) use layout::Layout;
pub(crate) use map::{Kind, Map, MapBuilder, Mode, Resolved, Run, resolve};
pub(crate) use read::Image;
pub(crate) use write::Writer;

/// Bytes of a cluster.
pub(crate) const CLUSTER_BYTES: u64 = 64 << 10;
/// Its power of two, as the header says it.
const CLUSTER_BITS: u32 = 16;
/// Entries of an L2 table, which is a cluster of 8-byte entries.
const L2_ENTRIES: u64 = CLUSTER_BYTES / 8;
/// The largest disk: QEMU's limit on L1 tables (32 MiB) allows more, no disk comes near.
const SIZE_MAX_BYTES: u64 = 1 << 50;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Qcow2Error {
    /// The disk cannot be put into such a file.
    #[error("{0}")]
    Unfit(String),
    /// The file is none that this module writes, or was damaged.
    #[error("{path}: {detail}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The file does not hold what was written into it.
    #[error("it does not hold what was written into it")]
    Differs,
    /// The file cannot be read or written.
    #[error("{path}: {doing} failed")]
    Io {
        /// The file.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
