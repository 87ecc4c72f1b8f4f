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

/// Longest word that QEMU says by itself. Names of nodes, which are ids, are longer.
const WORD_MAX: usize = 20;

/// The text without names and paths: by chance they spell anything, as the id of a node did whose name had `busy` in it.
fn without_names(text: &str) -> String {
    let is_said = |word: &&str| word.len() <= WORD_MAX && (!word.contains('/') || word.starts_with("Input/output"));
    text.split_ascii_whitespace()
        .filter(is_said)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What QEMU's human text says; it has no machine-readable code for these.
///
/// Texts as of QEMU 7.2 (`block/file-posix.c`, `blockdev.c`, `util/error.c`); a text that is not known is `Protocol`.
pub(crate) fn kind_of_text(class: &str, text: &str) -> DriverErrorKind {
    let text = without_names(text);
    let has = |part: &str| text.contains(part);
    if has("No space left") || has("Disk quota exceeded") {
        DriverErrorKind::NoSpace
    } else if (has("Failed to get") && has("lock")) || has("busy") || has("in use") {
        DriverErrorKind::Busy
    } else if class == "DeviceNotFound"
        || has("No such file")
        || has("Cannot find")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_spells_is_not_what_qemu_says() {
        let gone = "Failed to find node with node-name='n2xbusyxabvgm3l25t33r44v3my'";
        assert_eq!(kind_of_text("GenericError", gone), DriverErrorKind::NotFound);
        let open = "Could not open '/srv/in use/busy.qcow2': No such file or directory";
        assert_eq!(kind_of_text("GenericError", open), DriverErrorKind::NotFound);
        for (text, kind) in [
            (
                "Node 'n2xabcdefghijklmnopqrstuvwx' is busy: node is used as backing hd",
                DriverErrorKind::Busy,
            ),
            ("Node n2xabcdefghijklmnopqrstuvwx is in use", DriverErrorKind::Busy),
            ("Failed to get \"write\" lock", DriverErrorKind::Busy),
            ("Could not write: No space left on device", DriverErrorKind::NoSpace),
            ("Input/output error", DriverErrorKind::Io),
            (
                "Cannot find device='n2xbusyxabvgm3l25t33r44v3my' nor node-name='n2xbusyxabvgm3l25t33r44v3my'",
                DriverErrorKind::NotFound,
            ),
        ] {
            assert_eq!(kind_of_text("GenericError", text), kind, "{text}");
        }
    }
}
