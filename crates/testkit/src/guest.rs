//! The demo guest for tests: built once per state of its sources, its console read as facts.
//!
//! The guest itself is `scripts/demo-guest` and `guest/`. What the lines on its console mean is written at the top of
//! `guest/record_writer.c`. A console file that a new start of the VM truncates, or appends to, is read right both
//! ways: the newest line counts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{daemon, eventually};

const FILES: [&str; 3] = ["vmlinuz", "initramfs.img", "cmdline"];

/// A built demo guest.
#[derive(Debug, Clone)]
pub struct Guest {
    directory: PathBuf,
}

impl Guest {
    /// Builds the guest, or finds the one that was built from the same sources.
    ///
    /// # Errors
    /// When a package is missing; the error names it.
    pub fn build() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut hash = Sha256::new();
        for source in [
            "scripts/demo-guest",
            "guest/init",
            "guest/shutdown",
            "guest/bad_agent",
            "guest/record_writer.c",
        ] {
            hash.update(fs::read(root.join(source)).with_context(|| format!("reading {source}"))?);
        }
        let profile = daemon::profile_dir()?;
        let cache = profile.parent().context("a target directory")?.join("demo-guest");
        fs::create_dir_all(&cache)?;
        let lock = File::create(cache.join("lock"))?;
        lock.lock().context("locking the guest's directory")?;
        let directory = cache.join(&HEXLOWER.encode(&hash.finalize())[..16]);
        if !FILES.iter().all(|name| directory.join(name).exists()) {
            let done = Command::new(root.join("scripts/demo-guest")).arg(&directory).output()?;
            if !done.status.success() {
                bail!("scripts/demo-guest: {}", String::from_utf8_lossy(&done.stderr));
            }
        }
        Ok(Self { directory })
    }

    /// Where `vmlinuz`, `initramfs.img` and `cmdline` lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies kernel and initramfs into `boot/` of a daemon's data directory, where a VM's `<os>` names them.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn install(&self, data_dir: impl AsRef<Path>) -> Result<()> {
        let boot = data_dir.as_ref().join("boot");
        fs::create_dir_all(&boot)?;
        for name in FILES {
            fs::copy(self.directory.join(name), boot.join(name)).with_context(|| format!("copying {name}"))?;
        }
        Ok(())
    }

    /// The guest's kernel command line with options (`sp.pause=US` and others, see `guest/init`) added.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cmdline(&self, options: &str) -> Result<String> {
        let fixed = fs::read_to_string(self.directory.join("cmdline")).context("reading the guest's cmdline")?;
        Ok(format!("{} {options}", fixed.trim()).trim_end().to_owned())
    }
}

/// What the guest says about its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLine {
    /// Random per boot: another one means that the guest was started anew.
    pub boot: String,
    /// Records written since that boot; a memory restore sets it back, and it goes on from there.
    pub count: u64,
    /// Number of the record before this line: durable on all disks.
    pub last: u64,
}

/// A guest's serial console, kept by the daemon in a file.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    /// The console kept in `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All complete lines so far; empty when there is no file yet.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .map(|line| line.trim_end_matches('\r').to_owned())
            .collect()
    }

    /// Removes the file, so that what a guest said that is down by now counts no more.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether any complete line contains `text`.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    fn newest(&self, word: &str, fields: usize) -> Option<Vec<String>> {
        let lines = self.lines();
        let found = lines
            .iter()
            .rev()
            .map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        found.into_iter().find(|line| line.len() == fields && line[0] == word)
    }

    /// Number of the newest record reported as durable on all disks; 0 before the first report.
    #[must_use]
    pub fn last_record(&self) -> u64 {
        self.newest("REC", 4).and_then(|line| line[1].parse().ok()).unwrap_or(0)
    }

    /// The newest `MEMORY` line.
    #[must_use]
    pub fn memory(&self) -> Option<MemoryLine> {
        let line = self.newest("MEMORY", 4)?;
        Some(MemoryLine {
            boot: line[1].clone(),
            count: line[2].parse().ok()?,
            last: line[3].parse().ok()?,
        })
    }

    /// Longest time between two records that the guest itself saw since record `since`, in milliseconds.
    ///
    /// The guest's clock stands while its vCPUs are stopped; see [`PauseMeter`] for that.
    #[must_use]
    pub fn longest_gap_ms(&self, since: u64) -> f64 {
        let lines = self.lines();
        let gaps = lines.iter().filter_map(|line| {
            let mut fields = line.strip_prefix("REC ")?.split(' ');
            let number: u64 = fields.next()?.parse().ok()?;
            (number > since).then(|| fields.nth(1)?.parse::<f64>().ok()).flatten()
        });
        gaps.fold(0.0, f64::max)
    }

    /// How often the guest reported a start of its writer, over all starts that the file still knows.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.starts_with("RECORDS go on after "))
            .count()
    }

    /// Waits until record `number` or a later one is reported, and returns the newest.
    ///
    /// # Errors
    /// When it does not come in time, or the guest says that something failed.
    pub fn wait_record(&self, number: u64, deadline: Duration) -> Result<u64> {
        eventually(deadline, &format!("record {number} on {}", self.path.display()), || {
            self.fail_on_trouble()?;
            Ok(Some(self.last_record()).filter(|last| *last >= number))
        })
    }

    /// Waits until a complete line contains `text`.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn wait_text(&self, text: &str, deadline: Duration) -> Result<()> {
        eventually(deadline, &format!("{text:?} on {}", self.path.display()), || {
            Ok(self.contains(text).then_some(()))
        })
    }

    /// Fails when the guest reported a failed write, memory that changed, or a kernel panic.
    ///
    /// # Errors
    /// The guest's own line.
    pub fn fail_on_trouble(&self) -> Result<()> {
        let trouble = [
            "FAILED ",
            "LOAD CORRUPT",
            "Kernel panic",
            "RECORDS of the disks are from different moments",
        ];
        match self
            .lines()
            .iter()
            .find(|line| trouble.iter().any(|text| line.contains(text)))
        {
            Some(line) => bail!("the guest says: {line}"),
            None => Ok(()),
        }
    }

    /// Begins to watch from outside how long the guest says nothing. Boot it with `sp.every=1 sp.pause=1000`.
    #[must_use]
    pub fn pause_meter(&self) -> PauseMeter {
        PauseMeter::start(self.path.clone())
    }
}

/// Measures pauses of a whole guest, vCPUs included, by the host's clock: the longest silence of its console.
#[derive(Debug)]
pub struct PauseMeter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Instant>>>,
}

impl PauseMeter {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut size, mut beats) = (0, Vec::new());
            while !asked.load(Ordering::Relaxed) {
                let now = fs::metadata(&path).map_or(0, |meta| meta.len());
                if now != size {
                    size = now;
                    beats.push(Instant::now());
                }
                std::thread::sleep(Duration::from_millis(1)); // the resolution of the measurement
            }
            beats
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the measurement; returns the longest silence that touched the time from `from` to `to`.
    ///
    /// # Errors
    /// When the console said nothing at all meanwhile.
    pub fn longest_between(mut self, from: Instant, to: Instant) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already ended")?;
        let Ok(beats) = thread.join() else {
            bail!("the measuring thread panicked")
        };
        let gaps = beats
            .windows(2)
            .filter(|pair| pair[1] >= from && pair[0] <= to)
            .map(|pair| pair[1] - pair[0]);
        gaps.max().context("the console was silent")
    }
}

impl Drop for PauseMeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_lines_of_a_console_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let console = Console::new(&path);
        assert_eq!((console.last_record(), console.memory()), (0, None));
        let text = "GUEST UP\r\nRECORDS go on after 0 on 2 disks\r\nREC 50 900 7.5\r\nMEMORY ab 50 50\r\n\
                    REC 100 1500 20.5\r\nMEMORY ab 100 100\r\nREC 150 9";
        fs::write(&path, text).unwrap();
        assert_eq!(console.last_record(), 100);
        assert_eq!(
            console.memory().unwrap(),
            MemoryLine {
                boot: "ab".to_owned(),
                count: 100,
                last: 100
            }
        );
        assert!((console.longest_gap_ms(0) - 20.5).abs() < 0.01 && console.longest_gap_ms(100) < 0.01);
        assert_eq!(console.starts(), 1);
        assert!(console.fail_on_trouble().is_ok());
        fs::write(&path, "FAILED write of a record: No space left on device\n").unwrap();
        assert!(
            console
                .wait_record(1, Duration::from_secs(1))
                .unwrap_err()
                .root_cause()
                .to_string()
                .contains("space")
        );
    }
}
