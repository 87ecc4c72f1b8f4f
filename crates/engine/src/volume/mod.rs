//! Disks as volumes: what the volume APIs ask of the one graph that the oVirt dialects ask too.
//!
//! A volume is a disk, with what only these APIs know of it (names of nobody, metadata, stated statuses, attachments to servers
//! that are not ours) in rows beside the disk's. A snapshot of a volume is one that they made, or a member of a VM snapshot.

pub(crate) mod act;
pub(crate) mod backup;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod extend;
pub(crate) mod job;
pub(crate) mod kind;
pub(crate) mod message;
pub(crate) mod metadata;
pub(crate) mod offer;
pub(crate) mod quota;
pub(crate) mod revert;
pub(crate) mod snapshot;
pub(crate) mod update;
pub(crate) mod view;

use crate::{access, fault::Fault};
use stillpoint_store::{Conn, disk::DiskRow, volume, volume::VolumeRow};
use stillpoint_types::{Caller, DiskId, FaultCode, Need, ProjectId, Role, VolumeStatus};

/// Bytes of a GiB, in which these APIs count.
pub(crate) const GIB: u64 = 1 << 30;

/// GiB, rounded up.
pub(crate) fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(GIB)
}

/// What a volume is called in texts: its name, or its id if it has none.
pub(crate) fn called(row: &DiskRow) -> String {
    if row.alias.is_empty() {
        row.id.to_string()
    } else {
        row.alias.clone()
    }
}

/// A volume that the caller may see, and change if that is needed.
pub(crate) fn find(conn: &Conn, who: &Caller, id: DiskId, need: Need) -> Result<VolumeRow, Fault> {
    let row = volume::get(conn, id)?.ok_or_else(|| Fault::not_found("volume", id))?;
    access::check(who, row.disk.project, need, "volume", &id.to_string())?;
    Ok(row)
}

/// A volume that a request names besides the one of its URL.
pub(crate) fn named(conn: &Conn, who: &Caller, id: DiskId, need: Need) -> Result<VolumeRow, Fault> {
    find(conn, who, id, need).map_err(|fault| match fault.code {
        FaultCode::NotFound => Fault::new(FaultCode::RelatedNotFound, format!("Volume {id} could not be found.")),
        _ => fault,
    })
}

/// Refuses what only administrators do: those of everything, or of the project that it is about.
pub(crate) fn expect_admin(who: &Caller, project: Option<ProjectId>, what: &str) -> Result<(), Fault> {
    if who.is_admin || project.is_some_and(|project| who.role_in(project) == Some(Role::Admin)) {
        return Ok(());
    }
    let text = format!("User {} may not {what}: only administrators may.", who.name);
    Err(Fault::new(FaultCode::Forbidden, text))
}

/// The fault of a status that does not allow an operation.
pub(crate) fn wrong_status(row: &VolumeRow, what: &str, allowed: &str) -> Fault {
    let text = format!(
        "Invalid volume: volume {} is {}, but {what} needs it to be {allowed}.",
        row.disk.id, row.status
    );
    Fault::new(FaultCode::VolumeStatus, text)
}

/// Whether a client of the volume APIs keeps a disk from VMs.
pub(crate) fn is_claimed(conn: &Conn, disk: &DiskRow) -> Result<bool, Fault> {
    match expect_unclaimed(conn, disk, "attach Virtual Disk", false) {
        Ok(()) => Ok(false),
        Err(fault) if fault.code == FaultCode::VolumeStatus => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// Refuses to do to a disk what the other dialects want while a client of the volume APIs has it, or keeps it for somebody.
/// A status that tells of an error keeps nobody from removing it.
pub(crate) fn expect_unclaimed(conn: &Conn, disk: &DiskRow, what: &str, removing: bool) -> Result<(), Fault> {
    use VolumeStatus::{
        Available, Error, ErrorBackingUp, ErrorDeleting, ErrorExtending, ErrorManaging, ErrorRestoring, ErrorReverting,
    };
    let row = volume::get(conn, disk.id)?.ok_or_else(|| Fault::not_found("disk", disk.id))?;
    match row.stated {
        None | Some(Available) => Ok(()),
        // What a VM of ours has is kept for nobody else, whatever is said of it.
        Some(_) if row.attached => Ok(()),
        Some(
            Error | ErrorBackingUp | ErrorDeleting | ErrorExtending | ErrorManaging | ErrorRestoring | ErrorReverting,
        ) if removing => Ok(()),
        Some(stated) => {
            let text = format!(
                "Cannot {what}. Disk {} is {stated}, as a client of the volume API said: release it there first.",
                called(disk)
            );
            Err(Fault::new(FaultCode::VolumeStatus, text))
        }
    }
}
