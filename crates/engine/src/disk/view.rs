//! Disks, attachments, images and storage domains as clients see them.

use crate::{
    access,
    engine::Inner,
    fault::Fault,
    lock::{self, Entity, Holders},
    view::{AttachmentView, DiskSnapshotView, DiskView, DomainView, Filter, Find, Op, Page, Paged, Value},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use stillpoint_store::{
    Conn,
    disk::{self, DiskRow},
    image::{self, ImageRow},
    snapshot, vm,
};
use stillpoint_types::{Caller, DiskId, DomainId, ImageFormat, Need, VmId};

/// A view whose sizes on disk are still to be measured, with the images to measure.
struct Unmeasured {
    view: DiskView,
    images: Vec<ImageRow>,
}

/// All that is asked of the catalogue for these disks, in four questions however many they are.
fn unmeasured(conn: &Conn, rows: Vec<DiskRow>) -> Result<Vec<Unmeasured>, Fault> {
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let ids: Vec<DiskId> = rows.iter().map(|row| row.id).collect();
    let holders = Holders::of_disks(conn)?;
    let mut images: HashMap<DiskId, Vec<ImageRow>> = HashMap::new();
    for image in image::of_disks(conn, &ids)? {
        images.entry(image.disk).or_default().push(image);
    }
    let mut vms: HashMap<DiskId, Vec<VmId>> = HashMap::new();
    for attachment in vm::attachments_of_disks(conn, &ids)? {
        vms.entry(attachment.disk).or_default().push(attachment.vm);
    }
    let one = |row: DiskRow| {
        let images = images.remove(&row.id).unwrap_or_default();
        let active = images.iter().find(|image| image.id == row.image);
        let format = match active {
            Some(image) => image.format,
            // It stands on an image that another disk brought, or that is still being made.
            None => image::get(conn, row.image)?.map_or(ImageFormat::Cow, |image| image.format),
        };
        let view = DiskView {
            id: row.id,
            project: row.project,
            alias: row.alias,
            description: row.description,
            size_bytes: row.size_bytes,
            format,
            sparse: row.sparse,
            image: row.image,
            domain: row.domain,
            actual_bytes: 0,
            total_bytes: 0,
            illegal: row.illegal,
            holder: holders.of(Entity::Disk(row.id)),
            vms: vms.remove(&row.id).unwrap_or_default(),
            created_at: row.created_at,
        };
        Ok(Unmeasured { view, images })
    };
    rows.into_iter().map(one).collect()
}

async fn measured(engine: &Inner, disks: Vec<Unmeasured>) -> Result<Vec<DiskView>, Fault> {
    let files: Vec<_> = disks
        .iter()
        .flat_map(|d| d.images.iter().map(|row| engine.image_ref(row)))
        .collect();
    let mut bytes = engine.images.actual_bytes(&files).await?.into_iter();
    let mut views = Vec::with_capacity(disks.len());
    for Unmeasured { mut view, images } in disks {
        for (row, bytes) in images.iter().zip(bytes.by_ref()) {
            view.total_bytes += bytes;
            if row.id == view.image {
                view.actual_bytes = bytes;
            }
        }
        views.push(view);
    }
    Ok(views)
}

async fn read(
    engine: &Arc<Inner>,
    rows: impl FnOnce(&Conn) -> Result<Vec<DiskRow>, Fault> + Send + 'static,
) -> Result<Vec<DiskView>, Fault> {
    let found = engine
        .store
        .read(move |conn| -> Result<Vec<_>, Fault> { unmeasured(conn, rows(conn)?) })
        .await?;
    measured(engine, found).await
}

pub(crate) async fn page(
    engine: &Arc<Inner>,
    who: &Caller,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<DiskView>, Fault> {
    let query = crate::vm::view::query(who, filter, page);
    let (found, next) = engine
        .store
        .read(move |conn| -> Result<_, Fault> {
            let found = disk::page(conn, &query)?;
            Ok((unmeasured(conn, found.rows)?, found.next))
        })
        .await?;
    Ok(Paged {
        items: measured(engine, found).await?,
        next,
    })
}

pub(crate) async fn page_of_domain(
    engine: &Arc<Inner>,
    who: &Caller,
    id: DomainId,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<DiskView>, Fault> {
    expect_domain(engine, id)?;
    let there = Find::Is {
        field: "domain_id",
        op: Op::Equal,
        value: Value::Text(id.to_string()),
        case_sensitive: true,
    };
    let filter = Filter {
        find: Find::All(vec![there, filter.find.clone()]),
        sort: filter.sort,
    };
    self::page(engine, who, &filter, page).await
}

/// The disks among those named that are there; the caller has checked who may see them. One that is named often, as by all
/// backups of its VM, is looked at once.
pub(crate) async fn named(engine: &Arc<Inner>, ids: HashSet<DiskId>) -> Result<HashMap<DiskId, DiskView>, Fault> {
    let rows = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let ids: Vec<DiskId> = ids.into_iter().collect();
        Ok(disk::of_ids(conn, &ids)?)
    };
    let views = read(engine, rows).await?;
    Ok(views.into_iter().map(|view| (view.id, view)).collect())
}

/// The only one of the views.
pub(crate) fn one<T>(views: Vec<T>) -> Result<T, Fault> {
    views
        .into_iter()
        .next()
        .ok_or_else(|| Fault::internal("a view is missing"))
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: DiskId) -> Result<DiskView, Fault> {
    let who = who.clone();
    one(read(engine, move |conn| Ok(vec![access::disk(conn, &who, id, Need::Read)?])).await?)
}

pub(crate) async fn attachments(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<Vec<AttachmentView>, Fault> {
    let who = who.clone();
    let visible = move |conn: &Conn| access::vm(conn, &who, id, Need::Read).map(|_vm| vec![id]);
    let mut views = attachments_in(engine, visible).await?;
    Ok(views.remove(&id).unwrap_or_default())
}

/// The disks of each of the VMs that the caller may see, in device order: the same number of questions however many they
/// are. What is not visible is passed over.
pub(crate) async fn attachments_of_all(
    engine: &Arc<Inner>,
    who: &Caller,
    ids: Vec<VmId>,
) -> Result<HashMap<VmId, Vec<AttachmentView>>, Fault> {
    let who = who.clone();
    attachments_in(engine, move |conn| access::visible_vms(conn, &who, &ids)).await
}

async fn attachments_in(
    engine: &Arc<Inner>,
    vms: impl FnOnce(&Conn) -> Result<Vec<VmId>, Fault> + Send + 'static,
) -> Result<HashMap<VmId, Vec<AttachmentView>>, Fault> {
    let (rows, disks) = engine
        .store
        .read(move |conn| -> Result<_, Fault> {
            let rows = vm::attachments_of_all(conn, &vms(conn)?)?;
            let ids: HashSet<DiskId> = rows.iter().map(|row| row.disk).collect();
            let ids: Vec<DiskId> = ids.into_iter().collect();
            Ok((rows, unmeasured(conn, disk::of_ids(conn, &ids)?)?))
        })
        .await?;
    let disks = measured(engine, disks).await?;
    let disks: HashMap<DiskId, DiskView> = disks.into_iter().map(|disk| (disk.id, disk)).collect();
    let mut views: HashMap<VmId, Vec<AttachmentView>> = HashMap::new();
    for row in rows {
        let disk = disks.get(&row.disk).cloned();
        views.entry(row.vm).or_default().push(AttachmentView {
            vm: row.vm,
            disk: disk.ok_or_else(|| Fault::internal("an attached disk is gone"))?,
            interface: row.interface,
            bootable: row.bootable,
            active: row.active,
            read_only: row.read_only,
            slot: row.slot,
        });
    }
    Ok(views)
}

pub(crate) async fn attachment(
    engine: &Arc<Inner>,
    who: &Caller,
    id: VmId,
    disk: DiskId,
) -> Result<AttachmentView, Fault> {
    let all = attachments(engine, who, id).await?;
    let meant = engine
        .store
        .read(move |conn| super::expose::named_at(conn, id, disk))
        .await?;
    all.into_iter()
        .find(|a| a.disk.id == meant)
        .ok_or_else(|| Fault::not_found("disk attachment", disk))
}

// ------------------------------------------------------------------------------------------------ images

/// An image of a disk; `None` for one that no snapshot holds and no guest writes to: users know nothing of it.
fn image_view(conn: &Conn, owner: &DiskRow, row: &ImageRow) -> Result<Option<DiskSnapshotView>, Fault> {
    let active = owner.image == row.id;
    let named = if active {
        match vm::attachments_of_disk(conn, owner.id)?.first() {
            Some(a) => snapshot::active(conn, a.vm)?.map(|row| row.id),
            None => None,
        }
    } else {
        match snapshot::of_image(conn, row.id)?.first().copied() {
            None => return Ok(None),
            named => named,
        }
    };
    Ok(Some(DiskSnapshotView {
        image: row.id,
        parent: row.parent,
        disk: owner.id,
        alias: owner.alias.clone(),
        description: owner.description.clone(),
        snapshot: named,
        active,
        format: row.format,
        size_bytes: row.size_bytes,
        actual_bytes: 0,
        locked: lock::holder(conn, Entity::Disk(owner.id))?.is_some(),
        domain: row.domain,
    }))
}

async fn measured_images(engine: &Inner, mut views: Vec<DiskSnapshotView>) -> Result<Vec<DiskSnapshotView>, Fault> {
    let files: Vec<_> = views
        .iter()
        .map(|view| engine.image_file(view.image, view.format))
        .collect();
    for (view, bytes) in views.iter_mut().zip(engine.images.actual_bytes(&files).await?) {
        view.actual_bytes = bytes;
    }
    Ok(views)
}

pub(crate) async fn images(
    engine: &Arc<Inner>,
    who: &Caller,
    id: DiskId,
    include_active: bool,
) -> Result<Vec<DiskSnapshotView>, Fault> {
    let who = who.clone();
    let views = engine
        .store
        .read(move |conn| -> Result<Vec<_>, Fault> {
            let owner = access::disk(conn, &who, id, Need::Read)?;
            let rows = image::of_disk(conn, id)?;
            let shown = rows.iter().filter(|row| include_active || row.id != owner.image);
            shown
                .filter_map(|row| image_view(conn, &owner, row).transpose())
                .collect()
        })
        .await?;
    measured_images(engine, views).await
}

pub(crate) async fn images_of_domain(
    engine: &Arc<Inner>,
    who: &Caller,
    id: DomainId,
    include_active: bool,
    page: &Page,
) -> Result<Vec<DiskSnapshotView>, Fault> {
    expect_domain(engine, id)?;
    let (who, mut after, limit) = (
        who.clone(),
        page.after.clone().map_or_else(String::new, |(_, id)| id),
        page.limit,
    );
    let views = engine
        .store
        .read(move |conn| -> Result<Vec<_>, Fault> {
            let mut views = Vec::new();
            // Rows that this caller may not see are passed over, so that a page is full or the last one.
            while views.len() < limit {
                let rows = image::page_of_domain(conn, id, &after, limit)?;
                let Some(last) = rows.last() else { break };
                after = last.id.to_string();
                for row in &rows {
                    let Some(owner) = disk::get(conn, row.disk)? else {
                        continue;
                    };
                    let visible = access::check(&who, owner.project, Need::Read, "disk", "").is_ok();
                    if visible && (include_active || row.id != owner.image) && views.len() < limit {
                        views.extend(image_view(conn, &owner, row)?);
                    }
                }
            }
            Ok(views)
        })
        .await?;
    measured_images(engine, views).await
}

// --------------------------------------------------------------------------------------- storage domains

pub(crate) fn expect_domain(engine: &Inner, id: DomainId) -> Result<(), Fault> {
    if id == engine.domain.id {
        Ok(())
    } else {
        Err(Fault::not_found("storage domain", id))
    }
}

pub(crate) async fn domains(engine: &Arc<Inner>, _who: &Caller) -> Result<Vec<DomainView>, Fault> {
    let rows = engine
        .store
        .read(|conn| -> Result<Vec<_>, Fault> {
            let with_size = |row: disk::DomainRow| Ok((disk::committed_bytes(conn, row.id)?, row));
            disk::domains(conn)?.into_iter().map(with_size).collect()
        })
        .await?;
    let mut views = Vec::with_capacity(rows.len());
    for (committed_bytes, row) in rows {
        let space = engine.images.space(std::path::Path::new(&row.path)).await?;
        views.push(DomainView {
            id: row.id,
            name: row.name,
            path: row.path,
            available_bytes: space.available_bytes,
            used_bytes: space.used_bytes,
            committed_bytes,
        });
    }
    Ok(views)
}

pub(crate) async fn domain(engine: &Arc<Inner>, who: &Caller, id: DomainId) -> Result<DomainView, Fault> {
    let all = domains(engine, who).await?;
    all.into_iter()
        .find(|d| d.id == id)
        .ok_or_else(|| Fault::not_found("storage domain", id))
}
