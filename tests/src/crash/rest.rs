//! A VM at rest: its disks are changed by a tool and read by another one, and its machine is the storage daemon that is at work on them.

use super::client::{Bytes, Progress, Stage};
use super::kill::{BackupKill, Kind};
use super::look::format_of;
use super::random::next;
use super::{GOES_ON_MAX, IN_ORDER_MAX, Operation, Victim, World};
use crate::tool;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the guest keeps nothing on its disks but the first: beyond the ring of records.
pub(super) const FREE_FROM: u64 = 8 << 20;
/// As large as that is, in clusters of 64 KiB.
const FREE_CLUSTERS: u64 = 127;
const CLUSTER: u64 = 64 << 10;
/// The first sector belongs to no file system: ext4 begins behind it.
const SECTOR: u64 = 512;
/// Pieces that a tool writes to a disk.
const PIECES: u64 = 6;
/// Time between two looks for a storage daemon, short against its life.
const LOOK: Duration = Duration::from_millis(1);

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path")
}

impl World {
    /// The VM is down, with what `operation` needs, and everything is in order.
    pub(super) fn prepare_rest(&mut self, operation: Option<Operation>, by_guest: bool, seed: u64) -> Result<()> {
        self.prune()?;
        if by_guest {
            self.up()?;
            self.await_records(GOES_ON_MAX)?;
        }
        if self.status()? != "down" {
            self.down()?;
            self.is_fresh = true;
        }
        self.settled(&["down"])?;
        if operation.is_some_and(|operation| self.snapshots.len() < operation.snapshots()) {
            let durable = self.note();
            self.count += 1;
            let id = self
                .api
                .snapshot(&self.vm, &format!("rest {}", self.count), false, None)?;
            self.snapshots.push((id, durable));
        }
        if !by_guest {
            self.scribble(seed)?;
        }
        Ok(())
    }

    /// Looks at files, or writes to them, again as long as a merge has changed meanwhile which ones there are: what nothing
    /// keeps apart any more is merged when nobody asks for it.
    pub(super) fn at_peace<T>(&mut self, mut look: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            self.settled(&["down"])?;
            let (before, looked) = (self.active()?, look(self));
            let is_same = before == self.active()? && !self.has_job()?;
            if is_same || begun.elapsed() > IN_ORDER_MAX {
                return looked;
            }
        }
    }

    /// A tool writes into the disks of the VM that is down, where no record is.
    pub(super) fn scribble(&mut self, seed: u64) -> Result<()> {
        self.at_peace(|world| world.scribble_now(seed))?;
        self.is_fresh = true;
        Ok(())
    }

    fn scribble_now(&self, seed: u64) -> Result<()> {
        let mut state = seed;
        let mut below = |n: u64| next(&mut state) % n;
        for (disk, file) in self.active()?.iter().enumerate() {
            let pattern = 1 + below(255);
            let mut commands = vec![format!("write -P {pattern} 0 {SECTOR}")];
            if disk > 0 {
                commands.clear();
                for _ in 0..PIECES {
                    let at = FREE_FROM + below(FREE_CLUSTERS) * CLUSTER + below(CLUSTER / SECTOR) * SECTOR;
                    let (kind, length) = (below(4), (1 + below(CLUSTER / SECTOR)) * SECTOR);
                    commands.push(match kind {
                        0 => format!("write -z {at} {length}"),
                        _ => format!("write -P {pattern} {at} {length}"),
                    });
                }
            }
            let mut arguments = vec!["-f", format_of(file)];
            arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
            arguments.push(text(file)?);
            tool("qemu-io", &arguments)?;
        }
        Ok(())
    }

    /// What the disks of a VM that is down hold, read by nobody of ours.
    pub(super) fn contents(&mut self) -> Result<Vec<Bytes>> {
        self.at_peace(|world| world.contents_now())
    }

    fn contents_now(&self) -> Result<Vec<Bytes>> {
        let copy = self.daemon.data_dir().join("run/content");
        let mut all = Vec::new();
        for file in self.active()? {
            let (format, from, to) = (format_of(&file), text(&file)?, text(&copy)?);
            tool("qemu-img", &["convert", "-U", "-f", format, "-O", "raw", from, to])?;
            all.push(std::fs::read(&copy)?);
        }
        std::fs::remove_file(&copy)?;
        Ok(all)
    }

    /// Kills at the random moment. Returns how far the client was; it counts as done if there was nothing that could die.
    pub(super) fn kill_at(&mut self, kill: &BackupKill, client: &Progress) -> (Option<Stage>, Result<()>) {
        if kill.kind == Kind::Running || kill.victim != Victim::Machine {
            std::thread::sleep(kill.delay); // the random moment itself
            return (client.now(), self.kill(kill.victim));
        }
        match self.kill_storage_daemon(client, kill.delay) {
            Ok(met) => (met, Ok(())),
            Err(error) => (client.now(), Err(error)),
        }
    }

    /// Kills the first storage daemon that is there before the client is done, some time later. Returns how far the
    /// client was.
    fn kill_storage_daemon(&mut self, client: &Progress, delay: Duration) -> Result<Option<Stage>> {
        let begun = Instant::now();
        while !self.has_storage_daemon() {
            if client.now() == Some(Stage::Over) {
                return Ok(Some(Stage::Over));
            }
            ensure!(
                begun.elapsed() < IN_ORDER_MAX * 2,
                "neither a storage daemon nor the client's end"
            );
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(delay); // the random moment itself
        let met = if self.has_storage_daemon() {
            client.now()
        } else {
            Some(Stage::Over)
        };
        self.kill(Victim::Machine)?;
        Ok(met)
    }

    fn has_storage_daemon(&self) -> bool {
        let is_one = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
            program.ends_with(b"qemu-storage-daemon")
        };
        self.daemon.machines().iter().any(is_one)
    }
}
