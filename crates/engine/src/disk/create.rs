//! Makes a disk with an empty base image, and attaches it if that was asked for.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `create` **pivot** | the base image's file, durable | the file is removed |
//!
//! The disk is visible, and locked, from the request on; if its file cannot be made it goes again (event 2022).
//!
//! A VM that runs gets it by a job of its own ([`super::plug`]), which this one's last transaction writes.

use super::{attach, plug};
use crate::{
    access,
    command::{Accepted, AttachFields, CreateDisk, DomainRef, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::{Allocation, ImageRef},
    volume::message::{self, About, Doing},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    job::JobRow,
    vm,
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageFormat, ImageId, JobId, Need, VmId, VmStatus, now_micros};

pub(crate) const KIND: &str = "disk_create";
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    disk: DiskId,
    alias: String,
    image: ImageRef,
    size_bytes: u64,
    allocation: Allocation,
    vm: Option<VmId>,
    /// How a running VM shall get it.
    #[serde(default)]
    plug: Option<AttachFields>,
}

/// Refuses what would leave a storage domain without its reserve.
pub(crate) fn expect_space(domain: &str, available_bytes: u64, needed_bytes: u64) -> Result<(), Fault> {
    if available_bytes >= needed_bytes {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::NoSpace,
        format!(
            "Storage domain {domain} has {} MiB free, but {} MiB are needed. Remove snapshots or disks, or add space.",
            available_bytes >> 20,
            needed_bytes >> 20
        ),
    ))
}

/// Refuses an image id of a client whose file name is taken: that file is no part of what is recorded, and is somebody's.
/// Asked before the row that reserves the id, so a file that was adopted meanwhile is refused there.
pub(crate) async fn expect_free_file(engine: &Inner, id: ImageId, format: ImageFormat) -> Result<(), Fault> {
    let known = engine.store.read(move |conn| image::get(conn, id)).await?.is_some();
    let file = engine.image_file(id, format);
    if known || !engine.images.is_taken(&file).await? {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::IdInUse,
        format!(
            "A file {id} that belongs to no disk lies in storage domain {}: adopt it, or choose another image_id.",
            engine.domain.name
        ),
    ))
}

/// Finds the domain that a request names.
pub(crate) fn expect_domain(engine: &Inner, named: &DomainRef) -> Result<(), Fault> {
    let (known, shown) = match named {
        DomainRef::Default => (true, String::new()),
        DomainRef::Id(id) => (*id == engine.domain.id, id.to_string()),
        DomainRef::Name(name) => (*name == engine.domain.name, name.chars().take(64).collect()),
    };
    if known {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::RelatedNotFound,
        format!("Entity not found: storage domain {shown}"),
    ))
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CreateDisk,
) -> Result<Accepted<DiskId>, Fault> {
    access::may_create(who)?;
    expect_domain(engine, &command.domain)?;
    limits::range("provisioned_size", command.size_bytes, 1, limits::DISK_MAX_BYTES)?;
    limits::text("description", &command.description, limits::TEXT_MAX)?;
    if let Some(alias) = &command.alias {
        limits::name("alias", alias)?;
    }
    let size_bytes = command.size_bytes.next_multiple_of(512);
    let sparse = command.sparse.unwrap_or(command.format == ImageFormat::Cow);
    let needed = limits::RESERVE_BYTES + if sparse { 0 } else { size_bytes };
    if let Some(image) = command.image {
        expect_free_file(engine, image, command.format).await?;
    }
    let space = engine.images.space(&engine.domain_path()).await?;
    expect_space(&engine.domain.name, space.available_bytes, needed)?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let accepted = engine
        .store
        .write(move |tx| plan(&inner, tx, &who, &actor, command, size_bytes, sparse))
        .await?;
    if let Some(job) = accepted.job {
        journal::executor::drive(engine, job, false);
    }
    Ok(accepted)
}

fn plan(
    engine: &Inner,
    tx: &Tx,
    who: &Caller,
    actor: &Actor,
    command: CreateDisk,
    size_bytes: u64,
    sparse: bool,
) -> Result<Accepted<DiskId>, Fault> {
    let id = command.id.unwrap_or_else(DiskId::fresh);
    let mut project = who.home_project;
    let mut locks = Vec::new();
    let mut alias = command.alias.unwrap_or_else(|| format!("disk-{id}"));
    if let Some((vm_id, _)) = &command.attach {
        let found = access::vm(tx, who, *vm_id, Need::Operate)?;
        project = found.row.project;
        if alias.starts_with("disk-") {
            alias = format!("{}_Disk{}", found.row.name, vm::attachments(tx, *vm_id)?.len() + 1);
        }
        locks.push(Wanted::exclusive(Entity::Vm(*vm_id), &found.row.name));
    }
    locks.push(Wanted::exclusive(Entity::Disk(id), &alias));
    let image = ImageRow {
        id: command.image.unwrap_or_else(ImageId::fresh),
        disk: id,
        parent: None,
        domain: engine.domain.id,
        format: command.format,
        size_bytes,
        state: ImageState::Creating,
        created_at: now_micros(),
    };
    let row = DiskRow {
        id,
        project,
        domain: engine.domain.id,
        alias: alias.clone(),
        description: command.description,
        size_bytes,
        sparse,
        image: image.id,
        illegal: None,
        created_at: image.created_at,
    };
    insert(tx, &image, &row)?;
    let plug = match &command.attach {
        Some((vm_id, fields)) => attach_new(tx, &access::vm(tx, who, *vm_id, Need::Operate)?, &row, fields)?,
        None => None,
    };
    let to = command.attach.map(|(vm, _)| vm).map(|vm| (vm, plug));
    let job = new_job(engine, &image, &row, &alias, to, locks)?;
    Ok(Accepted {
        id,
        job: Some(enqueue(tx, actor, job)?),
    })
}

/// The job that makes the base image of a disk whose rows are there; `to`: the VM that it is for, and how that shall get it.
fn new_job(
    engine: &Inner,
    image: &ImageRow,
    row: &DiskRow,
    alias: &str,
    to: Option<(VmId, Option<AttachFields>)>,
    locks: Vec<Wanted>,
) -> Result<NewJob, Fault> {
    let (vm, plug) = to.unzip();
    let params = Params {
        disk: row.id,
        alias: alias.to_owned(),
        image: engine.image_ref(image),
        size_bytes: row.size_bytes,
        allocation: if row.sparse {
            Allocation::Sparse
        } else {
            Allocation::Preallocated
        },
        vm,
        plug: plug.flatten(),
    };
    Ok(NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Adding Disk {alias}"),
        project: row.project,
        vm,
        locks,
        steps: vec![NewStep::new("create", "Creating the base image").pivot()],
    })
}

/// Begins to make the base image of a disk that no VM gets. Its rows are there.
pub(crate) fn begin(engine: &Inner, tx: &Tx, actor: &Actor, image: &ImageRow, row: &DiskRow) -> Result<JobId, Fault> {
    let called = crate::volume::called(row);
    let locks = vec![Wanted::exclusive(Entity::Disk(row.id), &called)];
    enqueue(tx, actor, new_job(engine, image, row, &called, None, locks)?)
}

/// Attaches the new disk at once, or returns how a VM that runs shall get it.
fn attach_new(
    tx: &Tx,
    found: &access::Vm,
    row: &DiskRow,
    fields: &AttachFields,
) -> Result<Option<AttachFields>, Fault> {
    if found.row.status == VmStatus::Up && fields.active != Some(false) {
        // Refused now, not when it is made.
        plug::expect_pluggable(found, attach::row_for(tx, found, row, fields)?.interface)?;
        return Ok(Some(fields.clone()));
    }
    attach::put(tx, found, row, fields)?;
    Ok(None)
}

/// Adds image and disk; ids that are taken are the client's fault.
pub(crate) fn insert(tx: &Tx, image: &ImageRow, row: &DiskRow) -> Result<(), Fault> {
    let taken = |what: &str, id: String| {
        Fault::new(
            FaultCode::IdInUse,
            format!("Cannot add Disk. The {what} {id} exists already; choose another."),
        )
    };
    image::insert(tx, image).map_err(|error| match error {
        duplicate if duplicate.is_duplicate() => taken("image", image.id.to_string()),
        other => other.into(),
    })?;
    disk::insert(tx, row).map_err(|error| match error {
        duplicate if duplicate.is_duplicate() => taken("disk", row.id.to_string()),
        other => other.into(),
    })
}

/// The disk is made: the VM that runs gets it, or, if it went down meanwhile, has it from the next start on.
fn plug_made(tx: &Tx, job: &JobRow, params: &Params, id: VmId, fields: &AttachFields) -> Result<(), Fault> {
    // The locks go with this job; the next one takes its own in the same transaction.
    stillpoint_store::job::unlock(tx, job.id)?;
    let gone = || Fault::internal("the VM or its disk is gone");
    let vm = vm::get(tx, id)?.ok_or_else(gone)?;
    let row = disk::get(tx, params.disk)?.ok_or_else(gone)?;
    let (actor, name) = (Actor::of_job(job), vm.name.clone());
    let config = from_json(&vm.config)?;
    let found = access::Vm { row: vm, config };
    let attached = tx.nested(|tx| -> Result<(), Fault> {
        if found.row.status == VmStatus::Up {
            plug::plan_plug(tx, &actor, &found, &row, fields).map(drop)
        } else {
            attach::put(tx, &found, &row, fields)
        }
    });
    let Err(fault) = attached else { return Ok(()) };
    let text = format!("Failed to plug disk {} to VM {name}: {}", params.alias, fault.text);
    Event::new(What::DiskPlugFailed, text)
        .by(&actor)
        .vm(job.project, id, &name)
        .disk(job.project, params.disk, &params.alias)
        .write(tx)
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

#[async_trait]
impl Saga for Create {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        let Params {
            image,
            size_bytes,
            allocation,
            ..
        } = &self.params;
        cx.engine.images.create_base(image, *size_bytes, *allocation).await?;
        let id = image.id;
        Ok(Done::nothing().and(move |tx| Ok(image::set_state(tx, id, ImageState::Live)?)))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        // A base under its own name was there before: one that this job had finished would be used, not undone.
        let withdrawn = cx.engine.images.withdraw_base(&self.params.image).await;
        withdrawn.map_err(StepError::later)?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        let text = format!("The disk {} was successfully added.", params.alias);
        Event::new(What::DiskAdded, text)
            .by(&actor)
            .disk(job.project, params.disk, &params.alias)
            .write(tx)?;
        match params.vm.zip(params.plug.as_ref()) {
            Some((vm, fields)) => plug_made(tx, job, params, vm, fields),
            None => Ok(()),
        }
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let (params, actor) = (&self.params, Actor::of_job(job));
        for a in vm::attachments_of_disk(tx, params.disk)? {
            vm::delete_attachment(tx, a.vm, params.disk)?;
        }
        disk::delete(tx, params.disk)?;
        image::delete(tx, params.image.id)?;
        let text = format!("Add-Disk operation failed for disk {}: {}", params.alias, why.text);
        message::write(
            tx,
            job.project,
            About::Volume(params.disk),
            Doing::Create,
            message::UNKNOWN,
            &text,
        )?;
        Event::new(What::DiskAddFailed, text)
            .by(&actor)
            .disk(job.project, params.disk, &params.alias)
            .write(tx)
    }
}
