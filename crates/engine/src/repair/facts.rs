//! What repairs are decided by: rows, files with their headers, QEMU's graphs, maps. Reading only.
//!
//! Rows are read before and after the files, so that a file which a job makes or removes meanwhile is not taken for one that
//! nobody knows.

use crate::{
    checkpoint::track,
    engine::Inner,
    fault::Fault,
    files::names_base,
    ports::{BlockGraph, DriverErrorKind, FoundFile, ImageFacts, ImageRef},
};
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};
use stillpoint_store::{
    Conn,
    checkpoint::{self, CheckpointDiskRow},
    disk::DiskRow,
    image::{ImageRow, ImageState},
    job,
    repair::{self, HolderRow, StrangeLayerRow, UserRow},
};
use stillpoint_types::{CheckpointId, DiskId, ImageFormat, ImageId, Micros, VmId};

/// Files that are looked at at the same time.
const AT_ONCE: usize = 16;

/// All rows that a repair goes by.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(super) images: BTreeMap<ImageId, ImageRow>,
    pub(super) disks: Vec<DiskRow>,
    pub(super) users: Vec<UserRow>,
    pub(super) holders: Vec<HolderRow>,
    /// Those of each disk, oldest checkpoint first.
    pub(super) claims: Vec<CheckpointDiskRow>,
    pub(super) strange: Vec<StrangeLayerRow>,
    /// Disks that a job holds, by themselves or through their VM.
    pub(super) held: HashSet<DiskId>,
    /// What jobs under way speak of.
    pub(super) spoken_of: Vec<String>,
}

impl Records {
    pub(super) fn read(conn: &Conn) -> Result<Self, Fault> {
        let users = repair::users(conn)?;
        let ids = |locks: Vec<job::LockRow>| locks.into_iter().map(|lock| lock.entity).collect::<HashSet<_>>();
        let (vms, disks) = (ids(job::locks(conn, "vm")?), ids(job::locks(conn, "disk")?));
        let rows = repair::disks(conn)?;
        let by_vm = users
            .iter()
            .filter(|user| vms.contains(&user.vm.to_string()))
            .map(|user| user.disk);
        let by_itself = rows
            .iter()
            .map(|row| row.id)
            .filter(|id| disks.contains(&id.to_string()));
        let held = by_vm.chain(by_itself).collect();
        let mut spoken_of = Vec::new();
        for row in job::unfinished(conn)?.into_iter().chain(job::stuck(conn)?) {
            for step in job::steps(conn, row.id)? {
                spoken_of.push(step.args);
                spoken_of.extend(step.output);
            }
            spoken_of.push(row.params);
        }
        Ok(Self {
            images: repair::images(conn)?.into_iter().map(|row| (row.id, row)).collect(),
            disks: rows,
            users,
            holders: repair::holders(conn)?,
            claims: checkpoint::all_disks(conn)?,
            strange: repair::strange(conn)?,
            held,
            spoken_of,
        })
    }

    /// The chain that ends in an image, base first; `None` if something of it is not recorded.
    pub(super) fn chain(&self, top: ImageId) -> Option<Vec<&ImageRow>> {
        let mut chain = vec![self.images.get(&top)?];
        while let Some(parent) = chain.last().and_then(|row| row.parent) {
            if chain.len() > self.images.len() {
                return None;
            }
            chain.push(self.images.get(&parent)?);
        }
        chain.reverse();
        Some(chain)
    }

    /// The images that stand on one.
    pub(super) fn children(&self, of: ImageId) -> Vec<ImageId> {
        let is_child = |row: &&ImageRow| row.parent == Some(of) && row.state != ImageState::Doomed;
        self.images.values().filter(is_child).map(|row| row.id).collect()
    }

    /// The disk that writes to an image.
    pub(super) fn writer(&self, image: ImageId) -> Option<&DiskRow> {
        self.disks.iter().find(|disk| disk.image == image)
    }

    pub(super) fn users_of(&self, disk: DiskId) -> impl Iterator<Item = &UserRow> {
        self.users.iter().filter(move |user| user.disk == disk)
    }
}

/// What was seen of a VM's process.
#[derive(Debug)]
pub(super) enum Machine {
    Graph(BlockGraph),
    /// It lives, and does not answer.
    Silent,
}

/// A file as it was seen.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Last written to; 0 if that is not known.
    pub(super) written_at: Micros,
    /// What its header says, or why it cannot be read.
    pub(super) facts: Result<ImageFacts, String>,
    /// Of a file that no row names: whether it may be adopted, and what it stands on then.
    pub(super) gate: Option<Gate>,
}

/// What the gate says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    Open(Option<ImageId>),
    /// A process has it open.
    Busy,
    Shut(String),
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Where images are.
    pub(super) directory: PathBuf,
    /// Regular files, by name.
    pub(super) files: BTreeMap<String, File>,
    pub(super) machines: HashMap<VmId, Machine>,
    /// Why a map that should be there cannot be read.
    pub(super) lost_maps: HashMap<(CheckpointId, DiskId), String>,
    /// Whether the first image shows by itself all that the second, recorded above it, holds.
    pub(super) contained: HashMap<(ImageId, ImageId), bool>,
}

impl Seen {
    pub(super) fn image(&self, row: &ImageRow) -> Option<&File> {
        self.files.get(&file_name(row.id, row.format))
    }

    /// Whether the file of an image names the other as its base.
    pub(super) fn stands_on(&self, above: &ImageRow, base: &ImageRow) -> bool {
        let named = self.image(above).and_then(|file| file.facts.as_ref().ok());
        let named = named.and_then(|facts| facts.backing_name.as_deref());
        named.is_some_and(|name| names_base(name, &file_name(base.id, base.format)))
    }
}

/// The name of an image's file.
pub(super) fn file_name(id: ImageId, format: ImageFormat) -> String {
    match format {
        ImageFormat::Cow => format!("{id}.qcow2"),
        ImageFormat::Raw => format!("{id}.raw"),
    }
}

/// Looks at everything. What changes meanwhile is seen at the next look.
pub(crate) async fn observe(engine: &Inner) -> Result<(Records, Seen), Fault> {
    let before = engine.store.read(Records::read).await?;
    let directory = engine.domain_path();
    let mut seen = Seen {
        machines: machines(engine, &before).await,
        lost_maps: lost_maps(engine, &before).await,
        files: files(engine, &directory, &before).await?,
        directory,
        ..Seen::default()
    };
    let now = engine.store.read(Records::read).await?;
    judge_unknown(engine, &now, &before, &mut seen).await;
    judge_merges(engine, &now, &mut seen).await;
    Ok((now, seen))
}

async fn machines(engine: &Inner, records: &Records) -> HashMap<VmId, Machine> {
    let mut all = HashMap::new();
    for user in records.users.iter().filter(|user| user.has_process) {
        if all.contains_key(&user.vm) {
            continue;
        }
        let machine = match engine.hypervisor.machine(user.vm) {
            Some(machine) => machine.graph().await.map_or(Machine::Silent, Machine::Graph),
            None => Machine::Silent,
        };
        all.insert(user.vm, machine);
    }
    all
}

async fn lost_maps(engine: &Inner, records: &Records) -> HashMap<(CheckpointId, DiskId), String> {
    let _turn = engine.maps.lock().await;
    let mut lost = HashMap::new();
    for claim in records.claims.iter().filter(|claim| claim.map) {
        if let Err(why) = track::load(engine, claim).await {
            lost.insert((claim.checkpoint, claim.disk), why);
        }
    }
    lost
}

async fn files(engine: &Inner, directory: &Path, records: &Records) -> Result<BTreeMap<String, File>, Fault> {
    let names = engine.images.list(directory).await?;
    let recorded: HashMap<String, ImageFormat> = records
        .images
        .values()
        .map(|row| (file_name(row.id, row.format), row.format))
        .collect();
    let look = |found: FoundFile| {
        let (path, recorded) = (directory.join(&found.name), recorded.get(&found.name).copied());
        async move {
            let is_raw = Path::new(&found.name).extension().is_some_and(|ending| ending == "raw");
            let hint = recorded.unwrap_or(if is_raw { ImageFormat::Raw } else { ImageFormat::Cow });
            let facts = engine.images.inspect(&path, Some(hint)).await;
            let file = File {
                path,
                written_at: found.written_at,
                facts: facts.map_err(|error| error.chain()),
                gate: None,
            };
            (found.name, file)
        }
    };
    let regular = names.into_iter().filter(|found| found.is_regular);
    let mut files: BTreeMap<String, File> = futures_util::stream::iter(regular.map(look))
        .buffered(AT_ONCE)
        .collect()
        .await;
    // Layers on which QEMU runs may lie elsewhere.
    for layer in &records.strange {
        if !layer.file.starts_with(directory) {
            let (key, file) = elsewhere(engine, &layer.file).await;
            files.insert(key, file);
        }
    }
    Ok(files)
}

/// A file outside of the directory; its key is its whole path, so that it is no name of one inside.
async fn elsewhere(engine: &Inner, path: &Path) -> (String, File) {
    let facts = engine.images.inspect(path, Some(ImageFormat::Cow)).await;
    let file = File {
        path: path.to_owned(),
        written_at: 0,
        facts: facts.map_err(|error| error.chain()),
        gate: None,
    };
    (path.display().to_string(), file)
}

/// Asks the gate about each file that no row names and no job speaks of; takes out those that a row named before.
async fn judge_unknown(engine: &Inner, now: &Records, before: &Records, seen: &mut Seen) {
    let known: HashSet<String> = now.images.values().map(|row| file_name(row.id, row.format)).collect();
    let gone: HashSet<String> = before
        .images
        .values()
        .map(|row| file_name(row.id, row.format))
        .filter(|name| !known.contains(name))
        .collect();
    seen.files.retain(|name, _| !gone.contains(name));
    let graphs: Vec<PathBuf> = seen
        .machines
        .values()
        .filter_map(|machine| match machine {
            Machine::Graph(graph) => Some(graph.strange.iter().filter_map(|layer| layer.file.clone())),
            Machine::Silent => None,
        })
        .flatten()
        .collect();
    for path in graphs {
        if !path.starts_with(&seen.directory) {
            let (key, file) = elsewhere(engine, &path).await;
            seen.files.insert(key, file);
        }
    }
    for (name, file) in &mut seen.files {
        let Ok(facts) = &file.facts else { continue };
        if known.contains(name) || name.contains('/') {
            continue;
        }
        let backing = facts.backing_name.as_deref().and_then(|name| name.rsplit('/').next());
        let chain: Vec<ImageRef> = backing
            .and_then(|name| now.images.values().find(|row| file_name(row.id, row.format) == name))
            .and_then(|row| now.chain(row.id))
            .unwrap_or_default()
            .iter()
            .map(|row| engine.image_ref(row))
            .collect();
        let judged = engine.images.gate(&seen.directory, name, facts.format, &chain).await;
        file.gate = Some(match judged {
            Ok(adoptable) => Gate::Open(adoptable.parent),
            Err(error) if error.kind == DriverErrorKind::Busy => Gate::Busy,
            Err(error) => Gate::Shut(error.context),
        });
    }
}

/// Compares images where a header says that a merge of the middle has happened that no row knows of.
async fn judge_merges(engine: &Inner, now: &Records, seen: &mut Seen) {
    for disk in now.disks.iter().filter(|disk| !now.held.contains(&disk.id)) {
        let chain = now.chain(disk.image).unwrap_or_default();
        for (at, [base, top, above]) in chain.array_windows::<3>().enumerate() {
            if !seen.stands_on(above, base) || seen.image(top).is_none() {
                continue;
            }
            let below: Vec<ImageRef> = chain[..=at].iter().map(|row| engine.image_ref(row)).collect();
            let contained = engine.images.contains(&below, &engine.image_ref(top)).await;
            match contained {
                Ok(all) => {
                    seen.contained.insert((base.id, top.id), all);
                }
                Err(error) => {
                    tracing::info!(image = %top.id, error = error.chain(), "whether it was merged is not known")
                }
            }
        }
    }
}
