//! Loops without input: they read what is and what should be, and close the gap. A hint only wakes them.

pub(crate) mod recover;
pub(crate) mod supervise;
pub(crate) mod thaw;
pub(crate) mod tidy;
