//! The images of a disk, seen under the disk or under its storage domain.

use crate::{
    answer::Answer,
    call::Call,
    disk, domain,
    fault::Refused,
    list::{self, Listing},
    search::{PAGE_ITEMS, Search},
};
use stillpoint_engine::{
    Fault,
    view::{DiskSnapshotView, Page, Paged},
};
use stillpoint_types::{DiskId, DomainId, ImageFormat, ImageId};
use stillpoint_wire::model::{self, Header, Identified};

struct OfDomain {
    domain: DomainId,
    include_active: bool,
}

impl Listing for OfDomain {
    type View = DiskSnapshotView;
    type Item = model::DiskSnapshot;

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<DiskSnapshotView>, Fault> {
        let views = call
            .engine()
            .domain_disk_snapshots(&call.who, self.domain, self.include_active, &page)
            .await?;
        Ok(list::by_id(views, page.limit, |view| view.image.to_string()))
    }

    async fn show(&self, call: &Call, view: DiskSnapshotView) -> Result<model::DiskSnapshot, Refused> {
        let place = format!("{}/storagedomains/{}", call.base(), self.domain);
        Ok(represent(call.base(), &place, &view))
    }
}

/// `GET /disks/{disk}/disksnapshots`
pub(crate) async fn list_of_disk(call: Call) -> Result<Answer, Refused> {
    let disk: DiskId = call.id(0)?;
    let views = call
        .engine()
        .disk_snapshots(&call.who, disk, include_active(&call))
        .await?;
    let place = format!("{}/disks/{disk}", call.base());
    let shown: Vec<_> = views.iter().map(|view| represent(call.base(), &place, view)).collect();
    Ok(call.items(&shown))
}

/// `GET /disks/{disk}/disksnapshots/{image}`
pub(crate) async fn get_of_disk(call: Call) -> Result<Answer, Refused> {
    let (disk, image): (DiskId, ImageId) = (call.id(0)?, call.id(1)?);
    let views = call.engine().disk_snapshots(&call.who, disk, true).await?;
    let view = views.iter().find(|view| view.image == image);
    let view = view.ok_or_else(|| Refused::not_found(&image.to_string()))?;
    let place = format!("{}/disks/{disk}", call.base());
    Ok(call.ok(&represent(call.base(), &place, view)))
}

/// `GET /storagedomains/{domain}/disksnapshots`
pub(crate) async fn list_of_domain(call: Call) -> Result<Answer, Refused> {
    let listing = OfDomain {
        domain: call.id(0)?,
        include_active: include_active(&call),
    };
    list::answer(call, listing, &Search::default()).await
}

/// `GET /storagedomains/{domain}/disksnapshots/{image}`
pub(crate) async fn get_of_domain(call: Call) -> Result<Answer, Refused> {
    let (domain, image): (DomainId, ImageId) = (call.id(0)?, call.id(1)?);
    let listing = OfDomain {
        domain,
        include_active: true,
    };
    let mut page = Page {
        limit: PAGE_ITEMS,
        ..Page::default()
    };
    loop {
        let views = listing.page(&call, page.clone()).await?;
        if let Some(view) = views.items.iter().find(|view| view.image == image) {
            let place = format!("{}/storagedomains/{domain}", call.base());
            return Ok(call.ok(&represent(call.base(), &place, view)));
        }
        if views.next.is_none() {
            return Err(Refused::not_found(&image.to_string()));
        }
        page.after = views.next;
    }
}

fn include_active(call: &Call) -> bool {
    call.params().flag("include_active").unwrap_or(false)
}

/// What an image looks like; `place` is the path of the disk or domain that shows it.
pub(crate) fn represent(base: &str, place: &str, view: &DiskSnapshotView) -> model::DiskSnapshot {
    let href = |image: ImageId| format!("{place}/disksnapshots/{image}");
    let mut head = Header::new(view.image.to_string(), href(view.image));
    head.name = Some(view.alias.clone());
    head.description = Some(view.description.clone());
    let parent = view
        .parent
        .and_then(|parent| model::DiskSnapshot::reference(parent.to_string(), href(parent)));
    // A VM snapshot's place needs the VM, which an image does not know: the id alone, as oVirt has it.
    let snapshot = view.snapshot.map(|snapshot| {
        let mut reference = model::Snapshot::default();
        reference.head_mut().id = Some(snapshot.to_string());
        Box::new(reference)
    });
    model::DiskSnapshot {
        base: model::Disk {
            actual_size: Some(view.actual_bytes),
            alias: Some(view.alias.clone()),
            provisioned_size: Some(view.size_bytes),
            size: Some(view.size_bytes),
            // Whether a raw base was written out in full is the disk's to say.
            sparse: (view.format == ImageFormat::Cow).then_some(true),
            status: Some(if view.locked { "locked" } else { "ok" }.into()),
            snapshot,
            storage_domains: Some(vec![domain::reference(base, view.domain)]),
            ..disk::image(head, view.format)
        },
        disk: model::Disk::reference(view.disk.to_string(), format!("{base}/disks/{}", view.disk)),
        parent,
    }
}
