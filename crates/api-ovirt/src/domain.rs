//! Storage domains, their disks, and image files in them that belong to no disk.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    disk, disk_snapshot,
    fault::Refused,
    follow::{Follow, Known, known},
    house::{self, Around},
    search::{self, Field},
};
use stillpoint_engine::{
    command::DomainRef,
    view::{DomainView, Filter, House, Page, UnregisteredView},
};
use stillpoint_types::{DiskId, DomainId};
use stillpoint_wire::model::{self, Header, Identified};

/// What can be followed from a storage domain.
pub(crate) static FOLLOW: &[Known] = &[
    known("datacenters", &[]),
    known("disks", &[]),
    known("disksnapshots", &[]),
];

/// Most disks, or images, that are inlined into a storage domain: a list that is held whole.
const INLINE_MAX: usize = 1000;

/// What storage domains can be searched by; sizes are bytes.
static FIELDS: &[Field] = &[
    search::own(&["name", "storage.name"]).free(),
    search::own(&["id"]),
    search::own(&["description"]).free(),
    search::own(&["comment"]).free(),
    search::own(&["status"]),
    search::own(&["external_status"]),
    search::own(&["type"]),
    search::own(&["backup"]).flag(),
    search::own(&["free_size"]).number(),
    search::own(&["used_size"]).number(),
    search::own(&["total_size"]).number(),
    search::own(&["committed"]).number(),
    search::own(&["datacenter", "datacenter.name", "datacenters.name"]),
    search::own(&["cluster", "cluster.name", "clusters.name"]),
    search::own(&["host", "host.name", "hosts.name"]),
];

/// Sub-collections of a storage domain that have nothing in them.
pub(crate) const EMPTY: &[&str] = &["permissions", "templates", "vms"];

/// `GET /storagedomains`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let shown = all(&call, &follow).await?;
    let house = call.house().await?;
    let around = Around::of(&call, &house).await?;
    house::few_by(&call, FIELDS, shown, |domain, name| {
        let bytes = match name {
            "free_size" => domain.available,
            "used_size" => domain.used,
            "committed" => domain.committed,
            "total_size" => domain
                .available
                .zip(domain.used)
                .map(|(free, used)| free.saturating_add(used)),
            "status" => return vec!["active".into()],
            "external_status" => return vec!["ok".into()],
            "type" => return vec!["data".into()],
            "backup" => return vec!["0".into()],
            _ => return around.field(&domain.head, name),
        };
        bytes.map(|bytes| bytes.to_string()).into_iter().collect()
    })
}

/// `GET /storagedomains/{domain}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = call.engine().domain(&call.who, call.id(0)?).await?;
    let mut shown = show(call.base(), &call.house().await?, &view, &follow);
    inline(&call, view.id, &mut shown, &follow).await?;
    Ok(call.ok(&shown))
}

/// Puts what shall be inlined and is many into a storage domain.
async fn inline(call: &Call, id: DomainId, domain: &mut model::StorageDomain, follow: &Follow) -> Result<(), Refused> {
    let page = Page {
        limit: INLINE_MAX,
        ..Page::default()
    };
    let too_many = |what: &str| {
        Refused::bad_parameter(format!(
            "follow: more than {INLINE_MAX} {what} are not inlined: list them by their link"
        ))
    };
    let base = call.base();
    if follow.below("disks").is_some() {
        let filter = Filter::default();
        let found = call.engine().domain_disks(&call.who, id, &filter, &page).await?;
        if found.next.is_some() {
            return Err(too_many("disks"));
        }
        domain.disks = Some(found.items.iter().map(|view| disk::represent(base, view)).collect());
    }
    if follow.below("disksnapshots").is_some() {
        let found = call.engine().domain_disk_snapshots(&call.who, id, false, &page).await?;
        if found.len() == INLINE_MAX {
            return Err(too_many("images"));
        }
        let place = format!("{base}/storagedomains/{id}");
        let shown = found.iter().map(|view| disk_snapshot::represent(base, &place, view));
        domain.disk_snapshots = Some(shown.collect());
    }
    Ok(())
}

/// `GET /storagedomains/{domain}/disks`
pub(crate) async fn disks(call: Call) -> Result<Answer, Refused> {
    let domain = call.id(0)?;
    if !call.params().flag("unregistered").unwrap_or(false) {
        return disk::list_of_domain(call, domain).await;
    }
    let views = call.engine().unregistered(&call.who, domain).await?;
    let shown: Vec<_> = views
        .iter()
        .map(|view| represent_unregistered(call.base(), domain, view))
        .collect();
    Ok(call.items(&shown))
}

/// `GET /storagedomains/{domain}/disks/{disk}`
pub(crate) async fn disk(call: Call) -> Result<Answer, Refused> {
    let (domain, disk): (DomainId, DiskId) = (call.id(0)?, call.id(1)?);
    let view = call.engine().disk(&call.who, disk).await?;
    if view.domain != domain {
        return Err(Refused::not_found(&disk.to_string()));
    }
    Ok(call.ok(&disk::represent(call.base(), &view)))
}

/// `POST /storagedomains/{domain}/disks`: makes a disk there, or with `unregistered` adopts an image file.
pub(crate) async fn add_disk(call: Call) -> Result<Answer, Refused> {
    let domain: DomainId = call.id(0)?;
    let body: model::Disk = call.read()?;
    if call.params().flag("unregistered").unwrap_or(false) {
        return disk::adopt(call, domain, &body).await;
    }
    let command = disk::creation(&body, DomainRef::Id(domain))?;
    disk::create(call, command).await
}

/// `GET /storagedomains/{domain}/<one of EMPTY>`
pub(crate) async fn nothing(call: Call) -> Result<Answer, Refused> {
    call.engine().domain(&call.who, call.id(0)?).await?;
    Ok(house::empty(&call))
}

/// `GET /diskprofiles`: one a storage domain, without limits, with the domain's id.
pub(crate) async fn profiles(call: Call) -> Result<Answer, Refused> {
    call.follow(&[])?;
    let domains = call.engine().domains(&call.who).await?;
    house::few(
        &call,
        domains.iter().map(|view| profile_of(call.base(), view)).collect(),
    )
    .await
}

/// `GET /diskprofiles/{profile}`
pub(crate) async fn profile(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().domain(&call.who, call.id(0)?).await?;
    Ok(call.ok(&profile_of(call.base(), &view)))
}

/// All storage domains, as they look.
pub(crate) async fn all(call: &Call, follow: &Follow) -> Result<Vec<model::StorageDomain>, Refused> {
    let house = call.house().await?;
    let views = call.engine().domains(&call.who).await?;
    let mut shown = Vec::with_capacity(views.len());
    for view in &views {
        let mut domain = show(call.base(), &house, view, follow);
        inline(call, view.id, &mut domain, follow).await?;
        shown.push(domain);
    }
    Ok(shown)
}

/// The storage domain that a disk in a body names, by id or by name.
pub(crate) fn named(body: &model::Disk) -> Result<DomainRef, Refused> {
    let first = body.storage_domains.as_ref().and_then(|domains| domains.first());
    let Some(domain) = first.or(body.storage_domain.as_deref()) else {
        return Ok(DomainRef::Default);
    };
    reference_of(domain)
}

/// A storage domain that a body names, by id or by name.
pub(crate) fn reference_of(domain: &model::StorageDomain) -> Result<DomainRef, Refused> {
    match (&domain.head.id, &domain.head.name) {
        (Some(id), _) => Ok(DomainRef::Id(body_id(id, "storage_domain")?)),
        (None, Some(name)) => Ok(DomainRef::Name(name.clone())),
        (None, None) => Err(Refused::incomplete("StorageDomain", &["id|name"], "add")),
    }
}

/// A storage domain as an item of a list of references.
pub(crate) fn reference(base: &str, domain: DomainId) -> model::StorageDomain {
    model::StorageDomain::of(domain.to_string(), format!("{base}/storagedomains/{domain}"))
}

/// A storage domain with what shall be inlined.
pub(crate) fn show(base: &str, house: &House, view: &DomainView, follow: &Follow) -> model::StorageDomain {
    let mut domain = represent(base, house, view);
    if follow.below("datacenters").is_some() {
        domain.data_centers = Some(vec![house::data_center(base, house)]);
    }
    domain
}

/// What a storage domain looks like.
fn represent(base: &str, house: &House, view: &DomainView) -> model::StorageDomain {
    let mut domain = reference(base, view.id);
    domain.head.name = Some(view.name.clone());
    domain.head.description = Some(String::new());
    domain.head.comment = Some(String::new());
    for path in ["disks", "disksnapshots"].iter().chain(EMPTY) {
        domain.head.add_link(path);
    }
    let data_center = &house.data_center.0;
    model::StorageDomain {
        available: Some(view.available_bytes),
        backup: Some(false),
        block_size: Some(512),
        committed: Some(view.committed_bytes),
        discard_after_delete: Some(false),
        external_status: Some("ok".into()),
        master: Some(true),
        status: Some("active".into()),
        storage: Some(model::HostStorage {
            address: None,
            path: Some(view.path.clone()),
            kind: Some("localfs".into()),
        }),
        storage_format: Some("v5".into()),
        kind: Some("data".into()),
        used: Some(view.used_bytes),
        wipe_after_delete: Some(false),
        data_centers: Some(vec![model::DataCenter::of(
            data_center.as_str(),
            format!("{base}/datacenters/{data_center}"),
        )]),
        ..domain
    }
}

fn profile_of(base: &str, view: &DomainView) -> model::DiskProfile {
    let mut head = Header::new(view.id.to_string(), format!("{base}/diskprofiles/{}", view.id));
    head.name = Some(view.name.clone());
    model::DiskProfile {
        head,
        storage_domain: model::StorageDomain::reference(
            view.id.to_string(),
            format!("{base}/storagedomains/{}", view.id),
        ),
    }
}

/// An image file that belongs to no disk: it has no place of its own yet, so no href.
fn represent_unregistered(base: &str, domain: DomainId, view: &UnregisteredView) -> model::Disk {
    let head = Header {
        id: Some(view.image.to_string()),
        name: Some(view.image.to_string()),
        description: Some(view.refused.clone().unwrap_or_default()),
        ..Header::default()
    };
    model::Disk {
        actual_size: Some(view.actual_bytes),
        alias: Some(view.image.to_string()),
        image_id: Some(view.image.to_string()),
        provisioned_size: Some(view.size_bytes),
        size: Some(view.size_bytes),
        status: Some(if view.refused.is_some() { "illegal" } else { "ok" }.into()),
        storage_domains: Some(vec![reference(base, domain)]),
        ..disk::image(head, view.format)
    }
}
