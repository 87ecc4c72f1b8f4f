//! Carries a finding's plan out, as a durable job.
//!
//! | plan | steps (* pivot) | undone by |
//! |---|---|---|
//! | merge a layer of somebody else | merge*, aside | the block job is cancelled; a merge that is done stays done |
//! | adopt a file | adopt* | the file gets its old name |
//! | copy a file out | copy*, aside | what an interrupted try left is removed, the rows go |
//! | set a file aside | aside* | it comes back |
//! | record a merge | fold, aside, record* | the stale file comes back; maps may say more than changed |
//! | make a map anew | map* | - |
//! | drop a claim, clear a mark | rows* | - |
//!
//! # Crash consistency
//! No step destroys anything: a file changes its name, rows follow what is there already, or a merge is done as every merge
//! is (`.merged` decides, [`crate::snapshot::delete`]). Before a merge begins its disk is marked illegal with the layer on
//! record: whatever dies, the disk is not started on a base that holds a part of the layer, and the next look knows that the
//! layer is the newer.

use super::find::{Act, Finding};
use crate::{
    backup,
    checkpoint::track,
    disk::{adopt, create},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::{Allocation, DirtyMap, ImageRef, Merge},
    reconcile::recover::MISMATCH,
    snapshot::delete,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc};
use stillpoint_store::{
    Conn, Tx, checkpoint,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    job::JobRow,
    repair::{self, StrangeLayerRow},
    snapshot, vm,
};
use stillpoint_types::{
    CheckpointId, DiskId, FaultCode, ImageFormat, ImageId, JobId, ProjectId, SnapshotId, VmId, now_micros,
};

pub(crate) const KIND: &str = "repair";
const VERSION: u32 = 1;
/// Where files are kept that are no images any more, beside the images.
const ORPHANS: &str = "orphans";

/// A file that changes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    from: PathBuf,
    to: PathBuf,
}

/// The plan, with all ids that it makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Work {
    Merge {
        base: ImageId,
        top: ImageRef,
    },
    Adopt {
        from: ImageRef,
        to: ImageRef,
        parent: Option<ImageId>,
    },
    Copy {
        source: Vec<ImageRef>,
        image: ImageRef,
        size_bytes: u64,
    },
    Aside,
    Record {
        base: ImageId,
        top: ImageId,
        leaves: Vec<(SnapshotId, DiskId)>,
    },
    Map {
        checkpoint: CheckpointId,
        older: Option<CheckpointId>,
    },
    Drop {
        checkpoint: CheckpointId,
    },
    Clear,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// The finding's id.
    finding: String,
    /// A word that no other repair has: the same damage may be done twice.
    mark: String,
    /// What it is about, for people.
    object: String,
    /// The disk, new or damaged.
    disk: Option<DiskId>,
    alias: String,
    /// The VM that has the damaged disk plugged in, and its name.
    vm: Option<(VmId, String)>,
    work: Work,
    aside: Option<Move>,
}

/// Plans the job. The finding is of this transaction.
pub(crate) fn enqueue_repair(
    engine: &Inner,
    tx: &Tx,
    actor: &Actor,
    project: ProjectId,
    finding: Finding,
) -> Result<JobId, Fault> {
    if repair::is_under_way(tx, KIND, &finding.id)? {
        let text = format!("{} is being repaired already.", finding.object.text());
        return Err(Fault::new(FaultCode::Locked, text));
    }
    let mut draft = Draft {
        params: Params {
            finding: finding.id.clone(),
            mark: fresh_mark(),
            object: finding.object.text(),
            disk: None,
            alias: String::new(),
            vm: None,
            work: Work::Aside,
            aside: None,
        },
        project,
        locks: Vec::new(),
    };
    draft.fill(engine, tx, &finding)?;
    let steps = draft.params.steps();
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&draft.params)?,
        description: format!("Repairing {}", draft.params.object),
        project: draft.project,
        vm: draft.params.vm.as_ref().map(|(id, _)| *id),
        locks: draft.locks,
        steps,
    };
    enqueue(tx, actor, job)
}

/// A job that is being planned.
struct Draft {
    params: Params,
    project: ProjectId,
    locks: Vec<Wanted>,
}

impl Draft {
    fn fill(&mut self, engine: &Inner, tx: &Tx, finding: &Finding) -> Result<(), Fault> {
        match finding.act.clone() {
            Act::Nothing => return Err(Fault::internal("a finding without a plan was to be repaired")),
            Act::MergeOverlay { disk, base, file } => {
                self.of_disk(tx, disk)?;
                let top = ImageRef {
                    id: ImageId::fresh(),
                    format: ImageFormat::Cow,
                    path: file,
                };
                if top.path.parent() == Some(engine.domain_path().as_path()) {
                    let mark = format!("{}.merged", file_name(&top)?);
                    self.set_aside(engine, &mark);
                }
                expect_marked(tx, disk, base, &top)?;
                self.params.work = Work::Merge { base, top };
            }
            Act::Adopt { file, format, parent } => {
                let named = file.rsplit_once('.').and_then(|(stem, _)| stem.parse().ok());
                let to = engine.image_file(named.unwrap_or_else(ImageId::fresh), format);
                let path = engine.domain_path().join(&file);
                let from = ImageRef { path, ..to.clone() };
                self.of_new_disk();
                self.params.work = Work::Adopt { from, to, parent };
            }
            Act::Copy {
                file,
                below,
                size_bytes,
            } => self.copy(engine, tx, (file, below, size_bytes))?,
            Act::SetAside { file } => self.set_aside(engine, &file),
            Act::Record {
                disk,
                base,
                top,
                leaves,
                stale,
            } => {
                self.of_disk(tx, disk)?;
                if let Some(stale) = stale {
                    self.set_aside(engine, &stale);
                }
                self.params.work = Work::Record { base, top, leaves };
            }
            Act::Rebuild {
                checkpoint,
                disk,
                older,
            } => {
                self.of_claim(tx, disk)?;
                self.params.work = Work::Map { checkpoint, older };
            }
            Act::Drop { checkpoint, disk } => {
                self.of_claim(tx, disk)?;
                self.params.work = Work::Drop { checkpoint };
            }
            Act::Clear { disk } => {
                self.of_disk(tx, disk)?;
                self.params.work = Work::Clear;
            }
        }
        Ok(())
    }

    /// The disk is of no use to anybody else meanwhile, nor are the VMs that have it.
    fn of_disk(&mut self, tx: &Tx, id: DiskId) -> Result<(), Fault> {
        let row = disk::get(tx, id)?.ok_or_else(|| Fault::not_found("disk", id))?;
        backup::expect_none_of_disk(tx, id, "repair the disk")?;
        self.locks.push(Wanted::exclusive(Entity::Disk(id), &row.alias));
        for a in vm::attachments_of_disk(tx, id)? {
            let found = vm::get(tx, a.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
            self.locks.push(Wanted::exclusive(Entity::Vm(found.id), &found.name));
            if a.active || self.params.vm.is_none() {
                self.params.vm = Some((found.id, found.name));
            }
        }
        self.params.disk = Some(id);
        self.params.alias = row.alias;
        self.project = row.project;
        Ok(())
    }

    /// Of a claim only the disk is locked; it may be gone.
    fn of_claim(&mut self, tx: &Tx, id: DiskId) -> Result<(), Fault> {
        self.params.disk = Some(id);
        if let Some(row) = disk::get(tx, id)? {
            self.locks.push(Wanted::exclusive(Entity::Disk(id), &row.alias));
            self.params.alias = row.alias;
            self.project = row.project;
        }
        Ok(())
    }

    fn of_new_disk(&mut self) {
        let id = DiskId::fresh();
        self.params.disk = Some(id);
        self.params.alias = format!("recovered-{}", self.params.mark);
        self.locks.push(Wanted::exclusive(Entity::Disk(id), &self.params.alias));
    }

    fn set_aside(&mut self, engine: &Inner, name: &str) {
        let images = engine.domain_path();
        self.params.aside = Some(Move {
            from: images.join(name),
            to: images.join(ORPHANS).join(format!("{}-{name}", self.params.mark)),
        });
    }

    fn copy(
        &mut self,
        engine: &Inner,
        tx: &Tx,
        (file, below, size_bytes): (String, ImageId, u64),
    ) -> Result<(), Fault> {
        let chain = image::chain(tx, below)?;
        let mut source: Vec<_> = chain.iter().map(|row| engine.image_ref(row)).collect();
        source.push(ImageRef {
            id: ImageId::fresh(),
            format: ImageFormat::Cow,
            path: engine.domain_path().join(&file),
        });
        // Nobody writes to what is read.
        let (writers, _) = image::names(tx, below)?;
        for writer in writers {
            self.of_disk(tx, writer)?;
        }
        delete::expect_unmerged(tx, below)?;
        self.params.vm = None;
        self.of_new_disk();
        let row = self.disk_row(engine, ImageId::fresh(), size_bytes, &file)?;
        let image = ImageRow {
            id: row.image,
            disk: row.id,
            parent: None,
            domain: engine.domain.id,
            format: ImageFormat::Cow,
            size_bytes,
            state: ImageState::Creating,
            created_at: row.created_at,
        };
        create::insert(tx, &image, &row)?;
        self.set_aside(engine, &file);
        self.params.work = Work::Copy {
            source,
            image: engine.image_ref(&image),
            size_bytes,
        };
        Ok(())
    }

    fn disk_row(&self, engine: &Inner, image: ImageId, size_bytes: u64, file: &str) -> Result<DiskRow, Fault> {
        self.params.disk_row(engine, self.project, image, size_bytes, file)
    }
}

impl Params {
    fn steps(&self) -> Vec<NewStep> {
        let step = NewStep::new;
        let mut steps = match &self.work {
            Work::Merge { .. } => vec![step("merge", "Merging the layer into the recorded image").pivot()],
            Work::Adopt { .. } => vec![step("adopt", "Making the file a disk").pivot()],
            Work::Copy { .. } => vec![step("copy", "Copying what the file shows").pivot()],
            Work::Aside => vec![],
            Work::Record { .. } => vec![step("fold", "Noting what the merge has changed")],
            Work::Map { .. } => vec![step("map", "Making the map anew").pivot()],
            Work::Drop { .. } | Work::Clear => vec![step("rows", "Writing what was found").pivot()],
        };
        if self.aside.is_some() {
            let aside = step("aside", "Setting the file aside");
            let is_all = matches!(self.work, Work::Aside);
            steps.push(if is_all { aside.pivot() } else { aside });
        }
        if matches!(self.work, Work::Record { .. }) {
            steps.push(step("record", "Recording the merge").pivot());
        }
        steps
    }

    fn disk(&self) -> Result<DiskId, Fault> {
        self.disk.ok_or_else(|| Fault::internal("a repair without its disk"))
    }

    fn disk_row(
        &self,
        engine: &Inner,
        project: ProjectId,
        image: ImageId,
        size_bytes: u64,
        file: &str,
    ) -> Result<DiskRow, Fault> {
        Ok(DiskRow {
            id: self.disk()?,
            project,
            domain: engine.domain.id,
            alias: self.alias.clone(),
            description: format!("Recovered from the file {file}"),
            size_bytes,
            sparse: true,
            image,
            illegal: None,
            created_at: now_micros(),
        })
    }
}

/// Twelve random digits.
fn fresh_mark() -> String {
    let id = ImageId::fresh().to_string();
    id.rsplit('-').next().unwrap_or_default().to_owned()
}

fn file_name(image: &ImageRef) -> Result<&str, Fault> {
    let name = image.path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Fault::internal("an image file without a name"))
}

/// The disk is illegal, and the layer on record: from here until the merge has ended.
fn expect_marked(tx: &Tx, id: DiskId, base: ImageId, top: &ImageRef) -> Result<(), Fault> {
    let row = disk::get(tx, id)?.ok_or_else(|| Fault::not_found("disk", id))?;
    if row.illegal.is_none() {
        let why = format!("{MISMATCH} [{base}, {}], recorded are [{base}]", top.path.display());
        disk::set_illegal(tx, id, Some(&why))?;
    }
    let layer = StrangeLayerRow {
        disk: id,
        image: base,
        file: top.path.clone(),
        seen_at: now_micros(),
    };
    Ok(repair::put_strange(tx, &layer)?)
}

/// The disk can be used again, unless it is illegal for something else.
fn make_usable(tx: &Tx, id: DiskId) -> Result<(), Fault> {
    let why = disk::get(tx, id)?.and_then(|row| row.illegal);
    match why {
        Some(why) if why.starts_with(MISMATCH) => Ok(repair::set_usable(tx, id)?),
        _ => Ok(()),
    }
}

/// The saga.
pub(crate) struct Repair {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Repair {
        params: from_json(&row.params)?,
    }))
}

impl Repair {
    fn touch(&self) -> impl FnOnce(&Tx) -> Result<(), Fault> + Send + 'static {
        let vm = self.params.vm.as_ref().map(|(id, _)| *id);
        move |tx| vm.map_or(Ok(()), |id| Ok(vm::touch(tx, id)?))
    }

    /// The merge in terms of files; the chain is that of the rows, with the layer on top.
    async fn merge_of(&self, cx: &Cx, base: ImageId, top: &ImageRef) -> Result<Merge, Fault> {
        let disk = self.params.disk()?;
        let chains = cx.engine.chains(vec![(disk, base)]).await?;
        let mut chain = chains.into_iter().next().map(|chain| chain.images).unwrap_or_default();
        let below = chain.last().cloned().ok_or_else(|| Fault::internal("an empty chain"))?;
        chain.push(top.clone());
        Ok(Merge {
            disk,
            chain,
            base: below,
            top: top.clone(),
        })
    }

    async fn merge(&self, cx: &Cx, base: ImageId, top: &ImageRef) -> Result<Done, StepError> {
        let merge = self.merge_of(cx, base, top).await?;
        delete::ensure_merged(cx, self.params.vm.as_ref(), &merge).await?;
        let (id, touch) = (merge.disk, self.touch());
        let is_as_recorded = self.is_as_recorded(cx, &merge.chain[..merge.chain.len() - 1]).await?;
        Ok(Done::nothing().and(move |tx| {
            if is_as_recorded {
                make_usable(tx, id)?;
            }
            touch(tx)
        }))
    }

    /// Whether QEMU, if it has the disk, has these layers and no other.
    async fn is_as_recorded(&self, cx: &Cx, chain: &[ImageRef]) -> Result<bool, StepError> {
        let machine = self
            .params
            .vm
            .as_ref()
            .and_then(|(id, _)| cx.engine.hypervisor.machine(*id));
        let Some(machine) = machine else { return Ok(true) };
        let graph = machine.graph().await.map_err(StepError::later)?;
        let disk = self.params.disk()?;
        let expected: Vec<ImageId> = chain.iter().map(|image| image.id).collect();
        Ok(match graph.chain(disk) {
            Some(observed) => observed == expected && graph.strange(disk).next().is_none(),
            None => true,
        })
    }

    async fn undo_merge(&self, cx: &Cx, base: ImageId, top: &ImageRef) -> Result<Undo, StepError> {
        let merge = self.merge_of(cx, base, top).await?;
        if let Some(machine) = self
            .params
            .vm
            .as_ref()
            .and_then(|(id, _)| cx.engine.hypervisor.machine(*id))
        {
            machine.cancel_merge(&merge).await.map_err(StepError::later)?;
            let graph = machine.graph().await.map_err(StepError::later)?;
            let is_there = graph.strange(merge.disk).next().is_some();
            return Ok(if is_there { Undo::Undone } else { Undo::Forward });
        }
        cx.engine
            .hypervisor
            .close_at_rest(cx.job.id)
            .await
            .map_err(StepError::later)?;
        let merged = cx.engine.images.is_merged(&merge).await.map_err(StepError::later)?;
        Ok(if merged { Undo::Forward } else { Undo::Undone })
    }

    async fn adopt(&self, cx: &Cx, from: &ImageRef, to: &ImageRef, parent: Option<ImageId>) -> Result<Done, StepError> {
        if from.path != to.path {
            cx.engine.images.rename(from, to).await?;
        }
        let facts = cx.engine.images.inspect(&to.path, Some(to.format)).await?;
        let file = file_name(from)?;
        let row = self
            .params
            .disk_row(&cx.engine, cx.job.project, to.id, facts.size_bytes, file)?;
        let row = DiskRow {
            sparse: facts.actual_bytes < facts.size_bytes,
            ..row
        };
        let image = ImageRow {
            id: to.id,
            disk: row.id,
            parent,
            domain: row.domain,
            format: to.format,
            size_bytes: row.size_bytes,
            state: ImageState::Live,
            created_at: row.created_at,
        };
        let actor = cx.actor();
        Ok(Done::nothing().and(move |tx| adopt::record(tx, &actor, &image, &row)))
    }

    async fn copy(&self, cx: &Cx, source: &[ImageRef], image: &ImageRef, size_bytes: u64) -> Result<Done, StepError> {
        let images = &cx.engine.images;
        if !images.is_taken(image).await? {
            let taken: u64 = images.actual_bytes(source).await?.iter().sum();
            let space = images.space(&cx.engine.domain_path()).await?;
            let needed = taken.min(size_bytes).saturating_add(limits::RESERVE_BYTES);
            create::expect_space(&cx.engine.domain.name, space.available_bytes, needed)?;
        }
        images
            .copy(source, image, size_bytes, Allocation::Sparse, &cx.progress())
            .await?;
        let id = image.id;
        Ok(Done::nothing().and(move |tx| Ok(image::set_state(tx, id, ImageState::Live)?)))
    }

    async fn aside(&self, cx: &Cx, is_back: bool) -> Result<(), StepError> {
        let Some(Move { from, to }) = &self.params.aside else {
            return Ok(());
        };
        let (from, to) = if is_back { (to, from) } else { (from, to) };
        Ok(cx.engine.images.set_aside(from, to).await?)
    }

    async fn record(
        &self,
        cx: &Cx,
        base: ImageId,
        top: ImageId,
        leaves: &[(SnapshotId, DiskId)],
    ) -> Result<Done, StepError> {
        let disk = self.params.disk()?;
        let read = move |conn: &Conn| -> Result<_, Fault> {
            let row = disk::get(conn, disk)?.ok_or_else(|| Fault::not_found("disk", disk))?;
            Ok(image::chain(conn, row.image)?)
        };
        let rows = cx.engine.store.read(read).await?;
        let chain: Vec<ImageRef> = rows
            .iter()
            .filter(|row| row.id != top)
            .map(|row| cx.engine.image_ref(row))
            .collect();
        let is_as_recorded = self.is_as_recorded(cx, &chain).await?;
        let (leaves, touch) = (leaves.to_vec(), self.touch());
        Ok(Done::nothing().and(move |tx| {
            for (id, of) in leaves {
                snapshot::remove_disk(tx, id, of)?;
                // The others are of another moment than this disk was; its memory would not fit them.
                snapshot::set_memory(tx, id, None)?;
            }
            image::merged(tx, base, top)?;
            if is_as_recorded {
                make_usable(tx, disk)?;
            }
            touch(tx)
        }))
    }

    /// A map that tells no less than changed: what the anchor holds, and of that what an older map of the same anchor has.
    async fn map(&self, cx: &Cx, id: CheckpointId, older: Option<CheckpointId>) -> Result<Done, StepError> {
        let engine = &cx.engine;
        let of = self.params.disk()?;
        let _turn = engine.maps.lock().await;
        let read = move |conn: &Conn| -> Result<_, Fault> {
            let Some(row) = checkpoint::disk(conn, id, of)? else {
                return Ok(None);
            };
            let older = older.map(|id| checkpoint::disk(conn, id, of)).transpose()?.flatten();
            let older = older.filter(|older| older.image == row.image && older.map && !older.moved && !row.moved);
            let anchor = image::get(conn, row.image)?;
            Ok(Some((row, older, anchor)))
        };
        let Some((row, older, anchor)) = engine.store.read(read).await? else {
            return Ok(Done::nothing());
        };
        let drop = move |tx: &Tx| track::drop_claim(tx, id, of);
        let Some(anchor) = anchor.filter(|_| !row.moved) else {
            return Ok(Done::nothing().and(drop));
        };
        let empty = DirtyMap::empty(row.size_bytes);
        let mut map = match engine.images.mark_allocated(&engine.image_ref(&anchor), empty).await {
            Ok(map) => map,
            Err(error) => {
                tracing::warn!(image = %anchor.id, error = error.chain(), "what an anchor holds cannot be read");
                return Ok(Done::nothing().and(drop));
            }
        };
        if let Some(older) = older
            && let Ok(only) = track::load(engine, &older).await
        {
            map.keep(&only);
        }
        engine.images.store_map(&track::map_path(engine, &row), &map).await?;
        Ok(Done::nothing())
    }

    fn rows(&self) -> Result<Done, StepError> {
        let (of, work, touch) = (self.params.disk()?, self.params.work.clone(), self.touch());
        Ok(Done::nothing().and(move |tx| match work {
            Work::Drop { checkpoint } => track::drop_claim(tx, checkpoint, of),
            _ => {
                repair::set_usable(tx, of)?;
                touch(tx)
            }
        }))
    }
}

#[async_trait]
impl Saga for Repair {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        match (cx.step.name.as_str(), &self.params.work) {
            ("aside", _) => {
                self.aside(cx, false).await?;
                Ok(Done::nothing())
            }
            ("merge", Work::Merge { base, top }) => self.merge(cx, *base, top).await,
            ("adopt", Work::Adopt { from, to, parent }) => self.adopt(cx, from, to, *parent).await,
            (
                "copy",
                Work::Copy {
                    source,
                    image,
                    size_bytes,
                },
            ) => self.copy(cx, source, image, *size_bytes).await,
            ("fold", Work::Record { base, top, .. }) => {
                track::fold(&cx.engine, *base, *top).await?;
                Ok(Done::nothing())
            }
            ("record", Work::Record { base, top, leaves }) => self.record(cx, *base, *top, leaves).await,
            ("map", Work::Map { checkpoint, older }) => self.map(cx, *checkpoint, *older).await,
            ("rows", Work::Drop { .. } | Work::Clear) => self.rows(),
            (other, _) => Err(Fault::internal(format!("this repair has no step {other}")).into()),
        }
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        match (cx.step.name.as_str(), &self.params.work) {
            ("merge", Work::Merge { base, top }) => return self.undo_merge(cx, *base, top).await,
            ("adopt", Work::Adopt { from, to, .. }) if from.path != to.path => {
                let back = cx.engine.images.rename(to, from).await;
                back.map_err(StepError::later)?;
            }
            ("copy", Work::Copy { image, .. }) => {
                let withdrawn = cx.engine.images.withdraw_base(image).await;
                withdrawn.map_err(StepError::later)?;
            }
            ("aside", _) => self
                .aside(cx, true)
                .await
                .map_err(|error| StepError::later(error.fault))?,
            _ => {}
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let text = format!(
            "Repaired by {}: {}: {}",
            job.owner_name,
            self.params.object,
            self.done()
        );
        self.tell(tx, job, What::Repaired, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        if let Work::Copy { image, .. } = &self.params.work {
            disk::delete(tx, self.params.disk()?)?;
            image::delete(tx, image.id)?;
        }
        let text = format!(
            "The repair of {} failed: {} Look again: stillpoint repair --plan.",
            self.params.object, why.text
        );
        self.tell(tx, job, What::RepairFailed, text)
    }
}

impl Repair {
    /// What was done.
    fn done(&self) -> String {
        let alias = &self.params.alias;
        let kept = self.params.aside.as_ref().map(|moved| moved.to.display().to_string());
        let done = match &self.params.work {
            Work::Merge { base, top } => format!(
                "{} was merged into image {base}, and the disk can be used.",
                top.path.display()
            ),
            Work::Adopt { to, .. } => format!("it is disk {alias} now, image {}.", to.id),
            Work::Copy { .. } => format!("what it shows is disk {alias} now."),
            Work::Aside => String::new(),
            Work::Record { base, top, .. } => format!("image {top} has gone into image {base}, and that is recorded."),
            Work::Map { checkpoint, .. } => {
                format!("what has changed since checkpoint {checkpoint} is known again, with what may have.")
            }
            Work::Drop { checkpoint } => format!("disk {alias} is not in checkpoint {checkpoint} any more."),
            Work::Clear => "the disk can be used.".to_owned(),
        };
        match kept {
            Some(kept) => format!("{done} The file is kept as {kept}.").trim_start().to_owned(),
            None => done,
        }
    }

    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        let mut event = Event::new(what, text).by(&Actor::of_job(job));
        if let Some(id) = self.params.disk
            && !self.params.alias.is_empty()
        {
            event = event.disk(job.project, id, &self.params.alias);
        }
        match &self.params.vm {
            Some((id, name)) => event.vm(job.project, *id, name).write(tx),
            None => event.write(tx),
        }
    }
}
