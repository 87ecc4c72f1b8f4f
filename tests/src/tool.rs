//! Other programs that tests look with.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs a tool that must succeed; what it printed.
///
/// # Errors
/// When it cannot be run or fails: all that it said.
pub fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{program} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}
