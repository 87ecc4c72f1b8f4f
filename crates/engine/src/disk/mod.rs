//! Disks: make, adopt, attach, extend, copy, sparsify, remove.

pub(crate) mod adopt;
pub(crate) mod attach;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod expose;
pub(crate) mod extend;
pub(crate) mod place;
pub(crate) mod plug;
pub(crate) mod sparsify;
pub(crate) mod update;
pub(crate) mod view;

use crate::fault::Fault;
use stillpoint_store::{
    Conn,
    disk::{self, DiskRow},
    image::{self, ImageRow},
    vm,
};
use stillpoint_types::{DiskId, FaultCode, VmStatus};

/// What a disk is called in texts: its alias, or its id if it is gone.
pub(crate) fn alias(conn: &Conn, id: DiskId) -> Result<String, Fault> {
    Ok(disk::get(conn, id)?.map_or_else(|| id.to_string(), |row| row.alias))
}

/// Neither the disk nor the image is known to be damaged: both can be read.
pub(crate) fn expect_whole(conn: &Conn, disk: &DiskRow, image: &ImageRow, doing: &str) -> Result<(), Fault> {
    if let Some(why) = &disk.illegal {
        let text = format!("Cannot {doing}: disk {} is illegal: {why}", disk.alias);
        return Err(Fault::new(FaultCode::ImageIllegal, text));
    }
    if image::is_half_merged(conn, image.id)? {
        let text = format!(
            "Cannot {doing}: the removal of the snapshot that holds image {} was begun and failed, so the image holds a \
             part of what was written later. Remove the snapshot again.",
            image.id
        );
        return Err(Fault::new(FaultCode::ImageIllegal, text));
    }
    Ok(())
}

/// The content of an active image holds still only while no machine has it. `instead` is what the client can do.
pub(crate) fn expect_at_rest(conn: &Conn, disk: &DiskRow, doing: &str, instead: &str) -> Result<(), Fault> {
    for a in vm::attachments_of_disk(conn, disk.id)?.into_iter().filter(|a| a.active) {
        let Some(row) = vm::get(conn, a.vm)? else { continue };
        if row.status != VmStatus::Down {
            let text = format!(
                "Cannot {doing}: disk {} is plugged into VM {}, which is {} and must be down. {instead}",
                disk.alias, row.name, row.status
            );
            return Err(Fault::new(FaultCode::VmStatus, text));
        }
    }
    Ok(())
}
