//! Backups of volumes, as clients of Cinder's dialect ask for them. There is no such service yet: what was asked for is checked,
//! kept, and has failed, so that a client reads why and removes it. VMs are backed up by [`crate::backup`].

use super::{called, find, quota, snapshot, wrong_status};
use crate::{
    access,
    command::{
        Origin,
        volume::{CreateVolumeBackup, UpdateVolumeBackup},
    },
    engine::Inner,
    fault::Fault,
    view::volume::{Listed, VolumeBackupView, VolumeQuery},
};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    volume_backup::{self, VolumeBackupRow},
};
use stillpoint_types::{Caller, FaultCode, Need, VolumeSnapshotId, VolumeSnapshotStatus, VolumeStatus, now_micros};
use uuid::Uuid;

fn view(row: VolumeBackupRow) -> VolumeBackupView {
    VolumeBackupView {
        id: row.id,
        project: row.project,
        user: row.user,
        volume: row.disk,
        snapshot: row.snapshot,
        name: row.name,
        description: row.description,
        container: row.container,
        metadata: row.metadata,
        size_bytes: row.size_bytes,
        moment: row.moment,
        reason: row.reason,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn owned(conn: &Conn, who: &Caller, id: Uuid, need: Need) -> Result<VolumeBackupRow, Fault> {
    let row = volume_backup::get(conn, id)?.ok_or_else(|| Fault::not_found("backup", id))?;
    access::check(who, row.project, need, "backup", &id.to_string())?;
    Ok(row)
}

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: CreateVolumeBackup,
) -> Result<VolumeBackupView, Fault> {
    snapshot::update::check(
        command.name.as_deref(),
        command.description.as_deref(),
        &command.metadata,
    )?;
    let who = who.clone();
    engine.store.write(move |tx| plan(tx, &who, command)).await
}

fn plan(tx: &Tx, who: &Caller, command: CreateVolumeBackup) -> Result<VolumeBackupView, Fault> {
    let volume = find(tx, who, command.volume, Need::Operate)?;
    let now = now_micros();
    let (size_bytes, moment) = match command.snapshot {
        Some(id) => of_snapshot(tx, who, &command, id)?,
        None => {
            let is_allowed =
                volume.status == VolumeStatus::Available || (volume.status == VolumeStatus::InUse && command.force);
            if !is_allowed {
                return Err(wrong_status(
                    &volume,
                    "backing it up",
                    "available, or in-use with force",
                ));
            }
            (volume.disk.size_bytes, now)
        }
    };
    if command.incremental {
        let text = format!(
            "Invalid backup: volume {} has no earlier backup that is available, so none can be incremental.",
            called(&volume.disk)
        );
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    let project = volume.disk.project;
    let used = volume_backup::count_of(tx, project)?;
    if let Some(limit) = quota::limits_of(tx, project)?.backups.filter(|limit| used >= *limit) {
        let text = format!(
            "The quota of backups is exceeded: the limit is {limit}, {used} are used, and 1 more was asked for."
        );
        return Err(Fault::new(FaultCode::Quota, text));
    }
    let row = VolumeBackupRow {
        id: Uuid::new_v4(),
        project,
        user: Some(who.user),
        disk: volume.disk.id,
        snapshot: command.snapshot,
        name: command.name,
        description: command.description,
        container: command.container,
        metadata: command.metadata,
        size_bytes,
        moment,
        reason: "There is no service for backups of volumes: back up the VM through the oVirt API.".to_owned(),
        created_at: now,
        updated_at: Some(now),
    };
    volume_backup::insert(tx, &row)?;
    Ok(view(row))
}

/// Size and moment of the snapshot that shall be read.
fn of_snapshot(
    tx: &Tx,
    who: &Caller,
    command: &CreateVolumeBackup,
    id: VolumeSnapshotId,
) -> Result<(u64, stillpoint_types::Micros), Fault> {
    let (row, status) = snapshot::find(tx, who, id, Need::Read)?;
    if row.disk != command.volume {
        let text = format!("Invalid snapshot: snapshot {id} is not of volume {}.", command.volume);
        return Err(Fault::new(FaultCode::InvalidValue, text));
    }
    if status != VolumeSnapshotStatus::Available {
        let text = format!("Invalid snapshot: snapshot {id} is {status}, but a backup needs it to be available.");
        return Err(Fault::new(FaultCode::VolumeStatus, text));
    }
    Ok((row.size_bytes, row.created_at))
}

pub(crate) async fn update(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    command: UpdateVolumeBackup,
) -> Result<VolumeBackupView, Fault> {
    let flat = |given: &Option<Option<String>>| given.clone().flatten();
    let (name, description) = (flat(&command.name), flat(&command.description));
    let metadata = command.metadata.clone().unwrap_or_default();
    snapshot::update::check(name.as_deref(), description.as_deref(), &metadata)?;
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<_, Fault> {
        let mut row = owned(tx, &who, command.backup, Need::Operate)?;
        row.name = command.name.unwrap_or(row.name);
        row.description = command.description.unwrap_or(row.description);
        row.metadata = command.metadata.unwrap_or(row.metadata);
        let now = now_micros();
        volume_backup::set_texts(tx, &row, now)?;
        Ok(view(VolumeBackupRow {
            updated_at: Some(now),
            ..row
        }))
    };
    engine.store.write(write).await
}

pub(crate) async fn delete(engine: &Arc<Inner>, who: &Caller, _origin: &Origin, id: Uuid) -> Result<(), Fault> {
    let who = who.clone();
    let write = move |tx: &Tx| -> Result<(), Fault> {
        owned(tx, &who, id, Need::Operate)?;
        Ok(volume_backup::delete(tx, id)?)
    };
    engine.store.write(write).await
}

pub(crate) async fn page(
    engine: &Arc<Inner>,
    who: &Caller,
    query: VolumeQuery,
) -> Result<Listed<VolumeBackupView>, Fault> {
    let marker = query.marker;
    let listing = super::view::listing(who, query)?;
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let absent = || Fault::not_found("backup", marker.unwrap_or_default());
        let found = volume_backup::page(conn, &listing)?.ok_or_else(absent)?;
        Ok(Listed {
            items: found.rows.into_iter().map(view).collect(),
            count: found.count,
        })
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: Uuid) -> Result<VolumeBackupView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| owned(conn, &who, id, Need::Read).map(view);
    engine.store.read(read).await
}
