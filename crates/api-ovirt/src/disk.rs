//! Disks: what they look like, and making, changing and removing them.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    disk_action, disk_snapshot, domain,
    fault::Refused,
    follow::{Follow, Known, known},
    house,
    list::{self, Listing},
    search, statistic,
};
use std::{str::FromStr, time::Duration};
use stillpoint_engine::{
    Fault,
    command::{AdoptDisk, CreateDisk, DeleteDisk, DiskFields, DomainRef, UpdateDisk},
    view::{DiskView, Filter, Page, Paged},
};
use stillpoint_types::{DiskId, DomainId, ImageFormat, ImageId, state::BadLabel};
use stillpoint_wire::model::{self, Header, Identified};

/// How long a change waits for its job.
const CHANGE_WAIT: Duration = Duration::from_secs(30);

/// What can be followed from a disk.
pub(crate) static FOLLOW: &[Known] = &[
    known("storagedomains", &[known("datacenters", &[])]),
    known("disksnapshots", &[]),
    known("permissions", &[]),
    known("statistics", &[]),
];

/// Sub-collections of a disk that have nothing in them.
pub(crate) const EMPTY: &[&str] = &["permissions"];

struct Disks {
    /// Only those of this storage domain.
    domain: Option<DomainId>,
    filter: Filter,
    follow: Follow,
}

impl Listing for Disks {
    type View = DiskView;
    type Item = model::Disk;

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<DiskView>, Fault> {
        match self.domain {
            Some(domain) => call.engine().domain_disks(&call.who, domain, &self.filter, &page).await,
            None => call.engine().disks(&call.who, &self.filter, &page).await,
        }
    }

    async fn show(&self, call: &Call, view: DiskView) -> Result<model::Disk, Refused> {
        show(call, &view, &self.follow).await
    }
}

/// `GET /disks`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    list_in(call, None).await
}

/// `GET /storagedomains/{domain}/disks`
pub(crate) async fn list_of_domain(call: Call, domain: DomainId) -> Result<Answer, Refused> {
    list_in(call, Some(domain)).await
}

async fn list_in(call: Call, domain: Option<DomainId>) -> Result<Answer, Refused> {
    let search = call.search(search::DISKS)?;
    let disks = Disks {
        domain,
        filter: search.filter(&call.house().await?),
        follow: call.follow(FOLLOW)?,
    };
    list::answer(call, disks, &search).await
}

/// `GET /disks/{disk}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = call.engine().disk(&call.who, call.id(0)?).await?;
    let mut disk = show(&call, &view, &follow).await?;
    if call.all_content() {
        let base = call.base();
        let vms = view
            .vms
            .iter()
            .map(|vm| model::Vm::of(vm.to_string(), format!("{base}/vms/{vm}")));
        disk.vms = Some(vms.collect());
    }
    Ok(call.ok(&disk))
}

/// `POST /disks`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let body: model::Disk = call.read()?;
    let command = creation(&body, domain::named(&body)?)?;
    create(call, command).await
}

/// Makes a disk and answers with it.
pub(crate) async fn create(call: Call, command: CreateDisk) -> Result<Answer, Refused> {
    let accepted = call.engine().create_disk(&call.who, call.origin(), command).await?;
    let job = call.settle(&accepted).await?;
    let view = call.engine().disk(&call.who, accepted.id).await?;
    Ok(call.added(represent(call.base(), &view), job))
}

/// Adopts an image file and answers with the disk.
pub(crate) async fn adopt(call: Call, domain: DomainId, body: &model::Disk) -> Result<Answer, Refused> {
    let id = body.head.id.as_deref();
    let image = body.image_id.as_deref().or(id);
    let image = image.ok_or_else(|| Refused::incomplete("Disk", &["id"], "add"))?;
    let command = AdoptDisk {
        id: id.map(|id| body_id(id, "disk")).transpose()?,
        image: body_id(image, "image_id")?,
        alias: name(body),
        description: body.head.description.clone().unwrap_or_default(),
        domain,
        format: format(body)?.unwrap_or(ImageFormat::Cow),
    };
    let accepted = call.engine().adopt_disk(&call.who, call.origin(), command).await?;
    let job = call.settle(&accepted).await?;
    let view = call.engine().disk(&call.who, accepted.id).await?;
    Ok(call.added(represent(call.base(), &view), job))
}

/// `PUT /disks/{disk}`
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let disk: DiskId = call.id(0)?;
    let body: model::Disk = call.read()?;
    if let Some(id) = &body.head.id
        && body_id::<DiskId>(id, "disk")? != disk
    {
        return Err(Refused::immutable("id"));
    }
    let command = UpdateDisk {
        disk,
        fields: fields(&body),
    };
    let accepted = call.engine().update_disk(&call.who, call.origin(), command).await?;
    call.acted(accepted.job, CHANGE_WAIT).await?;
    let view = call.engine().disk(&call.who, disk).await?;
    Ok(call.ok(&represent(call.base(), &view)))
}

/// `DELETE /disks/{disk}`
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteDisk { disk: call.id(0)? };
    let accepted = call.engine().delete_disk(&call.who, call.origin(), command).await?;
    Ok(call.removed(accepted.job))
}

/// `GET /disks/{disk}/<one of EMPTY>`
pub(crate) async fn nothing(call: Call) -> Result<Answer, Refused> {
    call.engine().disk(&call.who, call.id(0)?).await?;
    Ok(house::empty(&call))
}

/// What a client says about a disk that he wants made.
pub(crate) fn creation(body: &model::Disk, domain: DomainRef) -> Result<CreateDisk, Refused> {
    let (size, format) = (size_bytes(body), format(body)?);
    let (Some(size_bytes), Some(format)) = (size, format) else {
        let missing: Vec<&str> = [("provisioned_size", size.is_none()), ("format", format.is_none())]
            .into_iter()
            .filter_map(|(member, absent)| absent.then_some(member))
            .collect();
        return Err(Refused::incomplete("Disk", &missing, "add"));
    };
    let id = body.head.id.as_deref().map(|id| body_id::<DiskId>(id, "disk"));
    let image = body.image_id.as_deref().map(|id| body_id::<ImageId>(id, "image_id"));
    Ok(CreateDisk {
        id: id.transpose()?,
        image: image.transpose()?,
        alias: name(body),
        description: body.head.description.clone().unwrap_or_default(),
        domain,
        size_bytes,
        format,
        sparse: body.sparse,
        attach: None,
    })
}

/// What a client wants changed of a disk.
pub(crate) fn fields(body: &model::Disk) -> DiskFields {
    DiskFields {
        alias: name(body),
        description: body.head.description.clone(),
        size_bytes: size_bytes(body),
        incremental: body
            .backup
            .as_deref()
            .map(|backup| backup.eq_ignore_ascii_case("incremental")),
    }
}

/// Whether a disk can be backed up by its changes: a qcow2 disk always, as what is written is known by what is allocated.
fn backup(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Cow => "incremental",
        ImageFormat::Raw => "none",
    }
}

/// The virtual size that a client gives; version 3 has two words for it.
pub(crate) fn size_bytes(body: &model::Disk) -> Option<u64> {
    body.provisioned_size.or(body.size)
}

/// Name and alias are the same thing; clients send either.
pub(crate) fn name(body: &model::Disk) -> Option<String> {
    body.alias.clone().or_else(|| body.head.name.clone())
}

fn format(body: &model::Disk) -> Result<Option<ImageFormat>, Refused> {
    word(body.format.as_deref(), "DiskFormat")
}

/// A word of a closed list, in either case.
pub(crate) fn word<T: FromStr<Err = BadLabel>>(text: Option<&str>, kind: &str) -> Result<Option<T>, Refused> {
    let parsed = text.map(|text| {
        text.trim()
            .to_ascii_lowercase()
            .parse()
            .map_err(|_unknown: BadLabel| no_member(text, kind))
    });
    parsed.transpose()
}

/// 400 for a word that an enumeration does not have.
pub(crate) fn no_member(text: &str, kind: &str) -> Refused {
    let shown: String = text.chars().take(64).collect();
    Refused::invalid_value(format!("{shown} is not a member of {kind}"))
}

/// A disk with what shall be inlined.
pub(crate) async fn show(call: &Call, view: &DiskView, follow: &Follow) -> Result<model::Disk, Refused> {
    let mut disk = represent(call.base(), view);
    if let Some(below) = follow.below("storagedomains") {
        let house = call.house().await?;
        let domain = call.engine().domain(&call.who, view.domain).await?;
        disk.storage_domains = Some(vec![domain::show(call.base(), &house, &domain, below)]);
    }
    if follow.below("disksnapshots").is_some() {
        let images = call.engine().disk_snapshots(&call.who, view.id, false).await?;
        let place = format!("{}/disks/{}", call.base(), view.id);
        let shown = images
            .iter()
            .map(|image| disk_snapshot::represent(call.base(), &place, image));
        disk.disk_snapshots = Some(shown.collect());
    }
    disk.permissions = follow.below("permissions").map(|_| Vec::new());
    if follow.below("statistics").is_some() {
        disk.statistics = Some(statistic::of_disk(call, view).await?);
    }
    Ok(disk)
}

/// The same below `place`, as part of what lies there.
pub(crate) async fn show_at(
    call: &Call,
    place: &str,
    view: &DiskView,
    follow: &Follow,
) -> Result<model::Disk, Refused> {
    let mut disk = show(call, view, follow).await?;
    disk.head.href = Some(format!("{place}/disks/{}", view.id));
    Ok(disk)
}

fn status(view: &DiskView) -> &'static str {
    match (&view.illegal, &view.holder) {
        (_, Some(_)) => "locked",
        (Some(_), None) => "illegal",
        (None, None) => "ok",
    }
}

/// What a disk looks like.
pub(crate) fn represent(base: &str, view: &DiskView) -> model::Disk {
    let mut head = Header::new(view.id.to_string(), format!("{base}/disks/{}", view.id));
    head.name = Some(view.alias.clone());
    head.description = Some(view.description.clone());
    head.add_link("disksnapshots");
    head.add_link("statistics");
    for path in EMPTY {
        head.add_link(path);
    }
    for action in disk_action::ACTIONS {
        head.add_action(action);
    }
    model::Disk {
        actual_size: Some(view.actual_bytes),
        alias: Some(view.alias.clone()),
        backup: Some(backup(view.format).into()),
        image_id: Some(view.image.to_string()),
        provisioned_size: Some(view.size_bytes),
        size: Some(view.size_bytes),
        sparse: Some(view.sparse),
        status: Some(status(view).into()),
        total_size: Some(view.total_bytes),
        storage_domains: Some(vec![domain::reference(base, view.domain)]),
        ..image(head, view.format)
    }
}

/// What all disks and images have in common.
pub(crate) fn image(head: Header, format: ImageFormat) -> model::Disk {
    model::Disk {
        head,
        content_type: Some("data".into()),
        format: Some(format.to_string()),
        propagate_errors: Some(false),
        qcow_version: (format == ImageFormat::Cow).then(|| "qcow2_v3".into()),
        shareable: Some(false),
        storage_type: Some("image".into()),
        wipe_after_delete: Some(false),
        ..model::Disk::default()
    }
}
