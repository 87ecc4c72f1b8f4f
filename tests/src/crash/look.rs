//! What must be true once a daemon is back: looked for in everything that a user, or an operator, can see.

use super::{Attempt, BOOT_MAX, GOES_ON_MAX, IN_ORDER_MAX, Images, Operation, Outcome, Victim, World, client};
use crate::tool;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use stillpoint_testkit::{Xml, eventually, records::Checker};

/// `qemu-img check` ends so when all is well, and when only unused clusters are left over.
const CHECK_GOOD: [i32; 2] = [0, 3];

/// The format of an image's file, by its name.
pub(super) fn format_of(file: &Path) -> &'static str {
    if file.extension().is_some_and(|ending| ending == "raw") {
        "raw"
    } else {
        "qcow2"
    }
}

impl World {
    fn list(&self, path: &str) -> Result<Vec<Xml>> {
        Ok(self.api.get(path)?.expect(&[200])?.xml()?.children)
    }

    /// Index of the newest event.
    pub(super) fn last_event(&self) -> Result<u64> {
        let newest = self.list("events?max=1")?;
        newest.first().map_or(Ok(0), |event| Ok(event.id()?.parse()?))
    }

    fn regular(&self) -> Result<Vec<Xml>> {
        let all = self.list(&self.vm_path("/snapshots"))?;
        Ok(all
            .into_iter()
            .filter(|snapshot| snapshot.text_at("snapshot_type") == Some("regular"))
            .collect())
    }

    /// Everything is in order after a crash; returns what became of the operation.
    pub(super) fn recovered(&mut self, attempt: &Attempt, victim: Victim, expect: Option<Outcome>) -> Result<Outcome> {
        let back = Instant::now();
        let was_alive = attempt.operation.is_live() && victim == Victim::Daemon;
        if was_alive {
            self.await_records(GOES_ON_MAX)
                .context("the guest does not go on after the restart")?;
            self.slowest = self.slowest.max(back.elapsed());
        }
        self.settled(match (attempt.operation, victim) {
            (Operation::Start, _) => &["up", "down"],
            (operation, Victim::Daemon) if operation.is_live() => &["up"],
            _ => &["down"],
        })?;
        let outcome = self.outcome(attempt)?;
        ensure!(
            expect.is_none_or(|expected| expected == outcome),
            "it ended {outcome:?}, not as promised {expect:?}"
        );
        self.expect_events(attempt, outcome)?;
        if was_alive {
            self.await_records(GOES_ON_MAX)
                .context("the guest stopped afterwards")?;
        }
        self.check_images()?;
        self.verify(attempt, outcome)?;
        Ok(outcome)
    }

    /// Waits until everything is in order, and the VM in one of these states.
    pub(super) fn settled(&self, good: &[&str]) -> Result<()> {
        let mut why = String::new();
        eventually(IN_ORDER_MAX, "everything to be in order", || {
            why = self.disorder(good)?.unwrap_or_default();
            Ok(why.is_empty().then_some(()))
        })
        .with_context(|| format!("the last thing that was not: {why}"))
    }

    /// What is not in order yet.
    fn disorder(&self, good: &[&str]) -> Result<Option<String>> {
        let status = self.status()?;
        if !good.contains(&status.as_str()) {
            return Ok(Some(format!("the VM is {status}")));
        }
        for snapshot in self.list(&self.vm_path("/snapshots"))? {
            if snapshot.text_at("snapshot_status") != Some("ok") {
                return Ok(Some(format!("snapshot {snapshot:?}")));
            }
        }
        for disk in self.list("disks")? {
            if disk.text_at("status") != Some("ok") {
                return Ok(Some(format!("disk {disk:?}")));
            }
        }
        for job in self.list("jobs")? {
            if job.text_at("status") == Some("started") {
                return Ok(Some(format!("job {job:?}")));
            }
        }
        for transfer in self.list("imagetransfers")? {
            if !client::is_over(&transfer) {
                return Ok(Some(format!("image transfer {transfer:?}")));
            }
        }
        for backup in self.list(&self.vm_path("/backups"))? {
            if !["succeeded", "failed"].contains(&backup.text_at("phase").unwrap_or_default()) {
                return Ok(Some(format!("backup {backup:?}")));
            }
        }
        let machines = self.daemon.machines().len();
        if machines != usize::from(status == "up") {
            return Ok(Some(format!("{machines} machines of a VM that is {status}")));
        }
        self.leftovers()
    }

    /// Whether a job is unfinished.
    pub(super) fn has_job(&self) -> Result<bool> {
        let jobs = self.list("jobs")?;
        Ok(jobs.iter().any(|job| job.text_at("status") == Some("started")))
    }

    /// Every file has its row, and every row its file.
    pub(super) fn no_leftovers(&self) -> Result<()> {
        let mut why = None;
        eventually(IN_ORDER_MAX, "files and rows to agree", || {
            why = self.leftovers()?;
            Ok(why.is_none().then_some(()))
        })
        .with_context(|| format!("{why:?}"))
    }

    /// Files that no row names, or rows whose file is not there.
    fn leftovers(&self) -> Result<Option<String>> {
        let snapshots = self.regular()?;
        let mut named = BTreeSet::new();
        for disk in &self.disks {
            let images = self.images_of(disk)?;
            if images.len() != snapshots.len() + 1 {
                return Ok(Some(format!(
                    "disk {disk} has {} images for {} snapshots",
                    images.len(),
                    snapshots.len()
                )));
            }
            named.extend(images.into_values());
        }
        let (files, memories) = self.files()?;
        let with_memory = snapshots
            .iter()
            .filter(|snapshot| snapshot.text_at("persist_memorystate") == Some("true"));
        let with_memory = with_memory.count();
        if self.hidden_max > 0
            && let Err(error) = self.reveal(&mut named)
        {
            // A chain that is looked at while it is merged.
            return Ok(Some(format!("{error:#}")));
        }
        if files != named {
            let odd: Vec<_> = files.symmetric_difference(&named).collect();
            return Ok(Some(format!("files and rows differ in {odd:?}")));
        }
        Ok((memories != with_memory)
            .then(|| format!("{memories} memory files for {with_memory} snapshots with memory")))
    }

    /// The files of images, and how many there are of memories.
    fn files(&self) -> Result<(BTreeSet<PathBuf>, usize)> {
        let (mut files, mut memories) = (BTreeSet::new(), 0);
        for entry in std::fs::read_dir(self.daemon.data_dir().join("images"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "memory") {
                memories += 1;
            } else {
                files.insert(path);
            }
        }
        Ok((files, memories))
    }

    /// Adds the images that checkpoints hold apart, as far as there may be any: those below one that a user sees.
    fn reveal(&self, named: &mut BTreeSet<PathBuf>) -> Result<()> {
        for disk in &self.disks {
            let mut hidden = BTreeSet::new();
            for image in self.images_of(disk)?.values() {
                let image = image.to_str().context("a path")?;
                let said = tool("qemu-img", &["info", "-U", "--backing-chain", image])?;
                let chain = said.lines().filter_map(|line| line.strip_prefix("image: "));
                hidden.extend(chain.map(PathBuf::from).filter(|image| !named.contains(image)));
            }
            named.extend(hidden.into_iter().take(self.hidden_max));
        }
        Ok(())
    }

    /// A disk's images by the snapshot that holds them; the active one by its own snapshot.
    fn images_of(&self, disk: &str) -> Result<Images> {
        let mut images = Images::new();
        for image in self.list(&format!("disks/{disk}/disksnapshots?include_active=true"))? {
            let snapshot = image.find("snapshot").and_then(|snapshot| snapshot.attribute("id"));
            let path = self.file(image.id()?);
            if let Some(twice) = images.insert(snapshot.unwrap_or(image.id()?).to_owned(), path) {
                bail!("two images of one snapshot: {}", twice.display());
            }
        }
        Ok(images)
    }

    /// The images that a snapshot holds, in the guest's order.
    fn images_in(&self, snapshot: &str) -> Result<Vec<PathBuf>> {
        let find = |disk: &String| {
            let found = self.images_of(disk)?.remove(snapshot);
            found.with_context(|| format!("snapshot {snapshot} holds no image of disk {disk}"))
        };
        self.disks.iter().map(find).collect()
    }

    /// The images that the guest writes to, in its order.
    pub(super) fn active(&self) -> Result<Vec<PathBuf>> {
        let find = |disk: &String| {
            let xml = self.api.get(&format!("disks/{disk}"))?.expect(&[200])?.xml()?;
            let image = xml.text_at("image_id").context("a disk without image")?;
            Ok(self.file(image))
        };
        self.disks.iter().map(find).collect()
    }

    /// The file of an image: the one at the bottom of a raw disk is raw, all else is qcow2.
    fn file(&self, image: &str) -> PathBuf {
        let images = self.daemon.data_dir().join("images");
        let raw = images.join(format!("{image}.raw"));
        if raw.exists() {
            raw
        } else {
            images.join(format!("{image}.qcow2"))
        }
    }

    /// Whether it was carried out, by what the user sees; it is never half of it, or twice.
    pub(super) fn outcome(&mut self, attempt: &Attempt) -> Result<Outcome> {
        let regular = self.regular()?;
        let ids: Vec<String> = regular
            .iter()
            .map(|snapshot| snapshot.id().map(str::to_owned))
            .collect::<Result<_>>()?;
        let own: Vec<&Xml> = regular
            .iter()
            .filter(|snapshot| snapshot.text_at("description") == Some(&attempt.description))
            .collect();
        let outcome = match (attempt.operation, own.as_slice()) {
            (Operation::Create { .. }, []) => Outcome::Gone,
            (Operation::Create { .. }, [one]) => {
                self.snapshots.push((one.id()?.to_owned(), attempt.durable));
                self.is_fresh = attempt.operation.is_live();
                Outcome::Complete
            }
            (Operation::Create { .. }, twice) => bail!("{} snapshots of one request", twice.len()),
            (Operation::DeleteActive { .. } | Operation::DeleteMiddle, _) => {
                let (id, _) = attempt.target.as_ref().context("nothing to delete")?;
                if ids.contains(id) {
                    Outcome::Gone
                } else {
                    self.snapshots.retain(|(known, _)| known != id);
                    self.is_fresh = true;
                    Outcome::Complete
                }
            }
            (Operation::Restore, _) => self.restored(attempt)?,
            (Operation::Start, _) if self.status()? == "up" => {
                self.await_records(BOOT_MAX).context("the guest that was started")?;
                self.is_fresh = true;
                Outcome::Complete
            }
            (Operation::Start, _) => Outcome::Gone,
        };
        self.expect_snapshots()?;
        Ok(outcome)
    }

    /// The user has the snapshots that he expects.
    pub(super) fn expect_snapshots(&self) -> Result<()> {
        let regular = self.regular()?;
        let ids: BTreeSet<&str> = regular.iter().map(Xml::id).collect::<Result<_>>()?;
        let known: BTreeSet<&str> = self.snapshots.iter().map(|(id, _)| id.as_str()).collect();
        ensure!(
            known == ids,
            "the user has the snapshots {ids:?}, expected are {known:?}"
        );
        Ok(())
    }

    /// Whether the disks are those of the snapshot, wholly.
    fn restored(&mut self, attempt: &Attempt) -> Result<Outcome> {
        let (id, _) = attempt.target.as_ref().context("nothing to restore")?;
        let pairs: Vec<_> = self.active()?.into_iter().zip(self.images_in(id)?).collect();
        let mut same = 0;
        for (active, kept) in &pairs {
            let arguments = ["compare", "-U", "-f", format_of(active), "-F", format_of(kept)];
            let done = Command::new("qemu-img").args(arguments).args([active, kept]).output()?;
            match done.status.code() {
                Some(0) => same += 1,
                Some(1) => {}
                _ => bail!("qemu-img compare: {}", String::from_utf8_lossy(&done.stderr)),
            }
        }
        match same {
            0 => Ok(Outcome::Gone),
            n if n == pairs.len() => {
                // The guest goes on from there: what it reported after is of a branch that was left.
                let moment = Checker::new().check(&self.images_in(id)?)?;
                self.durable = moment.complete();
                self.console.forget()?;
                self.is_fresh = false;
                let newest = self.snapshots.iter().position(|(known, _)| known == id);
                self.snapshots.truncate(newest.context("an unknown snapshot")? + 1);
                Ok(Outcome::Complete)
            }
            n => bail!("{n} of {} disks were restored", pairs.len()),
        }
    }

    /// One event tells the end, and none tells the opposite.
    pub(super) fn expect_events(&mut self, attempt: &Attempt, outcome: Outcome) -> Result<()> {
        let codes: Vec<u32> = self
            .api
            .events(self.seen)?
            .iter()
            .filter_map(|event| event.text_at("code")?.parse().ok())
            .collect();
        let count = |code: u32| codes.iter().filter(|seen| **seen == code).count();
        let (begun, good, bad) = match attempt.operation {
            Operation::Create { .. } => (45, 68, 69),
            Operation::DeleteActive { .. } | Operation::DeleteMiddle => (342, 356, 357),
            Operation::Restore => (94, 95, 96),
            Operation::Start => (32, 32, 54),
        };
        let told = (count(good), count(bad));
        let right = match (attempt.operation, outcome) {
            // The VM may come up and end with the machine; then both are true.
            (Operation::Start, _) => told.0 <= 1 && told.1 <= 1,
            (_, Outcome::Complete) => told == (1, 0),
            // A request that never reached the disk leaves no trace, and none was promised.
            (_, Outcome::Gone) => told == (0, 1) || (told == (0, 0) && count(begun) == 0),
        };
        ensure!(right, "{outcome:?} is told by the events {codes:?}");
        Ok(())
    }

    /// No image is damaged; of a running VM those are looked at that nobody writes to.
    pub(super) fn check_images(&self) -> Result<()> {
        let active = if self.status()? == "up" { self.active()? } else { vec![] };
        let (files, _) = self.files()?;
        // Of a raw file there is nothing to check but its bytes.
        let has_tables = |path: &&PathBuf| !active.contains(path) && format_of(path) == "qcow2";
        for path in files.iter().filter(has_tables) {
            let done = Command::new("qemu-img")
                .args(["check", "-U", "-f", "qcow2"])
                .arg(path)
                .output()?;
            ensure!(
                done.status.code().is_some_and(|code| CHECK_GOOD.contains(&code)),
                "{}: {}{}",
                path.display(),
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(())
    }

    /// Snapshots hold one moment, the newest durable record before their request included; so do the disks at rest.
    pub(super) fn verify(&mut self, attempt: &Attempt, outcome: Outcome) -> Result<()> {
        if matches!(attempt.operation, Operation::Create { .. }) && outcome == Outcome::Complete {
            let (id, durable) = self.snapshots.last().context("no snapshot")?;
            Checker::new()
                .at_least(*durable)
                .check(&self.images_in(id)?)
                .context("the new snapshot")?;
        }
        if self.status()? == "down" {
            self.verify_at_rest()?;
        }
        Ok(())
    }

    /// The disks and all snapshots are whole moments, and hold every record that was known to be durable then.
    ///
    /// # Errors
    /// When they are not.
    pub fn verify_at_rest(&mut self) -> Result<()> {
        let durable = self.note();
        Checker::new()
            .at_least(durable)
            .check(&self.active()?)
            .context("the disks")?;
        for (id, durable) in &self.snapshots {
            Checker::new()
                .at_least(*durable)
                .check(&self.images_in(id)?)
                .with_context(|| format!("snapshot {id}"))?;
        }
        self.check_images()
    }
}
