//! Snapshots as clients see them.

use crate::{
    access::{self, Vm},
    config::SnapshotConfig,
    engine::Inner,
    fault::Fault,
    journal::from_json,
    lock::{self, Entity},
    snapshot::create,
    view::{SnapshotDiskView, SnapshotStatus, SnapshotView},
};
use std::sync::Arc;
use stillpoint_store::{
    Conn, image, preview,
    snapshot::{self, SnapshotRow},
};
use stillpoint_types::{Caller, Need, SnapshotId, SnapshotType, VmId};

fn view(conn: &Conn, vm: &Vm, row: SnapshotRow) -> Result<SnapshotView, Fault> {
    let holder = lock::holder(conn, Entity::Snapshot(row.id))?;
    let is_previewed = preview::of_vm(conn, row.vm)?.is_some_and(|preview| preview.snapshot == row.id);
    let status = match &holder {
        Some(_) => SnapshotStatus::Locked,
        None if is_previewed => SnapshotStatus::InPreview,
        None => SnapshotStatus::Ok,
    };
    let config = row.config.as_deref().map(from_json::<SnapshotConfig>).transpose()?;
    Ok(SnapshotView {
        previous: snapshot::previous(conn, row.vm, row.seq)?,
        id: row.id,
        vm: row.vm,
        vm_name: vm.row.name.clone(),
        description: row.description,
        kind: row.kind,
        status,
        holder,
        date: row.date,
        memory: row.memory,
        config,
    })
}

pub(crate) async fn of_vm(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<Vec<SnapshotView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let found = access::vm(conn, &who, id, Need::Read)?;
        snapshot::of_vm(conn, id)?
            .into_iter()
            .map(|row| view(conn, &found, row))
            .collect()
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, vm: VmId, id: SnapshotId) -> Result<SnapshotView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let found = access::vm(conn, &who, vm, Need::Read)?;
        view(conn, &found, access::snapshot(conn, &found, id)?)
    };
    engine.store.read(read).await
}

pub(crate) async fn disks(
    engine: &Arc<Inner>,
    who: &Caller,
    vm: VmId,
    id: SnapshotId,
) -> Result<Vec<SnapshotDiskView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let found = access::vm(conn, &who, vm, Need::Read)?;
        let row = access::snapshot(conn, &found, id)?;
        let attachments = match row.config.as_deref().map(from_json::<SnapshotConfig>).transpose()? {
            Some(kept) => kept.attachments,
            None => create::attachments(conn, &found)?,
        };
        let held = snapshot::disks(conn, id)?;
        let mut views = Vec::new();
        for attachment in attachments {
            let image = match row.kind {
                SnapshotType::Active => attachment.image,
                _ => held
                    .iter()
                    .find(|(disk, _)| *disk == attachment.disk)
                    .map(|(_, image)| *image),
            };
            let Some(image) = image.map(|id| image::get(conn, id)).transpose()?.flatten() else {
                continue;
            };
            views.push(SnapshotDiskView {
                snapshot: id,
                attachment,
                image: image.id,
                format: image.format,
                actual_bytes: 0,
                domain: image.domain,
            });
        }
        Ok(views)
    };
    let mut views = engine.store.read(read).await?;
    let files: Vec<_> = views
        .iter()
        .map(|view| engine.image_file(view.image, view.format))
        .collect();
    for (view, bytes) in views.iter_mut().zip(engine.images.actual_bytes(&files).await?) {
        view.actual_bytes = bytes;
    }
    Ok(views)
}
