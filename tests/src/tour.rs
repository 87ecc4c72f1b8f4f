//! The commands of the guides: each block of a guide that begins with ```` ```sh ```` is run as it is written, in order.
//!
//! Blocks with another word, or none, are for reading only. What a guide takes for given (where the server is, a password,
//! ids, its data directory) comes as variables.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use stillpoint_testkit::{Daemon, Password, binary};
use tempfile::TempDir;

/// A guide, and the directory in which its commands are run.
#[derive(Debug)]
pub struct Tour {
    name: String,
    blocks: Vec<String>,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A guide's text.
///
/// # Errors
/// When there is none of this name.
pub fn guide(name: &str) -> Result<String> {
    let path = root().join("docs/guide").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn blocks(text: &str) -> Result<Vec<String>> {
    let (mut found, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let mut block = String::new();
        loop {
            let line = lines.next().context("a block without an end")?;
            if line.trim_end() == "```" {
                break;
            }
            block.push_str(line);
            block.push('\n');
        }
        if kind.trim_end() == "sh" {
            found.push(block);
        }
    }
    Ok(found)
}

impl Tour {
    /// The blocks of a guide in `docs/guide`.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(name: &str) -> Result<Self> {
        let blocks = blocks(&guide(name)?)?;
        ensure!(!blocks.is_empty(), "{name} has no block that begins with ```sh");
        Ok(Self {
            name: name.to_owned(),
            blocks,
            folder: tempfile::tempdir()?,
            environment: Vec::new(),
        })
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Says where the server is, who asks, and where its data is.
    ///
    /// # Errors
    /// When the password is not to be had.
    pub fn at(self, daemon: &Daemon) -> Result<Self> {
        let password = Password::of("admin")?.0;
        Ok(self
            .with("STILLPOINT_URL", daemon.url())
            .with("STILLPOINT_PASSWORD", password)
            .with("DATA", daemon.data_dir().display().to_string()))
    }

    /// Where its commands are run.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many blocks it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Runs all blocks in one shell; all that it said.
    ///
    /// # Errors
    /// When a command fails: what it said.
    pub fn run(&self) -> Result<String> {
        self.run_blocks(0..self.count())
    }

    /// Runs some of the blocks, by number, in one shell; all that it said.
    ///
    /// # Errors
    /// When there is no such block, or a command fails: what it said.
    pub fn run_blocks(&self, which: std::ops::Range<usize>) -> Result<String> {
        let binary = binary()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = binary.parent().context("a program in a directory")?.display();
        let script = self.blocks.get(which.clone()).context("no such block")?.concat();
        let done = Command::new("bash")
            .args(["-c", &format!("set -euxo pipefail\n{script}")])
            .current_dir(self.folder())
            .env("PATH", format!("{bin}:{path}"))
            .env("XDG_CONFIG_HOME", self.folder())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        ensure!(done.status.success(), "{}, blocks {which:?}: {said}", self.name);
        Ok(said)
    }
}
