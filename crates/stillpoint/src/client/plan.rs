//! What a command is about to do and what is lost by it: shown by `--dry-run`, and asked about before it is done.

use super::{Session, Trouble, code, print};
use clap::Args;
use serde::Serialize;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Whether the user is sure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sure {
    /// Do not ask whether it shall be done.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Print what would be done and lost, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What a command is about to do.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Plan {
    /// In one line.
    does: String,
    /// What is gone for good afterwards.
    loses: Vec<String>,
    /// What stays, where somebody might think otherwise.
    keeps: Vec<String>,
    /// What stands in the way now, so that the server would refuse.
    blockers: Vec<String>,
}

impl Sure {
    /// Only the plan is wanted.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry_run
    }
}

impl Plan {
    pub(crate) fn new(does: impl Into<String>) -> Self {
        Self {
            does: does.into(),
            ..Self::default()
        }
    }

    pub(crate) fn lose(mut self, what: impl Into<String>) -> Self {
        self.loses.push(what.into());
        self
    }

    pub(crate) fn keep(mut self, what: impl Into<String>) -> Self {
        self.keeps.push(what.into());
        self
    }

    pub(crate) fn blocked(mut self, is: bool, by: impl Into<String>) -> Self {
        if is {
            self.blockers.push(by.into());
        }
        self
    }

    /// A refusal of what was planned: when something was seen in the way, that is it, and it is said again.
    pub(crate) fn refused(&self, trouble: Trouble) -> Trouble {
        match self.blockers.first() {
            Some(blocker) if trouble.is_refusal() => trouble
                .replace_hint(format!("in the way: {blocker}"))
                .code(code::IN_THE_WAY),
            _ => trouble,
        }
    }

    fn text(&self) -> String {
        let mut text = self.does.clone();
        for (word, lines) in [
            ("lost for good", &self.loses),
            ("stays", &self.keeps),
            ("in the way", &self.blockers),
        ] {
            for line in lines {
                text.push_str(&format!("\n  {word}: {line}"));
            }
        }
        text
    }

    /// Whether to go on: not with `--dry-run`, not without a yes.
    pub(crate) async fn confirm(&self, session: &Session, sure: &Sure) -> Result<bool, Trouble> {
        if sure.dry_run {
            if session.json {
                print(&serde_json::json!({ "dry_run": true, "plan": self }).to_string())?;
            } else {
                print(&format!("{}\n(--dry-run: nothing was changed)", self.text()))?;
            }
            return Ok(false);
        }
        if sure.yes {
            return Ok(true);
        }
        let mut out = std::io::stderr().lock();
        let asked = writeln!(out, "{}", self.text()).and_then(|()| {
            let is_asked = std::io::stdin().is_terminal();
            if is_asked {
                write!(out, "Do it? [y/N] ").and_then(|()| out.flush())?;
            }
            Ok(is_asked)
        });
        drop(out);
        let asked = asked.map_err(|error| Trouble::of("the question cannot be asked", error))?;
        let answer = if asked { answer().await? } else { String::new() };
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(true);
        }
        Err(Trouble::new("not confirmed: nothing was done")
            .hint("give --yes to do it without a question, or --dry-run to see what it would do")
            .code(code::UNCONFIRMED))
    }
}

/// A line from the terminal. It is read by a thread of its own, so that Ctrl-C ends the question, too.
async fn answer() -> Result<String, Trouble> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_bytes| line)
    });
    let unread = |error| Trouble::of("the answer cannot be read", error);
    read.await
        .map_err(std::io::Error::other)
        .and_then(|line| line)
        .map_err(unread)
}
