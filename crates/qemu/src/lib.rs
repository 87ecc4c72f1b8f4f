//! Room `qemu`.

pub mod gate;
pub mod images;
pub mod qcow2;
