//! What system tests stand on: the real daemon, a real guest, a plain HTTP client and a judge of the guest's records.
//!
//! A test starts a [`Daemon`] in a directory of its own, boots the demo guest ([`Guest`]) through the public API
//! ([`Api`]), and lets [`records::Checker`] say whether disk images are one moment. Nothing here imitates a part of
//! the product or of QEMU, and nothing here may be used by the product: this is a dev-dependency only.
//!
//! ```no_run
//! use std::time::Duration;
//! use stillpoint_testkit::{Daemon, Guest, VmSpec};
//!
//! # fn main() -> anyhow::Result<()> {
//! let daemon = Daemon::start()?;
//! let guest = Guest::build()?;
//! guest.install(daemon.data_dir())?;
//! let api = daemon.api("admin")?;
//! let vm = api.create_vm(&VmSpec::new("db1").cmdline(&guest.cmdline("sp.pause=2000")?))?;
//! for number in 0..2 {
//!     let disk = api.create_disk(&format!("db1_{number}"), 1 << 30)?;
//!     api.attach(&vm, &disk, "virtio", number == 0)?;
//! }
//! api.start(&vm)?;
//! let console = daemon.console(&vm);
//! console.wait_record(100, Duration::from_secs(60))?;
//! api.snapshot(&vm, "before", false, None)?;
//! daemon.scan_log(&[])?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything blocks: a test is a story told in order. In an async test call it from a blocking thread.

mod api;
mod daemon;
mod estate;
mod guest;
mod ovirt;
pub mod records;
mod refusal;
mod turn;
mod wait;
mod xml;

pub use api::{Answer, Api};
pub use daemon::{Builder, Daemon, Password, binary};
pub use guest::{Console, Guest, MemoryLine, PauseMeter};
pub use ovirt::VmSpec;
pub use refusal::Refusal;
pub use turn::Turn;
pub use wait::{eventually, free_port};
pub use xml::{Xml, escape};
