//! Backups: one moment of a VM's disks, held for a client that downloads it.

pub(crate) mod create;
pub(crate) mod finalize;
pub(crate) mod view;
