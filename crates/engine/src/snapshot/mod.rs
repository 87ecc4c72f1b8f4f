//! Snapshots: take, remove, go back to, try out.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod preview;
pub(crate) mod restore;
pub(crate) mod view;

use crate::fault::Fault;
use stillpoint_store::{Conn, snapshot::SnapshotRow, volume_snapshot};
use stillpoint_types::FaultCode;

/// Refuses to bring a whole VM to what a client of a volume API took of one volume: its other disks, and its configuration,
/// are of no moment that belongs to that one.
pub(crate) fn expect_whole(conn: &Conn, row: &SnapshotRow, doing: &str) -> Result<(), Fault> {
    let Some(asked) = volume_snapshot::asked_as(conn, row.id)? else {
        return Ok(());
    };
    let text = format!(
        "Cannot {doing}. Snapshot '{}' is of disk {} alone: the volume API took it as {}. Bring that volume back there.",
        row.description, asked.disk, asked.id
    );
    Err(Fault::new(FaultCode::SnapshotBroken, text))
}
