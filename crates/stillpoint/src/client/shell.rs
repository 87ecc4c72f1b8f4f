//! Completions for shells and man pages, made from the same description as the commands themselves.

use super::{Trouble, print, shown::note};
use crate::cli::Cli;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionOptions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ManOptions {
    /// Directory to write them to; it is made if need be.
    dir: PathBuf,
}

/// Prints a completion script.
pub(crate) fn completions(options: &CompletionOptions) -> Result<ExitCode, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "stillpoint", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a man page for each command.
pub(crate) fn man(options: &ManOptions) -> Result<ExitCode, Trouble> {
    let dir = options.dir.display();
    let failed = |error: std::io::Error| {
        Trouble::of(format!("the man pages cannot be written to {dir}"), error).hint("choose another directory")
    };
    std::fs::create_dir_all(&options.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &options.dir).map_err(failed)?;
    note(&format!("man pages are in {dir}: man -l {dir}/stillpoint.1"));
    Ok(ExitCode::SUCCESS)
}
