//! Removes a snapshot, and merges hidden images.
//!
//! Removing takes the snapshot's *name* away. Its images are merged only where the tree allows it ([`crate::graph`]);
//! what has other users stays hidden and is merged later by [`crate::reconcile::tidy`], through this same saga.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `merge` (one per disk and pair) | commits `top` into `base`, live or at rest; then, with the step's record, everything that named `top` names `base` | the block job is cancelled; a merge that is done stays done |
//!
//! # Crash consistency
//! Data only ever flows from top to base, and the top stays whole until the pivot, so a merge can be begun again from
//! anywhere. Whether it has happened is told by QEMU's graph while it lives, else by the disk: the `.merged` mark of an
//! active layer, the header above a middle one (qemu-mechanics section 4). If the VM goes down in the middle, the merge
//! is finished at rest; until then the VM's lock keeps it from being started on a half-merged chain.
//! Files of merged tops are `doomed` rows; `tidy` unlinks them, now or after a restart.
//!
//! A failure leaves the snapshot with the disks that were not merged (events 357 and 359); removing it again goes on.

use crate::{
    access, at_rest,
    checkpoint::seal,
    command::{Accepted, DeleteSnapshot, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    graph::{Effort, Node, Tidy, Tree},
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    lock::{Entity, Wanted},
    ports::{Driven, DriverErrorKind, Merge},
    volume::snapshot::settle,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use stillpoint_store::{
    Conn, Tx, backup, checkpoint,
    image::{self, ImageState},
    job::JobRow,
    snapshot::{self, SnapshotRow},
    transfer, volume_snapshot,
};
use stillpoint_types::{
    BackupId, Caller, DiskId, FaultCode, ImageId, Need, SnapshotId, SnapshotType, StepState, VmId, VmStatus,
    crash_point, now_micros,
};

pub(crate) const KIND: &str = "snapshot_delete";
/// The saga's other name: merging hidden images without removing a snapshot.
pub(crate) const KIND_MERGE: &str = "image_merge";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: Option<VmId>,
    vm_name: String,
    snapshot: Option<SnapshotId>,
    description: String,
    /// The backup whose end this is: it succeeds when the merges have ended.
    #[serde(default)]
    backup: Option<BackupId>,
}

/// Arguments of a `merge` step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Pair {
    disk: DiskId,
    base: ImageId,
    top: ImageId,
    /// The disk of the snapshot whose image this merges away; it leaves the snapshot then.
    leaves: Option<DiskId>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteSnapshot,
) -> Result<Accepted<SnapshotId>, Fault> {
    let (who, actor, id) = (who.clone(), Actor::of(who, origin), command.snapshot);
    let job = engine
        .store
        .write(move |tx| -> Result<_, Fault> {
            let found = access::vm(tx, &who, command.vm, Need::Operate)?;
            let row = access::snapshot(tx, &found, command.snapshot)?;
            begin(tx, &actor, &found, &row)
        })
        .await?;
    match job {
        Some(job) => journal::executor::drive(engine, job, false),
        None => engine.tidy.notify_one(),
    }
    Ok(Accepted { id, job })
}

/// Checks whether the snapshot can be removed now, and plans it. `None`: it is gone already.
pub(crate) fn begin(
    tx: &Tx,
    actor: &Actor,
    found: &access::Vm,
    row: &SnapshotRow,
) -> Result<Option<stillpoint_types::JobId>, Fault> {
    crate::lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
    crate::backup::expect_none(tx, found.row.id, "remove Snapshot")?;
    super::preview::expect_none(tx, found.row.id, "remove Snapshot")?;
    if row.kind != SnapshotType::Regular {
        return Err(Fault::new(
            FaultCode::SnapshotNotRegular,
            format!(
                "Cannot remove Snapshot. Snapshot {} is {}; only regular ones can be removed.",
                row.id, row.kind
            ),
        ));
    }
    match found.row.status {
        VmStatus::Up | VmStatus::Paused | VmStatus::Down => {}
        other => {
            let (what, allowed) = ("removing a snapshot", "up, paused or down");
            return Err(crate::vm::view::wrong_status(&found.row.name, other, what, allowed));
        }
    }
    plan(tx, actor, found, row.id, &row.description)
}

/// Removal of a snapshot that the daemon itself decided on.
pub(crate) fn enqueue_internal(tx: &Tx, actor: &Actor, vm: VmId, id: SnapshotId) -> Result<(), Fault> {
    let row = stillpoint_store::vm::get(tx, vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    let description = snapshot::get(tx, id)?.map(|row| row.description).unwrap_or_default();
    let config = from_json(&row.config)?;
    plan(tx, actor, &access::Vm { row, config }, id, &description)?;
    Ok(())
}

/// The merges that removing a snapshot makes possible, through disks of this VM.
fn merges(tx: &Tx, vm: VmId, held: &[(DiskId, ImageId)], ended: Option<BackupId>) -> Result<Vec<NewStep>, Fault> {
    let mine: HashSet<DiskId> = stillpoint_store::vm::attachments(tx, vm)?
        .iter()
        .map(|a| a.disk)
        .collect();
    let (mut steps, mut seen) = (Vec::new(), HashSet::new());
    for (_, image) in held {
        let mut tree = tree_of(tx, *image, ended)?;
        if !seen.insert(tree.nodes().keys().next().copied()) {
            continue;
        }
        // The snapshot that goes still holds them; that of a backup that ends has gone already.
        for (_, image) in held.iter().filter(|_| ended.is_none()) {
            tree.forget_snapshot(*image);
        }
        for tidy in tree.plan(Effort::All) {
            let Tidy::Merge { disk, base, top } = tidy else {
                continue;
            };
            // A disk of another VM, or of none, is merged by `tidy`, which locks what that takes.
            if mine.contains(&disk) {
                let leaves = held.iter().find(|(_, image)| *image == base).map(|(disk, _)| *disk);
                steps.push(merge_step(
                    tx,
                    Pair {
                        disk,
                        base,
                        top,
                        leaves,
                    },
                )?);
            }
        }
    }
    Ok(steps)
}

/// Plans the merges; a snapshot that needs none is removed at once.
fn plan(
    tx: &Tx,
    actor: &Actor,
    found: &access::Vm,
    id: SnapshotId,
    description: &str,
) -> Result<Option<stillpoint_types::JobId>, Fault> {
    let (project, vm, name) = (found.row.project, found.row.id, &found.row.name);
    let held = snapshot::disks(tx, id)?;
    let mut locks = vec![
        Wanted::exclusive(Entity::Vm(vm), name),
        Wanted::exclusive(Entity::Snapshot(id), description),
    ];
    locks.extend(disk_locks(tx, &held)?);
    for lock in &locks {
        crate::lock::expect_free(tx, lock.entity, &lock.name)?;
    }
    let steps = merges(tx, vm, &held, None)?;
    if steps.is_empty() {
        snapshot::delete(tx, id)?;
        stillpoint_store::vm::touch(tx, vm)?;
        removed(description, name).by(actor).vm(project, vm, name).write(tx)?;
        return Ok(None);
    }
    let text = format!(
        "Snapshot '{description}' deletion for VM '{name}' was initiated by {}.",
        actor.name
    );
    Event::new(What::SnapshotRemoveStarted, text)
        .by(actor)
        .vm(project, vm, name)
        .write(tx)?;
    let params = Params {
        vm: Some(vm),
        vm_name: name.clone(),
        snapshot: Some(id),
        description: description.to_owned(),
        backup: None,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Removing Snapshot {description} of VM {name}"),
        project,
        vm: Some(vm),
        locks,
        steps,
    };
    Ok(Some(enqueue(tx, actor, job)?))
}

fn removed(description: &str, vm: &str) -> Event {
    Event::new(
        What::SnapshotRemoved,
        format!("Snapshot '{description}' deletion for VM '{vm}' has been completed."),
    )
}

fn disk_locks(conn: &Conn, held: &[(DiskId, ImageId)]) -> Result<Vec<Wanted>, Fault> {
    let lock = |(disk, _): &(DiskId, ImageId)| {
        Ok(Wanted::exclusive(
            Entity::Disk(*disk),
            &crate::disk::alias(conn, *disk)?,
        ))
    };
    held.iter().map(lock).collect()
}

fn merge_step(conn: &Conn, pair: Pair) -> Result<NewStep, Fault> {
    let alias = crate::disk::alias(conn, pair.disk)?;
    NewStep::new(
        "merge",
        format!("Merging snapshots ({} into {}) of disk {alias}", pair.top, pair.base),
    )
    .with(&pair)
}

/// Refuses, for as long as it takes, to put something new on an image that a merge is about to take away, or to fill.
pub(crate) fn expect_unmerged(conn: &Conn, id: ImageId) -> Result<(), Fault> {
    let ahead = stillpoint_store::job::steps_ahead(conn, "merge")?;
    if ahead.is_empty() {
        return Ok(());
    }
    let below: HashSet<ImageId> = image::chain(conn, id)?.iter().map(|row| row.id).collect();
    for (job, args) in ahead {
        let pair: Pair = from_json(&args)?;
        if below.contains(&pair.base) || below.contains(&pair.top) {
            let text = format!(
                "Cannot do this now: image {} is being merged by job {job}. Try again when it has ended.",
                pair.top
            );
            return Err(Fault::new(FaultCode::DuringSnapshot, text).passing());
        }
    }
    Ok(())
}

/// The whole tree that an image is in, with everybody's names. `ended`: a backup that is ending pins nothing any more.
pub(crate) fn tree_of(conn: &Conn, id: ImageId, ended: Option<BackupId>) -> Result<Tree, Fault> {
    let Some(root) = image::chain(conn, id)?.into_iter().next() else {
        return Ok(Tree::default());
    };
    let (mut nodes, mut read) = (BTreeMap::new(), Vec::new());
    let mut todo = vec![root];
    while let Some(row) = todo.pop() {
        let (disks, snapshots) = image::names(conn, row.id)?;
        let creating = row.state == ImageState::Creating;
        todo.extend(image::children(conn, row.id)?);
        let by_backup = backup::reader_of(conn, row.id)?.is_some_and(|reader| Some(reader) != ended);
        if by_backup || transfer::is_read(conn, row.id)? {
            read.push(row.id);
        }
        nodes.insert(
            row.id,
            Node {
                parent: row.parent,
                disks,
                snapshots,
                creating,
                anchored: !checkpoint::anchored(conn, row.id)?.is_empty(),
                pinned: false,
            },
        );
    }
    // What is read is read through all that lies below it.
    while let Some(id) = read.pop() {
        if let Some(node) = nodes.get_mut(&id).filter(|node| !node.pinned) {
            node.pinned = true;
            read.extend(node.parent);
        }
    }
    Ok(Tree::new(nodes))
}

/// A job that merges one hidden image, for `tidy`.
pub(crate) fn enqueue_merge(
    tx: &Tx,
    disk: DiskId,
    base: ImageId,
    top: ImageId,
) -> Result<stillpoint_types::JobId, Fault> {
    let row = stillpoint_store::disk::get(tx, disk)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
    let mut locks = vec![Wanted::exclusive(Entity::Disk(disk), &row.alias)];
    let mut vm = None;
    for attached in stillpoint_store::vm::attachments_of_disk(tx, disk)? {
        let found = stillpoint_store::vm::get(tx, attached.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
        if !matches!(found.status, VmStatus::Up | VmStatus::Paused | VmStatus::Down) {
            let (what, allowed) = ("merging images", "up, paused or down");
            return Err(crate::vm::view::wrong_status(&found.name, found.status, what, allowed));
        }
        locks.push(Wanted::exclusive(Entity::Vm(found.id), &found.name));
        vm = Some((found.id, found.name));
    }
    let (id, vm_name) = vm.unzip();
    let params = Params {
        vm: id,
        vm_name: vm_name.unwrap_or_default(),
        snapshot: None,
        description: String::new(),
        backup: None,
    };
    let job = NewJob {
        kind: KIND_MERGE,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Merging hidden images of disk {}", row.alias),
        project: row.project,
        vm: params.vm,
        locks,
        steps: vec![merge_step(
            tx,
            Pair {
                disk,
                base,
                top,
                leaves: None,
            },
        )?],
    };
    enqueue(tx, &Actor::system(), job)
}

/// The merges that the end of a backup makes possible, through disks of its VM, as a job that the backup succeeds with;
/// `None` if there are none, or the VM cannot have them now.
pub(crate) fn enqueue_settling(
    tx: &Tx,
    actor: &Actor,
    vm: VmId,
    frozen: &[(DiskId, ImageId)],
    backup: BackupId,
) -> Result<Option<stillpoint_types::JobId>, Fault> {
    let Some(row) = stillpoint_store::vm::get(tx, vm)? else {
        return Ok(None);
    };
    let steps = merges(tx, vm, frozen, Some(backup))?;
    if steps.is_empty() || !matches!(row.status, VmStatus::Up | VmStatus::Paused | VmStatus::Down) {
        return Ok(None);
    }
    let mut locks = vec![Wanted::exclusive(Entity::Vm(vm), &row.name)];
    locks.extend(disk_locks(tx, frozen)?);
    let params = Params {
        vm: Some(vm),
        vm_name: row.name.clone(),
        snapshot: None,
        description: String::new(),
        backup: Some(backup),
    };
    let job = NewJob {
        kind: KIND_MERGE,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Merging what a backup of VM {} held apart", row.name),
        project: row.project,
        vm: Some(vm),
        locks,
        steps,
    };
    Ok(Some(enqueue(tx, actor, job)?))
}

/// The saga.
pub(crate) struct Delete {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Delete {
        params: from_json(&row.params)?,
    }))
}

impl Delete {
    /// The merge in terms of files. The chain is read anew at every try: merges before this one changed it.
    async fn merge(&self, cx: &Cx, pair: &Pair) -> Result<Merge, StepError> {
        let disk = pair.disk;
        let rows = cx
            .engine
            .store
            .read(move |conn| -> Result<_, Fault> {
                let row =
                    stillpoint_store::disk::get(conn, disk)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
                Ok(image::chain(conn, row.image)?)
            })
            .await?;
        let chain: Vec<_> = rows.iter().map(|row| cx.engine.image_ref(row)).collect();
        let find = |id: ImageId| {
            chain
                .iter()
                .find(|image| image.id == id)
                .cloned()
                .ok_or_else(|| Fault::internal(format!("{id} left the chain")))
        };
        Ok(Merge {
            disk,
            base: find(pair.base)?,
            top: find(pair.top)?,
            chain: chain.clone(),
        })
    }
}

/// Merges: live in the VM's QEMU, or at rest if it has none.
pub(crate) async fn ensure_merged(cx: &Cx, vm: Option<&(VmId, String)>, merge: &Merge) -> Result<(), StepError> {
    if let Some((vm, name)) = vm {
        if let Some(machine) = cx.engine.hypervisor.machine(*vm) {
            match machine.merge(merge, &cx.progress()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == DriverErrorKind::Disconnected => cx.engine.hypervisor_gone(*vm).await?,
                Err(error) if error.kind == DriverErrorKind::Timeout => return Err(StepError::later(error)),
                Err(error) => return Err(error.into()),
            }
        } else if cx.engine.is_unreachable(*vm).await? {
            return Err(StepError::later(cx.engine.unreachable(name)));
        }
    }
    Ok(at_rest::insist(cx.job.id, || merge_at_rest(cx, merge)).await?)
}

async fn merge_at_rest(cx: &Cx, merge: &Merge) -> Driven<()> {
    // An earlier try's daemon is ended first: what the disk says is only then the truth.
    let hypervisor = &cx.engine.hypervisor;
    hypervisor.close_at_rest(cx.job.id).await?;
    if cx.engine.images.is_merged(merge).await? {
        return Ok(());
    }
    let chain = crate::ports::Chain {
        disk: merge.disk,
        images: merge.chain.clone(),
    };
    let endpoint = hypervisor.open_at_rest(cx.job.id, &[chain]).await?;
    let merged = endpoint.merge(merge, &cx.progress()).await;
    hypervisor.close_at_rest(cx.job.id).await?;
    merged
}

#[async_trait]
impl Saga for Delete {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        let pair: Pair = cx.args()?;
        let merge = self.merge(cx, &pair).await?;
        // Before the first byte moves: what the top holds is the record of changes since what the base is.
        crate::checkpoint::track::fold(&cx.engine, pair.base, pair.top).await?;
        crash_point(&["merge", "folded"]);
        seal::open(&cx.engine, &merge).await?;
        let machine = self.params.vm.map(|id| (id, self.params.vm_name.clone()));
        ensure_merged(cx, machine.as_ref(), &merge).await?;
        let seals = seal::close(&cx.engine, &merge).await;
        let (vm, snapshot) = (self.params.vm, self.params.snapshot);
        Ok(Done::nothing().and(move |tx| {
            if let Some((snapshot, disk)) = snapshot.zip(pair.leaves) {
                snapshot::remove_disk(tx, snapshot, disk)?;
            }
            image::merged(tx, pair.base, pair.top)?;
            seal::record(tx, &seals)?;
            vm.map_or(Ok(()), |vm| Ok(stillpoint_store::vm::touch(tx, vm)?))
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if cx.step.state == StepState::Done {
            // A merge that has ended cannot be unmade, and need not be: no disk and no other snapshot reads anything else
            // than before. One that was begun only is marked by `undone`.
            return Ok(Undo::Undone);
        }
        let pair: Pair = cx.args()?;
        let merge = self.merge(cx, &pair).await?;
        if let Some(machine) = self.params.vm.and_then(|vm| cx.engine.hypervisor.machine(vm)) {
            machine.cancel_merge(&merge).await.map_err(StepError::later)?;
            let graph = machine.graph().await.map_err(StepError::later)?;
            let is_there = graph.chain(pair.disk).is_some_and(|chain| chain.contains(&pair.top));
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

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        if job.kind == KIND_MERGE {
            settle::after_merge(tx, job)?;
        }
        if let Some(backup) = self.params.backup {
            return crate::backup::finalize::succeed(tx, job, backup);
        }
        let Some((id, vm)) = self.params.snapshot.zip(self.params.vm) else {
            return Ok(());
        };
        snapshot::delete(tx, id)?;
        removed(&self.params.description, &self.params.vm_name)
            .by(&Actor::of_job(job))
            .vm(job.project, vm, &self.params.vm_name)
            .write(tx)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        if job.kind == KIND_MERGE {
            settle::after_merge(tx, job)?;
        }
        if let Some(backup) = self.params.backup {
            crate::backup::finalize::tell_leftover(tx, job, backup, &why.text)?;
            return crate::backup::finalize::succeed(tx, job, backup);
        }
        let Some((id, vm)) = self.params.snapshot.zip(self.params.vm) else {
            return Ok(());
        };
        let (actor, description, name) = (Actor::of_job(job), &self.params.description, &self.params.vm_name);
        volume_snapshot::fail_removal(tx, id, &why.text, now_micros())?;
        let steps = stillpoint_store::job::steps(tx, job.id)?;
        for step in steps
            .iter()
            .filter(|step| step.state == StepState::Undone && step.output.is_none())
        {
            // It may have written into the base, which is what this snapshot shows.
            image::set_half_merged(tx, from_json::<Pair>(&step.args)?.base)?;
        }
        if steps.iter().any(|step| step.output.is_some()) {
            let left: Vec<String> = snapshot::disks(tx, id)?
                .iter()
                .map(|(disk, _)| disk.to_string())
                .collect();
            // Disks that were merged are in this snapshot no more: its memory would not fit the rest.
            snapshot::set_memory(tx, id, None)?;
            let text = format!(
                "Snapshot '{description}' of VM '{name}' was removed from some disks; left: {}.",
                left.join(", ")
            );
            Event::new(What::SnapshotPartlyRemoved, text)
                .by(&actor)
                .vm(job.project, vm, name)
                .write(tx)?;
        }
        let text = format!(
            "Failed to delete snapshot '{description}' for VM '{name}': {} It cannot be restored any more; remove it again.",
            why.text
        );
        Event::new(What::SnapshotRemoveFailed, text)
            .by(&actor)
            .vm(job.project, vm, name)
            .write(tx)
    }
}
