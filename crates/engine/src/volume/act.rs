//! What a client of the volume API does to a volume besides its data: words about it, which no guest notices.
//!
//! A volume that a VM of ours has is attached and detached through that VM alone. One that is kept here, or that a server
//! outside has, is refused by the other dialects ([`super::expect_unclaimed`]).

use super::{kind, snapshot::create::refused, wrong_status};
use crate::command::{
    Origin,
    volume::{ActOnVolume, TypeRef, VolumeAction},
};
use crate::{engine::Inner, fault::Fault, limits, snapshot::preview};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    volume::{self, OutsideRow, VolumeRow},
};
use stillpoint_types::{Caller, FaultCode, Need, VmId, VolumeStatus, now_micros};
use uuid::Uuid;

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: ActOnVolume,
) -> Result<(), Fault> {
    let who = who.clone();
    engine.store.write(move |tx| act(tx, &who, command)).await
}

fn act(tx: &Tx, who: &Caller, command: ActOnVolume) -> Result<(), Fault> {
    use VolumeStatus::{Attaching, Available, Detaching, InUse, Reserved};
    let row = super::find(tx, who, command.volume, Need::Operate)?;
    let id = row.disk.id;
    let say = |status: Option<VolumeStatus>| Ok(volume::set_stated(tx, id, status)?);
    match command.action {
        VolumeAction::Reserve => {
            if row.status != Available {
                return Err(wrong_status(&row, "reserving it", "available"));
            }
            expect_not_kept(tx, &row)?;
            say(Some(Attaching))
        }
        VolumeAction::Unreserve => {
            if !matches!(row.stated, Some(Attaching | Reserved)) {
                return Ok(());
            }
            say(has_outside(tx, &row)?.then_some(InUse))
        }
        VolumeAction::Attach {
            server,
            host,
            device,
            read_only,
        } => attach(tx, &row, (server, host, device), read_only),
        VolumeAction::BeginDetaching => {
            if row.attached {
                return Err(ours(&row, "detached"));
            }
            if row.status != InUse {
                return Err(wrong_status(&row, "detaching it", "in-use"));
            }
            say(Some(Detaching))
        }
        VolumeAction::RollDetaching => {
            if row.stated != Some(Detaching) {
                return Ok(());
            }
            say(has_outside(tx, &row)?.then_some(InUse))
        }
        VolumeAction::Detach => {
            if row.attached {
                return Err(ours(&row, "detached"));
            }
            volume::detach_outside(tx, id)?;
            if matches!(row.stated, Some(InUse | Detaching | Attaching | Reserved)) {
                return say(None);
            }
            Ok(())
        }
        VolumeAction::SetBootable(bootable) => Ok(volume::set_bootable(tx, id, bootable)?),
        VolumeAction::SetReadOnly(read_only) => {
            if row.status != Available {
                return Err(wrong_status(&row, "changing whether it is read only", "available"));
            }
            Ok(volume::set_read_only(tx, id, read_only)?)
        }
        VolumeAction::ResetStatus { status, attached } => reset(tx, who, &row, status, attached),
        VolumeAction::Retype(of_type) => retype(tx, who, &row, &of_type),
    }
}

fn retype(tx: &Tx, who: &Caller, row: &VolumeRow, of_type: &TypeRef) -> Result<(), Fault> {
    let id = row.disk.id;
    if !matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) {
        return Err(wrong_status(row, "changing its type", "available or in-use"));
    }
    let wanted = kind::named(tx, who, Some(of_type))?;
    if wanted.id == row.of_type.0 {
        let text = format!("Volume {id} is of type {} already.", wanted.name);
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    if let Some(asked) = kind::unsatisfied(&wanted.extra_specs) {
        let text = format!("Type {} asks for {asked}, which no storage here has.", wanted.name);
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    Ok(volume::set_type(tx, id, wanted.id)?)
}

fn ours(row: &VolumeRow, what: &str) -> Fault {
    let text = format!(
        "Invalid volume: volume {} is attached to a VM of this installation; it is {what} there.",
        row.disk.id
    );
    Fault::new(FaultCode::VolumeStatus, text)
}

/// A VM that is on trial may have it again at any time.
fn expect_not_kept(conn: &Conn, row: &VolumeRow) -> Result<(), Fault> {
    preview::expect_none_keeps(conn, row.disk.id, "attach the volume").map_err(refused)
}

fn has_outside(conn: &Conn, row: &VolumeRow) -> Result<bool, Fault> {
    Ok(!volume::outside(conn, &[row.disk.id])?.is_empty())
}

fn attach(
    tx: &Tx,
    row: &VolumeRow,
    (server, host, device): (Option<VmId>, Option<String>, String),
    read_only: bool,
) -> Result<(), Fault> {
    if row.attached {
        return Err(ours(row, "attached"));
    }
    if !matches!(
        row.status,
        VolumeStatus::Available | VolumeStatus::Attaching | VolumeStatus::Reserved
    ) {
        return Err(wrong_status(row, "attaching it", "available or attaching"));
    }
    expect_not_kept(tx, row)?;
    if server.is_none() && host.is_none() {
        return Err(Fault::new(
            FaultCode::Incomplete,
            "Either an instance or a host that gets the volume must be named.",
        ));
    }
    limits::text("host_name", host.as_deref().unwrap_or_default(), limits::NAME_MAX)?;
    limits::text("mountpoint", &device, limits::NAME_MAX)?;
    if row.read_only == Some(true) && !read_only {
        let text = format!(
            "Volume {} is read only: it cannot be attached for writing.",
            row.disk.id
        );
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    let outside = OutsideRow {
        id: Uuid::new_v4(),
        disk: row.disk.id,
        server,
        host,
        device,
        read_only,
        attached_at: now_micros(),
    };
    volume::attach_outside(tx, &outside)?;
    Ok(volume::set_stated(tx, row.disk.id, Some(VolumeStatus::InUse))?)
}

/// An administrator says what is so. What a VM of ours has stays attached, whatever he says.
fn reset(
    tx: &Tx,
    who: &Caller,
    row: &VolumeRow,
    status: Option<VolumeStatus>,
    attached: Option<bool>,
) -> Result<(), Fault> {
    super::expect_admin(who, Some(row.disk.project), "reset a volume's status")?;
    let id = row.disk.id;
    if attached == Some(false) {
        volume::detach_outside(tx, id)?;
    }
    let outside = has_outside(tx, row)?;
    if attached == Some(true) && !outside && !row.attached {
        let text = format!("Volume {id} has no attachment, so it cannot be said to be attached.");
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    let stated = match status {
        // Without attachments left, it is not in use any more either.
        None if !outside && row.stated == Some(VolumeStatus::InUse) => None,
        None => return Ok(()),
        Some(VolumeStatus::Deleting) => {
            let text = format!("Volume {id} cannot be said to be deleting: delete it.");
            return Err(Fault::new(FaultCode::InvalidValue, text));
        }
        Some(VolumeStatus::InUse) if !outside && !row.attached => {
            let text = format!("Volume {id} has no attachment, so it cannot be said to be in use.");
            return Err(Fault::new(FaultCode::VolumeStatus, text));
        }
        Some(VolumeStatus::InUse) => outside.then_some(VolumeStatus::InUse),
        Some(VolumeStatus::Available) => outside.then_some(VolumeStatus::Available),
        other => other,
    };
    Ok(volume::set_stated(tx, id, stated)?)
}
