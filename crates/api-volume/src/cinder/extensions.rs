//! What is served beside volumes and snapshots, and what lists can be filtered by.

use crate::{answer::Answer, call::Call, fault::Refused};
use serde_json::{Value, json};

/// Name, alias, description, date.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("AdminActions", "os-admin-actions", "Enable admin actions."),
    (
        "AvailabilityZones",
        "os-availability-zone",
        "Describe Availability Zones.",
    ),
    ("Backups", "backups", "Backups support."),
    ("Capabilities", "capabilities", "Capabilities support."),
    (
        "ExtendedSnapshotAttributes",
        "os-extended-snapshot-attributes",
        "Extended SnapshotAttributes support.",
    ),
    ("Hosts", "os-hosts", "Admin-only host administration."),
    (
        "QuotaClasses",
        "os-quota-class-sets",
        "Quota classes management support.",
    ),
    ("Quotas", "os-quota-sets", "Quota management support."),
    (
        "SchedulerHints",
        "OS-SCH-HNT",
        "Pass arbitrary key/value pairs to the scheduler.",
    ),
    ("Scheduler_stats", "scheduler-stats", "Scheduler stats support."),
    ("Services", "os-services", "Services support."),
    (
        "SnapshotActions",
        "os-snapshot-actions",
        "Enable snapshot manager actions.",
    ),
    ("TypesExtraSpecs", "os-types-extra-specs", "Type extra specs support."),
    ("TypesManage", "os-types-manage", "Types manage support."),
    ("VolumeActions", "os-volume-actions", "Enable volume actions."),
    (
        "VolumeHostAttribute",
        "os-vol-host-attr",
        "Expose host as an attribute of a volume.",
    ),
    (
        "VolumeMigStatusAttribute",
        "os-vol-mig-status-attr",
        "Expose migration_status as an attribute of a volume.",
    ),
    (
        "VolumeTenantAttribute",
        "os-vol-tenant-attr",
        "Expose the internal project_id as an attribute of a volume.",
    ),
    (
        "VolumeTransfer",
        "os-volume-transfer",
        "Volume transfer management support.",
    ),
    (
        "VolumeTypeAccess",
        "os-volume-type-access",
        "Volume type access support.",
    ),
];

/// `GET extensions`.
pub(crate) async fn list(_call: Call) -> Result<Answer, Refused> {
    let shown: Vec<Value> = EXTENSIONS
        .iter()
        .map(|(name, alias, description)| {
            json!({
                "name": name,
                "alias": alias,
                "description": description,
                "updated": "2013-04-18T00:00:00+00:00",
                "links": [],
            })
        })
        .collect();
    Ok(Answer::ok(&json!({"extensions": shown})))
}

/// What members may filter by.
const FILTERS: &[(&str, &[&str])] = &[
    (
        "volume",
        &[
            "name",
            "name~",
            "description~",
            "status",
            "status~",
            "metadata",
            "bootable",
            "migration_status",
            "availability_zone",
            "group_id",
            "size",
            "created_at",
            "updated_at",
            "consumes_quota",
        ],
    ),
    (
        "snapshot",
        &[
            "name",
            "name~",
            "description~",
            "status",
            "status~",
            "volume_id",
            "metadata",
            "availability_zone",
            "consumes_quota",
        ],
    ),
    ("backup", &["name", "status", "volume_id"]),
];

/// `GET resource_filters` (3.33).
pub(crate) async fn filters(call: Call) -> Result<Answer, Refused> {
    if !call.microversion.at_least(33) {
        return Err(Refused::no_such_route());
    }
    let shown: Vec<Value> = FILTERS
        .iter()
        .filter(|(resource, _)| call.param("resource").is_none_or(|asked| *resource == asked))
        .map(|(resource, filters)| json!({"resource": resource, "filters": filters}))
        .collect();
    Ok(Answer::ok(&json!({"resource_filters": shown})))
}
