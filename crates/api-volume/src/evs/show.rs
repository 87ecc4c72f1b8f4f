//! Volumes and snapshots as EVS shows them: its statuses, and the fields that Cinder does not have.

use crate::{call::Call, text};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::volume::{VolumeSnapshotView, VolumeView};
use stillpoint_types::{VolumeSnapshotStatus, VolumeStatus};

/// The one zone that there is.
pub(super) const ZONE: &str = "nova";

/// Whole GiB, rounded up.
pub(super) fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// A snapshot's status. EVS's clients wait for ever on a word that is not theirs.
pub(super) fn snapshot_status(status: VolumeSnapshotStatus) -> &'static str {
    use VolumeSnapshotStatus as S;
    match status {
        S::Creating => "creating",
        S::Available | S::Updating => "available",
        S::Error => "error",
        S::Deleting | S::Unmanaging => "deleting",
        S::ErrorDeleting => "error_deleting",
        S::BackingUp => "backing-up",
        S::Restoring => "rollbacking",
    }
}

/// The core's statuses that are shown so; of an unknown word itself, which fits nothing.
pub(super) fn snapshot_statuses(shown: &str) -> Vec<String> {
    of_shown(VolumeSnapshotStatus::ALL, shown, |status| snapshot_status(*status))
}

/// A volume's status.
pub(super) fn volume_status(status: VolumeStatus, is_attached: bool) -> &'static str {
    use VolumeStatus as S;
    match status {
        S::Creating | S::Managing => "creating",
        S::Available | S::Retyping => "available",
        S::Reserved | S::Attaching => "attaching",
        S::Detaching => "detaching",
        S::InUse => "in-use",
        S::Maintenance if is_attached => "in-use",
        S::Maintenance => "available",
        S::Deleting => "deleting",
        S::AwaitingTransfer => "awaiting-transfer",
        S::Error | S::ErrorManaging | S::ErrorBackingUp => "error",
        S::ErrorDeleting => "error_deleting",
        S::BackingUp => "backing-up",
        S::RestoringBackup => "restoring-backup",
        S::ErrorRestoring => "error_restoring",
        S::ErrorExtending => "error_extending",
        S::Downloading => "downloading",
        S::Uploading => "uploading",
        S::Extending => "extending",
        S::Reverting => "rollbacking",
        S::ErrorReverting => "error_rollbacking",
    }
}

/// The core's statuses that are shown so. (An attached volume under maintenance is found as `available` alone.)
pub(super) fn volume_statuses(shown: &str) -> Vec<String> {
    of_shown(VolumeStatus::ALL, shown, |status| volume_status(*status, false))
}

fn of_shown<S: ToString>(all: &[S], shown: &str, show: impl Fn(&S) -> &'static str) -> Vec<String> {
    all.iter()
        .filter(|status| show(status) == shown)
        .map(ToString::to_string)
        .collect()
}

/// The nine keys of a snapshot.
fn nine(view: &VolumeSnapshotView) -> Map<String, Value> {
    let created_at = text::instant(view.created_at);
    let pairs = [
        ("id", json!(view.id.to_string())),
        ("name", json!(view.name)),
        ("description", json!(view.description)),
        ("volume_id", json!(view.volume.to_string())),
        ("status", json!(snapshot_status(view.status))),
        ("size", json!(gib(view.size_bytes))),
        ("metadata", json!(view.metadata)),
        (
            "updated_at",
            json!(view.updated_at.map_or_else(|| created_at.clone(), text::instant)),
        ),
        ("created_at", json!(created_at)),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// A snapshot as its making and its change answer it, and short lists have it.
pub(super) fn snapshot(view: &VolumeSnapshotView) -> Value {
    Value::Object(nine(view))
}

/// A snapshot in full.
pub(super) fn snapshot_detail(call: &Call, view: &VolumeSnapshotView) -> Value {
    let mut object = nine(view);
    let more = [
        (
            "os-extended-snapshot-attributes:project_id",
            json!(text::hex(view.project.0)),
        ),
        (
            "os-extended-snapshot-attributes:progress",
            json!(format!("{}%", view.progress)),
        ),
    ];
    object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    if is_native(call) {
        let native = [
            ("service_type", json!("EVS")),
            ("dedicated_storage_id", Value::Null),
            ("dedicated_storage_name", Value::Null),
        ];
        object.extend(native.map(|(key, value)| (key.to_owned(), value)));
    }
    Value::Object(object)
}

/// Whether the path is one of EVS's own names, not Cinder's.
pub(super) fn is_native(call: &Call) -> bool {
    call.route.pattern.contains("/cloud")
}

/// A volume.
pub(super) fn volume(call: &Call, view: &VolumeView) -> Map<String, Value> {
    let id = view.id.to_string();
    let project = text::hex(view.project.0);
    let href = format!("{}/v2/{project}/cloudvolumes/{id}", call.api.public_url());
    let attachments: Vec<_> = view
        .attachments
        .iter()
        .map(|held| {
            json!({
                "id": id,
                "attachment_id": held.id.to_string(),
                "volume_id": id,
                "server_id": held.server.map(|server| server.to_string()),
                "host_name": held.host.as_deref().filter(|_| call.who().is_admin),
                "device": held.device,
                "attached_at": held.attached_at.map(text::instant),
            })
        })
        .collect();
    let mut metadata = view.metadata.clone();
    if let Some(read_only) = view.read_only {
        metadata.insert(
            "readonly".to_owned(),
            if read_only { "True" } else { "False" }.to_owned(),
        );
    }
    if let Some(held) = view.attachments.first() {
        metadata.insert(
            "attached_mode".to_owned(),
            if held.read_only { "ro" } else { "rw" }.to_owned(),
        );
    }
    let document = json!({
        "id": id,
        "name": view.name,
        "description": view.description,
        "status": volume_status(view.status, !view.attachments.is_empty()),
        "size": gib(view.size_bytes),
        "availability_zone": ZONE,
        "created_at": text::instant(view.created_at),
        "updated_at": text::instant(view.updated_at.unwrap_or(view.created_at)),
        "volume_type": view.of_type.1,
        "snapshot_id": view.from_snapshot.map(|snapshot| snapshot.to_string()),
        "source_volid": view.from_volume.map(|volume| volume.to_string()),
        "metadata": metadata,
        "links": [{"rel": "self", "href": href}, {"rel": "bookmark", "href": href}],
        "user_id": view.user.map(|user| text::hex(user.0)),
        "bootable": if view.bootable { "true" } else { "false" },
        "encrypted": false,
        "multiattach": false,
        "shareable": "false",
        "replication_status": null,
        "consistencygroup_id": null,
        "attachments": attachments,
        "os-vol-tenant-attr:tenant_id": project,
        "service_type": "EVS",
        "tags": {},
        "wwn": view.id.0.as_simple().to_string(),
        "enterprise_project_id": "0",
        "dedicated_storage_id": null,
        "dedicated_storage_name": null,
        "serial_number": id,
        "iops": null,
        "throughput": null,
        "volume_image_metadata": {},
    });
    match document {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_evs_are_shown_and_each_is_found_by_what_it_shows() {
        let volumes = [
            "creating",
            "available",
            "in-use",
            "error",
            "attaching",
            "detaching",
            "restoring-backup",
            "backing-up",
            "error_restoring",
            "uploading",
            "downloading",
            "extending",
            "error_extending",
            "deleting",
            "error_deleting",
            "rollbacking",
            "error_rollbacking",
            "awaiting-transfer",
        ];
        for status in VolumeStatus::ALL {
            let shown = volume_status(*status, false);
            assert!(volumes.contains(&shown), "{shown}");
            assert!(volume_statuses(shown).contains(&status.to_string()), "{shown}");
        }
        let snapshots = [
            "creating",
            "available",
            "error",
            "deleting",
            "error_deleting",
            "backing-up",
            "rollbacking",
        ];
        for status in VolumeSnapshotStatus::ALL {
            let shown = snapshot_status(*status);
            assert!(snapshots.contains(&shown), "{shown}");
            assert!(snapshot_statuses(shown).contains(&status.to_string()), "{shown}");
        }
        assert_eq!(snapshot_statuses("rollbacking"), ["restoring"]);
        assert!(snapshot_statuses("restoring").is_empty(), "that word is Cinder's");
        assert_eq!(volume_status(VolumeStatus::Maintenance, true), "in-use");
    }
}
