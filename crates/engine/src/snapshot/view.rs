//! Snapshots as clients see them.

use crate::{
    access,
    config::SnapshotConfig,
    engine::Inner,
    fault::Fault,
    journal::from_json,
    lock::{self, Entity, Holders},
    snapshot::create,
    view::{Holder, SnapshotDiskView, SnapshotSizes, SnapshotStatus, SnapshotView},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use stillpoint_store::{
    Conn, image, preview,
    snapshot::{self, SnapshotRow},
    vm,
};
use stillpoint_types::{Access, Caller, Need, SnapshotId, SnapshotType, VmId};

fn view(
    vm_name: &str,
    row: SnapshotRow,
    holder: Option<Holder>,
    previous: Option<SnapshotId>,
    is_previewed: bool,
) -> Result<SnapshotView, Fault> {
    let status = match &holder {
        Some(_) => SnapshotStatus::Locked,
        None if is_previewed => SnapshotStatus::InPreview,
        None => SnapshotStatus::Ok,
    };
    let config = row.config.as_deref().map(from_json::<SnapshotConfig>).transpose()?;
    Ok(SnapshotView {
        previous,
        id: row.id,
        vm: row.vm,
        vm_name: vm_name.to_owned(),
        description: row.description,
        kind: row.kind,
        status,
        holder,
        date: row.date,
        memory: row.memory,
        config,
    })
}

/// The views of a VM's snapshots, which come oldest first.
fn views(
    vm_name: &str,
    rows: Vec<SnapshotRow>,
    holders: &Holders,
    previewed: &HashSet<SnapshotId>,
) -> Result<Vec<SnapshotView>, Fault> {
    let mut previous = None;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, holder) = (row.id, holders.of(Entity::Snapshot(row.id)));
        views.push(view(vm_name, row, holder, previous, previewed.contains(&id))?);
        previous = Some(id);
    }
    Ok(views)
}

pub(crate) async fn of_vm(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<Vec<SnapshotView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let found = access::vm(conn, &who, id, Need::Read)?;
        let previewed = preview::of_vm(conn, id)?.map(|row| row.snapshot).into_iter().collect();
        let holders = Holders::of_snapshots(conn)?;
        views(&found.row.name, snapshot::of_vm(conn, id)?, &holders, &previewed)
    };
    engine.store.read(read).await
}

/// The snapshots of each of the VMs that the caller may see, oldest first: the same number of questions however many they
/// are. What is not visible is passed over.
pub(crate) async fn of_all(
    engine: &Arc<Inner>,
    who: &Caller,
    ids: Vec<VmId>,
) -> Result<HashMap<VmId, Vec<SnapshotView>>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<HashMap<_, _>, Fault> {
        let vms = vm::of_ids(conn, &ids)?.into_iter();
        let names: HashMap<VmId, String> = vms
            .filter(|row| who.may(row.project, Need::Read) == Access::Allowed)
            .map(|row| (row.id, row.name))
            .collect();
        let visible: Vec<VmId> = names.keys().copied().collect();
        let holders = Holders::of_snapshots(conn)?;
        let previewed = preview::of_vms(conn, &visible)?;
        let previewed = previewed.into_iter().map(|row| row.snapshot).collect();
        let mut rows: HashMap<VmId, Vec<SnapshotRow>> = HashMap::new();
        for row in snapshot::of_vms(conn, &visible)? {
            rows.entry(row.vm).or_default().push(row);
        }
        names
            .iter()
            .map(|(id, name)| {
                Ok((
                    *id,
                    views(name, rows.remove(id).unwrap_or_default(), &holders, &previewed)?,
                ))
            })
            .collect()
    };
    engine.store.read(read).await
}

/// How many snapshots each of the VMs has; what has none is not named. Tells nothing but numbers of what is asked for.
pub(crate) async fn counts(engine: &Arc<Inner>, ids: Vec<VmId>) -> Result<HashMap<VmId, u64>, Fault> {
    let read = move |conn: &Conn| -> Result<_, Fault> { Ok(snapshot::counts(conn, &ids)?.into_iter().collect()) };
    engine.store.read(read).await
}

/// What the snapshots of a VM take on disk: the same number of questions however many they are.
pub(crate) async fn sizes(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<SnapshotSizes, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        access::vm(conn, &who, id, Need::Read)?;
        Ok((
            snapshot::images_of_vm(conn, id)?,
            snapshot::memory_bytes_of_vm(conn, id)?,
        ))
    };
    let (held, memory) = engine.store.read(read).await?;
    let files: Vec<_> = held
        .iter()
        .map(|(_, image, format)| engine.image_file(*image, *format))
        .collect();
    let mut disks: HashMap<SnapshotId, u64> = HashMap::new();
    for ((of, ..), bytes) in held.iter().zip(engine.images.actual_bytes(&files).await?) {
        *disks.entry(*of).or_default() += bytes;
    }
    Ok(SnapshotSizes {
        disks,
        memory: memory.into_iter().collect(),
    })
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, vm: VmId, id: SnapshotId) -> Result<SnapshotView, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let found = access::vm(conn, &who, vm, Need::Read)?;
        let row = access::snapshot(conn, &found, id)?;
        let holder = lock::holder(conn, Entity::Snapshot(id))?;
        let previous = snapshot::previous(conn, vm, row.seq)?;
        let is_previewed = preview::of_vm(conn, vm)?.is_some_and(|preview| preview.snapshot == id);
        view(&found.row.name, row, holder, previous, is_previewed)
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
