//! A backup's client: it begins one, downloads it, and ends it, each step as a real one does, and knows how far it got.
//!
//! It judges nothing: what it was given is looked at by [`super::backups`]. It may be interrupted anywhere, by the end of
//! the daemon that it talks to or of the process that reads, and can go on where it was ([`Client::go_on`]).

use super::IN_ORDER_MAX;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stillpoint_testkit::{Answer, Api, Xml, eventually};

/// Content of a disk.
pub(super) type Bytes = Vec<u8>;

/// Bytes that are asked for at once.
const PIECE_BYTES: u64 = 4 << 20;

/// How far a client is. Each begins with a request of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The backup is begun, until it is ready.
    Begin,
    /// Its disks are downloaded.
    Transfer,
    /// It is finalized, which merges.
    End,
    /// The client is done, well or not.
    Over,
}

/// How far a client is, told to others.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reached: Mutex<Option<Stage>>,
    changed: Condvar,
}

impl Progress {
    /// The farthest stage.
    pub(super) fn now(&self) -> Option<Stage> {
        *unpoisoned(&self.reached)
    }

    pub(super) fn reach(&self, stage: Stage) {
        let mut reached = unpoisoned(&self.reached);
        *reached = (*reached).max(Some(stage));
        self.changed.notify_all();
    }

    /// Waits until it is that far, or over.
    pub(super) fn wait(&self, stage: Stage, deadline: Duration) -> Result<()> {
        let before = |reached: &mut Option<Stage>| *reached < Some(stage);
        let waited = self
            .changed
            .wait_timeout_while(unpoisoned(&self.reached), deadline, before);
        let timeout = waited.unwrap_or_else(PoisonError::into_inner).1;
        ensure!(
            !timeout.timed_out(),
            "the client did not come to {stage:?} in {deadline:?}"
        );
        Ok(())
    }
}

/// A panic of the other thread is reported by its own end.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was downloaded of one disk.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    /// All of it.
    pub(super) whole: Bytes,
    /// What changed, laid over what the client had; `None` when all of it was to be downloaded.
    pub(super) rebuilt: Option<Bytes>,
}

/// Where a backup is, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request for it was heard.
    Never,
    /// It waits for its client.
    Ready,
    /// It ended well, and left this checkpoint.
    Succeeded(String),
    /// It ended badly, with this reason and without this checkpoint.
    Failed(String, String),
}

/// A client and its backup.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) vm: &'a str,
    pub(super) disks: &'a [String],
    /// Id of the backup. The client chooses it: it must find its backup again when the answer is lost.
    pub(super) id: String,
    /// The checkpoint to begin from, and what the disks held there.
    pub(super) from: Option<(&'a str, &'a [Bytes])>,
    pub(super) use_active: bool,
    pub(super) progress: Progress,
    /// What was downloaded completely, by the disk's number.
    fetched: Mutex<BTreeMap<usize, Fetched>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(vm: &'a str, disks: &'a [String], id: String) -> Self {
        Self {
            vm,
            disks,
            id,
            from: None,
            use_active: false,
            progress: Progress::default(),
            fetched: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> String {
        format!("vms/{}/backups/{}", self.vm, self.id)
    }

    /// What it has so far, by the disk's number.
    pub(super) fn fetched(&self) -> BTreeMap<usize, Fetched> {
        unpoisoned(&self.fetched).clone()
    }

    pub(super) fn has_all(&self) -> bool {
        unpoisoned(&self.fetched).len() == self.disks.len()
    }

    /// Forgets what it has, as if it had crashed as well.
    pub(super) fn forget(&self) {
        unpoisoned(&self.fetched).clear();
    }

    /// The whole backup.
    pub(super) fn run(&self, api: &Api) -> Result<()> {
        let done = self.begin(api).and_then(|()| self.go_on(api)).map(drop);
        self.progress.reach(Stage::Over);
        done
    }

    /// Whatever is left to do of a backup that was begun; returns how it ended.
    pub(super) fn go_on(&self, api: &Api) -> Result<Phase> {
        let phase = self.phase(api)?;
        if phase != Phase::Ready {
            return Ok(phase);
        }
        self.progress.reach(Stage::Transfer);
        for disk in 0..self.disks.len() {
            if !unpoisoned(&self.fetched).contains_key(&disk) {
                let fetched = self
                    .fetch(api, disk)
                    .with_context(|| format!("downloading disk {disk}"))?;
                unpoisoned(&self.fetched).insert(disk, fetched);
            }
        }
        self.end_transfers(api)?;
        self.progress.reach(Stage::End);
        api.post(&format!("{}/finalize", self.path()), "<action/>")?
            .expect(&[200])?;
        self.phase(api)
    }

    /// Where the backup is once nothing happens by itself any more, which must be soon.
    fn phase(&self, api: &Api) -> Result<Phase> {
        let mut last = None;
        let found = eventually(IN_ORDER_MAX, "a backup to be ready, or to end", || {
            let answer = api.get(&self.path())?;
            if answer.status == 404 {
                return Ok(Some(Phase::Never));
            }
            let backup = answer.expect(&[200])?.xml()?;
            let text = |name: &str| backup.text_at(name).unwrap_or_default().to_owned();
            last = Some(text("phase"));
            Ok(match text("phase").as_str() {
                "ready" => Some(Phase::Ready),
                "succeeded" => Some(Phase::Succeeded(text("to_checkpoint_id"))),
                "failed" => Some(Phase::Failed(text("comment"), text("to_checkpoint_id"))),
                _ => None,
            })
        });
        found.with_context(|| format!("backup {} is {last:?}", self.id))
    }

    /// Begins it; as long as something else has the VM it asks again.
    fn begin(&self, api: &Api) -> Result<()> {
        self.progress.reach(Stage::Begin);
        let disks: String = self.disks.iter().map(|disk| format!("<disk id=\"{disk}\"/>")).collect();
        let from = self.from.map_or_else(String::new, |(checkpoint, _)| {
            format!("<from_checkpoint_id>{checkpoint}</from_checkpoint_id>")
        });
        let body = format!("<backup id=\"{}\">{from}<disks>{disks}</disks></backup>", self.id);
        let path = format!("vms/{}/backups?use_active={}", self.vm, self.use_active);
        patiently(|| api.post(&path, &body))?.expect(&[201])?;
        Ok(())
    }

    /// Downloads one disk: what changed, by ranges, and all of it, through one ticket.
    fn fetch(&self, api: &Api, number: usize) -> Result<Fetched> {
        let disk = &self.disks[number];
        let shown = api
            .get(&format!("{}/disks/{disk}", self.path()))?
            .expect(&[200])?
            .xml()?;
        let size = shown.text_at("provisioned_size").context("a disk without size")?;
        let size: u64 = size.parse()?;
        let (transfer, url) = self.open(api, disk)?;
        let extents = api.send("GET", &format!("{url}/extents?context=dirty"), &[], None)?;
        let rebuilt = match shown.text_at("backup_mode") {
            Some("full") => {
                extents.expect(&[404]).context("the changes of a disk that is full")?;
                None
            }
            Some("incremental") => {
                let (_, base) = self.from.context("an incremental disk of a full backup")?;
                Some(overlay(api, &url, &base[number], &extents.expect(&[200])?, size)?)
            }
            mode => bail!("backup mode {mode:?}"),
        };
        let mut whole = Bytes::new();
        read(api, &url, 0, size, &mut whole)?;
        let path = format!("imagetransfers/{transfer}");
        api.post(&format!("{path}/finalize"), "<action/>")?.expect(&[200])?;
        let shown = ended(api, &path)?;
        let phase = shown.text_at("phase");
        ensure!(phase == Some("finished_success"), "a transfer ended {phase:?}");
        Ok(Fetched { whole, rebuilt })
    }

    /// The transfers of this backup that are not over.
    fn transfers(&self, api: &Api) -> Result<Vec<Xml>> {
        let all = api.get("imagetransfers")?.expect(&[200])?.xml()?;
        let is_open = |transfer: &Xml| {
            let of = transfer.find("backup").and_then(|backup| backup.attribute("id"));
            of == Some(&self.id) && !is_over(transfer)
        };
        Ok(all.children.into_iter().filter(is_open).collect())
    }

    /// A transfer of a disk that answers, and the path of its ticket: the one that was begun, if it lives, or a new one.
    fn open(&self, api: &Api, disk: &str) -> Result<(String, String)> {
        let old = self.transfers(api)?;
        let mut old = old.iter().filter(|transfer| {
            let of = transfer.find("disk").and_then(|disk| disk.attribute("id"));
            of == Some(disk) && transfer.text_at("phase") == Some("transferring")
        });
        let id = if let Some(old) = old.next() {
            old.id()?.to_owned()
        } else {
            let body = format!(
                "<image_transfer><backup id=\"{}\"/><disk id=\"{disk}\"/><direction>download</direction>\
                 <format>raw</format></image_transfer>",
                self.id
            );
            let made = api.post("imagetransfers", &body)?.expect(&[201])?.xml()?;
            made.id()?.to_owned()
        };
        let path = format!("imagetransfers/{id}");
        let shown = eventually(IN_ORDER_MAX, "a transfer to begin", || {
            let shown = api.get(&path)?.expect(&[200])?.xml()?;
            match shown.text_at("phase") {
                Some("transferring") => Ok(Some(shown)),
                Some("initializing" | "resuming") => Ok(None),
                _ => bail!("it does not: {shown:?}"),
            }
        })?;
        let url = shown.text_at("transfer_url").context("a transfer without URL")?;
        let ticket = url.rsplit('/').next().context("a URL without ticket")?;
        Ok((id, format!("/images/{ticket}")))
    }

    /// Gives up what is left of transfers that were interrupted.
    pub(super) fn end_transfers(&self, api: &Api) -> Result<()> {
        for transfer in self.transfers(api)? {
            let path = format!("imagetransfers/{}", transfer.id()?);
            // It may end by itself at this moment.
            api.post(&format!("{path}/cancel"), "<action/>")?.expect(&[200, 409])?;
            ended(api, &path)?;
        }
        Ok(())
    }
}

/// A transfer, once it is over.
pub(super) fn ended(api: &Api, path: &str) -> Result<Xml> {
    eventually(IN_ORDER_MAX, "a transfer to end", || {
        let shown = api.get(path)?.expect(&[200])?.xml()?;
        Ok(is_over(&shown).then_some(shown))
    })
}

/// Whether an image transfer is over.
pub(super) fn is_over(transfer: &Xml) -> bool {
    let phase = transfer.text_at("phase").unwrap_or_default();
    ["finished_success", "finished_failure"].contains(&phase)
}

/// Asks again as long as something else has the VM.
pub(super) fn patiently(mut ask: impl FnMut() -> Result<Answer>) -> Result<Answer> {
    eventually(IN_ORDER_MAX, "a free VM", || {
        let answer = ask()?;
        Ok((answer.status != 409).then_some(answer))
    })
}

/// What changed, laid over what the client has.
fn overlay(api: &Api, url: &str, base: &[u8], extents: &Answer, size: u64) -> Result<Bytes> {
    let (mut rebuilt, extents, mut at) = (base.to_vec(), extents.json()?, 0);
    for extent in extents.as_array().context("extents are a list")? {
        let number = |name: &str| extent[name].as_u64().with_context(|| format!("{name} of {extent}"));
        let flag = |name: &str| extent[name].as_bool().with_context(|| format!("{name} of {extent}"));
        let (start, length) = (number("start")?, number("length")?);
        ensure!(start == at, "the extents have a gap at {at}: {extents}");
        at = start + length;
        ensure!(at <= size, "an extent beyond the disk's end: {extent}");
        if !flag("dirty")? {
            continue;
        }
        let range = usize::try_from(start)?..usize::try_from(at)?;
        let place = rebuilt.get_mut(range).context("an extent beyond what the client has")?;
        if flag("zero")? {
            place.fill(0);
        } else {
            let mut piece = Bytes::new();
            read(api, url, start, length, &mut piece)?;
            place.copy_from_slice(&piece);
        }
    }
    ensure!(at == size, "the extents end at {at} of {size}");
    Ok(rebuilt)
}

/// Reads so many bytes, a piece at a time.
fn read(api: &Api, url: &str, start: u64, length: u64, into: &mut Bytes) -> Result<()> {
    let (mut at, end) = (start, start + length);
    while at < end {
        let next = end.min(at + PIECE_BYTES);
        let range = format!("bytes={at}-{}", next - 1);
        let answer = api.send("GET", url, &[("Range", &range)], None)?.expect(&[206])?;
        let got = answer.body.len();
        ensure!(got == usize::try_from(next - at)?, "{got} bytes of {range}");
        into.extend_from_slice(&answer.body);
        at = next;
    }
    Ok(())
}
