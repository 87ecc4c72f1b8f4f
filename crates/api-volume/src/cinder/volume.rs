//! Volumes: made, shown, listed, named, removed, added up.

use super::{
    body, list,
    show::{self, Depth},
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stillpoint_engine::{
    command::volume::{CreateVolume, DeleteVolume, TypeRef, UpdateVolume, VolumeSource},
    view::volume::{Scope, VolumeQuery, VolumeView},
};
use stillpoint_types::{DiskId, VolumeSnapshotId, VolumeStatus, VolumeTypeId};

pub(super) const NOUNS: list::Nouns = list::Nouns {
    plural: "volumes",
    metadata_since: 0,
    name_since: 0,
    equal: &[
        ("id", "id"),
        ("name", "name"),
        ("size", "size"),
        ("bootable", "bootable"),
        ("snapshot_id", "snapshot_id"),
        ("source_volid", "source_volid"),
    ],
    sort: &[
        ("id", "id"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("status", "status"),
        ("size", "size"),
        ("display_name", "name"),
        ("name", "name"),
        ("bootable", "bootable"),
        ("project_id", "project_id"),
    ],
    shown: &[
        ("error", &["error", "error_reverting", "error_managing"]),
        ("creating", &["creating", "managing"]),
    ],
    null: &[
        "migration_status",
        "group_id",
        "consistencygroup_id",
        "replication_status",
    ],
    instants: &["created_at", "updated_at"],
};

/// The volume of the path.
///
/// # Errors
/// 404 if the segment is no id: nothing is named so.
pub(super) fn id(call: &Call) -> Result<DiskId, Refused> {
    let text = call.segment(0);
    body::uuid(text)
        .map(DiskId)
        .ok_or_else(|| Refused::not_found(format!("Volume {} could not be found.", super::snapshot::short(text))))
}

async fn view(call: &Call, id: DiskId) -> Result<VolumeView, Refused> {
    Ok(call.engine().volume(call.who(), id).await?)
}

/// What a new volume may say.
const KNOWN: &[&str] = &[
    "name",
    "display_name",
    "description",
    "display_description",
    "size",
    "volume_type",
    "metadata",
    "snapshot_id",
    "source_volid",
    "backup_id",
    "availability_zone",
    "imageRef",
    "image_id",
    "consistencygroup_id",
    "group_id",
    "multiattach",
];

fn is_given(object: &body::Object, key: &str) -> bool {
    object.get(key).is_some_and(|value| !value.is_null())
}

/// `POST volumes`.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let command = read(&call)?;
    let accepted = call.engine().create_volume(call.who(), call.origin(), command).await?;
    let mut view = view(&call, accepted.id).await?;
    // What was accepted, not what a fast job has made of it since.
    view.status = VolumeStatus::Creating;
    view.updated_at = None;
    Ok(Answer::json(
        StatusCode::ACCEPTED,
        &json!({"volume": show::volume(&call, &view, Depth::Plain)}),
    ))
}

fn read(call: &Call) -> Result<CreateVolume, Refused> {
    let object = body::object(call, "volume", false)?;
    if call.microversion.at_least(53) {
        body::only(&object, "volume", KNOWN)?;
        let mut outer = call.object()?;
        outer.retain(|key, _| !matches!(key.as_str(), "volume" | "OS-SCH-HNT:scheduler_hints"));
        body::only(&outer, "The body", &[])?;
    }
    let refused = |text: &str| Err(Refused::bad_request(text));
    if is_given(&object, "imageRef") || is_given(&object, "image_id") {
        return refused("imageRef: there is no image service");
    }
    if is_given(&object, "consistencygroup_id") || is_given(&object, "group_id") {
        return refused("Groups of volumes are not offered");
    }
    if call.microversion.at_least(47) && is_given(&object, "backup_id") {
        let id = body::optional_id(&object, "backup_id")?.unwrap_or_default();
        return Err(Refused::not_found(format!("Backup {id} could not be found.")));
    }
    match object.get("multiattach") {
        None | Some(Value::Null) => {}
        Some(value) => {
            if body::flag(value, "multiattach")? {
                return refused("multiattach: a volume is attached to one server at most");
            }
        }
    }
    match object.get("availability_zone") {
        None | Some(Value::Null) => {}
        Some(Value::String(zone)) if zone == list::ZONE => {}
        Some(_) => return refused("availability_zone is not known"),
    }
    let snapshot = body::optional_id(&object, "snapshot_id")?.map(VolumeSnapshotId);
    let volume = body::optional_id(&object, "source_volid")?.map(DiskId);
    let source = match (snapshot, volume) {
        (None, None) => VolumeSource::Blank,
        (Some(snapshot), None) => VolumeSource::Snapshot(snapshot),
        (None, Some(volume)) => VolumeSource::Volume(volume),
        (Some(_), Some(_)) => return refused("A volume begins as a snapshot or as another volume, not as both"),
    };
    let size_bytes = match object.get("size") {
        None | Some(Value::Null) => None,
        Some(value) => Some(body::gib(value, "size")?),
    };
    if size_bytes.is_none() && source == VolumeSource::Blank {
        return refused("size is needed for a volume that begins as nothing else");
    }
    Ok(CreateVolume {
        project: call.project()?,
        name: body::name(&object)?.flatten(),
        description: body::description(&object)?.flatten(),
        size_bytes,
        source,
        of_type: type_ref(object.get("volume_type"))?,
        metadata: body::new_metadata(&object)?,
    })
}

/// How a body names a type.
pub(super) fn type_ref(value: Option<&Value>) -> Result<Option<TypeRef>, Refused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=255).contains(&text.chars().count()) => Ok(Some(match body::uuid(text) {
            Some(id) => TypeRef::Id(VolumeTypeId(id)),
            None => TypeRef::Name(text.clone()),
        })),
        Some(_) => Err(Refused::bad_request("A volume type is named by its id or its name")),
    }
}

async fn page(call: Call, path: &str, is_detail: bool) -> Result<Answer, Refused> {
    let asked = list::read(&call, &NOUNS)?;
    let listed = call.engine().volumes(call.who(), asked.query.clone()).await?;
    let answer = list::answer(
        &call,
        &asked,
        NOUNS.plural,
        path,
        &listed,
        |view: &VolumeView| view.id.to_string(),
        |view| {
            if is_detail {
                show::volume(&call, view, Depth::Full)
            } else {
                show::volume_summary(&call, view)
            }
        },
    );
    Ok(Answer::ok(&answer))
}

/// `GET volumes`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    page(call, "volumes", false).await
}

/// `GET volumes/detail`.
pub(crate) async fn detail(call: Call) -> Result<Answer, Refused> {
    page(call, "volumes/detail", true).await
}

/// `GET volumes/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = view(&call, id(&call)?).await?;
    Ok(Answer::ok(&json!({"volume": show::volume(&call, &view, Depth::Full)})))
}

/// Every volume that a query fits, page by page.
pub(super) async fn every(call: &Call, mut query: VolumeQuery) -> Result<Vec<VolumeView>, Refused> {
    let mut all = Vec::new();
    query.limit = 1000;
    loop {
        let listed = call.engine().volumes(call.who(), query.clone()).await?;
        let is_full = listed.items.len() == 1000;
        query.marker = listed.items.last().map(|view| view.id.0);
        all.extend(listed.items);
        if !is_full {
            return Ok(all);
        }
    }
}

/// `GET volumes/summary` (3.12).
pub(crate) async fn summary(call: Call) -> Result<Answer, Refused> {
    if !call.microversion.at_least(12) {
        return Err(Refused::not_found("Volume summary could not be found."));
    }
    let mut asked = list::read(&call, &NOUNS)?;
    asked.query.marker = None;
    asked.query.offset = 0;
    let volumes = every(&call, asked.query).await?;
    let mut summary = Map::new();
    summary.insert("total_count".to_owned(), json!(volumes.len()));
    let size: u64 = volumes.iter().map(|view| show::gib(view.size_bytes)).sum();
    summary.insert("total_size".to_owned(), json!(size));
    if call.microversion.at_least(36) {
        let mut metadata: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in volumes.iter().flat_map(|view| &view.metadata) {
            metadata.entry(key).or_default().insert(value);
        }
        summary.insert("metadata".to_owned(), json!(metadata));
    }
    Ok(Answer::ok(&json!({"volume-summary": summary})))
}

/// `PUT volumes/{id}`.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "volume", true)?;
    let is_strict = call.microversion.at_least(53);
    if is_strict {
        body::only(
            &object,
            "volume",
            &["name", "display_name", "description", "display_description", "metadata"],
        )?;
        if object.is_empty() {
            return Err(Refused::bad_request("volume must have something to change"));
        }
    }
    let id = id(&call)?;
    let command = UpdateVolume {
        volume: id,
        name: body::name(&object)?,
        description: body::description(&object)?,
    };
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => None,
        Some(value) => Some(body::pairs(value, "metadata", body::Keys::Slash)?),
    };
    call.engine().update_volume(call.who(), call.origin(), command).await?;
    if let Some(metadata) = metadata {
        let change = stillpoint_engine::command::volume::MetadataChange::Merge(metadata);
        call.engine()
            .change_volume_metadata(call.who(), call.origin(), id, change)
            .await?;
    }
    let view = view(&call, id).await?;
    Ok(Answer::ok(&json!({"volume": show::volume(&call, &view, Depth::Plain)})))
}

/// `DELETE volumes/{id}`.
pub(crate) async fn delete(call: Call) -> Result<Answer, Refused> {
    let flag = |name: &str| match call.param(name) {
        None => Ok(false),
        Some(word) => {
            body::word_of_flag(word).ok_or_else(|| Refused::bad_request(format!("{name} must be true or false")))
        }
    };
    let cascade = flag("cascade")?;
    let force = call.microversion.at_least(23) && flag("force")?;
    if force && !call.who().is_admin {
        return Err(Refused::forbidden("Only an administrator removes a volume by force"));
    }
    remove(&call, cascade, force).await
}

/// Removes it; `force` is an administrator's.
pub(super) async fn remove(call: &Call, cascade: bool, force: bool) -> Result<Answer, Refused> {
    let command = DeleteVolume {
        volume: id(call)?,
        cascade,
        force,
    };
    call.engine().delete_volume(call.who(), call.origin(), command).await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

/// All volumes of the installation, for who counts them.
pub(super) const fn all_query() -> VolumeQuery {
    VolumeQuery {
        scope: Scope::All,
        matches: Vec::new(),
        sort: Vec::new(),
        marker: None,
        offset: 0,
        limit: 1000,
        count: false,
    }
}

/// `GET volumes/{id}/encryption`: none is encrypted.
pub(crate) async fn encryption(call: Call) -> Result<Answer, Refused> {
    view(&call, id(&call)?).await?;
    Ok(Answer::ok(&json!({})))
}
