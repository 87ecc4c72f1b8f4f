//! What can be wrong with a document, and the limits that a document must keep.
//!
//! The kinds are few because the dialect answers by kind (spec 4.1: syntax, wrong value, too large); `path` and
//! `detail` are for the person who reads the fault. A detail quotes the input, but is
//! never longer than a line of text.

use std::fmt;
use stillpoint_types::FaultCode;

/// Why a document was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireErrorKind {
    /// Not well-formed: broken syntax, bad UTF-8, a DOCTYPE, an entity that XML does not predefine.
    Malformed,
    /// Well-formed, but the root is not the expected element.
    WrongRoot,
    /// An element has a value of the wrong kind.
    InvalidValue,
    /// An element that may be given once is given twice.
    Duplicate,
    /// A size or count limit of [`Limits`] is passed.
    TooLarge,
    /// The nesting limit of [`Limits`] is passed.
    TooDeep,
}

impl WireErrorKind {
    /// The fault that a client gets for it.
    #[must_use]
    pub fn fault_code(self) -> FaultCode {
        match self {
            Self::Malformed | Self::WrongRoot | Self::TooDeep => FaultCode::Malformed,
            Self::InvalidValue => FaultCode::InvalidValue,
            Self::Duplicate => FaultCode::Duplicate,
            Self::TooLarge => FaultCode::TooLarge,
        }
    }
}

/// A document that was refused, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct WireError {
    /// What the dialect's answer depends on.
    pub kind: WireErrorKind,
    /// The place, as element names from the root: `snapshot/disk_attachments/disk_attachment[0]/disk`.
    pub path: String,
    /// A sentence for people.
    pub detail: String,
}

/// The longest text that an error carries.
const DETAIL_CHARS_MAX: usize = 240;

impl WireError {
    pub(crate) fn new(kind: WireErrorKind, path: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        // Parsers quote the input; how much of it comes back is decided here.
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(end);
            detail.push_str("...");
        }
        Self {
            kind,
            path: path.into(),
            detail,
        }
    }

    pub(crate) fn malformed(detail: impl fmt::Display) -> Self {
        Self::new(WireErrorKind::Malformed, "document", detail.to_string())
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(WireErrorKind::TooLarge, "document", detail)
    }

    pub(crate) fn too_deep(limit: usize) -> Self {
        Self::new(
            WireErrorKind::TooDeep,
            "document",
            format!("Nested more than {limit} levels deep"),
        )
    }
}

/// The first 64 characters of a text of the input, for use in an error.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What a document may cost. Checked while it is parsed, before anything is built from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub body_bytes: usize,
    /// Nesting levels; the root is level 1. In JSON an array counts as a level.
    pub depth: usize,
    /// Elements, or JSON values, of the whole document.
    pub elements: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Bytes of one text: an element's text, an attribute's value, a JSON string.
    pub text_bytes: usize,
}

impl Default for Limits {
    /// Room for a VM with a large OVF document inside, and little more.
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            depth: 32,
            elements: 20_000,
            attributes: 64,
            text_bytes: 2 << 20,
        }
    }
}
