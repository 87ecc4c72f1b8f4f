//! Keeps what is known of changes in step with the image tree, and answers what changed since a checkpoint.
//!
//! Anchors and maps are read and changed by the holder of [`Inner::maps`] only: two who add to one map at once would lose
//! what one of them added.

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    ports::DirtyMap,
    snapshot::delete::tree_of,
};
use std::{collections::HashSet, path::PathBuf};
use stillpoint_store::{
    Conn, Tx, backup,
    checkpoint::{self, CheckpointDiskRow},
    disk,
    image::{self, ImageState},
};
use stillpoint_types::{BackupId, CheckpointId, DiskId, ImageId};

/// Of a left branch, anchors move down one image at a time; chains are not longer than this.
const RETIRE_MAX: usize = crate::limits::CHAIN_MAX;

/// The file of a checkpoint's map of a disk.
pub(crate) fn map_path(engine: &Inner, row: &CheckpointDiskRow) -> PathBuf {
    path(engine, &row.checkpoint.to_string(), row.disk)
}

fn path(engine: &Inner, directory: &str, disk: DiskId) -> PathBuf {
    engine.options.maps_dir.join(directory).join(format!("{disk}.map"))
}

fn backup_directory(id: BackupId) -> String {
    // A client may choose a backup's id, so it could be a checkpoint's too.
    format!("backup-{id}")
}

/// The file of what a backup has to give of a disk.
pub(crate) fn backup_path(engine: &Inner, id: BackupId, disk: DiskId) -> PathBuf {
    path(engine, &backup_directory(id), disk)
}

/// Before an image is merged into `base`: what it holds goes into the maps of all that is anchored at `base`.
pub(crate) async fn fold(engine: &Inner, base: ImageId, top: ImageId) -> Result<(), Fault> {
    let _turn = engine.maps.lock().await;
    fold_in_turn(engine, base, top).await
}

/// Adds what `layer` holds to the maps of all that is anchored at `anchor`. Once it returns, that is durable.
async fn fold_in_turn(engine: &Inner, anchor: ImageId, layer: ImageId) -> Result<(), Fault> {
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let is_written = !image::names(conn, layer)?.0.is_empty();
        Ok((
            checkpoint::anchored(conn, anchor)?,
            image::get(conn, layer)?,
            is_written,
        ))
    };
    let (rows, layer, is_written) = engine.store.read(read).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let layer = layer.ok_or_else(|| Fault::internal("an image that is to be merged is gone"))?;
    let held = if is_written {
        // The planner never asks for it. Should it ever: what a guest writes just now is not in the file's tables yet.
        Err("a guest writes to the image".to_owned())
    } else {
        let empty = DirtyMap::empty(layer.size_bytes);
        let held = engine.images.mark_allocated(&engine.image_ref(&layer), empty).await;
        held.map_err(|error| error.chain())
    };
    for row in rows {
        let added = match &held {
            Ok(held) => add(engine, &row, held).await,
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = added {
            give_up(engine, row, why).await?;
        }
    }
    Ok(())
}

/// Adds to one map; the failure is for the log and the event.
async fn add(engine: &Inner, row: &CheckpointDiskRow, held: &DirtyMap) -> Result<(), String> {
    let mut map = load(engine, row).await?;
    map.add(held);
    let path = path(engine, &row.checkpoint.to_string(), row.disk);
    engine
        .images
        .store_map(&path, &map)
        .await
        .map_err(|error| error.chain())?;
    if !row.map {
        let (id, disk) = (row.checkpoint, row.disk);
        let write = move |tx: &Tx| -> Result<(), Fault> { Ok(checkpoint::set_map(tx, id, disk)?) };
        engine.store.write(write).await.map_err(|fault| fault.log_chain())?;
    }
    Ok(())
}

pub(crate) async fn load(engine: &Inner, row: &CheckpointDiskRow) -> Result<DirtyMap, String> {
    if !row.map {
        return Ok(DirtyMap::empty(row.size_bytes));
    }
    let path = path(engine, &row.checkpoint.to_string(), row.disk);
    let map = engine.images.load_map(&path).await.map_err(|error| error.chain())?;
    if map.size_bytes() == row.size_bytes {
        Ok(map)
    } else {
        Err(format!("{} is of a disk of another size", path.display()))
    }
}

/// The changes of a disk since a checkpoint are not known any more: it leaves the checkpoint, and that is told.
async fn give_up(engine: &Inner, row: CheckpointDiskRow, why: String) -> Result<(), Fault> {
    tracing::warn!(checkpoint = %row.checkpoint, disk = %row.disk, why, "the changes since a checkpoint are not known any more");
    engine
        .store
        .write(move |tx| drop_claim(tx, row.checkpoint, row.disk))
        .await
}

/// Takes a disk out of a checkpoint whose changes are not known any more, with the event that tells it.
pub(crate) fn drop_claim(tx: &Tx, id: CheckpointId, of: DiskId) -> Result<(), Fault> {
    checkpoint::forget(tx, id, of)?;
    let Some(disk) = disk::get(tx, of)? else {
        return Ok(());
    };
    let text = format!(
        "What changed on disk {} since checkpoint {id} is not known any more: the next backup holds all of it.",
        disk.alias
    );
    Event::new(What::CheckpointLost, text)
        .disk(disk.project, disk.id, &disk.alias)
        .write(tx)
}

/// Moves the anchors of left branches down, from leaf to parent, so that the leaves can be unlinked.
pub(crate) async fn retire_leaves(engine: &Inner) -> Result<(), Fault> {
    for _ in 0..RETIRE_MAX {
        let leaves = engine.store.read(free_leaves).await?;
        if leaves.is_empty() {
            return Ok(());
        }
        for leaf in leaves {
            let _turn = engine.maps.lock().await;
            fold_in_turn(engine, leaf, leaf).await?;
            engine.store.write(move |tx| retire(tx, leaf)).await?;
        }
    }
    Ok(())
}

fn free_leaves(conn: &Conn) -> Result<Vec<ImageId>, Fault> {
    let mut leaves = Vec::new();
    for leaf in checkpoint::anchored_leaves(conn)? {
        let is_live = image::get(conn, leaf)?.is_none_or(|row| row.state == ImageState::Live);
        if is_live && backup::reader_of(conn, leaf)?.is_none() {
            leaves.push(leaf);
        }
    }
    Ok(leaves)
}

fn retire(tx: &Tx, leaf: ImageId) -> Result<(), Fault> {
    if !free_leaves(tx)?.contains(&leaf) {
        return Ok(());
    }
    match image::get(tx, leaf)?.and_then(|row| row.parent) {
        Some(parent) => Ok(checkpoint::move_anchors(tx, leaf, parent)?),
        None => {
            // The whole tree is left: what the disk holds now has nothing to do with it.
            for row in checkpoint::anchored(tx, leaf)? {
                checkpoint::forget(tx, row.checkpoint, row.disk)?;
            }
            Ok(())
        }
    }
}

/// What changed on a disk between a checkpoint and a frozen image of `size_bytes`, at most; or why that is not known.
/// The caller has the turn on [`Inner::maps`], and a lock on the disk.
pub(crate) async fn changes(
    engine: &Inner,
    from: CheckpointId,
    disk: DiskId,
    frozen: ImageId,
    size_bytes: u64,
) -> Result<Result<DirtyMap, String>, Fault> {
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let Some(row) = checkpoint::disk(conn, from, disk)? else {
            return Ok(None);
        };
        let mut layers = Vec::new();
        let between = tree_of(conn, frozen, None)?.between(row.image, frozen);
        let is_one_tree = between.is_some();
        for id in between.unwrap_or_default() {
            layers.push(image::get(conn, id)?.ok_or_else(|| Fault::internal("an image of a tree is gone"))?);
        }
        Ok(Some((row, layers, is_one_tree)))
    };
    let Some((row, layers, is_one_tree)) = engine.store.read(read).await? else {
        return Ok(Err(format!("it is not in checkpoint {from}")));
    };
    if !is_one_tree {
        return Ok(Err(format!("its images do not lead back to checkpoint {from}")));
    }
    let mut map = DirtyMap::empty(size_bytes);
    match load(engine, &row).await {
        Ok(recorded) => map.add(&recorded),
        Err(why) => {
            give_up(engine, row, why).await?;
            return Ok(Err(format!(
                "the record of its changes since checkpoint {from} is lost"
            )));
        }
    }
    if size_bytes > row.size_bytes {
        map.mark(row.size_bytes, size_bytes - row.size_bytes);
    }
    for layer in layers {
        match engine.images.mark_allocated(&engine.image_ref(&layer), map).await {
            Ok(more) => map = more,
            Err(error) => {
                tracing::warn!(image = %layer.id, error = error.chain(), "what an image holds cannot be read");
                return Ok(Err(format!("what its image {} holds cannot be read", layer.id)));
            }
        }
    }
    Ok(Ok(map))
}

/// Removes the maps of checkpoints and backups that are gone.
pub(crate) async fn sweep(engine: &Inner) -> Result<(), Fault> {
    let _turn = engine.maps.lock().await;
    let read = |conn: &Conn| -> Result<HashSet<String>, Fault> {
        let checkpoints = checkpoint::ids(conn)?.into_iter().map(|id| id.to_string());
        let backups = backup::ids(conn)?.into_iter().map(backup_directory);
        Ok(checkpoints.chain(backups).collect())
    };
    let keep = engine.store.read(read).await?;
    Ok(engine.images.sweep_maps(&engine.options.maps_dir, keep).await?)
}
