//! Makes a disk with what another one holds: its present content at rest, or that of one of its older images, whatever the
//! VM does. All layers come into one image; the new disk has no snapshots and stands on nothing.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | `copy` **pivot** | the image's file, whole and durable | what an interrupted try left is removed |
//!
//! The new disk is visible, and locked, from the request on; if the copy fails it goes again (event 2007).
//!
//! # Crash consistency
//! The file has its name only when all is in it. Whatever dies before that, the copy is begun anew. The source is locked
//! with other readers (downloads, other copies), so nobody writes to what is read.

use super::create;
use crate::{
    access,
    command::{Accepted, CopyDisk, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::{self, Actor, Cx, Done, NewJob, NewStep, Saga, StepError, Undo, enqueue, from_json, to_json},
    limits,
    lock::{Entity, Wanted},
    ports::{Allocation, ImageRef},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    disk::{self, DiskRow},
    image::{self, ImageRow, ImageState},
    job::JobRow,
};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageFormat, ImageId, Need, now_micros};

pub(crate) const KIND: &str = "disk_copy";
const VERSION: u32 = 1;
/// As refusals say it.
const DOING: &str = "copy Virtual Disk";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Alias of the disk that is copied.
    of: String,
    /// What is read, base first.
    source: Vec<ImageRef>,
    disk: DiskId,
    alias: String,
    image: ImageRef,
    size_bytes: u64,
    allocation: Allocation,
}

/// What is copied, looked up.
struct Found {
    disk: DiskRow,
    /// Base first; never empty.
    chain: Vec<ImageRow>,
    top: ImageRow,
}

impl Found {
    /// A base is copied as what it is. What lies over others takes space as it is needed.
    fn allocation(&self) -> Allocation {
        if self.disk.sparse || self.chain.len() > 1 {
            Allocation::Sparse
        } else {
            Allocation::Preallocated
        }
    }
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: CopyDisk,
) -> Result<Accepted<DiskId>, Fault> {
    let found = {
        let (who, command) = (who.clone(), command.clone());
        engine
            .store
            .read(move |conn| find(conn, &who, command.disk, command.image))
            .await?
    };
    create::expect_domain(engine, &command.domain)?;
    if let Some(alias) = &command.alias {
        limits::name("alias", alias)?;
    }
    expect_space_for(engine, &found.chain, found.allocation()).await?;
    let (inner, who, actor) = (Arc::clone(engine), who.clone(), Actor::of(who, origin));
    let accepted = engine
        .store
        .write(move |tx| plan(&inner, tx, &who, &actor, &command))
        .await?;
    if let Some(job) = accepted.job {
        journal::executor::drive(engine, job, false);
    }
    Ok(accepted)
}

/// Refuses a copy for which there is no room: it takes what its layers take, or all of its size.
pub(super) async fn expect_space_for(engine: &Inner, chain: &[ImageRow], allocation: Allocation) -> Result<(), Fault> {
    let size_bytes = chain.last().map_or(0, |image| image.size_bytes);
    let layers: Vec<_> = chain.iter().map(|row| engine.image_ref(row)).collect();
    let needed = match allocation {
        Allocation::Sparse => engine
            .images
            .actual_bytes(&layers)
            .await?
            .iter()
            .sum::<u64>()
            .min(size_bytes),
        Allocation::Preallocated => size_bytes,
    };
    let space = engine.images.space(&engine.domain_path()).await?;
    let needed = needed.saturating_add(limits::RESERVE_BYTES);
    create::expect_space(&engine.domain.name, space.available_bytes, needed)
}

fn find(conn: &Conn, who: &Caller, id: DiskId, chosen: Option<ImageId>) -> Result<Found, Fault> {
    let disk = access::disk(conn, who, id, Need::Operate)?;
    let wanted = chosen.unwrap_or(disk.image);
    let (writers, snapshots) = image::names(conn, wanted)?;
    let chain = image::chain(conn, wanted)?;
    let top = chain
        .last()
        // One without a name may be merged at any time, through the disk of another VM that stands on it.
        .filter(|top| top.disk == id && top.state == ImageState::Live && (!writers.is_empty() || snapshots > 0))
        .cloned();
    let top = top.ok_or_else(|| {
        let text = format!("Cannot {DOING}. Disk {} has no image {wanted}.", disk.alias);
        Fault::new(FaultCode::RelatedNotFound, text)
    })?;
    Ok(Found { disk, chain, top })
}

fn plan(engine: &Inner, tx: &Tx, who: &Caller, actor: &Actor, command: &CopyDisk) -> Result<Accepted<DiskId>, Fault> {
    let found = find(tx, who, command.disk, command.image)?;
    let Found { disk: of, chain, top } = &found;
    super::expect_whole(tx, of, top, DOING)?;
    if top.id == of.image {
        let instead = "Take a snapshot and copy its image, or shut the VM down.";
        super::expect_at_rest(tx, of, DOING, instead)?;
    }
    let id = DiskId::fresh();
    let alias = command.alias.clone().unwrap_or_else(|| of.alias.clone());
    let image = ImageRow {
        id: ImageId::fresh(),
        disk: id,
        parent: None,
        domain: engine.domain.id,
        // What has layers is qcow2, whatever its base.
        format: if chain.len() > 1 { ImageFormat::Cow } else { top.format },
        size_bytes: top.size_bytes,
        state: ImageState::Creating,
        created_at: now_micros(),
    };
    let row = DiskRow {
        id,
        project: of.project,
        domain: engine.domain.id,
        alias: alias.clone(),
        description: of.description.clone(),
        size_bytes: top.size_bytes,
        sparse: found.allocation() == Allocation::Sparse,
        image: image.id,
        illegal: None,
        created_at: image.created_at,
    };
    create::insert(tx, &image, &row)?;
    let params = Params {
        of: of.alias.clone(),
        source: chain.iter().map(|row| engine.image_ref(row)).collect(),
        disk: id,
        alias,
        image: engine.image_ref(&image),
        size_bytes: top.size_bytes,
        allocation: found.allocation(),
    };
    let job = NewJob {
        kind: KIND,
        version: VERSION,
        params: to_json(&params)?,
        description: format!("Copying Disk {} to {}", of.alias, params.alias),
        project: of.project,
        vm: None,
        locks: vec![
            Wanted::shared(Entity::Disk(of.id), &of.alias),
            Wanted::exclusive(Entity::Disk(id), &params.alias),
        ],
        steps: vec![NewStep::new("copy", "Copying the data").pivot()],
    };
    Ok(Accepted {
        id,
        job: Some(enqueue(tx, actor, job)?),
    })
}

/// The saga.
pub(crate) struct Copy {
    params: Params,
}

pub(crate) fn load(row: &JobRow) -> Result<Arc<dyn Saga>, Fault> {
    Ok(Arc::new(Copy {
        params: from_json(&row.params)?,
    }))
}

#[async_trait]
impl Saga for Copy {
    async fn run(&self, cx: &Cx) -> Result<Done, StepError> {
        let Params {
            source,
            image,
            size_bytes,
            allocation,
            ..
        } = &self.params;
        let progress = cx.progress();
        cx.engine
            .images
            .copy(source, image, *size_bytes, *allocation, &progress)
            .await?;
        let id = image.id;
        Ok(Done::nothing().and(move |tx| Ok(image::set_state(tx, id, ImageState::Live)?)))
    }

    async fn undo(&self, cx: &Cx) -> Result<Undo, StepError> {
        // A file under its own name is whole: it would be used, not undone.
        let withdrawn = cx.engine.images.withdraw_base(&self.params.image).await;
        withdrawn.map_err(StepError::later)?;
        Ok(Undo::Undone)
    }

    fn finished(&self, tx: &Tx, job: &JobRow, _outputs: &[(String, serde_json::Value)]) -> Result<(), Fault> {
        let params = &self.params;
        let text = format!("Disk {} was copied to disk {}.", params.of, params.alias);
        self.tell(tx, job, What::DiskCopied, text)
    }

    fn undone(&self, tx: &Tx, job: &JobRow, why: &Fault) -> Result<(), Fault> {
        let params = &self.params;
        disk::delete(tx, params.disk)?;
        image::delete(tx, params.image.id)?;
        let text = format!(
            "Failed to copy disk {} to disk {}: {}",
            params.of, params.alias, why.text
        );
        self.tell(tx, job, What::DiskCopyFailed, text)
    }
}

impl Copy {
    fn tell(&self, tx: &Tx, job: &JobRow, what: What, text: String) -> Result<(), Fault> {
        Event::new(what, text)
            .by(&Actor::of_job(job))
            .disk(job.project, self.params.disk, &self.params.alias)
            .write(tx)
    }
}
