//! What a backup that runs has to give, and has given: for those who watch it.
//!
//! What is wanted of a disk and what reads as zeros is worked out once for each disk of a backup, from tables alone, and
//! kept as counts of at most 256 cells; what was moved is asked of the data plane at each look. Both are in memory: after a
//! restart of the daemon the first is worked out anew, the second begins at nothing.

use super::view::find;
use crate::{
    access,
    checkpoint::track,
    engine::Inner,
    fault::Fault,
    ports::{DirtyMap, GRANULE_BYTES},
    view::watch::{BackupWatch, BlockMap, CELLS_MAX, Cell, DiskWatch},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use stillpoint_store::{
    Conn,
    backup::{self, BackupDiskRow},
    job,
    transfer::{self, TransferRow},
};
use stillpoint_types::{BackupId, BackupMode, BackupPhase, Caller, DiskId, JobId, Need, VmId};

/// What is remembered of backups under way, by backup and disk.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashMap<(BackupId, DiskId), Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// What is wanted; nothing is copied in it.
    wanted: Option<Arc<BlockMap>>,
    /// Bytes in each cell that transfers moved which have ended.
    moved: Vec<u64>,
}

impl Watched {
    fn all(&self) -> MutexGuard<'_, HashMap<(BackupId, DiskId), Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backup has ended.
    pub(super) fn forget(&self, id: BackupId) {
        self.all().retain(|(backup, _), _| *backup != id);
    }
}

/// Bytes of a cell of a disk: whole granules, so that no cell is less exact than the map of changes.
fn cell_bytes(size_bytes: u64) -> u64 {
    let least = size_bytes.div_ceil(CELLS_MAX);
    least.div_ceil(GRANULE_BYTES).max(1).saturating_mul(GRANULE_BYTES)
}

/// Counts what is wanted, by the maps of what changed and of what holds data.
fn count(dirty: &DirtyMap, data: &DirtyMap, size_bytes: u64) -> BlockMap {
    let cell_bytes = cell_bytes(size_bytes);
    let (mut cells, mut at) = (Vec::new(), 0);
    while at < size_bytes {
        let (end, mut cell) = (at.saturating_add(cell_bytes).min(size_bytes), Cell::default());
        while at < end {
            let ((is_dirty, dirty), (is_data, data)) = (dirty.run(at), data.run(at));
            // A map that ends early says nothing of the rest: unchanged, or zeros.
            let length = [dirty, data]
                .into_iter()
                .filter(|run| *run > 0)
                .fold(end - at, u64::min);
            match (is_dirty, is_data) {
                (true, true) => cell.dirty += length,
                (true, false) => cell.zero += length,
                (false, _) => cell.clean += length,
            }
            at += length;
        }
        cells.push(cell);
    }
    BlockMap { cell_bytes, cells }
}

/// The larger one of each cell: what was moved twice was moved once.
fn join(moved: &mut Vec<u64>, more: &[u64]) {
    if moved.len() < more.len() {
        moved.resize(more.len(), 0);
    }
    for (cell, more) in moved.iter_mut().zip(more) {
        *cell = (*cell).max(*more);
    }
}

/// Before a transfer's ticket goes: what it moved is shown as long as the backup is under way.
pub(crate) async fn keep_moved(engine: &Inner, row: &TransferRow) {
    let Some(backup) = row.backup else { return };
    match engine.data_plane.moved(&row.ticket, cell_bytes(row.size_bytes)).await {
        Ok(Some(more)) => {
            let mut all = engine.watched.all();
            join(&mut all.entry((backup, row.disk)).or_default().moved, &more);
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(transfer = %row.id, error = error.chain(), "what a transfer moved is not shown"),
    }
}

/// One look.
pub(crate) async fn look(engine: &Arc<Inner>, who: &Caller, vm: VmId, id: BackupId) -> Result<BackupWatch, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        access::vm(conn, &who, vm, Need::Read)?;
        let row = find(conn, vm, id)?;
        let steps = job::steps(conn, JobId(id.0))?;
        Ok((
            row,
            backup::disks(conn, id)?,
            transfer::live_of_backup(conn, id)?,
            steps,
        ))
    };
    let (row, rows, transfers, steps) = engine.store.read(read).await?;
    let mut disks = Vec::with_capacity(rows.len());
    for disk in rows {
        let own: Vec<_> = transfers.iter().filter(|transfer| transfer.disk == disk.disk).collect();
        let moved = moved(engine, id, &disk, &own).await?;
        let (map, no_map) = match row.phase {
            BackupPhase::Ready => match wanted(engine, id, &disk).await? {
                Some(Ok(wanted)) => (Some(copied(&wanted, &moved)), None),
                Some(Err(why)) => (None, Some(why)),
                None => (None, None),
            },
            _ => (None, None),
        };
        disks.push(DiskWatch {
            disk: disk.disk,
            size_bytes: disk.size_bytes,
            why_full: disk.why_full,
            moved_bytes: moved.iter().sum(),
            transfers: own.len(),
            map,
            no_map,
        });
    }
    Ok(BackupWatch {
        lease_until: row.lease_until,
        stall: crate::snapshot::create::stall(&steps)?,
        disks,
    })
}

/// Bytes that were moved, in each cell.
async fn moved(engine: &Inner, id: BackupId, disk: &BackupDiskRow, own: &[&TransferRow]) -> Result<Vec<u64>, Fault> {
    let ended = engine
        .watched
        .all()
        .get(&(id, disk.disk))
        .map(|known| known.moved.clone());
    let mut moved = ended.unwrap_or_default();
    for transfer in own {
        let more = engine
            .data_plane
            .moved(&transfer.ticket, cell_bytes(disk.size_bytes))
            .await?;
        join(&mut moved, &more.unwrap_or_default());
    }
    Ok(moved)
}

fn copied(wanted: &BlockMap, moved: &[u64]) -> BlockMap {
    let mut map = wanted.clone();
    for (cell, moved) in map.cells.iter_mut().zip(moved) {
        cell.copied = cell.dirty.min(*moved);
    }
    map
}

/// What is wanted of a disk; `None`: the backup is not ready any more. The inner failure is for people.
async fn wanted(
    engine: &Inner,
    id: BackupId,
    disk: &BackupDiskRow,
) -> Result<Option<Result<Arc<BlockMap>, String>>, Fault> {
    let key = (id, disk.disk);
    let known = engine.watched.all().get(&key).and_then(|known| known.wanted.clone());
    if let Some(known) = known {
        return Ok(Some(Ok(known)));
    }
    // Whoever merges takes the turn first: while it is ours, and the backup ready, nobody writes to what is read here.
    let _turn = engine.maps.lock().await;
    let (image, of) = (disk.image, disk.disk);
    let is_ready = engine
        .store
        .read(move |conn: &Conn| -> Result<_, Fault> {
            Ok(backup::get(conn, id)?.is_some_and(|row| row.phase == BackupPhase::Ready))
        })
        .await?;
    if !is_ready {
        return Ok(None);
    }
    let chain = engine.chains(vec![(of, image)]).await?.pop();
    let layers = chain
        .ok_or_else(|| Fault::internal("a backup's disk without images"))?
        .images;
    let size_bytes = disk.size_bytes;
    let data = match engine.images.mark_data(&layers, DirtyMap::empty(size_bytes)).await {
        Ok(data) => data,
        Err(error) => return Ok(Some(Err(not_read(id, disk, &error)))),
    };
    let dirty = match disk.mode {
        BackupMode::Full => {
            let mut all = DirtyMap::empty(size_bytes);
            all.mark_all();
            all
        }
        BackupMode::Incremental => match engine.images.load_map(&track::backup_path(engine, id, of)).await {
            Ok(map) => map,
            Err(error) => return Ok(Some(Err(not_read(id, disk, &error)))),
        },
    };
    let wanted = Arc::new(count(&dirty, &data, size_bytes));
    engine.watched.all().entry(key).or_default().wanted = Some(Arc::clone(&wanted));
    Ok(Some(Ok(wanted)))
}

fn not_read(id: BackupId, disk: &BackupDiskRow, error: &crate::ports::DriverError) -> String {
    tracing::info!(backup = %id, disk = %disk.disk, error = error.chain(), "a disk's map is not shown");
    "its images can be read by QEMU only".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_disk_is_counted_once_whatever_its_size() {
        for size in [512, GRANULE_BYTES, 300 * GRANULE_BYTES + 512, 100_000 * GRANULE_BYTES] {
            let (mut dirty, mut data) = (DirtyMap::empty(size), DirtyMap::empty(size));
            dirty.mark(0, size / 2 + 1);
            data.mark(size / 3, size / 3 + 1);
            let map = count(&dirty, &data, size);
            let total = map.total();
            assert_eq!(total.dirty + total.zero + total.clean, size);
            assert_eq!(total.dirty + total.zero, dirty.marked_bytes());
            assert!(map.cells.len() as u64 <= CELLS_MAX && !map.cells.is_empty(), "{size}");
            let moved = vec![u64::MAX; map.cells.len()];
            assert_eq!(
                copied(&map, &moved).total().copied,
                total.dirty,
                "not more than was wanted"
            );
        }
    }

    #[test]
    fn what_is_moved_twice_counts_once() {
        let mut moved = vec![5];
        join(&mut moved, &[3, 7]);
        assert_eq!(moved, [5, 7]);
    }
}
