//! Gives back the space of what a disk holds of zeros: its image is written anew without them, and takes the old one's place.
//!
//! As in oVirt only of a disk that takes space as it is written, that has no snapshots and on which nothing stands, at rest.
//! What a guest's file systems have freed and not zeroed is not looked for: that is the guest's to trim.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `copy` **pivot** | the new image's file, whole and durable; with the step's record it is the disk's image | what an interrupted try left is removed |
//!
//! # Crash consistency
//! As a copy ([`super::copy`]). The old image is the disk's until the new one is whole; its file is removed by
//! [`crate::reconcile::tidy`]. Checkpoints know the old image, so they let go of the disk: its next backup is a full one.

use super::copy::expect_space_for;
use crate::{
    access, backup,
    command::{Accepted, Origin, SparsifyDisk},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    lock::{self, Entity, Wanted},
    ports::{Allocation, ImageRef},
    snapshot::preview,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx, checkpoint,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    job::JobRow,
    vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId, JobId, Need, VmId, now_micros};

pub(crate) const KIND: &str = "disk_sparsify";
const VERSION: u32 = 1;
/// As refusals say it.
const DOING: &str = "sparsify Virtual Disk";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    disk: DiskId,
    alias: String,
    before: ImageRef,
    after: ImageRef,
    size_bytes: u64,
    /// The VM that has the disk.
    vm: Option<VmId>,
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: SparsifyDisk,
) -> Result<Accepted<DiskId>, Fault> {
    let id = command.disk;
    let (_, image) = {
        let who = who.clone();
        engine.store.read(move |conn| find(conn, &who, id)).await?
    };
    expect_space_for(engine, std::slice::from_ref(&image), Allocation::Sparse).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let job = engine.store.write(move |tx| plan(&inner, tx, &who, &actor, id)).await?;
    journal::executor::drive(engine, job, false);
    Ok(Accepted { id, job: Some(job) })
}

/// The disk and its only image, if it is one that can be written anew.
fn find(conn: &Conn, who: &Caller, id: DiskId) -> Result<(DiskRow, ImageRow), Fault> {
    let row = access::disk(conn, who, id, Need::Operate)?;
    let image = image::get(conn, row.image)?.ok_or_else(|| Fault::internal("a disk without image"))?;
    if image.parent.is_some() || !image::children(conn, image.id)?.is_empty() {
        let text = format!("Cannot {DOING}. Disk {} has snapshots: remove them first.", row.alias);
        return Err(Fault::new(FaultCode::HasDependants, text));
    }
    if !row.sparse {
        let text = format!(
            "Cannot {DOING}. Disk {} is preallocated: it keeps all of its space.",
            row.alias
        );
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    Ok((row, image))
}

fn plan(engine: &Inner, tx: &Tx, who: &Caller, actor: &Actor, id: DiskId) -> Result<JobId, Fault> {
    let row = access::disk(tx, who, id, Need::Operate)?;
    lock::expect_free(tx, Entity::Disk(id), &row.alias)?;
    let (row, before) = find(tx, who, id)?;
    super::expect_whole(tx, &row, &before, DOING)?;
    super::expect_at_rest(tx, &row, DOING, "Shut the VM down.")?;
    backup::expect_none_of_disk(tx, id, DOING)?;
    preview::expect_none_keeps(tx, id, DOING)?;
    let mut locks = vec![Wanted::exclusive(Entity::Disk(id), &row.alias)];
    let mut owner = None;
    for a in vm::attachments_of_disk(tx, id)? {
        let found = vm::get(tx, a.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
        locks.push(Wanted::exclusive(Entity::Vm(a.vm), &found.name));
        owner = Some(a.vm);
    }
    let after = ImageRow {
        id: ImageId::fresh(),
        state: ImageState::Creating,
        created_at: now_micros(),
        ..before.clone()
    };
    image::insert(tx, &after)?;
    let params = Params {
        disk: id,
        alias: row.alias.clone(),
        before: engine.image_ref(&before),
        after: engine.image_ref(&after),
        size_bytes: before.size_bytes,
        vm: owner,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Sparsifying Disk {}", row.alias),
        project: row.project,
        vm: owner,
        locks,
        steps: vec![NewStep::new("copy", "Writing the image without zeros").pivot()],
    };
    enqueue(tx, actor, job)
}

/// The saga.
pub(crate) struct Sparsify {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Sparsify {
        params: from_json(&row.params)?,
    }))
}

#[async_trait]
impl Saga for Sparsify {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        let Params {
            disk,
            before,
            after,
            size_bytes,
            vm,
            ..
        } = self.params.clone();
        let source = [before.clone()];
        let progress = cx.progress();
        cx.engine
            .images
            .copy(&source, &after, size_bytes, Allocation::Sparse, &progress)
            .await?;
        Ok(Done::nothing().and(move |tx| {
            image::set_state(tx, after.id, ImageState::Live)?;
            disk::set_image(tx, disk, after.id)?;
            checkpoint::forget_disk(tx, disk)?;
            image::set_state(tx, before.id, ImageState::Doomed)?;
            vm.map_or(Ok(()), |id| Ok(vm::touch(tx, id)?))
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        let withdrawn = cx.engine.images.withdraw_base(&self.params.after).await;
        withdrawn.map_err(StepError::later)?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let text = format!("Disk {} was sparsified.", self.params.alias);
        self.tell(tx, job, What::DiskSparsified, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        image::delete(tx, self.params.after.id)?;
        let text = format!("Failed to sparsify disk {}: {}", self.params.alias, why.text);
        self.tell(tx, job, What::DiskSparsifyFailed, text)
    }
}

impl Sparsify {
    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .disk(job.project, self.params.disk, &self.params.alias)
            .write(tx)
    }
}
