//! Room `qcow2`: reads qcow2 and raw images, and the disk that a chain of them makes, without a QEMU process.
//!
//! For files that nobody writes to (ADR 0013). It opens no name that it finds in a file: the caller says what stands on
//! what. It writes nothing. Nothing that a file says is believed: a place is compared with the file's length before it is
//! read, and sums are checked.
//!
//! ```text
//! chain ── layer ── entry    what one entry of a table means
//!   │        ├───── tables   pieces of tables, cached
//!   │        ├───── deflate  compressed clusters
//!   │        └───── input    a file, read with or without waiting for the storage
//!   └────── lock             QEMU's image locks
//! header, source             what a file says of itself
//! ```
//! Bounds: whatever a file says, [`tables::CACHE_BYTES_MAX`] for a chain, and one cluster beside it. No recursion.
//!
//! Format source: QEMU `docs/interop/qcow2.txt`; where that leaves a choice, `block/qcow2*.c` of QEMU 7.2.

pub mod chain;
mod deflate;
mod entry;
pub mod header;
mod input;
mod layer;
mod lock;
pub mod source;
mod tables;

pub use chain::{Chain, Extent, OpenError, Place};
pub use header::{Damage, Header};
pub use input::{Patience, read_now};
pub use source::{ReadError, Source};

/// First four bytes of every qcow2 file: `QFI\xfb`.
pub const MAGIC: u32 = 0x5146_49fb;
