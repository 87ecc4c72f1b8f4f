//! Snapshots of single volumes.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod update;
pub(crate) mod view;
