//! From the world's errors to [`DriverError`]: one place, so that the core can trust the kind.

use crate::qmp::QmpError;
use std::{io, path::Path};
use stillpoint_engine::ports::{DriverError, DriverErrorKind};

/// An I/O error on a path.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives, and its end")]
pub(crate) fn io_failed(op: &'static str, path: &Path, error: io::Error) -> DriverError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => DriverErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => DriverErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DriverErrorKind::NoSpace,
        io::ErrorKind::TimedOut => DriverErrorKind::Timeout,
        _ => DriverErrorKind::Io,
    };
    // The cause is told with the object: a client reads this text, not the chain.
    DriverError::new(kind, op, format_args!("{}: {error}", path.display()))
}

/// A monitor command that did not do what it should.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives, and its end")]
pub(crate) fn qmp_failed(op: &'static str, context: impl std::fmt::Display, error: QmpError) -> DriverError {
    let kind = match &error {
        QmpError::Refused { class, text } => kind_of_text(class, text),
        QmpError::Timeout(_) => DriverErrorKind::Timeout,
        QmpError::Disconnected => DriverErrorKind::Disconnected,
        QmpError::Malformed(_) => DriverErrorKind::Protocol,
    };
    DriverError::new(kind, op, format_args!("{context}: {error}"))
}

/// What QEMU's human text says; it has no machine-readable code for these.
///
/// Texts as of QEMU 7.2 (`block/file-posix.c`, `blockdev.c`, `util/error.c`); a text that is not known is `Protocol`.
pub(crate) fn kind_of_text(class: &str, text: &str) -> DriverErrorKind {
    let has = |part: &str| text.contains(part);
    if has("No space left") || has("Disk quota exceeded") {
        DriverErrorKind::NoSpace
    } else if (has("Failed to get") && has("lock")) || has("busy") || has("in use") {
        DriverErrorKind::Busy
    } else if class == "DeviceNotFound"
        || has("No such file")
        || has("Cannot find device")
        || has("Failed to find node")
        || has("Could not find")
    {
        DriverErrorKind::NotFound
    } else if has("Input/output error") {
        DriverErrorKind::Io
    } else if has("Image is not in qcow2 format") || has("Image is corrupt") {
        DriverErrorKind::InvalidImage
    } else {
        DriverErrorKind::Protocol
    }
}
