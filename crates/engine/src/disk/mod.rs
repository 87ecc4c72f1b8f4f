//! Disks: make, adopt, attach, remove.

pub(crate) mod adopt;
pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod view;
