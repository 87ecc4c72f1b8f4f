//! Finds damage that no job of ours explains, and mends it without destroying data (ADR 0023).
//!
//! What unfinished jobs explain is none of this room's: they go on by themselves. Here is what foreign hands and lost rows
//! leave: a layer that somebody else put on a disk, an image file that no row names, a merge that rows do not know of, a map
//! of changes that is lost, a mark whose cause is gone.
//!
//! ```text
//! facts: rows, files with their headers, QEMU's graphs, maps --find (pure)--> findings --submit--> saga
//! ```
//! * [`facts`] reads and looks; nothing is changed.
//! * [`find`] is a pure function from that to [`Finding`]s, each with its plan and what would be lost; [`files`] is its part
//!   about files that no row names.
//! * [`saga`] carries one out: everything is looked at again first, and again in the transaction that begins the job.
//!
//! A finding's id is made of what it is about and of what was seen. So an id that was read yesterday repairs what was seen
//! yesterday, or nothing.

pub(crate) mod facts;
mod files;
mod find;
pub(crate) mod saga;

use crate::{
    command::Origin,
    engine::Inner,
    fault::Fault,
    journal::Actor,
    ports::BlockGraph,
    view::{FindingView, RepairView},
};
use facts::{Records, Seen};
use find::Finding;
use std::{path::PathBuf, sync::Arc};
use stillpoint_types::{Caller, DiskId, FaultCode, ImageId};

/// The layer that somebody else put on top of a recorded chain: what it stands on, and its file. `None`: there is none, or
/// there is more to it than that.
pub(crate) fn top_of_somebody_else(
    graph: &BlockGraph,
    disk: DiskId,
    recorded: &[ImageId],
) -> Option<(ImageId, PathBuf)> {
    let mut strange = graph.strange(disk);
    let layer = strange.next()?;
    let is_alone = strange.next().is_none();
    let is_on_top = graph.chain(disk) == Some(recorded) && layer.depth == recorded.len();
    let active = *recorded.last()?;
    (is_alone && is_on_top).then(|| Some((active, layer.file.clone()?)))?
}

fn expect_admin(who: &Caller) -> Result<(), Fault> {
    if who.is_admin {
        return Ok(());
    }
    let text = "Repairing is for administrators: what is damaged may be of any project.";
    Err(Fault::new(FaultCode::Forbidden, text))
}

/// Looks for damage. Nothing is changed.
pub(crate) async fn list(engine: &Arc<Inner>, who: &Caller) -> Result<Vec<FindingView>, Fault> {
    expect_admin(who)?;
    let (records, seen) = facts::observe(engine).await?;
    Ok(find::find(&records, &seen).iter().map(Finding::view).collect())
}

/// Begins to repair what a finding is about, if it is still as it was.
pub(crate) async fn submit(engine: &Arc<Inner>, who: &Caller, origin: &Origin, id: &str) -> Result<RepairView, Fault> {
    expect_admin(who)?;
    let (records, seen) = facts::observe(engine).await?;
    let project = who.home_project;
    pick(&records, &seen, id)?;
    let (inner, actor, wanted) = (Arc::clone(engine), Actor::of(who, origin), id.to_owned());
    let job = engine
        .store
        .write(move |tx| {
            let finding = pick(&Records::read(tx)?, &seen, &wanted)?;
            saga::enqueue_repair(&inner, tx, &actor, project, finding)
        })
        .await?;
    crate::journal::executor::drive(engine, job, false);
    Ok(RepairView { id: id.to_owned(), job })
}

/// The finding of that id among what is seen now.
fn pick(records: &Records, seen: &Seen, id: &str) -> Result<Finding, Fault> {
    let mut found = find::find(records, seen);
    if let Some(at) = found.iter().position(|finding| finding.id == id) {
        let finding = found.swap_remove(at);
        if !finding.safe {
            let text = format!(
                "Cannot repair {}: nothing that is seen proves what is right, so nothing is done to it. {}",
                finding.object.text(),
                finding.plan.join(" ")
            );
            return Err(Fault::new(FaultCode::ImageIllegal, text));
        }
        return Ok(finding);
    }
    let about = id.get(..find::ABOUT_DIGITS).unwrap_or(id);
    match found.iter().find(|finding| finding.id.starts_with(about)) {
        Some(now) => {
            let text = format!(
                "Cannot repair {}: it is not as it was when finding {id} was read. Look at it again: it is finding {} now.",
                now.object.text(),
                now.id
            );
            Err(Fault::new(FaultCode::Changed, text))
        }
        None => Err(Fault::not_found("repair", id)),
    }
}
