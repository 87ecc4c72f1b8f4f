//! What a project may have: quotas, defaults of quotas, limits.

use super::{body, show, snapshot::short};
use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    text::{from_hex, hex},
};
use serde_json::{Map, Value, json};
use stillpoint_engine::{
    command::volume::Limits,
    view::volume::{TypeQuotaView, Usage},
};
use stillpoint_types::ProjectId;

/// What is limited, with the limit and what is used of it.
fn rows(limits: &Limits, usage: &Usage) -> [(&'static str, Option<u64>, u64); 7] {
    [
        ("volumes", limits.volumes, usage.volumes),
        ("snapshots", limits.snapshots, usage.snapshots),
        ("gigabytes", limits.gigabytes, usage.gigabytes),
        ("backups", limits.backups, usage.backups),
        ("backup_gigabytes", limits.backup_gigabytes, 0),
        ("per_volume_gigabytes", limits.per_volume_gigabytes, 0),
        ("groups", limits.groups, 0),
    ]
}

/// A limit as it is shown: -1 is none.
fn limit(value: Option<u64>) -> Value {
    value.map_or(json!(-1), |value| json!(value))
}

fn set(limits: &Limits, types: &[TypeQuotaView], id: Option<&str>) -> Map<String, Value> {
    let mut shown: Map<String, Value> = rows(limits, &Usage::default())
        .into_iter()
        .map(|(name, value, _)| (name.to_owned(), limit(value)))
        .chain(types.iter().map(|row| (row.name.clone(), limit(row.limit))))
        .collect();
    if let Some(id) = id {
        shown.insert("id".to_owned(), json!(id));
    }
    shown
}

/// The project that the path names, which may be any for an administrator.
fn target(call: &Call) -> Result<ProjectId, Refused> {
    let text = call.segment(0);
    let own = call.project()?;
    // Of others only an administrator may even know that they are there.
    let asked = from_hex(text)
        .map(ProjectId)
        .filter(|asked| *asked == own || call.who().is_admin);
    asked.ok_or_else(|| Refused::not_found(format!("Project {} could not be found.", short(text))))
}

/// `GET os-quota-sets/{project}`, with `?usage=true` what is used of it.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let project = target(&call)?;
    let with_usage = call
        .param("usage")
        .is_some_and(|word| body::word_of_flag(word) == Some(true));
    let view = call.engine().quota(call.who(), project).await?;
    let types = call.engine().type_quotas(call.who(), Some(project)).await?;
    let mut shown = Map::new();
    if with_usage {
        for TypeQuotaView {
            name,
            limit: value,
            used,
        } in &types
        {
            shown.insert(
                name.clone(),
                json!({"limit": limit(*value), "in_use": used, "reserved": 0}),
            );
        }
        for (name, value, used) in rows(&view.limits, &view.usage) {
            let row = json!({"limit": limit(value), "in_use": used, "reserved": 0});
            shown.insert(name.to_owned(), row);
        }
        shown.insert("id".to_owned(), json!(hex(project.0)));
    } else {
        shown = set(&view.limits, &types, Some(&hex(project.0)));
    }
    Ok(Answer::ok(&json!({"quota_set": shown})))
}

/// `GET os-quota-sets/{project}/defaults`.
pub(crate) async fn defaults(call: Call) -> Result<Answer, Refused> {
    let project = target(&call)?;
    let limits = call.engine().default_quota(call.who()).await?;
    let types = call.engine().type_quotas(call.who(), None).await?;
    let shown = set(&limits, &types, Some(&hex(project.0)));
    Ok(Answer::ok(&json!({"quota_set": shown})))
}

/// The limits of a body: those of everything, and those of single types, whose names the core knows.
#[derive(Debug, Default)]
struct Given {
    all: Vec<(&'static str, Option<u64>)>,
    of_types: Vec<(String, Option<u64>)>,
}

fn given(call: &Call, name: &str) -> Result<Given, Refused> {
    let object = body::object(call, name, true)?;
    let mut given = Given::default();
    for (key, value) in &object {
        if matches!(key.as_str(), "skip_validation" | "id" | "tenant_id" | "force") {
            continue;
        }
        let limit = body::whole(value)
            .filter(|limit| *limit >= -1)
            .ok_or_else(|| Refused::bad_request(format!("{} must be a whole number, -1 for no limit", short(key))))?;
        let limit = u64::try_from(limit).ok();
        let known = rows(&Limits::default(), &Usage::default())
            .into_iter()
            .map(|(known, _, _)| known)
            .find(|known| known == key);
        match known {
            Some(known) => given.all.push((known, limit)),
            None => given.of_types.push((key.clone(), limit)),
        }
    }
    if given.all.is_empty() && given.of_types.is_empty() {
        return Err(Refused::bad_request(format!("{name} must have something to change")));
    }
    Ok(given)
}

/// `PUT os-quota-sets/{project}`.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let project = target(&call)?;
    let given = given(&call, "quota_set")?;
    let (engine, who, origin) = (call.engine(), call.who(), call.origin());
    // First what may be refused: names of types.
    engine
        .set_type_quota(who, origin, Some(project), given.of_types)
        .await?;
    let view = engine.set_quota(who, origin, project, given.all).await?;
    let types = engine.type_quotas(who, Some(project)).await?;
    Ok(Answer::ok(&json!({"quota_set": set(&view.limits, &types, None)})))
}

/// `DELETE os-quota-sets/{project}`: the defaults hold again.
pub(crate) async fn reset(call: Call) -> Result<Answer, Refused> {
    let project = target(&call)?;
    call.engine().reset_quota(call.who(), call.origin(), project).await?;
    Ok(Answer::empty(http::StatusCode::OK))
}

/// The one class is `default`.
fn class(call: &Call) -> Result<(), Refused> {
    if call.segment(0) == "default" {
        Ok(())
    } else {
        Err(Refused::not_found("There is one quota class, default"))
    }
}

/// `GET os-quota-class-sets/default`.
pub(crate) async fn get_class(call: Call) -> Result<Answer, Refused> {
    class(&call)?;
    let limits = call.engine().default_quota(call.who()).await?;
    let types = call.engine().type_quotas(call.who(), None).await?;
    let shown = set(&limits, &types, Some("default"));
    Ok(Answer::ok(&json!({"quota_class_set": shown})))
}

/// `PUT os-quota-class-sets/default`.
pub(crate) async fn update_class(call: Call) -> Result<Answer, Refused> {
    class(&call)?;
    let given = given(&call, "quota_class_set")?;
    let (engine, who, origin) = (call.engine(), call.who(), call.origin());
    engine.set_type_quota(who, origin, None, given.of_types).await?;
    let limits = engine.set_default_quota(who, origin, given.all).await?;
    let types = engine.type_quotas(who, None).await?;
    let shown = set(&limits, &types, None);
    Ok(Answer::ok(&json!({"quota_class_set": shown})))
}

/// `GET limits`: of the token's project, or of another for an administrator (3.39).
pub(crate) async fn limits(call: Call) -> Result<Answer, Refused> {
    let project = match call.param("project_id") {
        Some(text) if call.microversion.at_least(39) && call.who().is_admin => from_hex(text)
            .map(ProjectId)
            .ok_or_else(|| Refused::bad_request("project_id is none"))?,
        _ => call.project()?,
    };
    let view = call.engine().quota(call.who(), project).await?;
    let absolute = json!({
        "maxTotalVolumes": limit(view.limits.volumes),
        "maxTotalSnapshots": limit(view.limits.snapshots),
        "maxTotalVolumeGigabytes": limit(view.limits.gigabytes),
        "maxTotalBackups": limit(view.limits.backups),
        "maxTotalBackupGigabytes": limit(view.limits.backup_gigabytes),
        "totalVolumesUsed": view.usage.volumes,
        "totalSnapshotsUsed": view.usage.snapshots,
        "totalGigabytesUsed": view.usage.gigabytes,
        "totalBackupsUsed": view.usage.backups,
        "totalBackupGigabytesUsed": 0,
    });
    Ok(Answer::ok(&json!({"limits": {"rate": [], "absolute": absolute}})))
}

/// `GET os-availability-zone`: there is one.
pub(crate) async fn zones(_call: Call) -> Result<Answer, Refused> {
    let zone = json!({"zoneName": super::list::ZONE, "zoneState": {"available": true}});
    Ok(Answer::ok(&json!({"availabilityZoneInfo": [zone]})))
}

/// Bytes as GiB with what is left behind the point, for capacities.
pub(super) fn capacity(bytes: u64) -> Value {
    json!(show::gib(bytes))
}
