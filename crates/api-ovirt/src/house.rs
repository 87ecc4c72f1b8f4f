//! The surroundings that clients navigate: one data center, cluster, host, network and blank template, and fixed lists.
//!
//! Read-only. Just enough for real clients to find their way; nothing here can be changed through this dialect.

use crate::{
    answer::Answer,
    call::Call,
    domain,
    fault::Refused,
    follow::{Follow, Known, known},
    search::{self, Field, Searchable},
};
use http::StatusCode;
use stillpoint_engine::view::{House, Page};
use stillpoint_wire::{
    Encoding, Wire,
    model::{self, Header, Identified},
};

/// The id of things that exist everywhere: the blank template, the root tag.
pub(crate) const ZERO: &str = "00000000-0000-0000-0000-000000000000";
/// The compatibility level that this dialect follows.
const LEVEL: (i32, i32) = (4, 7);

/// What any of these things can be searched by.
static FIELDS: &[Field] = &[
    search::own(&["name"]).free(),
    search::own(&["id"]),
    search::own(&["description"]).free(),
    search::own(&["comment"]).free(),
    search::own(&["status"]),
    search::own(&["datacenter", "datacenter.name", "datacenters.name"]),
    search::own(&["cluster", "cluster.name", "clusters.name"]),
    search::own(&["storage.name", "storage", "storages.name"]),
    search::own(&["host", "host.name", "hosts.name"]),
];

/// Hosts also by these.
static HOST_FIELDS: &[Field] = &[
    search::own(&["name"]).free(),
    search::own(&["id"]),
    search::own(&["description"]).free(),
    search::own(&["comment"]).free(),
    search::own(&["status"]),
    search::own(&["address"]),
    search::own(&["hw_id"]),
    search::own(&["datacenter", "datacenter.name", "datacenters.name"]),
    search::own(&["cluster", "cluster.name", "clusters.name"]),
    search::own(&["storage.name", "storage", "storages.name"]),
];

/// What can be followed from a cluster.
pub(crate) static FOLLOW_CLUSTER: &[Known] = &[known("datacenter", &[]), known("networks", &[])];
/// What can be followed from a host.
pub(crate) static FOLLOW_HOST: &[Known] = &[known("cluster", FOLLOW_CLUSTER)];

/// Guest operating systems that clients may choose from, in the order of their numbers.
const SYSTEMS: &[(&str, &str)] = &[
    ("other", "Other OS"),
    ("other_linux", "Linux"),
    ("rhel_8x64", "Red Hat Enterprise Linux 8.x x64"),
    ("rhel_9x64", "Red Hat Enterprise Linux 9.x x64"),
    ("debian_9", "Debian 9+"),
    ("ubuntu_18_04", "Ubuntu Bionic Beaver LTS+"),
    ("windows_2019x64", "Windows 2019 x64"),
    ("windows_2022", "Windows 2022"),
];

/// Roles, by the words of this product.
const ROLES: &[(&str, &str, bool)] = &[
    ("admin", "Everything in a project", true),
    ("member", "All operations on a project's things", false),
    ("reader", "Reading only", false),
];

/// The names in which a thing of the surroundings can be found, besides its own.
#[derive(Debug, Clone)]
pub(crate) struct Around<'a> {
    house: &'a House,
    domains: Vec<String>,
}

impl<'a> Around<'a> {
    /// The surroundings as they are now.
    pub(crate) async fn of(call: &Call, house: &'a House) -> Result<Self, Refused> {
        let domains = call.engine().domains(&call.who).await?;
        Ok(Self {
            house,
            domains: domains.into_iter().map(|domain| domain.name).collect(),
        })
    }

    /// A field of a thing.
    pub(crate) fn field(&self, head: &Header, name: &str) -> Vec<String> {
        let known = match name {
            "name" => head.name.clone(),
            "id" => head.id.clone(),
            "description" => head.description.clone(),
            "comment" => head.comment.clone(),
            // Whatever of these exists is up.
            "status" => Some("up".into()),
            "datacenter" => Some(self.house.data_center.1.clone()),
            "cluster" => Some(self.house.cluster.1.clone()),
            "host" => Some(self.house.host.1.clone()),
            "storage.name" => return self.domains.clone(),
            _ => None,
        };
        known.into_iter().collect()
    }
}

struct Shown<'a, T, F>(&'a T, &'a F);

impl<T, F: Fn(&T, &str) -> Vec<String>> Searchable for Shown<'_, T, F> {
    fn field(&self, name: &str) -> Vec<String> {
        (self.1)(self.0, name)
    }
}

/// Answers with those of a few items that the search finds.
pub(crate) async fn few<T: Wire + Identified>(call: &Call, items: Vec<T>) -> Result<Answer, Refused> {
    let house = call.house().await?;
    let around = Around::of(call, &house).await?;
    few_by(call, FIELDS, items, |item: &T, name| around.field(item.head(), name))
}

/// The same with fields of its own.
pub(crate) fn few_by<T: Wire>(
    call: &Call,
    fields: &'static [Field],
    items: Vec<T>,
    field: impl Fn(&T, &str) -> Vec<String>,
) -> Result<Answer, Refused> {
    let search = call.search(fields)?;
    let mut items: Vec<T> = items
        .into_iter()
        .filter(|item| search.finds(&Shown(item, &field)))
        .collect();
    search.arrange(&mut items, &field);
    let (skip, take) = search.window(call.params().max(), items.len());
    items = items.into_iter().skip(skip).take(take).collect();
    Ok(call.items(&items))
}

/// An empty collection, named after the last word of the route.
pub(crate) fn empty(call: &Call) -> Answer {
    let word = match call.visit.route.pattern {
        "/hosts/{id}/nics" => "host_nics",
        "/hosts/{id}/storage" => "host_storages",
        other => other.rsplit('/').next().unwrap_or_default(),
    };
    let body = match call.encoding() {
        Encoding::Xml => {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><{}/>",
                element(word)
            )
        }
        Encoding::Json => "{}".to_owned(),
    };
    Answer::text(StatusCode::OK, call.encoding().media_type(), body)
}

/// The element of a collection, which has underscores where the path has nothing.
fn element(path: &str) -> &str {
    match path {
        "affinitylabels" => "affinity_labels",
        "graphicsconsoles" => "graphics_consoles",
        "hostdevices" => "host_devices",
        "instancetypes" => "instance_types",
        "numanodes" => "vm_numa_nodes",
        "reporteddevices" => "reported_devices",
        "vmpools" => "vm_pools",
        other => other,
    }
}

/// `GET /<a collection of which there is nothing>`
pub(crate) async fn nothing(call: Call) -> Result<Answer, Refused> {
    Ok(empty(&call))
}

/// Answers with a thing if the path's id is its.
fn only<T: Wire + Identified>(call: &Call, value: &T) -> Result<Answer, Refused> {
    let id = call.segment(0);
    match &value.head().id {
        Some(own) if own.eq_ignore_ascii_case(id) => Ok(call.ok(value)),
        _ => Err(Refused::not_found(id)),
    }
}

/// `GET /datacenters`
pub(crate) async fn data_centers(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    few(&call, vec![data_center(call.base(), &house)]).await
}

/// `GET /datacenters/{id}`
pub(crate) async fn get_data_center(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &data_center(call.base(), &house))
}

/// `GET /datacenters/{id}/clusters`
pub(crate) async fn data_center_clusters(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &data_center(call.base(), &house))?;
    let follow = call.follow(FOLLOW_CLUSTER)?;
    few(&call, vec![cluster(call.base(), &house, &follow)]).await
}

/// `GET /datacenters/{id}/networks`
pub(crate) async fn data_center_networks(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &data_center(call.base(), &house))?;
    few(&call, vec![network(call.base(), &house)]).await
}

/// `GET /datacenters/{id}/storagedomains`
pub(crate) async fn data_center_domains(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &data_center(call.base(), &house))?;
    let domains = domain::all(&call, &call.follow(domain::FOLLOW)?).await?;
    few(&call, domains).await
}

/// `GET /clusters`
pub(crate) async fn clusters(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW_CLUSTER)?;
    let house = call.house().await?;
    few(&call, vec![cluster(call.base(), &house, &follow)]).await
}

/// `GET /clusters/{id}`
pub(crate) async fn get_cluster(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW_CLUSTER)?;
    let house = call.house().await?;
    only(&call, &cluster(call.base(), &house, &follow))
}

/// `GET /clusters/{id}/networks`
pub(crate) async fn cluster_networks(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &cluster(call.base(), &house, &Follow::default()))?;
    few(&call, vec![network(call.base(), &house)]).await
}

/// `GET /hosts`
pub(crate) async fn hosts(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW_HOST)?;
    let house = call.house().await?;
    let around = Around::of(&call, &house).await?;
    few_by(
        &call,
        HOST_FIELDS,
        vec![host(call.base(), &house, &follow)],
        |host, name| match name {
            "address" => host.address.clone().into_iter().collect(),
            "hw_id" => vec![house.host.0.clone()],
            _ => around.field(&host.head, name),
        },
    )
}

/// What a host has that is not modelled: its collections are empty.
const HOST_EMPTY: &[&str] = &["nics", "permissions", "statistics", "storage", "tags"];

/// `GET /hosts/{id}/<one of HOST_EMPTY>`
pub(crate) async fn host_nothing(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &host(call.base(), &house, &Follow::default()))?;
    Ok(empty(&call))
}

/// `GET /hosts/{id}`
pub(crate) async fn get_host(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW_HOST)?;
    let house = call.house().await?;
    only(&call, &host(call.base(), &house, &follow))
}

/// `GET /templates`
pub(crate) async fn templates(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    let search = call.search(search::TEMPLATES)?;
    let filter = search.filter(&house);
    // What is asked of a template's VMs is asked of all VMs: all are made from this one.
    let found = match search::settled(&filter.find) {
        Some(found) => found,
        None => {
            let first = Page {
                limit: 1,
                ..Page::default()
            };
            !call.engine().vms(&call.who, &filter, &first).await?.items.is_empty()
        }
    };
    let (skip, take) = search.window(call.params().max(), 1);
    let shown = blank_template(call.base(), &house);
    let shown: Vec<_> = found.then_some(shown).into_iter().skip(skip).take(take).collect();
    Ok(call.items(&shown))
}

/// `GET /templates/{id}`
pub(crate) async fn get_template(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &blank_template(call.base(), &house))
}

/// `GET /tags`
pub(crate) async fn tags(call: Call) -> Result<Answer, Refused> {
    few(&call, vec![root_tag(call.base())]).await
}

/// `GET /tags/{id}`
pub(crate) async fn get_tag(call: Call) -> Result<Answer, Refused> {
    only(&call, &root_tag(call.base()))
}

/// `GET /networks`
pub(crate) async fn networks(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    few(&call, vec![network(call.base(), &house)]).await
}

/// `GET /networks/{id}`
pub(crate) async fn get_network(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &network(call.base(), &house))
}

/// `GET /vnicprofiles`
pub(crate) async fn vnic_profiles(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    few(&call, vec![vnic_profile(call.base(), &house)]).await
}

/// `GET /vnicprofiles/{id}`
pub(crate) async fn get_vnic_profile(call: Call) -> Result<Answer, Refused> {
    let house = call.house().await?;
    only(&call, &vnic_profile(call.base(), &house))
}

/// `GET /roles`
pub(crate) async fn roles(call: Call) -> Result<Answer, Refused> {
    few(&call, (0..ROLES.len()).map(|index| role(call.base(), index)).collect()).await
}

/// `GET /roles/{id}`
pub(crate) async fn get_role(call: Call) -> Result<Answer, Refused> {
    let roles: Vec<_> = (0..ROLES.len()).map(|index| role(call.base(), index)).collect();
    pick(&call, &roles)
}

/// `GET /operatingsystems`
pub(crate) async fn operating_systems(call: Call) -> Result<Answer, Refused> {
    few(&call, systems(call.base())).await
}

/// `GET /operatingsystems/{id}`
pub(crate) async fn get_operating_system(call: Call) -> Result<Answer, Refused> {
    pick(&call, &systems(call.base()))
}

/// `GET /clusterlevels`
pub(crate) async fn cluster_levels(call: Call) -> Result<Answer, Refused> {
    few(&call, vec![cluster_level(call.base())]).await
}

/// `GET /clusterlevels/{level}`
pub(crate) async fn get_cluster_level(call: Call) -> Result<Answer, Refused> {
    only(&call, &cluster_level(call.base()))
}

fn pick<T: Wire + Identified>(call: &Call, items: &[T]) -> Result<Answer, Refused> {
    let id = call.segment(0);
    let found = items.iter().find(|item| item.head().id.as_deref() == Some(id));
    found.map(|item| call.ok(item)).ok_or_else(|| Refused::not_found(id))
}

/// Refuses a template that is not the blank one.
pub(crate) fn check_template(template: Option<&model::Template>) -> Result<(), Refused> {
    let Some(head) = template.map(Identified::head) else {
        return Ok(());
    };
    match (head.id.as_deref(), head.name.as_deref()) {
        (Some(ZERO), _) | (None, Some("Blank") | None) => Ok(()),
        (Some(other), _) | (None, Some(other)) => Err(unknown("template", other)),
    }
}

/// Refuses a cluster that is not this one.
pub(crate) fn check_cluster(cluster: Option<&model::Cluster>, house: &House) -> Result<(), Refused> {
    let Some(head) = cluster.map(Identified::head) else {
        return Ok(());
    };
    match (head.id.as_deref(), head.name.as_deref()) {
        (Some(id), _) if id.eq_ignore_ascii_case(&house.cluster.0) => Ok(()),
        (None, Some(name)) if name == house.cluster.1 => Ok(()),
        (None, None) => Ok(()),
        (Some(other), _) | (None, Some(other)) => Err(unknown("cluster", other)),
    }
}

/// 400 for a thing of the surroundings that is not there.
pub(crate) fn unknown(kind: &str, what: &str) -> Refused {
    let shown: String = what.chars().take(64).collect();
    Refused::bad_parameter(format!("Entity not found: {kind} {shown}"))
}

fn head(base: &str, path: &str, (id, name): &(String, String)) -> Header {
    let mut head = Header::new(id.as_str(), format!("{base}/{path}/{id}"));
    head.name = Some(name.clone());
    head.description = Some(String::new());
    head
}

fn level() -> model::Version {
    model::Version {
        major: Some(LEVEL.0),
        minor: Some(LEVEL.1),
        ..model::Version::default()
    }
}

fn data_center_reference(base: &str, house: &House) -> Option<Box<model::DataCenter>> {
    let id = &house.data_center.0;
    model::DataCenter::reference(id.as_str(), format!("{base}/datacenters/{id}"))
}

/// What the data center looks like.
pub(crate) fn data_center(base: &str, house: &House) -> model::DataCenter {
    let mut head = head(base, "datacenters", &house.data_center);
    for path in ["clusters", "networks", "storagedomains"] {
        head.add_link(path);
    }
    model::DataCenter {
        head,
        local: Some(true),
        quota_mode: Some("disabled".into()),
        status: Some("up".into()),
        storage_format: Some("v5".into()),
        supported_versions: Some(vec![level()]),
        version: Some(level()),
        ..model::DataCenter::default()
    }
}

/// What the cluster looks like.
pub(crate) fn cluster(base: &str, house: &House, follow: &Follow) -> model::Cluster {
    let mut head = head(base, "clusters", &house.cluster);
    head.add_link("networks");
    let data_center = match follow.below("datacenter") {
        Some(_) => Some(Box::new(data_center(base, house))),
        None => data_center_reference(base, house),
    };
    model::Cluster {
        head,
        ballooning_enabled: Some(false),
        cpu: Some(model::Cpu {
            architecture: Some("x86_64".into()),
            ..model::Cpu::default()
        }),
        gluster_service: Some(false),
        version: Some(level()),
        virt_service: Some(true),
        data_center,
        networks: follow.below("networks").map(|_| vec![network(base, house)]),
        ..model::Cluster::default()
    }
}

/// What the host looks like.
pub(crate) fn host(base: &str, house: &House, follow: &Follow) -> model::Host {
    let id = &house.cluster.0;
    let cluster = match follow.below("cluster") {
        Some(below) => Some(Box::new(cluster(base, house, below))),
        None => model::Cluster::reference(id.as_str(), format!("{base}/clusters/{id}")),
    };
    let mut head = head(base, "hosts", &house.host);
    for path in HOST_EMPTY {
        head.add_link(path);
    }
    model::Host {
        head,
        address: Some(house.host.1.clone()),
        cpu: Some(model::Cpu {
            architecture: Some("x86_64".into()),
            topology: Some(model::CpuTopology {
                cores: i32::try_from(house.host_cpus).ok(),
                sockets: Some(1),
                threads: Some(1),
            }),
            kind: Some(house.accelerator.clone()),
        }),
        external_status: Some("ok".into()),
        memory: Some(house.host_memory_bytes),
        status: Some("up".into()),
        version: Some(model::Version {
            full_version: Some(house.qemu_version.clone()),
            ..model::Version::default()
        }),
        cluster,
        ..model::Host::default()
    }
}

/// What the blank template looks like.
pub(crate) fn blank_template(base: &str, house: &House) -> model::Template {
    let id = &house.cluster.0;
    let base_vm = model::Vm {
        head: head(base, "templates", &(ZERO.to_owned(), "Blank".to_owned())),
        status: Some("ok".into()),
        kind: Some("server".into()),
        cluster: model::Cluster::reference(id.as_str(), format!("{base}/clusters/{id}")),
        ..model::Vm::default()
    };
    model::Template {
        base: base_vm,
        version: Some(model::TemplateVersion {
            version_name: Some("base version".into()),
            version_number: Some(1),
        }),
    }
}

fn root_tag(base: &str) -> model::Tag {
    model::Tag {
        head: head(base, "tags", &(ZERO.to_owned(), "root".to_owned())),
        ..model::Tag::default()
    }
}

fn network(base: &str, house: &House) -> model::Network {
    model::Network {
        head: head(base, "networks", &house.network),
        status: Some("operational".into()),
        stp: Some(false),
        data_center: data_center_reference(base, house),
        ..model::Network::default()
    }
}

fn vnic_profile(base: &str, house: &House) -> model::VnicProfile {
    let id = &house.network.0;
    model::VnicProfile {
        head: head(base, "vnicprofiles", &house.vnic_profile),
        port_mirroring: Some(false),
        network: model::Network::reference(id.as_str(), format!("{base}/networks/{id}")),
        ..model::VnicProfile::default()
    }
}

/// Ids of fixed lists are numbers written as UUIDs, as oVirt Engine does it.
pub(crate) fn numbered(index: usize) -> String {
    format!("00000000-0000-0000-0000-{:012}", index + 1)
}

fn role(base: &str, index: usize) -> model::Role {
    let (name, description, administrative) = ROLES[index];
    let mut head = head(base, "roles", &(numbered(index), name.to_owned()));
    head.description = Some(description.to_owned());
    model::Role {
        head,
        administrative: Some(administrative),
        mutable: Some(false),
        permits: None,
    }
}

fn systems(base: &str) -> Vec<model::OperatingSystemInfo> {
    let system = |(index, (name, description)): (usize, &(&str, &str))| {
        let mut head = head(base, "operatingsystems", &(numbered(index), (*name).to_owned()));
        head.description = Some((*description).to_owned());
        model::OperatingSystemInfo {
            head,
            architecture: Some("x86_64".into()),
        }
    };
    SYSTEMS.iter().enumerate().map(system).collect()
}

fn cluster_level(base: &str) -> model::ClusterLevel {
    let id = format!("{}.{}", LEVEL.0, LEVEL.1);
    model::ClusterLevel {
        head: Header::new(id.as_str(), format!("{base}/clusterlevels/{id}")),
        cpu_types: None,
    }
}
