//! Checkpoints: what is known of a VM's past, so that a backup need only hold what changed since.

pub(crate) mod delete;
pub(crate) mod view;
