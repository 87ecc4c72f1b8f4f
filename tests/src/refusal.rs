//! What a refusal must say.

use anyhow::{Result, ensure};
use stillpoint_testkit::Answer;

/// Whether an answer of the oVirt dialect is a refusal with that status, whose detail has these words.
///
/// # Errors
/// When it is not.
pub fn refusal(answer: &Answer, status: u16, words: &[&str]) -> Result<()> {
    let refusal = answer.refusal()?;
    ensure!(refusal.status == status, "{refusal:?}");
    let missing = words.iter().find(|word| !refusal.detail.contains(**word));
    ensure!(missing.is_none(), "{missing:?} is not in {refusal:?}");
    Ok(())
}
