//! What the collections of rows can be searched by, in the words of oVirt's users.
//!
//! Sizes are bytes. A field of which nothing here has a value (an address that no agent tells, a quota, a pool) is known
//! and empty: a search for it finds nothing, and a search for its absence everything.

use super::{Field, From, Kind};

const fn core(names: &'static [&'static str], kind: Kind, field: &'static str) -> Field {
    Field {
        names,
        kind,
        from: From::Core(field),
        free: false,
    }
}

const fn related(names: &'static [&'static str], kind: Kind, field: &'static str) -> Field {
    Field {
        names,
        kind,
        from: From::Related(field),
        free: false,
    }
}

const fn fixed(names: &'static [&'static str], kind: Kind, text: &'static str) -> Field {
    Field {
        names,
        kind,
        from: From::Fixed(text),
        free: false,
    }
}

const fn house(names: &'static [&'static str], from: From) -> Field {
    Field {
        names,
        kind: Kind::Text,
        from,
        free: false,
    }
}

/// VMs.
pub(crate) static VMS: &[Field] = &[
    core(&["name", "vms.name", "vm.name"], Kind::Text, "name").free(),
    core(&["id", "vms.id"], Kind::Word, "id"),
    core(&["status", "vms.status"], Kind::Word, "status"),
    core(&["description"], Kind::Text, "description").free(),
    core(&["comment"], Kind::Text, "comment").free(),
    core(&["type"], Kind::Word, "type"),
    core(&["os"], Kind::Word, "os"),
    core(&["memory", "mem"], Kind::Number, "memory"),
    core(&["guaranteed_memory"], Kind::Number, "guaranteed"),
    core(&["cpus", "num_of_cpus"], Kind::Number, "cpus"),
    core(&["creationdate", "creation_date"], Kind::Instant, "created"),
    core(&["start_time"], Kind::Instant, "started"),
    core(&["uptime"], Kind::Number, "uptime"),
    core(&["has_illegal_images"], Kind::Flag, "illegal"),
    related(
        &["disks.name", "disks.alias", "disk.name", "disk.alias"],
        Kind::Text,
        "disk",
    ),
    related(&["disks.id", "disk.id"], Kind::Word, "disk_id"),
    related(&["storage.name", "storage"], Kind::Text, "domain"),
    related(&["snapshots.description"], Kind::Text, "snapshot"),
    house(&["cluster", "cluster.name", "clusters.name"], From::Cluster),
    house(&["datacenter", "datacenter.name", "datacenters.name"], From::DataCenter),
    fixed(&["template", "template.name", "templates.name"], Kind::Text, "Blank"),
    fixed(&["architecture"], Kind::Word, "x86_64"),
    fixed(&["next_run_config_exists"], Kind::Flag, "0"),
    house(&["host", "on_host", "hosts.name"], From::Host),
    fixed(&["fqdn"], Kind::Text, ""),
    fixed(&["ip"], Kind::Text, ""),
    fixed(&["tag"], Kind::Text, ""),
    fixed(&["quota"], Kind::Text, ""),
    fixed(&["pool"], Kind::Text, ""),
];

/// Disks.
pub(crate) static DISKS: &[Field] = &[
    core(&["name", "alias", "disks.name", "disks.alias"], Kind::Text, "alias").free(),
    core(&["id", "disks.id"], Kind::Word, "id"),
    core(&["description"], Kind::Text, "description").free(),
    core(&["status"], Kind::Word, "status"),
    core(&["provisioned_size", "size"], Kind::Number, "size"),
    core(&["creation_date"], Kind::Instant, "created"),
    core(&["format"], Kind::Word, "format"),
    core(&["number_of_vms"], Kind::Number, "vms"),
    related(&["vm_names", "vms.name", "vm.name"], Kind::Text, "vm"),
    related(&["vms.id", "vm.id"], Kind::Word, "vm_id"),
    related(&["vms.status", "vm.status"], Kind::Word, "vm_status"),
    related(&["storage.name", "storage", "storages.name"], Kind::Text, "domain"),
    house(&["datacenter", "datacenter.name", "datacenters.name"], From::DataCenter),
    fixed(&["disk_type"], Kind::Word, "image"),
    fixed(&["disk_content_type", "content_type"], Kind::Word, "data"),
    fixed(&["shareable"], Kind::Flag, "0"),
    fixed(&["wipe_after_delete"], Kind::Flag, "0"),
    fixed(&["quota"], Kind::Text, ""),
];

/// Templates: there is the blank one, from which all VMs are made.
pub(crate) static TEMPLATES: &[Field] = &[
    fixed(&["name", "templates.name"], Kind::Text, "Blank").free(),
    fixed(&["id"], Kind::Word, crate::house::ZERO),
    fixed(&["description"], Kind::Text, ""),
    fixed(&["comment"], Kind::Text, ""),
    fixed(&["status"], Kind::Word, "ok"),
    house(&["cluster", "cluster.name", "clusters.name"], From::Cluster),
    house(&["datacenter", "datacenter.name", "datacenters.name"], From::DataCenter),
    related(&["vm.name", "vms.name"], Kind::Text, "name"),
    related(&["vm.id", "vms.id"], Kind::Word, "id"),
    related(&["vm.status", "vms.status"], Kind::Word, "status"),
];

/// Jobs.
pub(crate) static JOBS: &[Field] = &[
    core(&["correlation_id"], Kind::Exact, "correlation_id").free(),
    core(&["id"], Kind::Word, "id"),
    core(&["description"], Kind::Text, "description").free(),
    core(&["status"], Kind::Word, "status"),
    core(&["owner"], Kind::Text, "owner"),
    core(&["start_time"], Kind::Instant, "started"),
    core(&["end_time"], Kind::Instant, "ended"),
];

/// Events.
pub(crate) static EVENTS: &[Field] = &[
    core(&["message"], Kind::Text, "message").free(),
    core(&["correlation_id"], Kind::Exact, "correlation_id"),
    core(&["id"], Kind::Index, "id"),
    core(&["severity"], Kind::Severity, "severity"),
    core(&["type"], Kind::Number, "type"),
    core(&["time"], Kind::Instant, "time"),
    core(&["usrname", "users.name"], Kind::Text, "user"),
    core(&["event_vm", "vm", "vms.name"], Kind::Text, "vm"),
    core(&["event_vm_id", "vms.id"], Kind::Word, "vm_id"),
    core(&["event_disk", "disks.name"], Kind::Text, "disk"),
    core(&["origin"], Kind::Text, "origin"),
    core(&["custom_event_id"], Kind::Number, "custom_id"),
    fixed(&["event_host", "hosts.name"], Kind::Text, ""),
    fixed(&["event_storage"], Kind::Text, ""),
    fixed(&["event_template"], Kind::Text, ""),
    fixed(&["event_datacenter"], Kind::Text, ""),
];
