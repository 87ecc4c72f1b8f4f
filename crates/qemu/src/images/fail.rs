//! Failures of files and of `qemu-img`, turned into the port's kinds with what an operator can do.

use crate::qcow2::ReadError;
use rustix::io::Errno;
use std::{fmt::Display, io, path::Path};
use stillpoint_engine::ports::{DriverError, DriverErrorKind};

/// An error without a cause.
pub(crate) fn fault(kind: DriverErrorKind, op: &'static str, context: impl Display) -> DriverError {
    DriverError::new(kind, op, context)
}

/// The kind of an errno, and the remedy where there is one to tell.
fn judge(error: Errno) -> (DriverErrorKind, &'static str) {
    match error {
        Errno::NOENT | Errno::NOTDIR => (DriverErrorKind::NotFound, ""),
        Errno::EXIST => (
            DriverErrorKind::AlreadyExists,
            ": another file is in the way; it was left as it is",
        ),
        Errno::NOSPC | Errno::DQUOT => (DriverErrorKind::NoSpace, ": free space on the storage domain"),
        Errno::BUSY | Errno::TXTBSY => (DriverErrorKind::Busy, ""),
        Errno::LOOP => (
            DriverErrorKind::InvalidImage,
            ": a symbolic link is in the way; put the file itself there",
        ),
        Errno::OPNOTSUPP | Errno::FBIG => (
            DriverErrorKind::Unsupported,
            ": the file system cannot hold or preallocate such a file; use another one, or a sparse disk",
        ),
        Errno::ACCESS | Errno::PERM => (
            DriverErrorKind::Io,
            ": give the daemon's user read and write permission on the directory and its files",
        ),
        Errno::ROFS => (
            DriverErrorKind::Io,
            ": the file system is mounted read-only; look in the kernel's log and remount it read-write",
        ),
        _ => (DriverErrorKind::Io, ""),
    }
}

/// A failed system call on a path.
pub(crate) fn errno(op: &'static str, path: &Path, error: Errno) -> DriverError {
    let (kind, remedy) = judge(error);
    fault(kind, op, format_args!("{}{remedy}", path.display())).caused_by(io::Error::from(error))
}

/// The same for the standard library's error.
pub(crate) fn io(op: &'static str, path: &Path, error: io::Error) -> DriverError {
    let (kind, remedy) = Errno::from_io_error(&error).map_or((DriverErrorKind::Io, ""), judge);
    fault(kind, op, format_args!("{}{remedy}", path.display())).caused_by(error)
}

/// A qcow2 file that could not be read.
pub(crate) fn unreadable(op: &'static str, path: &Path, error: ReadError) -> DriverError {
    match error {
        ReadError::Io(error) => io(op, path, error),
        ReadError::Damage(damage) => {
            fault(DriverErrorKind::InvalidImage, op, format_args!("{}", path.display())).caused_by(damage)
        }
    }
}

/// The kind of a failure that `qemu-img` (with the C locale) told in words.
pub(crate) fn said(text: &str) -> (DriverErrorKind, &'static str) {
    const WORDS: [(&str, Errno); 5] = [
        ("No space left on device", Errno::NOSPC),
        ("Disk quota exceeded", Errno::DQUOT),
        ("Permission denied", Errno::ACCESS),
        ("Read-only file system", Errno::ROFS),
        ("Operation not supported", Errno::OPNOTSUPP),
    ];
    if text.contains("Failed to get") && text.contains("lock") {
        return (DriverErrorKind::Busy, ": another process has the image open");
    }
    let known = WORDS.iter().find(|(words, _)| text.contains(words));
    known.map_or((DriverErrorKind::Io, ""), |(_, error)| judge(*error))
}
