//! The guest's own records prove that the product is exact: that a snapshot is one moment of all disks, that a saved
//! memory belongs to its disks, that a delete changes nothing that anybody sees, and that bitmaps miss no write.
//!
//! One real guest per test, in the words of the public API; what is on the disks is judged offline, with QEMU's own
//! tools. The tests take turns (see the testkit), so their order on the console is the order in which they ran.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

mod bitmaps;
mod delete;
mod live;
mod memory;
mod restart;
mod rig;
