//! Makes the snapshots of a volume that no VM of ours has: all that wait, together, in one job a disk.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `settle` **pivot** | unless the active image is empty: an overlay's file on it, durable. With the step's record the overlay is the active image, and every row that waits names the former one (or the empty one's parent) | the file is removed |
//!
//! # Why one job is enough
//! The job has the disk's lock from the transaction that wrote the first row, and nobody can write to the disk until it
//! ends. A row that comes meanwhile is therefore of the same content, wherever the job stands, and the transaction that ends
//! the job settles it with the others: there is no moment between that and the next job.
//!
//! # Crash consistency
//! Rows, lock and job are one transaction. The file is an *ensure*, empty until the rows name it: before the record the
//! disk is as it was, after it everything is done. A failure leaves the rows in `error`, with the reason.
//!
//! No storage daemon takes part: the overlay carries bitmaps over by itself, and nothing is copied (ADR 0017).

use super::create::{refused, shown_below};
use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue as enqueue_job, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::SwitchDisk,
    snapshot::restore,
    volume::{called, message},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    disk::{self, DiskRow},
    image::{self, ImageState},
    job::JobRow,
    volume, volume_snapshot,
};
use stillpoint_types::{DiskId, FaultCode, ImageFormat, ImageId, JobId, now_micros};

pub(crate) const KIND: &str = "volume_snapshot";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    disk: DiskId,
    /// What it is called.
    name: String,
    /// The active image.
    base: ImageId,
    base_format: ImageFormat,
    /// What becomes active.
    overlay: ImageId,
    size_bytes: u64,
}

impl Params {
    fn switch(&self, engine: &Inner) -> SwitchDisk {
        SwitchDisk {
            disk: self.disk,
            base: engine.image_file(self.base, self.base_format),
            overlay: engine.image_file(self.overlay, ImageFormat::Cow),
            size_bytes: self.size_bytes,
        }
    }
}

/// A merge of the daemon's own is over: what waits for it of the disks that it has locked is made now. Their content is what
/// it was when these snapshots were asked for, as its locks give way to the next jobs' in this one transaction.
pub(crate) fn after_merge(tx: &Tx, job: &JobRow) -> Result<(), Fault> {
    let mut waiting = Vec::new();
    for lock in stillpoint_store::job::locks(tx, "disk")? {
        if lock.job != job.id {
            continue;
        }
        let id: DiskId = lock.entity.parse().map_err(Fault::internal)?;
        if volume_snapshot::is_waiting(tx, id)? {
            waiting.extend(disk::get(tx, id)?);
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    stillpoint_store::job::unlock(tx, job.id)?;
    for row in waiting {
        let begun = tx.nested(|tx| enqueue(tx, &Actor::of_job(job), &row));
        begun.map(drop).or_else(|why| fail(tx, &row, &why))?;
    }
    Ok(())
}

/// Plans the job of a disk that has none.
pub(super) fn enqueue(tx: &Tx, actor: &Actor, disk: &DiskRow) -> Result<JobId, Fault> {
    let name = called(disk);
    let chain = image::chain(tx, disk.image)?;
    if chain.len() >= limits::CHAIN_MAX {
        let text = format!(
            "Volume {name} has {} layers already; at most {} are allowed. Remove a snapshot first.",
            chain.len(),
            limits::CHAIN_MAX
        );
        return Err(Fault::new(FaultCode::ChainTooDeep, text));
    }
    let active = chain.last().ok_or_else(|| Fault::internal("a disk without image"))?;
    let row = restore::overlay_row(tx, disk.id, active, disk.size_bytes).map_err(refused)?;
    let params = Params {
        disk: disk.id,
        name: name.clone(),
        base: active.id,
        base_format: active.format,
        overlay: row.id,
        size_bytes: disk.size_bytes,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Creating snapshots of disk {name}"),
        project: disk.project,
        vm: None,
        locks: vec![Wanted::exclusive(Entity::Disk(disk.id), &name)],
        steps: vec![NewStep::new("settle", "Laying an overlay over what the snapshots hold").pivot()],
    };
    enqueue_job(tx, actor, job).map_err(refused)
}

/// The saga.
pub(crate) struct Settle {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Settle {
        params: from_json(&row.params)?,
    }))
}

impl Settle {
    /// Whether the active image holds nothing, so that its parent shows the same and no layer is needed.
    async fn is_empty(&self, cx: &Cx) -> Result<bool, StepError> {
        let SwitchDisk { disk, base, .. } = self.params.switch(&cx.engine);
        if base.format != ImageFormat::Cow {
            return Ok(false);
        }
        let id = base.id;
        let read = move |conn: &Conn| -> Result<bool, Fault> {
            let row = disk::get(conn, disk)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
            Ok(shown_below(conn, id, row.size_bytes)?.is_some())
        };
        if !cx.engine.store.read(read).await? {
            return Ok(false);
        }
        let facts = cx.engine.images.inspect(&base.path, None).await?;
        Ok(!facts.has_data)
    }
}

/// The rows of what could not be done.
fn fail(tx: &Tx, disk: &DiskRow, why: &Fault) -> Result<(), Fault> {
    let detail = if why.code == FaultCode::NoSpace {
        message::NO_STORAGE
    } else {
        message::UNKNOWN
    };
    for id in volume_snapshot::fail_waiting(tx, disk.id, &why.text, now_micros())? {
        let (about, doing) = (message::About::Snapshot(id), message::Doing::Snapshot);
        message::write(tx, disk.project, about, doing, detail, &why.text)?;
    }
    Ok(())
}

/// The rows of what was done.
fn record(tx: &Tx, params: &Params, is_empty: bool) -> Result<usize, Fault> {
    let Params {
        disk, base, overlay, ..
    } = params;
    let shown = if is_empty {
        image::delete(tx, *overlay)?;
        let row = disk::get(tx, *disk)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
        shown_below(tx, row.image, row.size_bytes)?.ok_or_else(|| Fault::internal("an empty image lost its parent"))?
    } else {
        image::set_state(tx, *overlay, ImageState::Live)?;
        disk::set_image(tx, *disk, *overlay)?;
        *base
    };
    let many = volume_snapshot::settle(tx, *disk, shown)?;
    // Until somebody gets the disk, further snapshots need nothing but their rows.
    volume::set_pristine(tx, *disk, true)?;
    Ok(many)
}

#[async_trait]
impl Saga for Settle {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        crate::files::expect_recorded(&cx.engine, vec![self.params.disk]).await?;
        let is_empty = self.is_empty(cx).await?;
        if !is_empty {
            restore::make_overlays(cx, &[self.params.switch(&cx.engine)]).await?;
        }
        let (params, job, actor) = (self.params.clone(), cx.job.clone(), cx.actor());
        Ok(Done::nothing().and(move |tx| {
            let many = record(tx, &params, is_empty)?;
            let text = format!(
                "Creation of {many} snapshots of disk '{}' has been completed.",
                params.name
            );
            Event::new(What::SnapshotDone, text)
                .by(&actor)
                .disk(job.project, params.disk, &params.name)
                .write(tx)
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        restore::withdraw_overlays(cx, &[self.params.switch(&cx.engine)]).await?;
        Ok(Undo::Undone)
    }

    fn finished(&self, _tx: &Tx, _job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        Ok(())
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let Params { disk, overlay, .. } = &self.params;
        image::delete(tx, *overlay)?;
        let row = disk::get(tx, *disk)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
        fail(tx, &row, why)?;
        let text = format!(
            "Failed to create snapshots of disk '{}': {}",
            self.params.name, why.text
        );
        Event::new(What::SnapshotFailed, text)
            .by(&Actor::of_job(job))
            .disk(job.project, *disk, &self.params.name)
            .write(tx)
    }
}
