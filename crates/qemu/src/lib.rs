//! Room `qemu`: the driver. It implements the ports of the core on QEMU's own tools and protocols.
//!
//! Below it are processes, QMP and the guest agent; above it plain data. It knows no SQL, no HTTP and no snapshot.
//!
//! ```text
//! hypervisor ── machine ──┐                    process   starts, finds and ends processes
//!     │                   ├── endpoint ── merge   qmp    one monitor connection
//!     └────────── rest ───┘       │               agent  one guest agent connection
//!                               graph             layout names of directories, files, nodes
//! ```

pub mod agent;
mod bitmaps;
mod endpoint;
mod failure;
pub mod gate;
mod graph;
mod grow;
mod hypervisor;
pub mod images;
mod layout;
mod machine;
mod merge;
mod monitor;
mod names;
mod plug;
mod probe;
mod process;
pub mod qcow2;
pub mod qmp;
mod rest;
mod switch;

pub use hypervisor::{Config, Qemu};
pub use layout::Layout;
pub use probe::Accel;
