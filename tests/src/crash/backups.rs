//! Kills at random moments of backups, their transfers, and what goes on beside them.
//!
//! A seed is one kill: a client makes an incremental backup, of a VM that runs or is down, meanwhile a snapshot is taken or
//! deleted, or nothing, and the daemon, all QEMU processes, or both die. Afterwards everything must be in order, the client
//! goes on with its backup if there is one, and the next backup, from the newest checkpoint that is listed, must be the
//! disks byte for byte, and one moment of the guest's records. What was downloaded before the kill is judged the same way.
//! Of a VM that is down another program reads the disks as well, and that is what a backup must be.
//!
//! Kills in uploads are in [`super::upload`].

use super::client::{Bytes, Client, Fetched, Phase, Stage, patiently};
use super::kill::{BackupKill, Fate, Kind, Layout, Told};
use super::random::next;
use super::{Attempt, BOOT_MAX, DISKS, GOES_ON_MAX, IN_ORDER_MAX, Operation, Outcome, Victim, World};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stillpoint_testkit::{Answer, Api, eventually, records::Checker};

/// Until when a client must have come to a stage: a merge may go before it.
pub(super) const STAGE_MAX: Duration = Duration::from_secs(120);
/// Checkpoints beyond this are deleted, as clients do: oldest first.
const CHECKPOINTS_MAX: usize = 3;
/// What a checkpoint holds apart: one image of each disk, below the first one that the user knows or the guest writes to.
const HIDDEN_MAX: usize = 1;
/// Small: each is downloaded twice for each kill.
const DISK_BYTES: u64 = 16 << 20;
/// From which size on a layer counts as large, for a daemon that is to take all for that.
const LARGE_FROM: &str = "STILLPOINT_LARGE_LAYER_BYTES";
/// How the daemon's log tells that it merges one so.
const ASIDE: &str = "a layer is merged beside its chain";

/// A [`World`] that is backed up, and what its client keeps.
#[derive(Debug)]
pub struct Vault {
    /// The daemon and its VM.
    pub world: World,
    /// What its disks are.
    pub layout: Layout,
    /// What the disks held at each checkpoint.
    kept: BTreeMap<String, Vec<Bytes>>,
    /// Where the ids of the backups of peace come from.
    ids: u64,
    /// The daemon takes every layer for large.
    is_large: bool,
}

/// A backup in peace.
#[derive(Debug)]
pub(super) struct Backed {
    /// The disks that were full, by number.
    pub(super) full: Vec<usize>,
    /// Why, as the event says.
    why: Option<String>,
}

impl Backed {
    /// Why a disk was not incremental, if any was not.
    fn why_full(self) -> Option<String> {
        self.why.filter(|_| !self.full.is_empty())
    }

    /// The same, where this disk is full in any case.
    pub(super) fn why_full_but(mut self, promised: usize) -> Option<String> {
        self.full.retain(|disk| *disk != promised);
        self.why_full()
    }
}

impl Vault {
    /// A running guest, and its first backup, which is full.
    ///
    /// # Errors
    /// When either fails.
    pub fn new(layout: Layout) -> Result<Self> {
        let mut world = World::with_disks(DISK_BYTES, layout)?;
        world.hidden_max = HIDDEN_MAX;
        world.up()?;
        let mut vault = Self {
            world,
            layout,
            kept: BTreeMap::new(),
            ids: u64::MAX,
            is_large: false,
        };
        ensure!(
            vault.back_up(false)?.full.len() == DISKS,
            "a backup without a checkpoint to begin from was not full"
        );
        Ok(vault)
    }

    /// Runs one kill.
    ///
    /// # Errors
    /// When anything is not as promised afterwards; the error names the seed.
    pub fn crash(&mut self, kill: BackupKill) -> Result<Told> {
        self.crash_inner(&kill)
            .inspect_err(|_| self.world.daemon.keep())
            .with_context(|| format!("{kill:?}; again: STILLPOINT_CRASH_SEED={}", kill.seed))
    }

    fn crash_inner(&mut self, kill: &BackupKill) -> Result<Told> {
        self.forget_checkpoints()?;
        self.prepare(kill)?;
        if kill.kind == Kind::Upload {
            return self.crash_upload(kill);
        }
        let asides = self.asides()?;
        self.world.seen = self.world.last_event()?;
        let attempt = kill.beside.map(|operation| self.world.attempt(operation));
        let (durable, truth) = (self.world.note(), self.truth()?);
        let from = self.newest()?.context("no checkpoint is listed")?;
        let base = self.kept.get(&from).context("a checkpoint that nobody made")?.clone();
        let (vm, disks) = (self.world.vm.clone(), self.world.disks.clone());
        let mut client = Client::new(&vm, &disks, id(kill.seed, self.world.count));
        client.from = Some((&from, &base));
        client.use_active = kill.use_active;

        let met = self.die(kill, &client, attempt.as_ref())?;
        self.world.come_back(kill.victim)?;
        let before = client.fetched();
        let had_all = client.has_all();
        if kill.forgets {
            client.forget();
        }
        let fate = self.ended(kill.victim, &client, had_all)?;
        let after = client.fetched();
        for (disk, fetched) in &before {
            let again = after.get(disk).unwrap_or(fetched);
            rebuilt_is_whole(*disk, fetched).context("what was downloaded before the kill")?;
            same(&again.whole, &fetched.whole)
                .with_context(|| format!("disk {disk} of one backup, before the kill and after"))?;
        }
        let all = before.into_iter().chain(after).collect();
        self.judge(&all, durable, truth.as_deref())
            .context("what was downloaded")?;
        let beside = self.in_order(kill, attempt.as_ref())?;

        if kill.kind == Kind::Running {
            self.world.up()?;
        } else {
            self.world.scribble(!kill.seed)?;
        }
        let full = self.back_up_next(kill.use_active)?.why_full();
        Ok(Told {
            met,
            fate,
            beside,
            aside: self.asides()? - asides,
            full,
        })
    }

    /// The VM is as the kill wants it, and its disks have changed since the last backup.
    fn prepare(&mut self, kill: &BackupKill) -> Result<()> {
        let world = &mut self.world;
        if self.is_large != kill.large {
            world.daemon.set_env(LARGE_FROM, kill.large.then_some("0"));
            world.daemon.restart()?;
            world.log_in()?;
            self.is_large = kill.large;
        }
        if kill.kind == Kind::Running {
            return world.prepare(kill.beside.unwrap_or(Operation::Create {
                memory: false,
                live: true,
            }));
        }
        world.prepare_rest(kill.beside, kill.by_guest, kill.seed)
    }

    /// Merges beside a chain that were begun so far.
    fn asides(&self) -> Result<usize> {
        let log = std::fs::read(self.world.daemon.log_path())?;
        Ok(String::from_utf8_lossy(&log).matches(ASIDE).count())
    }

    /// What the disks hold, as long as nobody changes them.
    fn truth(&mut self) -> Result<Option<Vec<Bytes>>> {
        let is_down = self.world.status()? == "down";
        is_down.then(|| self.world.contents()).transpose()
    }

    /// The backup after a kill, and everything in order after it.
    pub(super) fn back_up_next(&mut self, use_active: bool) -> Result<Backed> {
        self.world.seen = self.world.last_event()?;
        let status = self.world.status()?;
        let backed = self.back_up(use_active).context("the next backup")?;
        self.world.settled(&[&status])?;
        Ok(backed)
    }

    /// Has the client work, something go on beside it, and the victim die; returns how far the client was.
    fn die(&mut self, kill: &BackupKill, client: &Client<'_>, attempt: Option<&Attempt>) -> Result<Stage> {
        let (api, world) = (Arc::clone(&self.world.api), &mut self.world);
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| client.run(&api));
            let beside = attempt.map(|attempt| scope.spawn(|| beside(attempt, kill.beside_at, client, &api)));
            let begun = client.progress.wait(kill.stage, STAGE_MAX);
            let (met, died) = world.kill_at(kill, &client.progress);
            let (Ok(ran), Ok(answer)) = (runs.join(), beside.map_or(Ok(None), |thread| thread.join())) else {
                bail!("a request panicked")
            };
            begun?;
            died?;
            if met == Some(Stage::Over) {
                ran.context("a client that nobody disturbed")?;
            }
            // Not what it came to: that is looked at. But a daemon that lives must answer.
            if kill.victim == Victim::Machine
                && let Some(Err(error)) = answer
            {
                return Err(error.context("what goes on beside"));
            }
            met.context("the client did not begin")
        })
    }

    /// The client goes on, and learns what became of its backup.
    fn ended(&mut self, victim: Victim, client: &Client<'_>, had_all: bool) -> Result<Fate> {
        let api = &self.world.api;
        let mut phase = client.go_on(api);
        if phase.is_err() && victim != Victim::Daemon {
            // A transfer whose storage daemon is dead may not have noticed yet; another one must do.
            client.end_transfers(api)?;
            phase = client.go_on(api);
        }
        match phase.context("the client goes on")? {
            Phase::Never => Ok(Fate::Never),
            Phase::Ready => bail!("a backup that was finalized is ready"),
            Phase::Succeeded(checkpoint) => {
                // It may have lost what it had, after it had finalized: then it goes on from the checkpoint before.
                if client.has_all() {
                    self.keep(checkpoint, client);
                } else {
                    ensure!(had_all, "a backup succeeded without being downloaded");
                    self.delete_checkpoint(&checkpoint)?;
                }
                Ok(Fate::Succeeded)
            }
            Phase::Failed(reason, checkpoint) => {
                ensure!(!reason.is_empty(), "a backup that failed does not say why");
                let listed = self.checkpoints()?;
                ensure!(
                    !listed.contains(&checkpoint),
                    "the checkpoint of a backup that failed is listed"
                );
                Ok(Fate::Failed)
            }
        }
    }

    fn keep(&mut self, checkpoint: String, client: &Client<'_>) {
        let disks = client.fetched().into_values();
        let kept = disks.map(|fetched| fetched.rebuilt.unwrap_or(fetched.whole)).collect();
        self.kept.insert(checkpoint, kept);
    }

    /// What was downloaded is right: what was rebuilt is the disk, and all disks are one moment of the guest's records.
    fn judge(&self, fetched: &BTreeMap<usize, Fetched>, durable: u64, truth: Option<&[Bytes]>) -> Result<()> {
        for (disk, fetched) in fetched {
            rebuilt_is_whole(*disk, fetched)?;
            if let Some(truth) = truth {
                same(&fetched.whole, &truth[*disk]).with_context(|| format!("disk {disk}, downloaded and at rest"))?;
            }
        }
        if fetched.len() < DISKS {
            return Ok(());
        }
        let directory = self.world.daemon.data_dir().join("run/judged");
        std::fs::create_dir_all(&directory)?;
        let mut files = Vec::new();
        for (disk, fetched) in fetched {
            let path = directory.join(disk.to_string());
            std::fs::write(&path, &fetched.whole)?;
            files.push(path);
        }
        Checker::new().at_least(durable).check(&files)?;
        Ok(std::fs::remove_dir_all(&directory)?)
    }

    /// Everything is in order after the kill, and what went on beside was carried out wholly or not at all.
    fn in_order(&mut self, kill: &BackupKill, attempt: Option<&Attempt>) -> Result<Option<Outcome>> {
        let world = &mut self.world;
        let lives = (kill.kind, kill.victim) == (Kind::Running, Victim::Daemon);
        if lives {
            world
                .await_records(GOES_ON_MAX)
                .context("the guest does not go on after the restart")?;
        }
        let status = if lives { "up" } else { "down" };
        world.settled(&[status])?;
        let outcome = attempt.map(|attempt| world.outcome(attempt)).transpose()?;
        if let Some((attempt, outcome)) = attempt.zip(outcome) {
            world.expect_events(attempt, outcome)?;
            if lives {
                world.verify(attempt, outcome)?;
            } else {
                world.at_peace(|world| world.verify(attempt, outcome))?;
            }
        }
        world.expect_snapshots()?;
        world.check_images()?;
        Ok(outcome)
    }

    /// A backup in peace, from the newest checkpoint that is listed.
    fn back_up(&mut self, use_active: bool) -> Result<Backed> {
        let (vm, disks) = (self.world.vm.clone(), self.world.disks.clone());
        let from = self.newest()?;
        let base = from.as_ref().map(|from| self.kept.get(from)).map(|kept| kept.cloned());
        let base = base.map(|kept| kept.context("a checkpoint whose content nobody has"));
        let base = base.transpose()?;
        self.ids -= 1;
        let mut client = Client::new(&vm, &disks, id(self.ids, self.world.count));
        client.from = from.as_deref().zip(base.as_deref());
        client.use_active = use_active;
        let truth = self.truth()?;
        let durable = match truth {
            Some(_) => self.world.note(),
            None => self.world.await_records(BOOT_MAX)?,
        };
        client.run(&self.world.api)?;
        let Phase::Succeeded(checkpoint) = client.go_on(&self.world.api)? else {
            bail!("it did not succeed")
        };
        let fetched = client.fetched();
        self.judge(&fetched, durable, truth.as_deref())?;
        self.keep(checkpoint, &client);
        let is_full = |(disk, fetched): (&usize, &Fetched)| fetched.rebuilt.is_none().then_some(*disk);
        let full: Vec<usize> = fetched.iter().filter_map(is_full).collect();
        if full.is_empty() || from.is_none() {
            return Ok(Backed { full, why: None });
        }
        let events = self.world.api.events(self.world.seen)?;
        let why = events.iter().find(|event| event.text_at("code") == Some("10791"));
        let why = why.and_then(|event| event.text_at("description"));
        let why = why.context("a full backup that does not say why")?.to_owned();
        Ok(Backed { full, why: Some(why) })
    }

    /// The checkpoints that are listed, oldest first.
    fn checkpoints(&self) -> Result<Vec<String>> {
        let path = self.world.vm_path("/checkpoints");
        let list = self.world.api.get(&path)?.expect(&[200])?.xml()?;
        list.children
            .iter()
            .map(|checkpoint| checkpoint.id().map(str::to_owned))
            .collect()
    }

    fn newest(&self) -> Result<Option<String>> {
        Ok(self.checkpoints()?.pop())
    }

    fn delete_checkpoint(&self, checkpoint: &str) -> Result<()> {
        let (api, path) = (&self.world.api, self.world.vm_path("/checkpoints"));
        let path = format!("{path}/{checkpoint}");
        patiently(|| api.delete(&path))?.expect(&[200])?;
        eventually(IN_ORDER_MAX, "a checkpoint to be gone", || {
            Ok((api.get(&path)?.status == 404).then_some(()))
        })
    }

    /// Old checkpoints go, and what was kept of them.
    fn forget_checkpoints(&mut self) -> Result<()> {
        let listed = self.checkpoints()?;
        let (old, new) = listed.split_at(listed.len().saturating_sub(CHECKPOINTS_MAX));
        for checkpoint in old {
            self.delete_checkpoint(checkpoint)?;
        }
        self.kept.retain(|checkpoint, _| new.contains(checkpoint));
        Ok(())
    }
}

/// Sends the request from that stage on until it is let in, or the client is done.
fn beside(attempt: &Attempt, stage: Stage, client: &Client<'_>, api: &Api) -> Option<Result<Answer>> {
    if let Err(error) = client.progress.wait(stage, STAGE_MAX) {
        return Some(Err(error));
    }
    let asked = eventually(STAGE_MAX, "a free VM, or the client's end", || {
        let is_last = client.progress.now() == Some(Stage::Over);
        let answer = attempt.ask(api)?;
        Ok((answer.status != 409 || is_last).then_some(answer))
    });
    Some(asked.and_then(|answer| answer.expect(&[200, 201, 202, 409])))
}

/// An id for a backup: another one for each kill, and the same for the same seed in the same place.
fn id(seed: u64, count: usize) -> String {
    let mut state = seed ^ (count as u64).rotate_left(32);
    let (high, low) = (next(&mut state), next(&mut state));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

/// The changes, laid over what the client had, are the disk.
fn rebuilt_is_whole(disk: usize, fetched: &Fetched) -> Result<()> {
    let Some(rebuilt) = &fetched.rebuilt else { return Ok(()) };
    same(rebuilt, &fetched.whole).with_context(|| format!("disk {disk}, rebuilt and whole"))
}

/// Two contents are the same; the error tells where they are not.
pub(super) fn same(left: &[u8], right: &[u8]) -> Result<()> {
    ensure!(left.len() == right.len(), "{} and {} bytes", left.len(), right.len());
    if left == right {
        return Ok(());
    }
    let wrong: Vec<usize> = (0..left.len()).filter(|at| left[*at] != right[*at]).collect();
    bail!(
        "WRONG BYTES: {} differ, from offset {:?} to {:?}",
        wrong.len(),
        wrong.first(),
        wrong.last()
    )
}
