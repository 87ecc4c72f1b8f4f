//! What EVS's clients ask besides: quotas, types, zones.

use super::{body, show, volume::ALIASES};
use crate::{answer::Answer, call::Call, fault::Refused, text};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::volume::VolumeTypeView;
use stillpoint_types::ProjectId;

/// `GET .../os-quota-sets/{project}`, with `?usage=True` in full.
pub(crate) async fn quota(call: Call) -> Result<Answer, Refused> {
    let target = call.segment(0);
    let missing = || Refused::not_found("There is no such project");
    let project = ProjectId(text::from_hex(target).ok_or_else(missing)?);
    let view = call.engine().quota(call.who(), project).await?;
    let is_full = call
        .param("usage")
        .is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let (limits, usage) = (view.limits, view.usage);
    let mut set = Map::new();
    let mut add = |key: &str, limit: Option<u64>, in_use: u64| {
        let limit = limit.map_or(json!(-1), |limit| json!(limit));
        let value = if is_full {
            json!({"limit": limit, "in_use": in_use, "reserved": 0})
        } else {
            limit
        };
        set.insert(key.to_owned(), value);
    };
    add("volumes", limits.volumes, usage.volumes);
    add("snapshots", limits.snapshots, usage.snapshots);
    add("gigabytes", limits.gigabytes, usage.gigabytes);
    add("backups", limits.backups, 0);
    add("backup_gigabytes", limits.backup_gigabytes, 0);
    add("per_volume_gigabytes", limits.per_volume_gigabytes, 0);
    let of_types = call.engine().type_quotas(call.who(), Some(project)).await?;
    for of_type in &of_types {
        add(&of_type.name, of_type.limit, of_type.used);
    }
    // EVS's own types that there are none of.
    for kind in ["SATA", "SAS", "SSD"] {
        for counted in ["volumes", "snapshots", "gigabytes"] {
            let name = format!("{counted}_{kind}");
            if of_types.iter().all(|of_type| of_type.name != name) {
                add(&name, None, 0);
            }
        }
    }
    set.insert("id".to_owned(), json!(target));
    Ok(Answer::ok(&json!({"quota_set": set})))
}

fn kind(view: &VolumeTypeView, name: &str) -> Value {
    json!({
        "id": view.id.to_string(),
        "name": name,
        "description": view.description,
        "is_public": view.is_public,
        "qos_specs_id": null,
        "extra_specs": view.extra_specs,
    })
}

/// `GET .../types`: those that there are, then EVS's own names for the default one.
pub(crate) async fn types(call: Call) -> Result<Answer, Refused> {
    let engine = call.engine();
    let there = engine.volume_types(call.who()).await?;
    let default = engine.default_volume_type(call.who()).await?;
    let mut shown: Vec<_> = there.iter().map(|view| kind(view, &view.name)).collect();
    let is_free = |alias: &&&str| there.iter().all(|view| view.name != **alias);
    shown.extend(ALIASES.iter().filter(is_free).map(|alias| kind(&default, alias)));
    Ok(Answer::ok(&json!({"volume_types": shown})))
}

/// `GET .../types/{id}`.
pub(crate) async fn of_type(call: Call) -> Result<Answer, Refused> {
    let missing = || Refused::not_found("There is no such volume type");
    let id = body::uuid(call.segment(0)).ok_or_else(missing)?;
    let view = call
        .engine()
        .volume_type(call.who(), stillpoint_types::VolumeTypeId(id))
        .await?;
    Ok(Answer::ok(&json!({"volume_type": kind(&view, &view.name)})))
}

/// `GET .../os-availability-zone`.
pub(crate) async fn zones(_call: Call) -> Result<Answer, Refused> {
    let document = json!({"availabilityZoneInfo": [{"zoneName": show::ZONE, "zoneState": {"available": true}}]});
    Ok(Answer::ok(&document))
}
