//! Kills in uploads: a client writes a disk of a VM that is down, and the daemon, the storage daemon, or both die.
//!
//! Afterwards the disk that existed before is there, and nothing is locked. Either the client goes on with its upload and the
//! disk is what it sent, all that was answered before the kill included; or the transfer has failed, says why, and another
//! upload makes the disk whole. Then the next backup holds all of that disk, and of the other one what changed.

use super::backups::{STAGE_MAX, Vault, same};
use super::client::{Bytes, Progress, Stage, ended, patiently, unpoisoned};
use super::kill::{BackupKill, Fate, Told};
use super::random::next;
use super::rest::FREE_FROM;
use super::{IN_ORDER_MAX, RAW_DISK, Victim, World};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use stillpoint_testkit::{Api, Xml, eventually};

/// Bytes of one request.
const PIECE_BYTES: usize = 1 << 20;
/// The disk that is uploaded into: it holds no file system, and is the raw one, where one is.
const DISK: usize = RAW_DISK;

/// A client that uploads all of a disk. It may be interrupted anywhere, and can go on where it was.
#[derive(Debug)]
struct Uploader<'a> {
    disk: &'a str,
    content: &'a [u8],
    progress: Progress,
    /// The transfer's id, once it was told.
    transfer: Mutex<Option<String>>,
    /// Pieces that were answered: they need not be sent again.
    answered: Mutex<BTreeSet<usize>>,
}

impl<'a> Uploader<'a> {
    fn new(disk: &'a str, content: &'a [u8]) -> Self {
        Self {
            disk,
            content,
            progress: Progress::default(),
            transfer: Mutex::default(),
            answered: Mutex::default(),
        }
    }

    fn run(&self, api: &Api) -> Result<()> {
        let done = self.run_inner(api);
        self.progress.reach(Stage::Over);
        done
    }

    fn run_inner(&self, api: &Api) -> Result<()> {
        self.progress.reach(Stage::Begin);
        let body = format!(
            "<image_transfer><disk id=\"{}\"/><direction>upload</direction><format>raw</format></image_transfer>",
            self.disk
        );
        let made = patiently(|| api.post("imagetransfers", &body))?.expect(&[201])?.xml()?;
        let id = made.id()?.to_owned();
        unpoisoned(&self.transfer).replace(id.clone());
        let phase = waits(api, &id)?;
        ensure!(phase == "transferring", "an upload that was begun is {phase}");
        self.go_on(api, &id)
    }

    /// Sends what was not answered yet, and finalizes.
    fn go_on(&self, api: &Api, id: &str) -> Result<()> {
        let shown = api.get(&path(id))?.expect(&[200])?.xml()?;
        let url = shown.text_at("transfer_url").context("a transfer without URL")?;
        let url = format!("/images/{}", url.rsplit('/').next().context("a URL without ticket")?);
        self.progress.reach(Stage::Transfer);
        for (number, piece) in self.content.chunks(PIECE_BYTES).enumerate() {
            if unpoisoned(&self.answered).contains(&number) {
                continue;
            }
            let first = number * PIECE_BYTES;
            let range = format!("bytes {first}-{}/*", first + piece.len() - 1);
            // As real clients do: a flush at the end, and now and then.
            let target = format!("{url}?flush={}", if number % 4 == 3 { "y" } else { "n" });
            api.send("PUT", &target, &[("Content-Range", &range)], Some(piece))?
                .expect(&[200])?;
            unpoisoned(&self.answered).insert(number);
        }
        api.send(
            "PATCH",
            &url,
            &[("Content-Type", "application/json")],
            Some(b"{\"op\": \"flush\"}"),
        )?
        .expect(&[200])?;
        self.progress.reach(Stage::End);
        api.post(&format!("{}/finalize", path(id)), "<action/>")?
            .expect(&[200])?;
        ended(api, &path(id)).map(drop)
    }
}

fn path(id: &str) -> String {
    format!("imagetransfers/{id}")
}

/// The phase of an upload once nothing happens by itself any more.
fn waits(api: &Api, id: &str) -> Result<String> {
    eventually(IN_ORDER_MAX, "an upload that waits for its client, or ends", || {
        let shown = api.get(&path(id))?.expect(&[200])?.xml()?;
        let phase = shown.text_at("phase").unwrap_or_default();
        let rests = ["transferring", "paused_system", "finished_success", "finished_failure"];
        Ok(rests.contains(&phase).then(|| phase.to_owned()))
    })
}

impl Vault {
    /// Runs one kill in an upload. The VM is down.
    pub(super) fn crash_upload(&mut self, kill: &BackupKill) -> Result<Told> {
        let known: BTreeSet<String> = self.world.transfers()?.into_iter().map(|(id, _)| id).collect();
        let before = self.world.contents()?;
        let content = changed(&before[DISK], kill.seed)?;
        let disk = self.world.disks[DISK].clone();
        let client = Uploader::new(&disk, &content);
        let met = self.die_uploading(kill, &client)?;
        self.world.come_back(kill.victim)?;
        let fate = self.upload_ended(kill, &client, &known)?;
        self.world.is_unharmed(fate).context("the disk after the kill")?;
        if fate != Fate::Succeeded {
            let again = Uploader::new(&disk, &content);
            again.run(&self.world.api).context("another upload")?;
        }
        self.world.settled(&["down"])?;
        let after = self.world.contents()?;
        same(&after[DISK], &content).context("the disk that was uploaded into")?;
        let other = 1 - DISK;
        same(&after[other], &before[other]).context("the disk that was not")?;
        self.world.at_peace(World::verify_at_rest)?;
        self.world.expect_snapshots()?;

        let backed = self.back_up_next(kill.use_active)?;
        ensure!(
            backed.full.contains(&DISK),
            "a disk that was uploaded into was incremental"
        );
        Ok(Told {
            met,
            fate,
            beside: None,
            aside: 0,
            full: backed.why_full_but(DISK),
        })
    }

    fn die_uploading(&mut self, kill: &BackupKill, client: &Uploader<'_>) -> Result<Stage> {
        let (api, world) = (Arc::clone(&self.world.api), &mut self.world);
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| client.run(&api));
            let begun = client.progress.wait(kill.stage, STAGE_MAX);
            let (met, died) = world.kill_at(kill, &client.progress);
            let Ok(ran) = runs.join() else {
                bail!("a request panicked")
            };
            begun?;
            died?;
            if met == Some(Stage::Over) {
                ran.context("a client that nobody disturbed")?;
            }
            met.context("the client did not begin")
        })
    }

    /// The client goes on, or gives up, and learns what became of its upload.
    fn upload_ended(&self, kill: &BackupKill, client: &Uploader<'_>, known: &BTreeSet<String>) -> Result<Fate> {
        let api = &self.world.api;
        let mut new = self.world.transfers()?;
        new.retain(|(id, _)| !known.contains(id));
        let [(id, _)] = new.as_slice() else {
            ensure!(new.is_empty(), "one request made {} transfers", new.len());
            let told = unpoisoned(&client.transfer).clone();
            ensure!(told.is_none(), "transfer {told:?} is not listed any more");
            return Ok(Fate::Never);
        };
        let phase = waits(api, id)?;
        let gone_on = match phase.as_str() {
            "finished_success" | "finished_failure" => Ok(()),
            _ if kill.forgets => Err(anyhow::Error::msg("its client gives it up")),
            "paused_system" => api
                .post(&format!("{}/resume", path(id)), "<action/>")?
                .expect(&[200])
                .and_then(|_| waits(api, id))
                .and_then(|phase| {
                    ensure!(phase == "transferring", "a resumed upload is {phase}");
                    client.go_on(api, id)
                }),
            _ => client.go_on(api, id),
        };
        if let Err(error) = gone_on {
            // Only with its storage daemon may what was answered be lost.
            if kill.victim == Victim::Daemon && !kill.forgets {
                return Err(error.context("the client goes on"));
            }
            let path = path(id);
            // It may end by itself at this moment.
            api.post(&format!("{path}/cancel"), "<action/>")?.expect(&[200, 409])?;
        }
        let shown = ended(api, &path(id))?;
        match shown.text_at("phase") {
            Some("finished_success") => Ok(Fate::Succeeded),
            _ => Ok(Fate::Failed),
        }
    }
}

impl World {
    /// Image transfers: id and content.
    fn transfers(&self) -> Result<Vec<(String, Xml)>> {
        let all = self.api.get("imagetransfers")?.expect(&[200])?.xml()?.children;
        all.into_iter().map(|one| Ok((one.id()?.to_owned(), one))).collect()
    }

    /// The disk is there, at its VM, and not locked; only what was uploaded by halves is told to be of no use.
    fn is_unharmed(&self, fate: Fate) -> Result<()> {
        let good: &[&str] = if fate == Fate::Failed {
            &["ok", "illegal"]
        } else {
            &["ok"]
        };
        eventually(IN_ORDER_MAX, "a disk that is not locked", || {
            let shown = self
                .api
                .get(&format!("disks/{}", self.disks[DISK]))?
                .expect(&[200])?
                .xml()?;
            let status = shown.text_at("status").unwrap_or_default();
            Ok((good.contains(&status) && !self.has_job()?).then_some(()))
        })?;
        let attached = self.api.get(&self.vm_path("/diskattachments"))?.expect(&[200])?.xml()?;
        let count = attached.children.len();
        ensure!(count == self.disks.len(), "the VM has {count} disks");
        Ok(())
    }
}

/// The same disk, the part without records filled anew: no two pieces of it are equal.
fn changed(content: &[u8], seed: u64) -> Result<Bytes> {
    let mut state = !seed;
    let mut content = content.to_vec();
    let free = content.get_mut(usize::try_from(FREE_FROM)?..).context("a small disk")?;
    for word in free.chunks_exact_mut(size_of::<u64>()) {
        word.copy_from_slice(&next(&mut state).to_le_bytes());
    }
    Ok(content)
}
