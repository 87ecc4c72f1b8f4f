//! What volumes and snapshots look like, key by key and microversion by microversion. Clients' schemas forbid any other key.

use super::list;
use crate::{
    call::Call,
    text::{hex, instant},
};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::volume::{VolumeSnapshotView, VolumeView};
use stillpoint_types::VolumeStatus;

/// GiB, rounded up.
pub(super) const fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// Scheme of `os-vol-host-attr:host`: host, back end, pool.
pub(super) const BACKEND: &str = "qcow2";
/// Its one pool.
pub(super) const POOL: &str = "default";

/// The host's own name; it does not change while the daemon lives.
pub(super) fn host() -> &'static str {
    static NAME: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = read.trim();
        if name.is_empty() {
            "localhost".to_owned()
        } else {
            name.to_owned()
        }
    });
    &NAME
}

/// The pool that every volume is in.
pub(super) fn pool() -> String {
    format!("{}@{BACKEND}#{POOL}", host())
}

/// A snapshot; the nine keys, and the detailed ones.
pub(super) fn snapshot(call: &Call, view: &VolumeSnapshotView, is_detail: bool) -> Value {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("id", json!(view.id));
    put("created_at", json!(instant(view.created_at)));
    put("updated_at", json!(view.updated_at.map(instant)));
    put("name", json!(view.name));
    put("description", json!(view.description));
    put("volume_id", json!(view.volume));
    put("status", json!(view.status.label()));
    put("size", json!(gib(view.size_bytes)));
    put("metadata", json!(view.metadata));
    if is_detail {
        put("os-extended-snapshot-attributes:project_id", json!(hex(view.project.0)));
        put(
            "os-extended-snapshot-attributes:progress",
            json!(format!("{}%", view.progress)),
        );
    }
    let version = call.microversion;
    if version.at_least(14) {
        put("group_snapshot_id", Value::Null);
    }
    if version.at_least(41) {
        put("user_id", json!(view.user.map(|user| hex(user.0))));
    }
    if version.at_least(65) {
        put("consumes_quota", json!(view.backup.is_none()));
    }
    Value::Object(shown)
}

/// A volume's status in Cinder's words.
pub(super) fn status(status: VolumeStatus) -> &'static str {
    match status {
        VolumeStatus::ErrorReverting | VolumeStatus::ErrorManaging => VolumeStatus::Error.label(),
        VolumeStatus::Managing => VolumeStatus::Creating.label(),
        other => other.label(),
    }
}

/// Links to a thing.
pub(super) fn links(call: &Call, plural: &str, id: &str) -> Value {
    let public_url = call.api.public_url();
    let bookmark = match &call.given.project {
        Some(project) => format!("{public_url}/volume/{project}/{plural}/{id}"),
        None => format!("{public_url}/volume/{plural}/{id}"),
    };
    json!([
        {"rel": "self", "href": format!("{}/{plural}/{id}", list::base(call))},
        {"rel": "bookmark", "href": bookmark},
    ])
}

/// A volume of the list that is not detailed.
pub(super) fn volume_summary(call: &Call, view: &VolumeView) -> Value {
    json!({"id": view.id, "name": view.name, "links": links(call, "volumes", &view.id.to_string())})
}

/// How much of a volume is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// As it is answered to its maker or to a change: without what says where it lies.
    Plain,
    /// All.
    Full,
}

/// A volume.
pub(super) fn volume(call: &Call, view: &VolumeView, depth: Depth) -> Value {
    let is_admin = call.who().is_admin;
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("id", json!(view.id));
    put("status", json!(status(view.status)));
    put("size", json!(gib(view.size_bytes)));
    put("availability_zone", json!(list::ZONE));
    put("created_at", json!(instant(view.created_at)));
    put("updated_at", json!(view.updated_at.map(instant)));
    put("name", json!(view.name));
    put("description", json!(view.description));
    put("volume_type", json!(view.of_type.1));
    put("snapshot_id", json!(view.from_snapshot));
    put("source_volid", json!(view.from_volume));
    put("metadata", json!(metadata(view)));
    put("links", links(call, "volumes", &view.id.to_string()));
    put("user_id", json!(view.user.map(|user| hex(user.0))));
    put("bootable", json!(view.bootable.to_string()));
    put("encrypted", json!(false));
    put("replication_status", Value::Null);
    put("consistencygroup_id", Value::Null);
    put("multiattach", json!(false));
    put("attachments", attachments(view, is_admin));
    if is_admin {
        put("migration_status", Value::Null);
    }
    if depth == Depth::Full {
        put("os-vol-tenant-attr:tenant_id", json!(hex(view.project.0)));
        if is_admin {
            put("os-vol-mig-status-attr:migstat", Value::Null);
            put("os-vol-mig-status-attr:name_id", Value::Null);
            put("os-vol-host-attr:host", json!(pool()));
        }
    }
    let version = call.microversion;
    if version.at_least(13) {
        put("group_id", Value::Null);
    }
    if version.at_least(21) && is_admin && depth == Depth::Full {
        put("provider_id", Value::Null);
    }
    if version.at_least(48) {
        // Nothing of a target is shared: servers reach volumes one by one.
        put("shared_targets", json!(false));
        put("service_uuid", Value::Null);
    }
    if version.at_least(61) && is_admin {
        put("cluster_name", Value::Null);
    }
    if version.at_least(63) {
        put("volume_type_id", json!(view.of_type.0));
    }
    if version.at_least(65) {
        put("consumes_quota", json!(true));
    }
    Value::Object(shown)
}

/// The client's metadata with what the service knows: whether it is for reading only, and how it is attached.
fn metadata(view: &VolumeView) -> Map<String, Value> {
    let mut shown: Map<String, Value> = view
        .metadata
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let word = |flag| if flag { "True" } else { "False" };
    let attached = view.attachments.first();
    if let Some(read_only) = view.read_only.or_else(|| attached.map(|attached| attached.read_only)) {
        shown.insert("readonly".to_owned(), json!(word(read_only)));
    }
    if let Some(attached) = attached {
        let mode = if attached.read_only { "ro" } else { "rw" };
        shown.insert("attached_mode".to_owned(), json!(mode));
    }
    shown
}

fn attachments(view: &VolumeView, is_admin: bool) -> Value {
    view.attachments
        .iter()
        .map(|attachment| {
            json!({
                "id": view.id,
                "attachment_id": attachment.id,
                "volume_id": view.id,
                "server_id": attachment.server,
                "host_name": attachment.host.as_ref().filter(|_| is_admin),
                "device": attachment.device,
                "attached_at": attachment.attached_at.map(instant),
            })
        })
        .collect()
}
