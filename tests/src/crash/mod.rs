//! Kills, and what must be true after them: the one place that says what "nothing lost, nothing stuck" means.
//!
//! A [`World`] is a daemon with one VM that runs the demo guest on two disks. [`World::crash`] begins an operation, has
//! the daemon, the machine or both die at a named moment, lets the daemon come back, and [`World::recovered`] looks at
//! everything a user can see: states, jobs, snapshots, events, files, and the guest's own records.
//!
//! The guest is used again from case to case; its records have numbers, so what one case lost is missed at the latest
//! when the disks are read at rest ([`World::verify_at_rest`]).
//!
//! A [`Vault`] is a world that is backed up: see [`backups`].

mod backups;
mod client;
mod kill;
mod look;
mod operation;
mod random;
mod rest;
mod upload;

pub use backups::Vault;
pub use client::Stage;
pub use kill::{BackupHits, BackupKill, Fate, Kind, Layout, Told};
pub use operation::{Case, Moment, Operation, Outcome, Victim, cases};
pub use random::{Hits, Random, seeds};

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stillpoint_testkit::{Answer, Api, Console, Daemon, Guest, Refusal, VmSpec, eventually};

/// Until when everything must be in order again after a restart.
const IN_ORDER_MAX: Duration = Duration::from_secs(60);
/// Until when a guest that lives must write again after a restart. (The promise is 10 s; a busy machine gets more.)
const GOES_ON_MAX: Duration = Duration::from_secs(30);
/// Until when a crash point must have been reached.
const REACHED_MAX: Duration = Duration::from_secs(120);
/// A guest under emulation boots within this time even on a busy machine.
const BOOT_MAX: Duration = Duration::from_secs(180);
/// Snapshots beyond this are deleted between the cases.
const SNAPSHOTS_MAX: usize = 4;
const DISKS: usize = 2;
/// The one that is raw, where one is.
const RAW_DISK: usize = 1;
const DISK_BYTES: u64 = 64 << 20;
const SIGABRT: i32 = 6;

/// A daemon, one VM on two disks, and what is known of them.
#[derive(Debug)]
pub struct World {
    /// The daemon under test.
    pub daemon: Daemon,
    api: Arc<Api>,
    vm: String,
    disks: Vec<String>,
    console: Console,
    /// The newest record that the guest reported as durable on all disks.
    durable: u64,
    /// Regular snapshots that a user would expect, oldest first: id, and the record that it must hold at least.
    snapshots: Vec<(String, u64)>,
    /// Index of the newest event that was looked at.
    seen: u64,
    count: usize,
    /// Images of a disk that may be there though users do not see them: what a checkpoint holds apart.
    hidden_max: usize,
    /// The disks hold something that no snapshot does.
    is_fresh: bool,
    /// Whether a job was unfinished when a machine was last killed.
    was_busy: bool,
    /// Longest time from a restart until the guest wrote again.
    pub slowest: Duration,
}

impl World {
    /// Starts a daemon and makes the VM, which stays down.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn new() -> Result<Self> {
        Self::with_disks(DISK_BYTES, Layout::Cow)
    }

    fn with_disks(size_bytes: u64, layout: Layout) -> Result<Self> {
        let daemon = Daemon::start()?;
        let guest = Guest::build()?;
        guest.install(daemon.data_dir())?;
        let api = Arc::new(daemon.api("admin")?);
        let cmdline = guest.cmdline(&format!("sp.pause=20000 sp.every=5 sp.disks={DISKS}"))?;
        let vm = api.create_vm(&VmSpec::new("db1").cmdline(&cmdline).memory_mib(128))?;
        let mut disks = Vec::new();
        for number in 0..DISKS {
            let name = format!("db1_{number}");
            let disk = if layout == Layout::Raw && number == RAW_DISK {
                api.create_raw_disk(&name, size_bytes)?
            } else {
                api.create_disk(&name, size_bytes)?
            };
            api.attach(&vm, &disk, "virtio", number == 0)?;
            disks.push(disk);
        }
        let console = daemon.console(&vm);
        Ok(Self {
            daemon,
            api,
            vm,
            disks,
            console,
            durable: 0,
            snapshots: Vec::new(),
            seen: 0,
            count: 0,
            hidden_max: 0,
            is_fresh: false,
            was_busy: false,
            slowest: Duration::ZERO,
        })
    }

    fn vm_path(&self, rest: &str) -> String {
        format!("vms/{}{rest}", self.vm)
    }

    fn status(&self) -> Result<String> {
        let xml = self.api.get(&self.vm_path(""))?.expect(&[200])?.xml()?;
        Ok(xml.text_at("status").unwrap_or_default().to_owned())
    }

    /// Remembers what the console says is durable.
    fn note(&mut self) -> u64 {
        self.durable = self.durable.max(self.console.last_record());
        self.durable
    }

    /// The guest writes a few records from now on.
    fn await_records(&mut self, deadline: Duration) -> Result<u64> {
        let now = self.note();
        self.console.wait_record(now + 10, deadline)?;
        Ok(self.note())
    }

    /// The VM runs and its guest writes.
    ///
    /// # Errors
    /// When it does not.
    pub fn up(&mut self) -> Result<()> {
        if self.status()? == "up" {
            return Ok(());
        }
        self.api.start(&self.vm)?;
        self.await_records(BOOT_MAX).map(drop)
    }

    /// The VM is down, pulled by the plug; its disks hold every durable record.
    ///
    /// # Errors
    /// When they do not, or it does not go down.
    pub fn down(&mut self) -> Result<()> {
        if self.status()? != "down" {
            self.note();
            self.api.stop(&self.vm)?;
            self.note();
        }
        self.verify_at_rest()
    }

    /// Makes what the operation needs to be possible, and worth a test: layers that are merged or left hold data.
    fn prepare(&mut self, operation: Operation) -> Result<()> {
        self.prune()?;
        if operation.is_live() {
            self.up()?;
            while self.snapshots.len() < operation.snapshots() {
                self.take()?;
            }
            return self.await_records(GOES_ON_MAX).map(drop);
        }
        let is_enough = match operation {
            Operation::Restore => self.snapshots.len() > usize::from(!self.is_fresh),
            Operation::DeleteActive { .. } => self.is_fresh && !self.snapshots.is_empty(),
            _ => true,
        };
        if !is_enough {
            self.up()?;
            while self.snapshots.len() < SNAPSHOTS_MAX {
                self.take()?;
            }
            self.await_records(GOES_ON_MAX)?;
        }
        if self.status()? != "down" {
            self.down()?;
            self.is_fresh = true;
        }
        Ok(())
    }

    /// Deletes the oldest snapshots when there are many.
    fn prune(&mut self) -> Result<()> {
        while self.snapshots.len() > SNAPSHOTS_MAX {
            let (oldest, _) = self.snapshots.remove(0);
            self.api.delete_snapshot(&self.vm, &oldest)?;
        }
        Ok(())
    }

    /// Takes a snapshot of the running VM in peace.
    fn take(&mut self) -> Result<()> {
        let durable = self.await_records(GOES_ON_MAX)?;
        self.count += 1;
        let id = self
            .api
            .snapshot(&self.vm, &format!("peace {}", self.count), false, None)?;
        self.snapshots.push((id, durable));
        Ok(())
    }

    /// Runs one case: prepare, crash at the point, come back, look.
    ///
    /// # Errors
    /// When nothing crashed, or anything is not as promised afterwards.
    pub fn crash(&mut self, case: &Case) -> Result<Outcome> {
        self.crash_inner(case)
            .inspect_err(|_| self.daemon.keep())
            .with_context(|| case.to_string())
    }

    fn crash_inner(&mut self, case: &Case) -> Result<Outcome> {
        self.prepare(case.operation)?;
        self.seen = self.last_event()?;
        self.daemon.set_env("STILLPOINT_CRASH_AT", Some(&case.point));
        let how = if case.victim == Victim::Daemon { "abort" } else { "stop" };
        self.daemon.set_env("STILLPOINT_CRASH_HOW", Some(how));
        self.daemon.restart()?;
        self.log_in()?;
        let (attempt, api) = (self.attempt(case.operation), Arc::clone(&self.api));
        let begun = std::thread::scope(|scope| {
            let request = scope.spawn(|| attempt.begin(&api));
            let died = self.die(case);
            (request.join(), died)
        });
        let (Ok(answer), died) = begun else {
            bail!("the request panicked")
        };
        self.daemon.set_env("STILLPOINT_CRASH_AT", None);
        died.with_context(|| format!("the request was answered: {answer:?}"))?;
        if case.point == "switch:frozen" {
            self.is_frozen()?;
        }
        self.come_back(case.victim)?;
        let outcome = self.recovered(&attempt, case.victim, case.expect)?;
        if case.victim == Victim::Machine {
            attempt.is_answered(answer, outcome)?;
        }
        Ok(outcome)
    }

    /// Waits for the point and kills there.
    fn die(&mut self, case: &Case) -> Result<()> {
        if case.victim == Victim::Daemon {
            let status = self.daemon.wait_end(REACHED_MAX)?;
            ensure!(
                status.signal() == Some(SIGABRT),
                "the daemon ended with {status}, not by the crash point"
            );
            return Ok(());
        }
        self.daemon.wait_stopped(REACHED_MAX)?;
        ensure!(self.daemon.kill_machines()? > 0, "no machine was there to be killed");
        if case.victim == Victim::Both {
            self.daemon.kill9()
        } else {
            self.daemon.go_on()
        }
    }

    /// Starts what was killed, but for machines.
    fn come_back(&mut self, victim: Victim) -> Result<()> {
        if victim == Victim::Machine {
            return Ok(());
        }
        self.daemon.restart()?;
        self.log_in()
    }

    /// A connection that was kept may be one to the dead daemon.
    fn log_in(&mut self) -> Result<()> {
        self.api = Arc::new(self.daemon.api("admin")?);
        Ok(())
    }

    /// The guest was left frozen: it writes nothing.
    fn is_frozen(&self) -> Result<()> {
        let silent = Duration::from_millis(700);
        eventually(Duration::from_secs(10), "a frozen guest to be silent", || {
            let before = self.console.last_record();
            std::thread::sleep(silent); // what is looked for is that nothing happens meanwhile
            Ok((self.console.last_record() == before).then_some(()))
        })
    }

    /// A removal of a half-made snapshot that is itself interrupted at `points`, one after the other.
    ///
    /// # Errors
    /// When a point is not reached, or anything is not as promised afterwards.
    pub fn crash_again(&mut self, case: &Case, points: &[&str]) -> Result<Outcome> {
        self.prepare(case.operation)?;
        self.seen = self.last_event()?;
        self.daemon.set_env("STILLPOINT_CRASH_AT", Some(&case.point));
        self.daemon.set_env("STILLPOINT_CRASH_HOW", Some("abort"));
        self.daemon.restart()?;
        self.log_in()?;
        let attempt = self.attempt(case.operation);
        let answer = attempt.begin(&self.api); // may be lost with the daemon
        self.die(case)
            .with_context(|| format!("the request was answered: {answer:?}"))?;
        for point in points {
            self.daemon.set_env("STILLPOINT_CRASH_AT", Some(point));
            let status = self.daemon.restart_until_end(REACHED_MAX)?;
            ensure!(
                status.signal() == Some(SIGABRT),
                "{point}: the daemon ended with {status}"
            );
        }
        self.daemon.set_env("STILLPOINT_CRASH_AT", None);
        self.come_back(case.victim)?;
        self.recovered(&attempt, case.victim, case.expect)
    }

    /// The attempt that a case is about, before it is begun.
    fn attempt(&mut self, operation: Operation) -> Attempt {
        self.count += 1;
        let durable = self.note();
        let newest = self.snapshots.len().saturating_sub(1);
        let target = match operation {
            Operation::Create { .. } | Operation::Start => None,
            Operation::DeleteMiddle => self.snapshots.get(newest.saturating_sub(1)),
            Operation::Restore if !self.is_fresh => self.snapshots.get(newest.saturating_sub(1)),
            Operation::DeleteActive { .. } | Operation::Restore => self.snapshots.get(newest),
        };
        Attempt {
            operation,
            vm: self.vm.clone(),
            description: format!("case {}", self.count),
            durable,
            target: target.cloned(),
        }
    }
}

/// An operation that is begun and meets a crash.
#[derive(Debug, Clone)]
struct Attempt {
    operation: Operation,
    vm: String,
    /// Names the snapshot, as the answer may be lost.
    description: String,
    /// Newest durable record before.
    durable: u64,
    /// The snapshot that is deleted or restored.
    target: Option<(String, u64)>,
}

impl Attempt {
    /// Sends the request; returns the failure that it was answered with. Whether it was answered at all is for the
    /// caller to judge.
    fn begin(&self, api: &Api) -> Result<Option<Refusal>> {
        let answer = self.ask(api)?;
        if !matches!(self.operation, Operation::Restore | Operation::Start) {
            answer.expect(&[200, 201, 202])?;
            return Ok(None);
        }
        // An action waits a moment for its job, so its answer may tell that the job failed.
        if let Ok(refusal) = answer.refusal() {
            return Ok(Some(refusal));
        }
        let answer = answer.expect(&[200, 202])?.xml()?;
        ensure!(
            answer.text_at("status") != Some("failed"),
            "failed without an error status: {answer:?}"
        );
        Ok(None)
    }

    /// Sends the request.
    fn ask(&self, api: &Api) -> Result<Answer> {
        let target = self.target.as_ref().map_or("", |(id, _)| id);
        let path = format!("vms/{}/snapshots/{target}", self.vm);
        match self.operation {
            Operation::Create { memory, .. } => {
                let body = format!(
                    "<snapshot><description>{}</description><persist_memorystate>{memory}</persist_memorystate></snapshot>",
                    self.description
                );
                api.post(&format!("vms/{}/snapshots", self.vm), &body)
            }
            Operation::DeleteActive { .. } | Operation::DeleteMiddle => api.delete(&path),
            Operation::Restore => {
                let parameters = "<action><restore_memory>false</restore_memory></action>";
                api.post(&format!("{path}/restore"), parameters)
            }
            Operation::Start => api.post(&format!("vms/{}/start", self.vm), "<action/>"),
        }
    }

    /// A request whose daemon lived was answered, and truly: what is called failed was taken back.
    fn is_answered(&self, answer: Result<Option<Refusal>>, outcome: Outcome) -> Result<()> {
        let failure = answer.context("the request, whose daemon lived")?;
        ensure!(
            failure.is_none() || outcome == Outcome::Gone,
            "{:?} ended {outcome:?}, but the user was told {failure:?}",
            self.operation
        );
        Ok(())
    }
}

type Images = BTreeMap<String, PathBuf>;

/// Files of a machine may not grow beyond this while its memory has no room: more than its disks need, less than that.
const NO_ROOM_BYTES: u64 = 20 << 20;

impl World {
    /// A snapshot with memory of a machine whose memory file finds no room.
    ///
    /// # Errors
    /// When the guest, or the snapshot of its disks, suffers from it.
    pub fn memory_without_room(&mut self) -> Result<()> {
        self.up()?;
        let durable = self.await_records(GOES_ON_MAX)?;
        self.seen = self.last_event()?;
        self.limit_files(&format!("{NO_ROOM_BYTES}:"))?;
        let id = self.api.snapshot(&self.vm, "no room", true, None)?;
        self.limit_files("unlimited:")?;
        let xml = self
            .api
            .get(&self.vm_path(&format!("/snapshots/{id}")))?
            .expect(&[200])?
            .xml()?;
        let has_memory = xml.text_at("persist_memorystate");
        ensure!(has_memory == Some("false"), "the snapshot has a memory: {has_memory:?}");
        let lost = |event: &stillpoint_testkit::Xml| event.text_at("code") == Some("173");
        ensure!(
            self.api.events(self.seen)?.iter().any(lost),
            "no event tells that the memory was lost"
        );
        self.snapshots.push((id, durable));
        self.await_records(GOES_ON_MAX)?;
        self.no_leftovers()?;
        self.down()
    }

    /// `SOFT:` limit of the running machine's file sizes, as `prlimit` has it.
    fn limit_files(&self, limit: &str) -> Result<()> {
        let machines = self.daemon.machines();
        let [machine] = machines.as_slice() else {
            bail!("machines: {machines:?}")
        };
        let arguments = [format!("--pid={machine}"), format!("--fsize={limit}")];
        let done = std::process::Command::new("prlimit").args(arguments).output()?;
        ensure!(
            done.status.success(),
            "prlimit: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }
}
