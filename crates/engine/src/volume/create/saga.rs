//! The job of a volume that stands on an image that is there: see [`super`].

use super::source::{Base, Freeze};
use crate::volume::{
    called,
    message::{self, About, Doing},
};
use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    lock::{self, Entity, Wanted},
    ports::SwitchDisk,
    snapshot::restore,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use stillpoint_store::{
    Conn, Tx,
    disk::{self, DiskRow},
    image::{self, ImageState},
    job::JobRow,
    snapshot as vm_snapshot, vm,
    volume::{self, Beside},
};
use stillpoint_types::{FaultCode, JobId, SnapshotId, SnapshotType, VmId};

pub(crate) const KIND: &str = "volume_create";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    name: String,
    /// The new volume's overlay.
    new: SwitchDisk,
    /// The overlay in which the source goes on.
    source: Option<SwitchDisk>,
    /// The VM that has the source, where that is frozen here.
    vm: Option<VmId>,
    /// The job that freezes the source of a running VM.
    after: Option<Freezing>,
}

/// A snapshot that is taken for a new volume alone.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Freezing {
    pub(super) job: JobId,
    pub(super) vm: VmId,
    pub(super) snapshot: SnapshotId,
}

/// How long a try waits for the snapshot of a running VM: longer than a freeze may take.
const LIVE_MAX: Duration = Duration::from_secs(60);

/// Rows and the job of a volume on an image that is there.
pub(super) fn overlay(
    engine: &Inner,
    tx: &Tx,
    actor: &Actor,
    row: DiskRow,
    beside: &Beside,
    base: Base,
    after: Option<Freezing>,
) -> Result<JobId, Fault> {
    let new = restore::plan_overlay(engine, tx, row.id, &base.image, row.size_bytes)?;
    let row = DiskRow {
        image: new.overlay.id,
        ..row
    };
    disk::insert(tx, &row)?;
    volume::insert(tx, beside)?;
    let name = called(&row);
    let mut locks = vec![Wanted::exclusive(Entity::Disk(row.id), &name)];
    let (mut source, mut vm) = (None, None);
    if let Freeze::AtRest(frozen, of) = base.freeze {
        locks.push(Wanted::exclusive(Entity::Disk(frozen.id), &called(&frozen)));
        source = Some(restore::plan_overlay(
            engine,
            tx,
            frozen.id,
            &base.image,
            frozen.size_bytes,
        )?);
        if let Some((id, of)) = of {
            locks.push(Wanted::exclusive(Entity::Vm(id), &of));
            vm = Some(id);
        }
    }
    let params = Params {
        name: name.clone(),
        new,
        source,
        vm,
        after,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Adding Disk {name}"),
        project: row.project,
        vm: None,
        locks,
        steps: vec![NewStep::new("create", "Creating overlays on the source's image").pivot()],
    };
    enqueue(tx, actor, job)
}

/// The saga.
pub(crate) struct Create {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Create {
        params: from_json(&row.params)?,
    }))
}

impl Create {
    fn overlays(&self) -> Vec<SwitchDisk> {
        let Params { new, source, .. } = &self.params;
        [new].into_iter().chain(source).cloned().collect()
    }

    /// Waits until the running VM that has the source writes elsewhere.
    async fn expect_frozen(&self, cx: &Cx) -> Result<(), StepError> {
        let Some(Freezing { job, snapshot, .. }) = self.params.after else {
            return Ok(());
        };
        let ended = tokio::select! {
            ended = cx.engine.ended(job, LIVE_MAX) => ended,
            () = cx.engine.stopping.cancelled() => Err(Fault::new(FaultCode::Unavailable, "The daemon is stopping.")),
        };
        match ended {
            Ok(()) => Ok(()),
            Err(fault) if fault.code == FaultCode::Unavailable => Err(StepError::later(fault)),
            // Ended so long ago that it is forgotten: if it failed, the snapshot has gone with it.
            Err(fault) if fault.code == FaultCode::NotFound => {
                let read =
                    move |conn: &Conn| -> Result<bool, Fault> { Ok(vm_snapshot::get(conn, snapshot)?.is_some()) };
                if cx.engine.store.read(read).await? {
                    return Ok(());
                }
                Err(fault.into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// The snapshot that was taken for this alone loses its name, unless somebody has begun to use it.
    fn forget_snapshot(&self, tx: &Tx) -> Result<(), Fault> {
        let Some(Freezing { vm, snapshot, .. }) = self.params.after else {
            return Ok(());
        };
        let is_there = vm_snapshot::get(tx, snapshot)?.is_some_and(|row| row.kind == SnapshotType::Regular);
        if !is_there || lock::holder(tx, Entity::Snapshot(snapshot))?.is_some() {
            return Ok(());
        }
        vm_snapshot::delete(tx, snapshot)?;
        Ok(vm::touch(tx, vm)?)
    }

    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .disk(job.project, self.params.new.disk, &self.params.name)
            .write(tx)
    }
}

#[async_trait]
impl Saga for Create {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        self.expect_frozen(cx).await?;
        restore::make_overlays(cx, &self.overlays()).await?;
        let params = self.params.clone();
        Ok(Done::nothing().and(move |tx| {
            image::set_state(tx, params.new.overlay.id, ImageState::Live)?;
            if let Some(source) = params.source {
                image::set_state(tx, source.overlay.id, ImageState::Live)?;
                disk::set_image(tx, source.disk, source.overlay.id)?;
                // A VM that has it may write to it from its next start on.
                let free = vm::attachments_of_disk(tx, source.disk)?.is_empty();
                volume::set_pristine(tx, source.disk, free)?;
            }
            params.vm.map_or(Ok(()), |id| Ok(vm::touch(tx, id)?))
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        restore::withdraw_overlays(cx, &self.overlays()).await?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        self.forget_snapshot(tx)?;
        let text = format!("The disk {} was successfully added.", self.params.name);
        self.tell(tx, job, What::DiskAdded, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        self.forget_snapshot(tx)?;
        disk::delete(tx, self.params.new.disk)?;
        for overlay in self.overlays() {
            image::delete(tx, overlay.overlay.id)?;
        }
        let text = format!("Add-Disk operation failed for disk {}: {}", self.params.name, why.text);
        let about = About::Volume(self.params.new.disk);
        message::write(tx, job.project, about, Doing::Create, message::UNKNOWN, &text)?;
        self.tell(tx, job, What::DiskAddFailed, text)
    }
}
