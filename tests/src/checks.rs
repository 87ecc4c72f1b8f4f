//! Items of a specification, each checked on its own, so that one that fails does not hide the others.
//!
//! The numbers stand as literals at their checks: the table of what is held by which test is made from them.

use anyhow::Result;

/// The items that were checked, and what was wrong.
#[derive(Debug, Default)]
pub struct Checks {
    count: usize,
    failed: Vec<String>,
}

impl Checks {
    /// Checks one item (several numbers may be named, parted by spaces, if one check holds them all).
    pub fn item(&mut self, numbers: &str, check: impl FnOnce() -> Result<()>) {
        self.count += 1;
        if let Err(error) = check() {
            self.failed.push(format!("{numbers}: {error:#}"));
        }
    }

    /// Ends the test.
    ///
    /// # Panics
    /// When an item failed; the text names all that did.
    pub fn finish(self) {
        assert!(
            self.failed.is_empty(),
            "{} of {} items failed:\n{}",
            self.failed.len(),
            self.count,
            self.failed.join("\n")
        );
    }
}
