//! The oVirt API on the wire: each representation described once; XML and JSON, of version 4 and of RHEV 3, in both
//! directions from that.
//!
//! The contract is the public oVirt API model (types, members, order of emission) and what its SDKs check in answers.
//! This room does no I/O, knows no HTTP and no engine: bytes in, values out, and back. Nothing here trusts its input:
//! every document is bounded by [`Limits`] while it is parsed, and what is wrong with it is a [`WireError`].
//!
//! * [`write`](fn@write), [`write_list`], [`write_empty_list`], [`ListWriter`]: values to text.
//! * [`read`], [`read_list`]: bytes to values, with the count of members that were skipped because no type has them.
//! * [`model`]: the representations.
//!
//! ```
//! use stillpoint_wire::{Date, Encoding, Limits, model::{Header, Identified, Snapshot, Vm}, read, write};
//!
//! let mut head = Header::new("5", "/ovirt-engine/api/vms/1/snapshots/5");
//! head.description = Some("before upgrade".into());
//! head.add_action("restore");
//! head.add_link("disks");
//! let snapshot = Snapshot {
//!     base: Vm { head, ..Vm::default() },
//!     date: Some(Date(1_767_323_045_123_000)),
//!     snapshot_status: Some("ok".into()),
//!     vm: Vm::reference("1", "/ovirt-engine/api/vms/1"),
//!     ..Snapshot::default()
//! };
//! let body = write(&snapshot, Encoding::Json);
//! let got = read::<Snapshot>(body.as_bytes(), Encoding::Json, &Limits::default())?;
//! assert_eq!((got.value, got.unknown), (snapshot, 0));
//! # Ok::<(), stillpoint_wire::WireError>(())
//! ```

pub mod describe;
mod dialect;
mod error;
pub mod input;
mod json;
pub mod model;
pub mod output;
mod scalar;
mod xml;

pub use describe::{Fields, Wire};
pub use dialect::{Dialect, Form};
pub use error::{Limits, WireError, WireErrorKind};
pub use output::ListWriter;
pub use scalar::Date;
pub use xml::Element;

use describe::{append, get_object};
use error::cut;
use input::{Context, Input};
use output::{Output, Slot};

/// The two forms of every document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/xml`
    Xml,
    /// `application/json`
    Json,
}

impl Encoding {
    /// The media type, for `Content-Type`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Xml => "application/xml",
            Self::Json => "application/json",
        }
    }
}

/// A value that was read, and how much of the document was not understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// Elements, attributes and members that the type does not have, and that were skipped.
    pub unknown: usize,
}

/// Writes a document.
#[must_use]
pub fn write<T: Wire>(value: &T, form: impl Into<Form>) -> String {
    let mut out = Output::new(form.into());
    value.put(Slot::Root(T::TAG), &mut out);
    out.into_text()
}

/// Writes a list document whose items are all at hand; see [`ListWriter`] for the others.
#[must_use]
pub fn write_list<T: Wire>(items: &[T], form: impl Into<Form>) -> String {
    let mut list = ListWriter::new(form);
    for item in items {
        list.item(item);
    }
    list.finish()
}

/// Writes an empty list document of a type that has no description here, by its plural tag.
#[must_use]
pub fn write_empty_list(plural: &'static str, form: impl Into<Form>) -> String {
    let mut out = Output::new(form.into());
    out.begin(Slot::Root(plural));
    out.end(Slot::Root(plural));
    out.into_text()
}

/// Reads a document.
///
/// # Errors
/// The document is not well-formed, has another root, passes a limit, or a member has a value of the wrong kind.
pub fn read<T: Wire>(body: &[u8], form: impl Into<Form>, limits: &Limits) -> Result<Read<T>, WireError> {
    read_root(body, form.into(), limits, T::TAG, |input, ctx| {
        ctx.enter(T::TAG);
        get_object(input, ctx)
    })
}

/// Reads a list document.
///
/// # Errors
/// As [`read`].
pub fn read_list<T: Wire>(body: &[u8], form: impl Into<Form>, limits: &Limits) -> Result<Read<Vec<T>>, WireError> {
    read_root(body, form.into(), limits, T::PLURAL, |input, ctx| {
        ctx.enter(T::PLURAL);
        let mut items = Vec::new();
        input.each_child(ctx, |key, input, ctx| {
            if key == T::TAG {
                return append(&mut items, T::TAG, input, ctx);
            }
            ctx.count_unknown();
            Ok(())
        })?;
        Ok(items)
    })
}

/// Reads an XML document of any kind within limits: no document type, no entity but the predefined ones.
///
/// # Errors
/// The document is not well-formed, or passes a limit.
pub fn read_tree(text: &str, limits: &Limits) -> Result<Element, WireError> {
    if text.len() > limits.body_bytes {
        return Err(WireError::too_large(format!(
            "The document is longer than {} bytes",
            limits.body_bytes
        )));
    }
    xml::parse(text, limits)
}

fn read_root<T>(
    body: &[u8],
    form: Form,
    limits: &Limits,
    root: &'static str,
    get: impl FnOnce(Input<'_>, &mut Context) -> Result<T, WireError>,
) -> Result<Read<T>, WireError> {
    if body.len() > limits.body_bytes {
        return Err(WireError::too_large(format!(
            "The document is longer than {} bytes",
            limits.body_bytes
        )));
    }
    let text = std::str::from_utf8(body).map_err(|error| WireError::malformed(format!("Not UTF-8: {error}")))?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut ctx = Context::new(form.dialect);
    let value = match form.encoding {
        Encoding::Xml => {
            let element = xml::parse(text, limits)?;
            if element.name != root {
                let detail = format!("The root element is {:?} instead of {root}", cut(&element.name));
                return Err(WireError::new(WireErrorKind::WrongRoot, root, detail));
            }
            get(Input::Element(&element), &mut ctx)?
        }
        Encoding::Json => {
            let value = json::parse(text, limits)?;
            if !value.is_object() {
                return Err(WireError::new(
                    WireErrorKind::WrongRoot,
                    root,
                    "The document is no JSON object",
                ));
            }
            get(Input::Json(&value), &mut ctx)?
        }
    };
    Ok(Read {
        value,
        unknown: ctx.unknown(),
    })
}
