//! Finds what somebody else wrote into a frozen image, before a backup goes by what we recorded.
//!
//! What changed since a checkpoint is known only as long as nobody but us writes into the images that its disk stands on:
//! its anchor, and what is below it (what is above is read from the images themselves, whoever wrote it). So each frozen
//! image gets a *seal*: what its file is when our own writing into it has ended ([`Seal`]).
//!
//! | when | what |
//! |---|---|
//! | a backup works out what changed | the seals below its moment are compared; those that are missing are made, in the transaction that makes the checkpoint |
//! | a merge of ours is about to write | the seals of the survivor and of the image whose header will change are compared, then removed |
//! | the merge has ended, or was given up | they are made anew, in the transaction that records that |
//! | a disk begins to write to an image | its seal goes |
//!
//! A seal that does not fit takes the disk out of all checkpoints that stand on that image, with an event: the next backup
//! holds all of it. Then the image is sealed as it is.
//!
//! # Crash consistency
//! The seal is gone, durably, before a merge writes its first byte, and comes back with the record of its end. So there is
//! no seal after a crash in between, and no seal means no suspicion: the merge's own evidence is believed, as without seals.

use crate::{
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    ports::{ImageRef, Merge, Seal},
    snapshot::delete::tree_of,
};
use std::collections::BTreeMap;
use stillpoint_store::{
    Conn, Tx,
    checkpoint::{self, CheckpointDiskRow},
    disk,
    image::{self, ImageRow},
    seal,
};
use stillpoint_types::{CheckpointId, DiskId, ImageId};

/// What a look at seals found, to be recorded.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Disks in checkpoints that stand on an image that somebody wrote to, and what was seen of it.
    lost: Vec<(CheckpointDiskRow, String)>,
    /// Seals to be made.
    fresh: Vec<(ImageId, Seal)>,
}

impl Found {
    /// Why a disk's changes since a checkpoint are not known, if they are not.
    pub(crate) fn why(&self, from: CheckpointId, disk: DiskId) -> Option<&str> {
        let is_it = |row: &CheckpointDiskRow| row.checkpoint == from && row.disk == disk;
        self.lost
            .iter()
            .find(|(row, _)| is_it(row))
            .map(|(_, why)| why.as_str())
    }
}

fn sealed(conn: &Conn, row: ImageRow) -> Result<(ImageRow, Option<Seal>), Fault> {
    let recorded = seal::get(conn, row.id)?;
    let recorded = recorded.map(|text| serde_json::from_str(&text)).transpose();
    Ok((row, recorded.map_err(Fault::internal)?))
}

/// Looks at the images that a frozen one consists of. The caller has the turn on [`Inner::maps`] and a lock on the disk, and
/// calls [`record`] with what was found.
pub(crate) async fn look(engine: &Inner, frozen: ImageId) -> Result<Found, Fault> {
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let chain = image::chain(conn, frozen)?;
        chain.into_iter().map(|row| sealed(conn, row)).collect()
    };
    let mut found = Found::default();
    for (row, recorded) in engine.store.read(read).await? {
        let (id, file) = (row.id, engine.image_ref(&row));
        if let Some(recorded) = &recorded {
            let now = engine.images.seal(&file, false).await?;
            let Some(difference) = recorded.difference(&now) else {
                continue;
            };
            lose(engine, &mut found, id, &difference).await?;
        }
        found.fresh.push((id, engine.images.seal(&file, true).await?));
    }
    Ok(found)
}

/// An image was changed by somebody else: what stands on it is known no more.
async fn lose(engine: &Inner, found: &mut Found, image: ImageId, difference: &str) -> Result<(), Fault> {
    let why = format!("its image {image} was changed by somebody else: {difference}");
    tracing::warn!(%image, difference, "a frozen image was changed by somebody else");
    let standing = engine.store.read(move |conn| standing_on(conn, image)).await?;
    found.lost.extend(standing.into_iter().map(|row| (row, why.clone())));
    Ok(())
}

/// What checkpoints have at an image and at all that stands on it.
fn standing_on(conn: &Conn, touched: ImageId) -> Result<Vec<CheckpointDiskRow>, Fault> {
    let tree = tree_of(conn, touched, None)?;
    let (mut rows, mut todo) = (Vec::new(), vec![touched]);
    while let Some(id) = todo.pop() {
        rows.extend(checkpoint::anchored(conn, id)?);
        let above = tree.nodes().iter().filter(|(_, node)| node.parent == Some(id));
        todo.extend(above.map(|(id, _)| *id));
    }
    Ok(rows)
}

/// Writes what was found, and tells it.
pub(crate) fn record(tx: &Tx, found: &Found) -> Result<(), Fault> {
    let mut told: BTreeMap<DiskId, &str> = BTreeMap::new();
    for (row, why) in &found.lost {
        checkpoint::forget(tx, row.checkpoint, row.disk)?;
        told.insert(row.disk, why);
    }
    for (id, why) in told {
        let Some(disk) = disk::get(tx, id)? else { continue };
        let text = format!(
            "What changed on disk {} is not known any more: {why}. Its next backup holds all of it, and a moment before that may \
             show what was written there.",
            disk.alias
        );
        Event::new(What::CheckpointLost, text)
            .disk(disk.project, disk.id, &disk.alias)
            .write(tx)?;
    }
    for (image, fresh) in &found.fresh {
        seal::put(tx, *image, &serde_json::to_string(fresh).map_err(Fault::internal)?)?;
    }
    Ok(())
}

/// The images that a merge writes to: the survivor, and the one above whose header will name it.
fn written_by(merge: &Merge) -> Vec<&ImageRef> {
    std::iter::once(&merge.base).chain(merge.above()).collect()
}

/// Before a merge writes its first byte: what somebody else did to its images is found now or never. The caller has a lock
/// on the disk.
pub(crate) async fn open(engine: &Inner, merge: &Merge) -> Result<(), Fault> {
    let _turn = engine.maps.lock().await;
    let ids: Vec<_> = written_by(merge).iter().map(|image| image.id).collect();
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let mut rows = Vec::new();
        for id in ids {
            let row = image::get(conn, id)?.ok_or_else(|| Fault::internal("an image of a merge is gone"))?;
            rows.push(sealed(conn, row)?);
        }
        Ok(rows)
    };
    let (mut found, mut sealed) = (Found::default(), Vec::new());
    for (row, recorded) in engine.store.read(read).await? {
        let Some(recorded) = recorded else { continue };
        let difference = match engine.images.seal(&engine.image_ref(&row), false).await {
            Ok(now) => recorded.difference(&now),
            // A merge does not wait for it, and afterwards nobody can tell.
            Err(error) => Some(format!("it cannot be looked at ({})", error.context)),
        };
        if let Some(difference) = difference {
            lose(engine, &mut found, row.id, &difference).await?;
        }
        sealed.push(row.id);
    }
    if sealed.is_empty() {
        return Ok(());
    }
    let write = move |tx: &Tx| -> Result<(), Fault> {
        record(tx, &found)?;
        sealed.into_iter().try_for_each(|id| Ok(seal::delete(tx, id)?))
    };
    engine.store.write(write).await
}

/// After a merge has ended, or was given up and writes no more: what its images are now, for [`record`]. What cannot be
/// looked at stays without a seal.
pub(crate) async fn close(engine: &Inner, merge: &Merge) -> Found {
    let mut found = Found::default();
    for image in written_by(merge) {
        match engine.images.seal(image, true).await {
            Ok(seal) => found.fresh.push((image.id, seal)),
            Err(error) => {
                tracing::warn!(image = %image.id, error = error.chain(), "a merged image stays without a seal");
            }
        }
    }
    found
}
