//! Seals: what the file of a frozen image is, so that a write by somebody else can be told later.

use super::{
    directory::{Directory, split},
    fail::{errno, io},
};
use sha2::{Digest, Sha256};
use std::{io::Read, path::Path};
use stillpoint_engine::ports::{Driven, Seal};

const OP: &str = "seal an image";
/// How much of the file's beginning is digested.
const HEAD_BYTES: u64 = 4096;
const SECOND_NS: i64 = 1_000_000_000;

/// See [`stillpoint_engine::ports::Images::seal`].
pub(super) fn of(path: &Path, durable: bool) -> Driven<Seal> {
    let (parent, name) = split(OP, path)?;
    let (file, _) = Directory::open(OP, parent)?.present(OP, name)?;
    if durable {
        // A flush of the data alone, as QEMU's, leaves the times in memory: after a power cut they would be older ones.
        rustix::fs::fsync(&file).map_err(|error| errno(OP, path, error))?;
    }
    let stat = rustix::fs::fstat(&file).map_err(|error| errno(OP, path, error))?;
    let mut head = Vec::new();
    (&file)
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(|error| io(OP, path, error))?;
    let nanoseconds = |seconds: i64, rest: u64| {
        let rest = i64::try_from(rest).unwrap_or(0);
        seconds.saturating_mul(SECOND_NS).saturating_add(rest)
    };
    Ok(Seal {
        inode: stat.st_ino,
        length_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        head: data_encoding::HEXLOWER.encode(&Sha256::digest(&head)),
    })
}
