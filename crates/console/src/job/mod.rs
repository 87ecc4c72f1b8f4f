//! Jobs: what runs and what has ended, one with its steps as they happen, and what the last start of the daemon healed.

pub(crate) mod healing;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod words;

/// The navigation's part.
pub(crate) const PART: &str = "/console/jobs";
