//! Looking things up through authorisation: what a caller may not see does not exist for him.

use crate::{config::VmConfig, fault::Fault, journal::from_json};
use stillpoint_store::{Conn, disk::DiskRow, snapshot::SnapshotRow, vm::VmRow};
use stillpoint_types::{Access, Caller, DiskId, FaultCode, Need, ProjectId, SnapshotId, VmId};

/// A VM's row with its configuration.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) row: VmRow,
    pub(crate) config: VmConfig,
}

pub(crate) fn check(who: &Caller, project: ProjectId, need: Need, kind: &str, id: &str) -> Result<(), Fault> {
    match who.may(project, need) {
        Access::Allowed => Ok(()),
        Access::Invisible => Err(Fault::not_found(kind, id)),
        Access::Forbidden => Err(Fault::new(
            FaultCode::Forbidden,
            format!(
                "User {} may read {kind} {id} but not change it: ask an administrator for the role member.",
                who.name
            ),
        )
        .of(kind, id)),
    }
}

pub(crate) fn vm(conn: &Conn, who: &Caller, id: VmId, need: Need) -> Result<Vm, Fault> {
    let row = stillpoint_store::vm::get(conn, id)?.ok_or_else(|| Fault::not_found("vm", id))?;
    check(who, row.project, need, "vm", &id.to_string())?;
    let config = from_json(&row.config)?;
    Ok(Vm { row, config })
}

/// Those of the VMs that are there and that the caller may see.
pub(crate) fn visible_vms(conn: &Conn, who: &Caller, ids: &[VmId]) -> Result<Vec<VmId>, Fault> {
    let rows = stillpoint_store::vm::of_ids(conn, ids)?;
    let visible = rows
        .iter()
        .filter(|row| who.may(row.project, Need::Read) == Access::Allowed);
    Ok(visible.map(|row| row.id).collect())
}

pub(crate) fn disk(conn: &Conn, who: &Caller, id: DiskId, need: Need) -> Result<DiskRow, Fault> {
    let row = stillpoint_store::disk::get(conn, id)?.ok_or_else(|| Fault::not_found("disk", id))?;
    check(who, row.project, need, "disk", &id.to_string())?;
    Ok(row)
}

/// A disk that the body of a request names: one that cannot be seen is answered as one that is not there.
pub(crate) fn named_disk(conn: &Conn, who: &Caller, id: DiskId, need: Need) -> Result<DiskRow, Fault> {
    disk(conn, who, id, need).map_err(|fault| match fault.code {
        FaultCode::NotFound => Fault::new(FaultCode::RelatedNotFound, format!("The disk {id} does not exist.")),
        _ => fault,
    })
}

pub(crate) fn snapshot(conn: &Conn, vm: &Vm, id: SnapshotId) -> Result<SnapshotRow, Fault> {
    stillpoint_store::snapshot::get(conn, id)?
        .filter(|row| row.vm == vm.row.id)
        .ok_or_else(|| Fault::not_found("snapshot", id))
}

/// Whether a caller may make things at all: a reader of his home project may not.
pub(crate) fn may_create(who: &Caller) -> Result<(), Fault> {
    match who.may(who.home_project, Need::Operate) {
        Access::Allowed => Ok(()),
        Access::Forbidden | Access::Invisible => Err(Fault::new(
            FaultCode::Forbidden,
            format!(
                "User {} has no project in which he may make things: he needs the role member.",
                who.name
            ),
        )),
    }
}
