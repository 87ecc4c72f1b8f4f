//! Removes what nobody needs any more, and merges what could not be merged before. No input: it reads the rows.
//!
//! Rounds: files of doomed images and of memories that nobody names are removed; images that nobody names are planned
//! ([`crate::graph`]): unlinked at once, or merged by a job of their own. Before that, checkpoints let go of left branches
//! ([`track`]). It runs after each job, at start, and once a minute for what was in use before.
//!
//! # Crash consistency
//! A file is removed before its row: a crash in between leaves a row whose file is gone, which the next round removes.

use crate::{
    checkpoint::track,
    engine::Inner,
    fault::Fault,
    graph::{Effort, Tidy},
    journal,
    snapshot::delete::{enqueue_merge, tree_of},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use stillpoint_store::{
    Conn, StoreError, Tx, backup,
    image::{self, ImageState},
    job, snapshot, transfer,
};
use stillpoint_types::{ImageId, Micros, now_micros};

/// How often rounds are made without a hint.
const ROUND: Duration = Duration::from_secs(60);
/// Ended jobs removed in one transaction.
const PURGE_MAX: usize = 500;

pub(crate) fn start(engine: &Arc<Inner>) {
    let engine = Arc::clone(engine);
    let tracker = engine.tracker.clone();
    tracker.spawn(async move {
        loop {
            if let Err(fault) = round(&engine).await {
                tracing::error!(fault = fault.log_chain(), "tidying failed; it is tried again");
            }
            tokio::select! {
                () = engine.stopping.cancelled() => return,
                () = engine.tidy.notified() => {}
                () = tokio::time::sleep(ROUND) => {}
            }
        }
    });
}

async fn round(engine: &Arc<Inner>) -> Result<(), Fault> {
    track::retire_leaves(engine).await?;
    let jobs = engine.store.write(plan).await?;
    for id in jobs {
        journal::executor::drive(engine, id, false);
    }
    remove_files(engine).await?;
    let (well, badly) = engine.options.job_keep;
    let before = |keep: Duration| now_micros() - Micros::try_from(keep.as_micros()).unwrap_or(Micros::MAX);
    let (well, badly) = (before(well), before(badly));
    let (moved, failed) = engine.options.transfer_keep;
    let (moved, failed) = (before(moved), before(failed));
    let (backed_up, not) = engine.options.backup_keep;
    let (backed_up, not) = (before(backed_up), before(not));
    engine
        .store
        .write(move |tx| -> Result<(), StoreError> {
            job::purge(tx, well, badly, PURGE_MAX)?;
            transfer::purge(tx, moved, failed, PURGE_MAX)?;
            backup::purge(tx, backed_up, not, PURGE_MAX)?;
            Ok(())
        })
        .await?;
    track::sweep(engine).await
}

/// Dooms what can go; begins merges where nobody holds what they need.
fn plan(tx: &Tx) -> Result<Vec<stillpoint_types::JobId>, Fault> {
    let mut jobs = Vec::new();
    let mut seen: HashSet<ImageId> = HashSet::new();
    for row in image::unnamed(tx)? {
        if seen.contains(&row.id) {
            continue;
        }
        let tree = tree_of(tx, row.id, None)?;
        seen.extend(tree.nodes().keys());
        for tidy in tree.plan(Effort::Leftovers) {
            match tidy {
                Tidy::Unlink(id) => image::set_state(tx, id, ImageState::Doomed)?,
                Tidy::Merge { disk, base, top } => {
                    // A conflict means that the next round tries again; the rest of this tree waits with it.
                    if let Some(id) = try_merge(tx, disk, base, top)? {
                        jobs.push(id);
                    }
                    break;
                }
            }
        }
    }
    Ok(jobs)
}

fn try_merge(
    tx: &Tx,
    disk: stillpoint_types::DiskId,
    base: ImageId,
    top: ImageId,
) -> Result<Option<stillpoint_types::JobId>, Fault> {
    use stillpoint_types::FaultCode::{DuringSnapshot, Locked, VmStatus};
    tx.nested(|tx| enqueue_merge(tx, disk, base, top)).map_or_else(
        |fault: Fault| match fault.code {
            Locked | DuringSnapshot | VmStatus => Ok(None),
            _ => Err(fault),
        },
        |id| Ok(Some(id)),
    )
}

async fn remove_files(engine: &Inner) -> Result<(), Fault> {
    let (doomed, memories) = engine
        .store
        .read(|conn: &Conn| -> Result<_, StoreError> { Ok((image::doomed(conn)?, snapshot::unnamed_memories(conn)?)) })
        .await?;
    for row in doomed {
        match engine.images.remove(&engine.image_ref(&row)).await {
            Ok(()) => {
                engine.store.write(move |tx| image::delete(tx, row.id)).await?;
            }
            Err(error) => tracing::warn!(image = %row.id, error = error.chain(), "a leftover image file stays for now"),
        }
    }
    for row in memories {
        match engine.images.remove_memory(&engine.memory_ref(row.id)).await {
            Ok(()) => {
                engine
                    .store
                    .write(move |tx| snapshot::delete_memory(tx, row.id))
                    .await?;
            }
            Err(error) => {
                tracing::warn!(memory = %row.id, error = error.chain(), "a leftover memory file stays for now");
            }
        }
    }
    Ok(())
}
