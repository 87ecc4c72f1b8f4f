//! A backup that runs, as people watch it.

use serde::{Deserialize, Serialize};
use stillpoint_types::{DiskId, Micros};

/// How long a guest's writes stood still at a switch, as it was measured around the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// From sending the freeze to the answer of the thaw, microseconds; `None`: nothing was frozen.
    pub frozen_us: Option<u64>,
    /// The transaction that put all disks on their overlays, microseconds: QEMU holds their writes meanwhile.
    pub transaction_us: u64,
}

/// How far a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupWatch {
    /// If its client does not come back until then, it is given up.
    pub lease_until: Micros,
    /// How long the guest's writes stood still at its moment; `None`: it was not measured, or its record is gone.
    pub stall: Option<Stall>,
    /// Its disks, in device order.
    pub disks: Vec<DiskWatch>,
}

/// How far a disk of a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskWatch {
    /// The disk.
    pub disk: DiskId,
    /// Virtual size at the backup's moment, bytes.
    pub size_bytes: u64,
    /// Why all of it is wanted although a checkpoint was given.
    pub why_full: Option<String>,
    /// Distinct bytes that its transfers have moved since the daemon runs.
    pub moved_bytes: u64,
    /// Image transfers of it that have not ended.
    pub transfers: usize,
    /// What is where; `None` before the backup is ready, and after its end.
    pub map: Option<BlockMap>,
    /// Why there is no map although the backup is ready.
    pub no_map: Option<String>,
}

/// What is to be downloaded of a disk, and what has been: counted in cells of equal size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockMap {
    /// Bytes of a cell; the last one may be shorter.
    pub cell_bytes: u64,
    /// The cells, from the beginning of the disk: at most [`CELLS_MAX`].
    pub cells: Vec<Cell>,
}

/// Most cells of a map.
pub const CELLS_MAX: u64 = 256;

/// A piece of a disk. Its bytes are the sum of `dirty`, `zero` and `clean`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    /// Bytes that are wanted, and hold data.
    pub dirty: u64,
    /// Bytes that are wanted, and read as zeros: they need not go over the wire.
    pub zero: u64,
    /// Bytes that have not changed since the checkpoint.
    pub clean: u64,
    /// Bytes of `dirty` that transfers have moved. Counted by cell: of a client that moved other bytes of the cell instead,
    /// those are taken for it.
    pub copied: u64,
}

impl BlockMap {
    /// All cells together.
    #[must_use]
    pub fn total(&self) -> Cell {
        self.cells.iter().fold(Cell::default(), |sum, cell| Cell {
            dirty: sum.dirty + cell.dirty,
            zero: sum.zero + cell.zero,
            clean: sum.clean + cell.clean,
            copied: sum.copied + cell.copied,
        })
    }
}
