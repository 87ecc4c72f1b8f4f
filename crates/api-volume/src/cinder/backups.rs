//! Backups of volumes, as a Cinder has them whose backup service is not there: each is accepted, and goes to `error` with the
//! reason. VMs are backed up through the oVirt API.

use super::{body, list, show, snapshot::short};
use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    text::{hex, instant},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use stillpoint_engine::{
    command::volume::{CreateVolumeBackup, UpdateVolumeBackup},
    view::volume::VolumeBackupView,
};
use stillpoint_types::{DiskId, VolumeSnapshotId};
use uuid::Uuid;

const NOUNS: list::Nouns = list::Nouns {
    plural: "backups",
    metadata_since: 43,
    name_since: 37,
    equal: &[
        ("id", "id"),
        ("name", "name"),
        ("volume_id", "volume_id"),
        ("snapshot_id", "snapshot_id"),
        ("container", "container"),
    ],
    sort: &[
        ("id", "id"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("status", "status"),
        ("display_name", "name"),
        ("name", "name"),
        ("volume_id", "volume_id"),
        ("size", "size"),
    ],
    shown: &[],
    null: &[],
    instants: &[],
};

fn id(call: &Call) -> Result<Uuid, Refused> {
    let text = call.segment(0);
    body::uuid(text).ok_or_else(|| Refused::not_found(format!("Backup {} could not be found.", short(text))))
}

fn summary(call: &Call, view: &VolumeBackupView) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(view.id));
    shown.insert("name".to_owned(), json!(view.name));
    shown.insert("links".to_owned(), show::links(call, "backups", &view.id.to_string()));
    shown
}

/// The three keys, and from 3.43 on the metadata.
fn accepted(call: &Call, view: &VolumeBackupView) -> Value {
    let mut shown = summary(call, view);
    if call.microversion.at_least(43) {
        shown.insert("metadata".to_owned(), json!(view.metadata));
    }
    Value::Object(shown)
}

fn whole(call: &Call, view: &VolumeBackupView) -> Value {
    let mut shown = summary(call, view);
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("status", json!("error"));
    put("fail_reason", json!(view.reason));
    put("size", json!(show::gib(view.size_bytes)));
    put("object_count", json!(0));
    put("availability_zone", json!(list::ZONE));
    put("container", json!(view.container));
    put("created_at", json!(instant(view.created_at)));
    put("updated_at", json!(view.updated_at.map(instant)));
    put("description", json!(view.description));
    put("volume_id", json!(view.volume));
    put("snapshot_id", json!(view.snapshot));
    put("is_incremental", json!(false));
    put("has_dependent_backups", json!(false));
    put("data_timestamp", json!(instant(view.moment)));
    if call.microversion.at_least(18) && call.who().is_admin {
        put("os-backup-project-attr:project_id", json!(hex(view.project.0)));
    }
    if call.microversion.at_least(43) {
        put("metadata", json!(view.metadata));
    }
    if call.microversion.at_least(56) {
        put("user_id", json!(view.user.map(|user| hex(user.0))));
    }
    if call.microversion.at_least(64) {
        put("encryption_key_id", Value::Null);
    }
    Value::Object(shown)
}

async fn page(call: Call, path: &str, is_detail: bool) -> Result<Answer, Refused> {
    let asked = list::read(&call, &NOUNS)?;
    let listed = call.engine().volume_backups(call.who(), asked.query.clone()).await?;
    let answer = list::answer(
        &call,
        &asked,
        NOUNS.plural,
        path,
        &listed,
        |view: &VolumeBackupView| view.id.to_string(),
        |view| {
            if is_detail {
                whole(&call, view)
            } else {
                Value::Object(summary(&call, view))
            }
        },
    );
    Ok(Answer::ok(&answer))
}

/// `GET backups`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    page(call, "backups", false).await
}

/// `GET backups/detail`.
pub(crate) async fn detail(call: Call) -> Result<Answer, Refused> {
    page(call, "backups/detail", true).await
}

/// `GET backups/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().volume_backup(call.who(), id(&call)?).await?;
    Ok(Answer::ok(&json!({"backup": whole(&call, &view)})))
}

/// `POST backups`.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "backup", true)?;
    body::only(
        &object,
        "backup",
        &[
            "volume_id",
            "name",
            "description",
            "container",
            "incremental",
            "force",
            "snapshot_id",
            "metadata",
            "availability_zone",
        ],
    )?;
    let volume = body::optional_id(&object, "volume_id")?
        .map(DiskId)
        .ok_or_else(|| Refused::bad_request("backup must have a volume_id"))?;
    let command = CreateVolumeBackup {
        volume,
        snapshot: body::optional_id(&object, "snapshot_id")?.map(VolumeSnapshotId),
        name: body::name(&object)?.flatten(),
        description: body::description(&object)?.flatten(),
        container: body::text(&object, "container")?.flatten(),
        metadata: body::new_metadata(&object)?,
        incremental: body::optional_flag(&object, "incremental")?.unwrap_or(false),
        force: body::optional_flag(&object, "force")?.unwrap_or(false),
    };
    let view = call
        .engine()
        .create_volume_backup(call.who(), call.origin(), command)
        .await?;
    Ok(Answer::json(
        StatusCode::ACCEPTED,
        &json!({"backup": accepted(&call, &view)}),
    ))
}

/// `PUT backups/{id}` (3.9).
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    if !call.microversion.at_least(9) {
        return Err(Refused::no_such_route());
    }
    let object = body::object(&call, "backup", true)?;
    let has_metadata = call.microversion.at_least(43);
    let known: &[&str] = if has_metadata {
        &["name", "description", "metadata"]
    } else {
        &["name", "description"]
    };
    body::only(&object, "backup", known)?;
    let command = UpdateVolumeBackup {
        backup: id(&call)?,
        name: body::name(&object)?,
        description: body::description(&object)?,
        metadata: match object.get("metadata") {
            Some(_) => Some(body::new_metadata(&object)?),
            None => None,
        },
    };
    if command.name.is_none() && command.description.is_none() && command.metadata.is_none() {
        return Err(Refused::bad_request("Nothing is to be changed"));
    }
    let view = call
        .engine()
        .update_volume_backup(call.who(), call.origin(), command)
        .await?;
    Ok(Answer::ok(&json!({"backup": accepted(&call, &view)})))
}

/// `DELETE backups/{id}`.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    call.engine()
        .delete_volume_backup(call.who(), call.origin(), id(&call)?)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}
