//! What RHEV's version 3 has differently from version 4, and nothing else.
//!
//! The handlers are version 4's: they read and write representations, of which the description says what each version
//! calls it (`wire`). Here are the routes that version 4 has not, and the few representations that differ in more than
//! their words: snapshots, the disks of a VM, and removals with a body.

pub(crate) mod disk;
pub(crate) mod removal;
mod routes;
pub(crate) mod snapshot;

pub(crate) use routes::routes;
