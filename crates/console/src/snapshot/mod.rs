//! Snapshots of a VM: the drawing of what stands on what, a page for each, and what can be done with them.
//!
//! `graph` places, `tree` draws, `plan` says what an action does and loses; the other files are one action each.

pub(crate) mod clone;
pub(crate) mod create;
pub(crate) mod delete;
mod graph;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod preview;
pub(crate) mod restore;
pub(crate) mod tree;
