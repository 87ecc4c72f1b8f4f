//! A result: a table for people, JSON for programs; and showing it again whenever it changes.

use super::{Session, Trouble, print, table::Table};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};
use stillpoint_sdk::Wire;

/// Clears a terminal and goes to its first cell.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What a command found.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) json: Value,
}

/// Showing a list again and again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Watch {
    /// Show it again whenever it has changed, until Ctrl-C; looked at every SECONDS (2).
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

impl Shown {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
        }
    }

    /// A list: a row for each item.
    pub(crate) fn list<T: Wire>(items: &[T], head: &[&str], row: impl Fn(&T) -> Vec<String>) -> Result<Self, Trouble> {
        let json = items.iter().map(json).collect::<Result<_, _>>()?;
        Ok(Self::rows(items, head, row, json))
    }

    /// A list of an API whose documents are JSON.
    pub(crate) fn plain_list<T: Serialize>(
        items: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<Self, Trouble> {
        let json = items.iter().map(plain).collect::<Result<_, _>>()?;
        Ok(Self::rows(items, head, row, json))
    }

    fn rows<T>(items: &[T], head: &[&str], row: impl Fn(&T) -> Vec<String>, json: Vec<Value>) -> Self {
        let mut table = Table::new(head);
        for item in items {
            table.row(row(item));
        }
        Self::new(table.text(), Value::Array(json))
    }

    /// One object: its facts, one a line. Facts without a value are left out.
    pub(crate) fn object<T: Wire>(object: &T, facts: &[(&str, Option<String>)]) -> Result<Self, Trouble> {
        Ok(Self::new(lines(facts), json(object)?))
    }

    /// One object of an API whose documents are JSON.
    pub(crate) fn plain_object<T: Serialize>(object: &T, facts: &[(&str, Option<String>)]) -> Result<Self, Trouble> {
        Ok(Self::new(lines(facts), plain(object)?))
    }

    pub(crate) fn and_text(mut self, text: &str) -> Self {
        self.text.push('\n');
        self.text.push_str(text);
        self
    }

    pub(crate) fn print(&self, session: &Session) -> Result<ExitCode, Trouble> {
        print(&self.said(session))?;
        Ok(ExitCode::SUCCESS)
    }

    fn said(&self, session: &Session) -> String {
        if session.json {
            self.json.to_string()
        } else {
            self.text.clone()
        }
    }
}

/// Facts, one a line, their values below each other.
pub(crate) fn lines(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter_map(|(name, value)| {
        let value = value.as_deref().filter(|value| !value.is_empty())?;
        Some(format!("{name:<width$}  {value}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// An object in the API's JSON form.
pub(crate) fn json<T: Wire>(object: &T) -> Result<Value, Trouble> {
    serde_json::from_str(&stillpoint_sdk::to_json(object))
        .map_err(|error| Trouble::of("the answer cannot be written as JSON", error))
}

/// An object as JSON.
pub(crate) fn plain<T: Serialize>(object: &T) -> Result<Value, Trouble> {
    serde_json::to_value(object).map_err(|error| Trouble::of("the answer cannot be written as JSON", error))
}

impl Watch {
    /// Shows what `look` finds, once or as long as it is watched.
    pub(crate) async fn show(
        &self,
        session: &Session,
        look: impl AsyncFn() -> Result<Shown, Trouble>,
    ) -> Result<ExitCode, Trouble> {
        let mut shown = look().await?;
        let Some(seconds) = self.watch else {
            return shown.print(session);
        };
        let is_terminal = std::io::stdout().is_terminal() && !session.json;
        let show = |shown: &Shown| {
            let clear = if is_terminal { CLEAR } else { "" };
            print(&format!("{clear}{}", shown.said(session)))
        };
        show(&shown)?;
        loop {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if is_reader_gone() {
                return Ok(ExitCode::SUCCESS);
            }
            let now = look().await?;
            if now != shown {
                show(&now)?;
                shown = now;
            }
        }
    }
}

/// Whether nobody reads standard output any more, as after `| head -1`. Nothing has to be written to see it.
pub(crate) fn is_reader_gone() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = std::io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::ERR)
}

/// A moment as people read it, UTC.
pub(crate) fn moment(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(
        |_no_moment| "-".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// A moment as OpenStack's services write it, as people read it. They mean UTC, with a `Z` or without.
pub(crate) fn instant(text: Option<&str>) -> String {
    let Some(text) = text else { return "-".to_owned() };
    let civil: Result<jiff::civil::DateTime, _> = text.trim_end_matches('Z').parse();
    civil.map_or_else(
        |_no_moment| text.to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// A text, or a dash for none.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// Says something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    if let Err(error) = writeln!(std::io::stderr().lock(), "{text}") {
        tracing::debug!(%error, "standard error cannot be written to");
    }
}
