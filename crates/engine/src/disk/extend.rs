//! Makes a disk larger, while its guest runs or at rest. Never smaller: what lies beyond would be lost.
//!
//! Only the active layer grows. The images that snapshots hold keep the size that they had, and a restore brings that
//! back. A merge makes the image that survives as large as the one that goes.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `grow` | the active layer's file gets the new size, durable; with the step's record disk and image have it too | nothing: if the file has not grown, it is as before; if it has, the job goes on |
//!
//! # Crash consistency
//! A file has the old size or the new one, never another, and `grow` makes sure of the new one as often as it is run. The
//! rows follow the file. In between the file is larger than the rows say, and the locks keep everybody from it: the VM
//! cannot be started, stopped or snapshotted. If the VM's process dies in the middle, the step goes on at rest; if it does
//! not answer, the step waits until it does or is gone, for QEMU may still carry out what it was told.

use crate::{
    at_rest, backup,
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{self, Entity, Wanted},
    ports::{Chain, Driven, DriverErrorKind, ImageRef, Machine},
    vm::view::wrong_status,
    volume::message::{self, About, Doing},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    image,
    job::JobRow,
    vm,
};
use stillpoint_types::{DiskId, FaultCode, ImageFormat, JobId, VmId, VmStatus};

pub(crate) const KIND: &str = "disk_extend";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    disk: DiskId,
    alias: String,
    /// The active layer.
    image: ImageRef,
    /// Virtual size in bytes that it shall have.
    size_bytes: u64,
    /// The VM that has the disk, and its name.
    vm: Option<(VmId, String)>,
}

/// Plans the extension; a disk that has that size already needs none.
pub(crate) fn plan(
    engine: &Inner,
    tx: &Tx,
    actor: &Actor,
    row: &DiskRow,
    wanted_bytes: u64,
    available_bytes: u64,
) -> Result<Option<JobId>, Fault> {
    if wanted_bytes == row.size_bytes {
        return Ok(None);
    }
    limits::range("provisioned_size", wanted_bytes, 1, limits::DISK_MAX_BYTES)?;
    let size_bytes = wanted_bytes.next_multiple_of(512);
    if size_bytes < row.size_bytes {
        let text = format!(
            "Cannot edit Virtual Disk. Disk {} has {} bytes; the new size, {wanted_bytes} bytes, must not be smaller.",
            row.alias, row.size_bytes
        );
        return Err(Fault::new(FaultCode::OutOfRange, text));
    }
    if size_bytes == row.size_bytes {
        return Ok(None);
    }
    lock::expect_free(tx, Entity::Disk(row.id), &row.alias)?;
    if let Some(why) = &row.illegal {
        let text = format!("Cannot edit Virtual Disk. Disk {} is illegal: {why}.", row.alias);
        return Err(Fault::new(FaultCode::ImageIllegal, text));
    }
    backup::expect_none_of_disk(tx, row.id, "edit Virtual Disk")?;
    let growth = if row.sparse { 0 } else { size_bytes - row.size_bytes };
    let needed = limits::RESERVE_BYTES.saturating_add(growth);
    super::create::expect_space(&engine.house.domain_name(), available_bytes, needed)?;
    let active = image::get(tx, row.image)?.ok_or_else(|| Fault::internal("a disk without image"))?;
    let mut locks = vec![Wanted::exclusive(Entity::Disk(row.id), &row.alias)];
    let vm = expect_vm(tx, row)?;
    if let Some((id, name)) = &vm {
        locks.push(Wanted::exclusive(Entity::Vm(*id), name));
    }
    let params = Params {
        disk: row.id,
        alias: row.alias.clone(),
        image: engine.image_ref(&active),
        size_bytes,
        vm,
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Extending Disk {} to {size_bytes} bytes", row.alias),
        project: row.project,
        vm: params.vm.as_ref().map(|(id, _)| *id),
        locks,
        steps: vec![NewStep::new("grow", "Extending the active image")],
    };
    Ok(Some(enqueue(tx, actor, job)?))
}

/// The VM that has the disk, if its state allows it.
fn expect_vm(tx: &Tx, row: &DiskRow) -> Result<Option<(VmId, String)>, Fault> {
    let Some(a) = vm::attachments_of_disk(tx, row.id)?.into_iter().next() else {
        return Ok(None);
    };
    let found = vm::get(tx, a.vm)?.ok_or_else(|| Fault::internal("the VM is gone"))?;
    lock::expect_free(tx, Entity::Vm(found.id), &found.name)?;
    match found.status {
        VmStatus::Down => {}
        VmStatus::Up | VmStatus::Paused if !(a.active && a.read_only) => {}
        // QEMU has it open for reading only.
        VmStatus::Up | VmStatus::Paused => {
            let what = "extending a disk that it may only read";
            return Err(wrong_status(&found.name, found.status, what, "down"));
        }
        // A suspended guest's memory knows the size that its disks had.
        other => {
            let (what, allowed) = ("extending a disk", "up, paused or down");
            return Err(wrong_status(&found.name, other, what, allowed));
        }
    }
    Ok(Some((found.id, found.name)))
}

/// The saga.
pub(crate) struct Extend {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Extend {
        params: from_json(&row.params)?,
    }))
}

impl Extend {
    /// The VM's machine, if it has the disk open.
    async fn machine(&self, cx: &Cx) -> Result<Option<Arc<dyn Machine>>, StepError> {
        let Some((id, name)) = &self.params.vm else {
            return Ok(None);
        };
        let Some(machine) = cx.engine.hypervisor.machine(*id) else {
            if cx.engine.is_unreachable(*id).await? {
                return Err(StepError::later(cx.engine.unreachable(name)));
            }
            return Ok(None);
        };
        match machine.graph().await {
            Ok(graph) => Ok(graph.chain(self.params.disk).is_some().then_some(machine)),
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                cx.engine.hypervisor_gone(*id).await?;
                Ok(None)
            }
            Err(error) => Err(StepError::later(error)),
        }
    }

    async fn ensure_grown(&self, cx: &Cx) -> Result<(), StepError> {
        let Params {
            disk,
            image,
            size_bytes,
            ..
        } = &self.params;
        if let Some(machine) = self.machine(cx).await? {
            match machine.grow(*disk, image, *size_bytes).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == DriverErrorKind::Timeout => return Err(StepError::later(error)),
                Err(error) if error.kind == DriverErrorKind::Disconnected => {
                    let (id, _) = self
                        .params
                        .vm
                        .as_ref()
                        .ok_or_else(|| Fault::internal("a machine of no VM"))?;
                    cx.engine.hypervisor_gone(*id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let chains = cx.engine.chains(vec![(*disk, image.id)]).await?;
        Ok(at_rest::insist(cx.job.id, || self.grow_at_rest(cx, &chains)).await?)
    }

    async fn grow_at_rest(&self, cx: &Cx, chains: &[Chain]) -> Driven<()> {
        let hypervisor = &cx.engine.hypervisor;
        hypervisor.close_at_rest(cx.job.id).await?;
        let endpoint = hypervisor.open_at_rest(cx.job.id, chains).await?;
        let grown = endpoint
            .grow(self.params.disk, &self.params.image, self.params.size_bytes)
            .await;
        hypervisor.close_at_rest(cx.job.id).await?;
        grown
    }

    /// Whether the file has the new size, as it says itself.
    async fn has_grown(&self, cx: &Cx) -> Driven<bool> {
        let image = &self.params.image;
        let hint = (image.format == ImageFormat::Raw).then_some(ImageFormat::Raw);
        let facts = cx.engine.images.inspect(&image.path, hint).await?;
        Ok(facts.size_bytes >= self.params.size_bytes)
    }
}

#[async_trait]
impl Saga for Extend {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        if let Err(error) = self.ensure_grown(cx).await {
            // What has grown stays so: it is not given up, but made durable in the end.
            let grown = !error.later && self.has_grown(cx).await.map_err(StepError::later)?;
            return Err(StepError {
                later: error.later || grown,
                ..error
            });
        }
        let Params {
            disk,
            image,
            size_bytes,
            vm,
            ..
        } = self.params.clone();
        Ok(Done::nothing().and(move |tx| {
            disk::set_size(tx, disk, size_bytes)?;
            image::set_size(tx, image.id, size_bytes)?;
            vm.map_or(Ok(()), |(id, _)| Ok(vm::touch(tx, id)?))
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        let closed = cx.engine.hypervisor.close_at_rest(cx.job.id).await;
        closed.map_err(StepError::later)?;
        let grown = self.has_grown(cx).await.map_err(StepError::later)?;
        Ok(if grown { Undo::Forward } else { Undo::Undone })
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let Params { alias, size_bytes, .. } = &self.params;
        let text = format!(
            "Size of the disk '{alias}' was successfully updated to {size_bytes} bytes by {}.",
            job.owner_name
        );
        self.tell(tx, job, What::DiskExtended, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let Params { alias, size_bytes, .. } = &self.params;
        let text = format!(
            "Failed to extend size of the disk '{alias}' to {size_bytes} bytes: {}",
            why.text
        );
        message::write(
            tx,
            job.project,
            About::Volume(self.params.disk),
            Doing::Extend,
            message::UNKNOWN,
            &text,
        )?;
        self.tell(tx, job, What::DiskExtendFailed, text)
    }
}

impl Extend {
    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        let event =
            Event::new(what, text)
                .by(&Actor::of_job(job))
                .disk(job.project, self.params.disk, &self.params.alias);
        match &self.params.vm {
            Some((id, name)) => event.vm(job.project, *id, name).write(tx),
            None => event.write(tx),
        }
    }
}
