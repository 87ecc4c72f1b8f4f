//! Room `qemu`.

pub mod qcow2;
