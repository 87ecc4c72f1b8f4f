//! Snapshots: take, remove, go back to.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod restore;
pub(crate) mod view;
