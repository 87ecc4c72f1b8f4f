//! Disks: make, adopt, attach, extend, remove.

pub(crate) mod adopt;
pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod extend;
pub(crate) mod plug;
pub(crate) mod update;
pub(crate) mod view;

use crate::fault::Fault;
use stillpoint_store::{Conn, disk};
use stillpoint_types::DiskId;

/// What a disk is called in texts: its alias, or its id if it is gone.
pub(crate) fn alias(conn: &Conn, id: DiskId) -> Result<String, Fault> {
    Ok(disk::get(conn, id)?.map_or_else(|| id.to_string(), |row| row.alias))
}
