//! What several system tests share: a daemon with a little of everything in it. The tests themselves live in `tests/`.
//!
//! The guests made here have no kernel and blank disks: they sit in their firmware, cost next to nothing, and are enough
//! wherever no guest has to do anything. Tests of data boot the real demo guest of the test kit instead.

pub mod browser;
mod checks;
pub mod crash;
mod proxy;
mod refusal;
mod scene;
pub mod sdk;
mod tool;
pub mod tour;
pub mod volume;

pub use checks::Checks;
pub use proxy::{Proxy, Weather};
pub use refusal::refusal;
pub use scene::{Scene, Things, only_id};
pub use tool::tool;
