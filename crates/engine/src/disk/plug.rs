//! Gives a running guest a disk, and takes one away.
//!
//! | job | step | does | undone by |
//! |---|---|---|---|
//! | `disk_plug` | `plug` | the chain's nodes and the device in QEMU; with the step's record the attachment | nodes closed |
//! | `disk_unplug` | `unplug` **pivot** | the guest lets go of the device, its nodes are closed; with the step's record the attachment goes | - |
//!
//! A guest need not let go, and what it was asked cannot be taken back: it may do so at any later time. So taking a disk away
//! only goes forward. Until then VM and disk stay locked by the job; the VM may be stopped or restarted, which ends it.
//!
//! # Crash consistency
//! Rows change with the step's record only. What QEMU has is looked at by each try, so either step can be run again. A VM whose
//! process is gone has neither device nor nodes: then the rows alone are the effect.

use super::attach;
use crate::{
    access,
    command::AttachFields,
    config::AttachmentConfig,
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    lock::{Entity, Wanted},
    ports::{Chain, DiskSpec, DriverErrorKind, Machine},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx, checkpoint,
    disk::{self, DiskRow},
    image,
    job::JobRow,
    vm::{self, AttachmentRow},
};
use stillpoint_types::{DiskId, DiskInterface, FaultCode, ImageId, JobId, VmId};

pub(crate) const KIND_PLUG: &str = "disk_plug";
pub(crate) const KIND_UNPLUG: &str = "disk_unplug";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm: VmId,
    name: String,
    disk: DiskId,
    alias: String,
    /// Plugging: where.
    place: Option<AttachmentConfig>,
    /// Unplugging: the disk is removed, too.
    delete: bool,
}

/// Plans that a running VM gets a disk.
pub(super) fn plan_plug(
    tx: &Tx,
    actor: &Actor,
    found: &access::Vm,
    row: &DiskRow,
    fields: &AttachFields,
) -> Result<JobId, Fault> {
    if let Some(why) = &row.illegal {
        let text = format!("Cannot attach Virtual Disk. Disk {} is illegal: {why}.", row.alias);
        return Err(Fault::new(FaultCode::ImageIllegal, text));
    }
    let a = attach::row_for(tx, found, row, fields)?;
    expect_pluggable(found, a.interface)?;
    let image = image::get(tx, row.image)?.ok_or_else(|| Fault::internal("a disk without image"))?;
    let params = Params {
        vm: found.row.id,
        name: found.row.name.clone(),
        disk: row.id,
        alias: row.alias.clone(),
        place: Some(AttachmentConfig {
            disk: row.id,
            alias: row.alias.clone(),
            description: row.description.clone(),
            size_bytes: row.size_bytes,
            interface: a.interface,
            bootable: a.bootable,
            active: true,
            read_only: a.read_only,
            slot: a.slot,
            image: Some(image.id),
            parent: image.parent,
            format: image.format,
            sparse: row.sparse,
        }),
        delete: false,
    };
    let text = format!("Plugging Disk {} into VM {}", params.alias, params.name);
    let step = NewStep::new("plug", "Giving the guest the disk");
    enqueue(tx, actor, job(KIND_PLUG, found, &params, text, step)?)
}

/// Refuses the buses on which a disk can neither come nor go while the machine runs.
pub(super) fn expect_pluggable(found: &access::Vm, interface: DiskInterface) -> Result<(), Fault> {
    if matches!(interface, DiskInterface::Virtio | DiskInterface::VirtioScsi) {
        return Ok(());
    }
    let text = format!(
        "Cannot do this now: VM {} runs, and disks on {interface} come and go only while it is down: shut it down, or use \
         interface virtio.",
        found.row.name
    );
    Err(Fault::new(FaultCode::VmStatus, text))
}

/// Plans that a running VM loses a disk.
pub(super) fn plan_unplug(
    tx: &Tx,
    actor: &Actor,
    found: &access::Vm,
    row: &DiskRow,
    a: &AttachmentRow,
    delete: bool,
) -> Result<JobId, Fault> {
    if a.active {
        expect_pluggable(found, a.interface)?;
    }
    let params = Params {
        vm: found.row.id,
        name: found.row.name.clone(),
        disk: row.id,
        alias: row.alias.clone(),
        place: None,
        delete,
    };
    let text = format!("Unplugging Disk {} from VM {}", params.alias, params.name);
    let step = NewStep::new("unplug", "Waiting until the guest lets go of the disk").pivot();
    enqueue(tx, actor, job(KIND_UNPLUG, found, &params, text, step)?)
}

fn job(
    kind: &'static str,
    found: &access::Vm,
    params: &Params,
    description: String,
    step: NewStep,
) -> Result<NewJob, Fault> {
    Ok(NewJob {
        kind,
        version: VERSION,
        params: to_json(params)?,
        description,
        project: found.row.project,
        vm: Some(params.vm),
        locks: vec![
            Wanted::exclusive(Entity::Vm(params.vm), &params.name),
            Wanted::exclusive(Entity::Disk(params.disk), &params.alias),
        ],
        steps: vec![step],
    })
}

/// Both sagas.
struct Plug {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Plug {
        params: from_json(&row.params)?,
    }))
}

impl Plug {
    /// The VM's machine; `None`: its process is gone.
    async fn machine(&self, engine: &Inner) -> Result<Option<Arc<dyn Machine>>, StepError> {
        let machine = engine.hypervisor.machine(self.params.vm);
        if machine.is_none() && engine.is_unreachable(self.params.vm).await? {
            return Err(StepError::later(engine.unreachable(&self.params.name)));
        }
        Ok(machine)
    }

    async fn chain(&self, engine: &Inner) -> Result<Chain, Fault> {
        let id = self.params.disk;
        let read = move |conn: &Conn| -> Result<ImageId, Fault> {
            let row = disk::get(conn, id)?.ok_or_else(|| Fault::internal("the disk is gone"))?;
            Ok(row.image)
        };
        let top = engine.store.read(read).await?;
        let chains = engine.chains(vec![(id, top)]).await?;
        chains
            .into_iter()
            .next()
            .ok_or_else(|| Fault::internal("a disk without chain"))
    }

    async fn plug(&self, cx: &Cx, place: &AttachmentConfig) -> Result<Done, StepError> {
        if let Some(machine) = self.machine(&cx.engine).await? {
            crate::files::expect_recorded(&cx.engine, vec![self.params.disk]).await?;
            let spec = DiskSpec {
                chain: self.chain(&cx.engine).await?,
                interface: place.interface,
                // Nobody boots from it before the next start.
                bootable: false,
                read_only: place.read_only,
                slot: place.slot,
            };
            match machine.plug(&spec).await {
                Err(error) if error.kind == DriverErrorKind::Disconnected => {
                    cx.engine.hypervisor_gone(self.params.vm).await?;
                }
                Err(error) if error.kind == DriverErrorKind::Timeout => return Err(StepError::later(error)),
                other => other?,
            }
        }
        let (id, place) = (self.params.vm, place.clone());
        Ok(Done::nothing().and(move |tx| {
            let attached = vm::attachments(tx, id)?;
            vm::put_attachment(
                tx,
                &place.row(id, attached.iter().map(|a| a.position + 1).max().unwrap_or(0)),
            )?;
            Ok(vm::touch(tx, id)?)
        }))
    }

    /// Ensures that QEMU has neither device nor nodes of the disk.
    async fn ensure_gone(&self, cx: &Cx) -> Result<(), StepError> {
        let Some(machine) = self.machine(&cx.engine).await? else {
            return Ok(());
        };
        let images: Vec<_> = self
            .chain(&cx.engine)
            .await?
            .images
            .iter()
            .map(|image| image.id)
            .collect();
        match machine.unplug(self.params.disk, &images).await {
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                Ok(cx.engine.hypervisor_gone(self.params.vm).await?)
            }
            // Busy: the guest has not let go yet.
            Err(error) => Err(StepError::later(error)),
            Ok(()) => Ok(()),
        }
    }

    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .vm(job.project, self.params.vm, &self.params.name)
            .disk(job.project, self.params.disk, &self.params.alias)
            .write(tx)
    }
}

#[async_trait]
impl Saga for Plug {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        if let Some(place) = &self.params.place {
            return self.plug(cx, place).await;
        }
        self.ensure_gone(cx).await?;
        let params = self.params.clone();
        Ok(Done::nothing().and(move |tx| {
            vm::delete_attachment(tx, params.vm, params.disk)?;
            checkpoint::forget_disk(tx, params.disk)?;
            Ok(vm::touch(tx, params.vm)?)
        }))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        if self.params.place.is_some() {
            // Its device could not be added, so there is nothing that a guest would have to let go of.
            self.ensure_gone(cx).await?;
        }
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let Params { name, alias, place, .. } = &self.params;
        let by = &job.owner_name;
        if place.is_some() {
            let text = format!("VM {name} disk {alias} was plugged by {by}.");
            return self.tell(tx, job, What::DiskPlugged, text);
        }
        let text = format!("VM {name} disk {alias} was unplugged and detached by {by}.");
        self.tell(tx, job, What::DiskUnplugged, text)?;
        if self.params.delete
            && let Some(row) = disk::get(tx, self.params.disk)?
        {
            super::delete::forget(tx, &Actor::of_job(job), &row)?;
        }
        Ok(())
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let Params { name, alias, .. } = &self.params;
        let text = format!("Failed to plug disk {alias} to VM {name}: {}", why.text);
        self.tell(tx, job, What::DiskPlugFailed, text)
    }
}
