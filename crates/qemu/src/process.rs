//! The only place that starts processes, and that ends them.
//!
//! Long-lived ones (QEMU, storage daemons) outlive the daemon: they run in a session of their own, so neither Ctrl-C
//! nor a hang-up of the daemon's terminal reaches them, with a cleared environment, no inherited descriptor (the
//! standard library opens all of ours close-on-exec), and their output in a file. The session is made by util-linux's
//! `setsid` program, which executes the real one in its place: the pid stays, and no `unsafe` pre-exec hook is needed.
//!
//! A process is known by pid, start time and boot id together, and held by a pidfd: its end is an event, and a signal
//! can never hit a stranger that got the same pid later (`pidfd_open(2)`).

use crate::{failure::io_failed, layout::RunDir};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::{
    ffi::OsStr,
    fs, io,
    os::fd::OwnedFd,
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, ProcessRecord};
use tokio::{
    io::{AsyncWriteExt, Interest, unix::AsyncFd},
    process::Command,
    time::timeout,
};

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A live process that we hold a pidfd of.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    record: ProcessRecord,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Takes hold of the recorded process. `None`: it is gone (or the pid is now a stranger's).
    pub(crate) fn open(record: &ProcessRecord) -> Driven<Option<Self>> {
        const OP: &str = "find process";
        if boot_id()? != record.boot_id {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(process_failed(OP, record.pid, error.into())),
        };
        // Checked after the pidfd is held: if the start time fits now, the pidfd is of that very process.
        if start_ticks(record.pid)? != Some(record.start_ticks) {
            return Ok(None);
        }
        let pidfd = watched(pidfd).map_err(|e| process_failed(OP, record.pid, e))?;
        Ok(Some(Self {
            record: record.clone(),
            pidfd: Arc::new(pidfd),
        }))
    }

    pub(crate) fn record(&self) -> &ProcessRecord {
        &self.record
    }

    /// Returns when the process has ended; its image locks are free by then (the kernel closes files first).
    pub(crate) async fn ended(&self) {
        if let Err(error) = self.pidfd.readable().await {
            // Only when the runtime is shutting down: nobody is left to be told.
            tracing::debug!(%error, "pidfd cannot be awaited");
        }
    }

    /// [`Self::ended`] with a deadline: whether it ended.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        timeout(limit, self.ended()).await.is_ok()
    }

    /// SIGKILL, to this very process.
    pub(crate) fn kill(&self) -> Driven<()> {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(process_failed("kill process", self.record.pid, error.into())),
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound only for types whose descriptor changes; an OwnedFd's never does, and the replacement is unsafe"
)]
fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn process_failed(op: &'static str, pid: u32, error: io::Error) -> DriverError {
    DriverError::new(DriverErrorKind::Io, op, format!("pid {pid}")).caused_by(error)
}

/// The host's boot id (`random(4)`).
pub(crate) fn boot_id() -> Driven<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|e| io_failed("read boot id", path, e))?;
    Ok(text.trim().to_owned())
}

/// Field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`); `None` when there is no such process, or only its zombie.
fn start_ticks(pid: u32) -> Driven<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // ESRCH: it ended between open and read.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(3) => return Ok(None),
        Err(e) => return Err(io_failed("read start time", Path::new(&path), e)),
    };
    Ok(parse_start_ticks(&text))
}

/// The second field, the program's name, may hold blanks and parentheses: count from the last one.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok() // state is field 3, the start time field 22
}

/// Starts a long-lived process with its output in the run directory's log, and with nothing in its environment but the
/// search path, the locale and `settings`.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[String],
    settings: &[(&str, &str)],
    run_dir: &RunDir,
    input: Stdio,
) -> Driven<Process> {
    const OP: &str = "start process";
    let path = run_dir.log();
    let log = fs::File::create(&path).map_err(|e| io_failed(OP, &path, e))?;
    let errors = log.try_clone().map_err(|e| io_failed(OP, &path, e))?;
    let mut child = Command::new("setsid")
        .arg("--")
        .arg(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .envs(settings.iter().copied())
        .current_dir("/")
        .stdin(input)
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|e| io_failed(OP, Path::new("setsid"), e))?;
    let gone = || DriverError::new(DriverErrorKind::Disconnected, OP, "it ended at once");
    let pid = child.id().ok_or_else(gone)?;
    let record = ProcessRecord {
        pid,
        start_ticks: start_ticks(pid)?.ok_or_else(gone)?,
        boot_id: boot_id()?,
    };
    let process = Process::open(&record)?.ok_or_else(gone)?;
    // Reaps it, so that no zombie stays; its end is told by the pidfd.
    drop(tokio::spawn(async move {
        if let Err(error) = child.wait().await {
            tracing::debug!(%error, pid, "cannot reap");
        }
    }));
    Ok(process)
}

/// The process that belongs to a run directory: by QEMU's pid file, else (a crash before QEMU wrote it) by looking
/// through the process table for one whose command line names the directory.
pub(crate) fn find(run_dir: &RunDir) -> Driven<Option<Process>> {
    const OP: &str = "find process";
    let by_file = match fs::read_to_string(run_dir.pid()) {
        Ok(text) => text.trim().parse().ok(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_failed(OP, &run_dir.pid(), e)),
    };
    if let Some(process) = by_file.map(|pid| open_if_ours(pid, run_dir)).transpose()?.flatten() {
        return Ok(Some(process));
    }
    let table = Path::new("/proc");
    for entry in fs::read_dir(table).map_err(|e| io_failed(OP, table, e))? {
        let name = entry.map_err(|e| io_failed(OP, table, e))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(process) = open_if_ours(pid, run_dir)? {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

fn open_if_ours(pid: u32, run_dir: &RunDir) -> Driven<Option<Process>> {
    let Some(start_ticks) = start_ticks(pid)? else {
        return Ok(None);
    };
    // Unreadable is another account's or gone: not ours in both cases.
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let pid_file = run_dir.pid();
    let ours = pid_file.as_os_str().as_encoded_bytes();
    if !command_line.split(|byte| *byte == 0).any(|argument| argument == ours) {
        return Ok(None);
    }
    Process::open(&ProcessRecord {
        pid,
        start_ticks,
        boot_id: boot_id()?,
    })
}

/// Runs a short-lived program to its end, with `input` on its standard input. Killed at the deadline.
pub(crate) async fn run_to_end(program: &Path, arguments: &[&OsStr], input: &str, limit: Duration) -> Driven<Output> {
    const OP: &str = "run program";
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| io_failed(OP, program, e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is judged by its exit code, not by this.
        let _written = stdin.write_all(input.as_bytes()).await;
    }
    match timeout(limit, child.wait_with_output()).await {
        Err(_elapsed) => Err(DriverError::new(
            DriverErrorKind::Timeout,
            OP,
            format!("{} did not end within {limit:?}", program.display()),
        )),
        Ok(output) => output.map_err(|e| io_failed(OP, program, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_a_hostile_program_name() {
        let fields = (4..=21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            parse_start_ticks(&format!("7 (a) R 1 (b) c) S {fields} 777 23")),
            Some(777)
        );
        assert_eq!(parse_start_ticks(&format!("7 (q) Z {fields} 777 23")), None);
        for broken in ["", "7 (q", "7 (q) S", "7 (q) S x"] {
            assert_eq!(parse_start_ticks(broken), None, "{broken}");
        }
    }

    #[tokio::test]
    async fn a_reused_pid_is_never_taken_for_ours() {
        let pid = std::process::id();
        let ticks = start_ticks(pid).unwrap().unwrap();
        let record = |start_ticks, boot_id| ProcessRecord {
            pid,
            start_ticks,
            boot_id,
        };
        assert!(
            Process::open(&record(ticks, boot_id().unwrap())).unwrap().is_some(),
            "this very process is found"
        );
        assert!(Process::open(&record(ticks + 1, boot_id().unwrap())).unwrap().is_none());
        assert!(
            Process::open(&record(ticks, "before the reboot".to_owned()))
                .unwrap()
                .is_none()
        );
    }
}
