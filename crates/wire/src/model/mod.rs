//! The representations of oVirt API v4, as one description each.
//!
//! Members and their order follow the public API model. Enumerations are texts: which words are valid is decided where
//! they mean something. References hold the whole referred type, because `follow` fills it in place.

mod access;
mod common;
mod disk;
mod infra;
mod snapshot;
mod storage;
mod task;
mod transfer;
mod vm;

pub use access::*;
pub use common::*;
pub use disk::*;
pub use infra::*;
pub use snapshot::*;
pub use storage::*;
pub use task::*;
pub use transfer::*;
pub use vm::*;
