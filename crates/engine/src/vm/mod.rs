//! VMs: their configuration, their processes, and what a machine is started from.

pub(crate) mod clone;
pub(crate) mod configure;
pub(crate) mod freeze;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod usage;
pub(crate) mod view;
