//! qcow2 files as bytes: what is stored in them beside the disk's data, and a writer of fresh, empty images. Headers are
//! read by room `qcow2`, which also reads the data.
//!
//! Ours because both sit where a QEMU process is too much: the reader judges files that nobody trusts yet (so it must
//! not follow a name, which every QEMU tool may do), and the writer is on the latency path of a snapshot.
//!
//! Bounds: whatever the bytes say, memory stays below one cluster (2 MiB) plus [`bitmaps::DIRECTORY_BYTES_MAX`], and
//! reading below the L1 table (32 MiB) plus [`tables::L2_BYTES_MAX`]; [`allocated`] reads the L2 tables, in all not more
//! than the file has. No recursion, no name is opened.
//!
//! Must not touch: paths, QEMU processes. Format source: QEMU `docs/interop/qcow2.txt`.

pub mod allocated;
pub mod bitmaps;
pub mod fresh;
pub mod tables;

pub use fresh::Fresh;
pub use stillpoint_qcow2::{Damage, Header, MAGIC, ReadError, Source};

use stillpoint_engine::ports::StoredBitmap;

/// What a qcow2 file holds, as far as Stillpoint looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The header.
    pub header: Header,
    /// Whether any cluster is allocated or explicitly zero in this very file.
    pub has_data: bool,
    /// The bitmap directory.
    pub bitmaps: Vec<StoredBitmap>,
}

/// Reads header, bitmap directory and as much of the tables as `has_data` needs.
///
/// # Errors
/// [`ReadError::Damage`] for what the file says, [`ReadError::Io`] for what the storage says.
pub fn read(source: &impl Source) -> Result<Contents, ReadError> {
    let header = Header::read(source)?;
    let bitmaps = bitmaps::read(source, &header)?;
    let has_data = tables::has_data(source, &header)?;
    Ok(Contents {
        header,
        has_data,
        bitmaps,
    })
}
