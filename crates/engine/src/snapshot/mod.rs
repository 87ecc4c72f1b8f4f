//! Snapshots: take, remove, go back to, try out.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod preview;
pub(crate) mod restore;
pub(crate) mod view;
