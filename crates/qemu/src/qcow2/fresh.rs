//! Fresh, empty qcow2 images: version 3, 64 KiB clusters, 16-bit refcounts, an L1 table of the size needed.
//!
//! Layout, one cluster each but the last: header, refcount table, refcount block, L1 table (zeros). One refcount block
//! counts 32,768 clusters and the largest L1 table that QEMU takes has 512, so one always does; QEMU grows the rest.

use super::MAGIC;
use std::{fs::File, io, os::unix::fs::FileExt};
use stillpoint_qcow2::header::L1_BYTES_MAX;
use stillpoint_types::ImageFormat;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const BYTES_PER_L2: u64 = CLUSTER * (CLUSTER / 8);
const HEADER_LENGTH: u32 = 112;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;

/// The largest virtual size that a fresh image can have: 2 PiB (QEMU's limit of the L1 table at 64 KiB clusters).
pub const SIZE_BYTES_MAX: u64 = L1_BYTES_MAX / 8 * BYTES_PER_L2;

/// Why an image cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotLayOut {
    /// Zero, not a multiple of 512, or above [`SIZE_BYTES_MAX`].
    #[error("a virtual size of {0} bytes is not a multiple of 512 between 512 and 2 PiB")]
    Size(u64),
    /// The backing name is empty, longer than 1,023 bytes, or contains NUL.
    #[error("a backing name must have 1 to 1,023 bytes and no NUL")]
    BackingName,
}

/// A fresh image to be written.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// Virtual size in bytes.
    pub size_bytes: u64,
    /// Backing name, written as it is, and backing format.
    pub backing: Option<(&'a str, ImageFormat)>,
}

/// Length of the file and the pieces that are not zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Length of the file in bytes.
    pub length: u64,
    /// Offset and bytes of each piece.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl Layout {
    /// Writes it to an empty file. Nothing is flushed.
    ///
    /// The metadata is allocated first where the file system can: a later full disk then cannot hit the L1 table.
    ///
    /// # Errors
    /// The storage's.
    pub fn write(&self, file: &File) -> io::Result<()> {
        use rustix::{fs, io::Errno};
        match rustix::io::retry_on_intr(|| fs::fallocate(file, fs::FallocateFlags::empty(), 0, self.length)) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(self.length)?,
            Err(error) => return Err(error.into()),
        }
        for (offset, bytes) in &self.pieces {
            file.write_all_at(bytes, *offset)?;
        }
        Ok(())
    }
}

impl Fresh<'_> {
    /// Works out the bytes.
    ///
    /// # Errors
    /// See [`CannotLayOut`].
    pub fn layout(&self) -> Result<Layout, CannotLayOut> {
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(512) || self.size_bytes > SIZE_BYTES_MAX {
            return Err(CannotLayOut::Size(self.size_bytes));
        }
        let l1_entries = self.size_bytes.div_ceil(BYTES_PER_L2);
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
        let clusters = 3 + l1_clusters;
        let header = self.header(l1_entries)?;
        let refcounts: Vec<u8> = (0..clusters).flat_map(|_cluster| 1_u16.to_be_bytes()).collect();
        Ok(Layout {
            length: clusters * CLUSTER,
            pieces: vec![
                (0, header),
                (CLUSTER, (2 * CLUSTER).to_be_bytes().to_vec()),
                (2 * CLUSTER, refcounts),
            ],
        })
    }

    fn header(&self, l1_entries: u64) -> Result<Vec<u8>, CannotLayOut> {
        let mut extensions = Vec::new();
        let mut name = "";
        if let Some((given, format)) = self.backing {
            if given.is_empty() || given.len() > 1_023 || given.contains('\0') {
                return Err(CannotLayOut::BackingName);
            }
            name = given;
            let (text, length): (&[u8], u32) = match format {
                ImageFormat::Cow => (b"qcow2\0\0\0", 5),
                ImageFormat::Raw => (b"raw\0\0\0\0\0", 3),
            };
            extensions.extend(EXT_BACKING_FORMAT.to_be_bytes());
            extensions.extend(length.to_be_bytes());
            extensions.extend(text);
        }
        extensions.extend([0; 8]);
        let words = |value: usize| u32::try_from(value).map_err(|_too_big| CannotLayOut::BackingName);
        let name_at = match name {
            "" => 0,
            _ => u64::from(HEADER_LENGTH + words(extensions.len())?),
        };
        let l1_entries = u32::try_from(l1_entries).map_err(|_too_big| CannotLayOut::Size(self.size_bytes))?;
        let mut bytes = Vec::with_capacity(1_280);
        bytes.extend(MAGIC.to_be_bytes());
        bytes.extend(3_u32.to_be_bytes()); // version
        bytes.extend(name_at.to_be_bytes());
        bytes.extend(words(name.len())?.to_be_bytes());
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(self.size_bytes.to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // no encryption
        bytes.extend(l1_entries.to_be_bytes());
        bytes.extend((3 * CLUSTER).to_be_bytes()); // L1 table
        bytes.extend(CLUSTER.to_be_bytes()); // refcount table
        bytes.extend(1_u32.to_be_bytes()); // its clusters
        bytes.extend([0; 4 + 8]); // no internal snapshots
        bytes.extend([0; 3 * 8]); // no features
        bytes.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits
        bytes.extend(HEADER_LENGTH.to_be_bytes());
        bytes.extend([0; 8]); // zlib, padding
        bytes.extend(extensions);
        bytes.extend(name.as_bytes());
        Ok(bytes)
    }
}
