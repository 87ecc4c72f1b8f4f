//! The real `stillpoint` binary in a directory of its own, started, killed and restarted by a test.
//!
//! The binary is `STILLPOINT_BIN`, else the one beside the running test in the target directory. On drop the daemon
//! dies, and with it every process whose command line names the data directory (its guests and storage daemons
//! outlive a daemon on purpose). The directory of a test that panicked is kept, and printed.
//!
//! Other processes of the machine are never touched: only ids found under this very directory's name are.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Api, Console, Turn, eventually};

/// How long a start may take; the product promises under a second, a busy test machine gets more.
const START_MAX: Duration = Duration::from_secs(60);
/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(30);

/// User and group `nobody` of Debian.
const NOBODY: u32 = 65534;

/// Users that every daemon of a test knows: (name, password, role, project); admin has no single role.
const USERS: [(&str, &str, &str, &str); 4] = [
    ("admin", "admin-password", "", ""),
    ("alice", "alice-password", "member", "demo"),
    ("bob", "bob-password", "reader", "demo"),
    ("mallory", "mallory-password", "member", "other"),
];
/// Ids of the two projects; `demo` comes first, so what the admin makes belongs to it.
const PROJECTS: [(&str, &str); 2] = [
    ("demo", "d0000000000000000000000000000001"),
    ("other", "d0000000000000000000000000000002"),
];

/// A user's password in the test bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Password(pub &'static str);

impl Password {
    /// The password of one of the users of the test bootstrap.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn of(user: &str) -> Result<Self> {
        let found = USERS.iter().find(|(name, ..)| *name == user);
        found
            .map(|(_, password, ..)| Self(password))
            .with_context(|| format!("no test user {user}"))
    }
}

fn bootstrap_text() -> String {
    let mut text = String::new();
    for (name, id) in PROJECTS {
        text += &format!("[[project]]\nname = \"{name}\"\nid = \"{id}\"\n\n");
    }
    for (name, password, role, project) in USERS {
        text += &format!("[[user]]\nname = \"{name}\"\npassword = \"{password}\"\n");
        text += &if role.is_empty() {
            "admin = true\n\n".to_owned()
        } else {
            format!("  [[user.role]]\n  project = \"{project}\"\n  role = \"{role}\"\n\n")
        };
    }
    text
}

/// What a daemon is started with.
#[derive(Debug, Default)]
pub struct Builder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    bootstrap: Option<String>,
    unprivileged: bool,
    listen: Option<String>,
}

impl Builder {
    /// Adds arguments after the fixed ones (`serve --data-dir --listen --bootstrap --accel`).
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable of the daemon.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the bootstrap file's text.
    #[must_use]
    pub fn bootstrap(mut self, text: &str) -> Self {
        self.bootstrap = Some(text.to_owned());
        self
    }

    /// Runs the daemon, and with it its guests, as an account without any right, also when the test is root.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = rustix::process::geteuid().is_root();
        self
    }

    /// Listens at this address (`IP:PORT`) instead of a free port of loopback: for a daemon behind a proxy, whose public
    /// URL is another one.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Starts the daemon and waits until it is ready. Waits first for other real-guest tests of this process.
    ///
    /// # Errors
    /// When the binary is missing, or it is not ready in time; the error carries the end of its log.
    pub fn start(self) -> Result<Daemon> {
        let turn = Turn::take();
        // Short, because unix sockets below it may have 107 bytes at most.
        let directory = tempfile::Builder::new()
            .prefix("sp-")
            .tempdir()
            .context("making a test directory")?;
        let bootstrap = directory.path().join("bootstrap.toml");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&bootstrap)?;
        file.write_all(self.bootstrap.clone().unwrap_or_else(bootstrap_text).as_bytes())?;
        fs::create_dir(directory.path().join("data"))?;
        if self.unprivileged {
            for path in [directory.path(), &bootstrap, &directory.path().join("data")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let mut daemon = Daemon {
            directory: Some(directory),
            listen: self.listen.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned()),
            builder: self,
            url: String::new(),
            child: None,
            is_kept: false,
            _turn: turn,
        };
        daemon.spawn()?;
        Ok(daemon)
    }
}

/// A running (or killed) daemon and its directory.
#[derive(Debug)]
pub struct Daemon {
    directory: Option<TempDir>,
    builder: Builder,
    listen: String,
    url: String,
    child: Option<Child>,
    is_kept: bool,
    _turn: Turn,
}

impl Daemon {
    /// Starts a daemon with nothing special.
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub fn start() -> Result<Self> {
        Builder::default().start()
    }

    /// Begins to describe a daemon.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn root(&self) -> &Path {
        self.directory.as_ref().expect("taken in drop only").path()
    }

    /// Its `--data-dir`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Its log: everything it wrote to standard error, over all restarts.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root().join("daemon.log")
    }

    /// The base URL of the ready line, without a slash at the end. A restart keeps it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process id of the daemon, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A client that is logged in as one of the users of the test bootstrap.
    ///
    /// # Errors
    /// When the login fails.
    pub fn api(&self, user: &str) -> Result<Api> {
        Api::login(&self.url, &format!("{user}@internal"), Password::of(user)?.0)
    }

    /// The serial console of a guest.
    #[must_use]
    pub fn console(&self, vm: &str) -> Console {
        Console::new(self.data_dir().join("run/vm").join(vm).join("console.log"))
    }

    /// Kills the daemon as a crash does; its guests go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill().context("killing the daemon")?;
        child.wait().context("waiting for the killed daemon")?;
        Ok(())
    }

    /// Asks the daemon to end (SIGTERM) and waits for it; its guests go on.
    ///
    /// # Errors
    /// When it does not run, does not end in time, or ends with a failure.
    pub fn stop(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("the daemon does not run")?;
        kill_process(Pid::from_child(child), Signal::TERM).context("asking the daemon to end")?;
        let status = eventually(STOP_MAX, "the daemon to end", || Ok(child.try_wait()?))?;
        self.child = None;
        if !status.success() {
            bail!("the daemon ended with {status}\n{}", self.log_end());
        }
        Ok(())
    }

    /// Starts it again in the same directory and on the same port, after [`Self::kill9`] or [`Self::stop`].
    /// A running one is stopped first.
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.stop()?;
        }
        self.spawn()
    }

    fn spawn(&mut self) -> Result<()> {
        let lines = self.launch()?;
        self.await_ready(&lines)
    }

    /// Starts the process; returns its standard output.
    fn launch(&mut self) -> Result<mpsc::Receiver<String>> {
        let mut binary = binary()?;
        if self.builder.unprivileged {
            // The target directory may be closed to others.
            let copy = self.root().join("stillpoint");
            if !copy.exists() {
                fs::copy(&binary, &copy).context("copying the binary")?;
            }
            binary = copy;
        }
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let accel = std::env::var("STILLPOINT_TEST_ACCEL").unwrap_or_else(|_| "auto".to_owned());
        let mut command = Command::new(&binary);
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen", &self.listen]);
        command
            .arg("--bootstrap")
            .arg(self.root().join("bootstrap.toml"))
            .args(["--accel", &accel]);
        command.args(&self.builder.arguments).env("NO_COLOR", "1");
        command.envs(self.builder.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        if self.builder.unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let lines = read_lines(child.stdout.take().context("no standard output")?);
        self.child = Some(child);
        Ok(lines)
    }

    fn await_ready(&mut self, lines: &mpsc::Receiver<String>) -> Result<()> {
        let line = loop {
            match lines.recv_timeout(START_MAX) {
                Ok(line) if line.starts_with("stillpoint ready ") => break line,
                Ok(_) => {}
                Err(reason) => bail!("no ready line ({reason}): {}\n{}", self.exit_code(), self.log_end()),
            }
        };
        line["stillpoint ready ".len()..]
            .trim()
            .trim_end_matches('/')
            .clone_into(&mut self.url);
        let authority = self.url.split("://").nth(1).context("the ready line has no URL")?;
        if self.builder.listen.is_none() {
            authority.clone_into(&mut self.listen);
        }
        if self.url.starts_with("http://") {
            let health = Api::anonymous(&self.url);
            eventually(START_MAX, "/health/ready", || {
                Ok(health.get("/health/ready").ok().filter(|a| a.status == 200))
            })?;
        }
        Ok(())
    }

    /// Keeps the directory when the daemon is dropped, as after a panic.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Sets or removes an environment variable of the daemon, from its next start on.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.builder.environment.retain(|(known, _)| known != name);
        let pair = value.map(|value| (name.to_owned(), value.to_owned()));
        self.builder.environment.extend(pair);
    }

    /// Waits until the daemon has ended by itself. [`Self::restart`] starts it again.
    ///
    /// # Errors
    /// When it does not run, or not end in time.
    pub fn wait_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the daemon does not run")?;
        let status = eventually(deadline, "the daemon to end by itself", || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status)
    }

    /// Starts a daemon that does not run and waits until it has ended by itself; whether it was ready does not matter.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub fn restart_until_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.child.is_some() {
            bail!("the daemon runs already");
        }
        let _unread = self.launch()?;
        self.wait_end(deadline)
    }

    /// Waits until the daemon has stopped itself, as by SIGSTOP.
    ///
    /// # Errors
    /// When it does not run, or not stop in time.
    pub fn wait_stopped(&mut self, deadline: Duration) -> Result<()> {
        let pid = self.pid().context("the daemon does not run")?;
        eventually(deadline, "the daemon to stop itself", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon is gone")?;
            // "pid (name) STATE ...": the name may hold anything, so it is read from its end.
            let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
            match state {
                Some("T") => Ok(Some(())),
                Some("Z") => bail!("the daemon has ended"),
                _ => Ok(None),
            }
        })
    }

    /// Lets a daemon go on that has stopped.
    ///
    /// # Errors
    /// When it does not run.
    pub fn go_on(&self) -> Result<()> {
        signal(self.pid().context("the daemon does not run")?, Signal::CONT)
    }

    /// Kills all machines and storage daemons of this daemon as a crash does; returns how many there were.
    ///
    /// # Errors
    /// When they cannot be killed.
    pub fn kill_machines(&self) -> Result<usize> {
        let machines = self.machines();
        for pid in &machines {
            signal(*pid, Signal::KILL)?;
        }
        eventually(Duration::from_secs(90), "the machines to be gone", || {
            Ok((!self.machines().iter().any(|pid| machines.contains(pid))).then_some(()))
        })?;
        Ok(machines.len())
    }

    /// Ids of its machines and storage daemons.
    #[must_use]
    pub fn machines(&self) -> Vec<u32> {
        let is_qemu = |pid: &u32| {
            command_line(*pid)
                .split(' ')
                .next()
                .is_some_and(|program| program.contains("qemu-"))
        };
        self.children().into_iter().filter(is_qemu).collect()
    }

    fn exit_code(&mut self) -> String {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => format!("it ended with {status}"),
            _ => "it still runs".to_owned(),
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
    }

    /// Looks for WARN and ERROR lines (text or JSON) in the log. Those that contain one of `allowed` are expected.
    ///
    /// # Errors
    /// When there are others; the error shows them.
    pub fn scan_log(&self, allowed: &[&str]) -> Result<()> {
        let log = fs::read(self.log_path()).context("reading the daemon's log")?;
        let log = String::from_utf8_lossy(&log);
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| is_alarm(line) && !allowed.iter().any(|text| line.contains(text)))
            .collect();
        if !bad.is_empty() {
            bail!(
                "{} unexpected lines in the daemon's log:\n{}",
                bad.len(),
                bad.join("\n")
            );
        }
        Ok(())
    }

    /// Ids of all processes but the daemon whose command line names the data directory.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        processes_naming(&self.data_dir())
            .into_iter()
            .filter(|pid| Some(*pid) != self.pid())
            .collect()
    }

    /// Process id of one guest's QEMU.
    ///
    /// # Errors
    /// When none is found.
    pub fn guest_pid(&self, vm: &str) -> Result<u32> {
        let named = |pid: &u32| {
            let line = command_line(*pid);
            line.contains("qemu-system") && line.contains(vm)
        };
        let found = self.children().into_iter().find(named);
        found.with_context(|| format!("no QEMU of VM {vm}"))
    }

    /// Stops the QEMU process of one guest (SIGSTOP): it lives and answers nothing.
    ///
    /// # Errors
    /// When none is found, or it cannot be stopped.
    pub fn hang_guest(&self, vm: &str) -> Result<()> {
        signal(self.guest_pid(vm)?, Signal::STOP)
    }

    /// Lets it go on after [`Self::hang_guest`].
    ///
    /// # Errors
    /// When none is found.
    pub fn unhang_guest(&self, vm: &str) -> Result<()> {
        signal(self.guest_pid(vm)?, Signal::CONT)
    }

    /// Kills the QEMU process of one guest as a crash does.
    ///
    /// # Errors
    /// When none is found, or it cannot be killed.
    pub fn kill_guest(&self, vm: &str) -> Result<()> {
        let pid = self.guest_pid(vm)?;
        signal(pid, Signal::KILL)?;
        eventually(Duration::from_secs(60), "QEMU to be gone", || {
            Ok((!self.children().contains(&pid)).then_some(()))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.kill9()
        {
            eprintln!("{error:#}");
        }
        let gone = eventually(Duration::from_secs(60), "the guests to be gone", || {
            let left = processes_naming(self.root());
            for pid in &left {
                signal(*pid, Signal::KILL)?;
            }
            Ok(left.is_empty().then_some(()))
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
        if (self.is_kept || std::thread::panicking())
            && let Some(directory) = self.directory.take()
        {
            eprintln!(
                "--- the daemon's log ends with\n{}",
                String::from_utf8_lossy(&tail(directory.path()))
            );
            eprintln!("--- kept: {}", directory.keep().display());
        }
    }
}

fn tail(directory: &Path) -> Vec<u8> {
    let log = fs::read(directory.join("daemon.log")).unwrap_or_default();
    log[log.len().saturating_sub(4000)..].to_vec()
}

/// Standard output, line by line, so that a deadline can be kept.
fn read_lines(output: std::process::ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Read to the end even when nobody listens any more: a full pipe would stop the daemon.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    receiver
}

/// Whether a log line, as text or as JSON, has level WARN or ERROR.
fn is_alarm(line: &str) -> bool {
    let json = line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"");
    json || line
        .split_whitespace()
        .take(2)
        .any(|word| word == "WARN" || word == "ERROR")
        || line.contains("panicked at")
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // gone meanwhile: names nothing
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn processes_naming(directory: &Path) -> Vec<u32> {
    let name = directory.to_string_lossy();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id() && command_line(*pid).contains(&*name))
        .collect()
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let raw = i32::try_from(pid).context("a process id")?;
    match kill_process(Pid::from_raw(raw).context("a process id")?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()), // it has just ended by itself
        Err(error) => Err(error).with_context(|| format!("killing process {pid}")),
    }
}

/// The directory of the running test's profile, for example `target/debug`.
pub(crate) fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("where this test lies")?;
    let found = exe
        .ancestors()
        .skip(1)
        .find(|path| path.file_name().is_none_or(|name| name != "deps"));
    found
        .map(Path::to_owned)
        .context("this test lies in no target directory")
}

/// The binary under test: `STILLPOINT_BIN`, else the one beside the running test.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("STILLPOINT_BIN") {
        return Ok(PathBuf::from(path));
    }
    let path = profile_dir()?.join("stillpoint");
    if !path.exists() {
        bail!(
            "{} is missing: run `cargo build -p stillpoint` first, or set STILLPOINT_BIN",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_found_in_text_and_json_and_nothing_else_is() {
        assert!(is_alarm("2026-01-02T03:04:05Z  WARN stillpoint: odd"));
        assert!(is_alarm("{\"timestamp\":\"x\",\"level\":\"ERROR\",\"fields\":{}}"));
        assert!(is_alarm("thread 'main' panicked at src/main.rs:1"));
        assert!(!is_alarm("2026-01-02T03:04:05Z  INFO stillpoint: the guest said ERROR"));
    }

    #[test]
    fn the_bootstrap_knows_every_test_user() {
        let text = bootstrap_text();
        for user in ["admin", "alice", "bob", "mallory"] {
            assert!(text.contains(&format!(
                "name = \"{user}\"\npassword = \"{}\"",
                Password::of(user).unwrap().0
            )));
        }
        assert!(Password::of("nobody").is_err());
    }
}
