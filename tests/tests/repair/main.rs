//! Real damage, made with other tools behind the daemon's back: `stillpoint repair --plan` shows each with what would be lost,
//! `stillpoint repair` mends it, and no byte of a guest is lost.
//!
//! One test runs the demo guest. In the others the machine is real and has no guest: what a guest would write is written
//! through its own block device by the machine's second monitor.

mod crash;
mod files;
mod live;
mod maps;
mod merges;
mod rig;
