//! The command as a user runs it; which commands there are, and which of them were really run.

use serde_json::Value;
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use stillpoint_testkit::Password;

/// The command, with a server that may be none.
pub(crate) struct Cli {
    pub(crate) url: String,
    pub(crate) home: tempfile::TempDir,
    /// Every command that does something: `vm list`, `volume snapshot create`.
    leaves: BTreeSet<String>,
    /// Those that were run to a good end, not only for their plan.
    called: RefCell<BTreeSet<String>>,
}

impl Cli {
    pub(crate) fn of(url: &str) -> Self {
        let mut cli = Self {
            url: url.to_owned(),
            home: tempfile::tempdir().unwrap(),
            leaves: BTreeSet::new(),
            called: RefCell::default(),
        };
        cli.leaves = usages(&cli.reference());
        cli
    }

    /// The reference, which the program makes of its own description.
    pub(crate) fn reference(&self) -> String {
        let done = self.command(&["reference"]).output().unwrap();
        assert!(done.status.success());
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) fn leaves(&self) -> &BTreeSet<String> {
        &self.leaves
    }

    /// The commands that nobody has run.
    pub(crate) fn uncalled(&self) -> Vec<String> {
        self.leaves.difference(&self.called.borrow()).cloned().collect()
    }

    pub(crate) fn prepare(&self, mut command: Command) -> Command {
        let binary = stillpoint_testkit::binary().unwrap();
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", binary.parent().unwrap().display()))
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("STILLPOINT_URL", &self.url)
            .env("STILLPOINT_PASSWORD", Password::of("admin").unwrap().0)
            .env("STILLPOINT_PROJECT", "demo")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn command<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(stillpoint_testkit::binary().unwrap());
        command.args(arguments.iter().map(AsRef::as_ref));
        self.prepare(command)
    }

    /// Notes that a command was run to a good end.
    pub(crate) fn note<S: AsRef<str>>(&self, arguments: &[S]) {
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        if words.iter().any(|word| matches!(*word, "--help" | "--dry-run")) {
            return;
        }
        let is_run = |leaf: &&String| {
            let leaf: Vec<&str> = leaf.split(' ').collect();
            words.starts_with(&leaf)
        };
        let run = self.leaves.iter().filter(is_run).max_by_key(|leaf| leaf.len());
        self.called.borrow_mut().extend(run.cloned());
    }

    /// Runs a command that must end with this code; all that it said.
    pub(crate) fn ends<S: AsRef<str>>(&self, code: i32, arguments: &[S]) -> String {
        self.ends_with(code, arguments, |command| command)
    }

    /// The same, with the command changed.
    pub(crate) fn ends_with<S: AsRef<str>>(
        &self,
        code: i32,
        arguments: &[S],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> String {
        let mut command = self.command(arguments);
        let done = change(&mut command).output().unwrap();
        let shown: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        assert_eq!(done.status.code(), Some(code), "{shown:?}: {}", said(&done));
        if code == 0 {
            self.note(arguments);
        }
        said(&done)
    }

    pub(crate) fn text<S: AsRef<str>>(&self, arguments: &[S]) -> String {
        self.ends(0, arguments)
    }

    pub(crate) fn json<S: AsRef<str>>(&self, arguments: &[S]) -> Value {
        let done = self.command(arguments).arg("--json").output().unwrap();
        let shown: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        assert!(done.status.success(), "{shown:?}: {}", said(&done));
        self.note(arguments);
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{shown:?}: {error}: {}", said(&done)))
    }

    /// The id in what a command shows.
    pub(crate) fn id<S: AsRef<str>>(&self, arguments: &[S]) -> String {
        self.json(arguments)["id"].as_str().unwrap().to_owned()
    }

    /// A file in this test's own directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

pub(crate) fn said(done: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

/// The commands of a reference: its lines of usage, up to the first argument.
fn usages(reference: &str) -> BTreeSet<String> {
    let lines = reference.lines().filter(|line| line.ends_with(" [options]"));
    let commands = lines.filter_map(|line| line.strip_prefix("stillpoint "));
    let name = |line: &str| {
        let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        line.split(' ').take_while(is_word).collect::<Vec<_>>().join(" ")
    };
    let all: BTreeSet<String> = commands.map(name).collect();
    assert!(all.len() > 50 && all.contains("volume snapshot create"), "{all:?}");
    all
}

/// The commands of a reference that have an option.
pub(crate) fn with_option(reference: &str, option: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut name = None;
    for line in reference.lines() {
        if line.ends_with(" [options]") {
            name = line.strip_prefix("stillpoint ").map(str::to_owned);
        }
        if line.starts_with(&format!("| `{option}`"))
            && let Some(usage) = &name
        {
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            found.insert(usage.split(' ').take_while(is_word).collect::<Vec<_>>().join(" "));
        }
    }
    found
}
