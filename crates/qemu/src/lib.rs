//! Room `qemu`.
