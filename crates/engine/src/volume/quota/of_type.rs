//! Limits of single types: `volumes_gold`, `snapshots_gold`, `gigabytes_gold`. Unless somebody says otherwise there is none.

use crate::command::Origin;
use crate::view::volume::{TypeQuotaView, Usage};
use crate::{access, engine::Inner, fault::Fault};
use std::{collections::BTreeMap, sync::Arc};
use stillpoint_store::{Conn, Tx, quota, usage, volume_type};
use stillpoint_types::{Caller, FaultCode, Need, ProjectId, VolumeTypeId};

/// What of a type is limited.
const NOUNS: [&str; 3] = ["volumes", "snapshots", "gigabytes"];

/// The limits that were set, those of the project over those of everybody.
fn limits(conn: &Conn, project: Option<ProjectId>) -> Result<BTreeMap<String, i64>, Fault> {
    let mut set: BTreeMap<String, i64> = quota::limits(conn, None)?.into_iter().collect();
    if let Some(project) = project {
        set.extend(quota::limits(conn, Some(project))?);
    }
    Ok(set)
}

fn limit(set: &BTreeMap<String, i64>, name: &str) -> Option<u64> {
    set.get(name).and_then(|number| u64::try_from(*number).ok())
}

fn used(conn: &Conn, project: ProjectId, of_type: VolumeTypeId) -> Result<[u64; 3], Fault> {
    let row = usage::of_type(conn, project, of_type)?;
    Ok([row.volumes, row.snapshots, row.gigabytes])
}

pub(crate) async fn all(
    engine: &Arc<Inner>,
    who: &Caller,
    project: Option<ProjectId>,
) -> Result<Vec<TypeQuotaView>, Fault> {
    if let Some(project) = project {
        access::check(who, project, Need::Read, "project", &project.to_string())?;
    }
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<Vec<TypeQuotaView>, Fault> {
        let set = limits(conn, project)?;
        let mut quotas = Vec::new();
        for of_type in volume_type::all(conn)? {
            if !of_type.is_public && !who.is_admin {
                continue;
            }
            let has = project.map_or(Ok([0; 3]), |project| used(conn, project, of_type.id))?;
            for (noun, used) in NOUNS.iter().zip(has) {
                let name = format!("{noun}_{}", of_type.name);
                quotas.push(TypeQuotaView {
                    limit: limit(&set, &name),
                    name,
                    used,
                });
            }
        }
        Ok(quotas)
    };
    engine.store.read(read).await
}

pub(crate) async fn set(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    project: Option<ProjectId>,
    limits: Vec<(String, Option<u64>)>,
) -> Result<(), Fault> {
    crate::volume::expect_admin(who, None, "change quotas")?;
    let write = move |tx: &Tx| -> Result<(), Fault> {
        for (name, wanted) in limits {
            let of_type = NOUNS.iter().find_map(|noun| name.strip_prefix(noun)?.strip_prefix('_'));
            let is_known = match of_type {
                Some(of_type) => volume_type::by_name(tx, of_type)?.is_some(),
                None => false,
            };
            if !is_known {
                let shown: String = name.chars().take(64).collect();
                return Err(Fault::new(
                    FaultCode::InvalidValue,
                    format!("There is no quota of {shown}."),
                ));
            }
            let number = wanted.map_or(Ok(-1), i64::try_from);
            let number = number
                .map_err(|_large| Fault::new(FaultCode::OutOfRange, format!("The quota of {name} is too large.")))?;
            quota::set(tx, project, &name, number)?;
        }
        Ok(())
    };
    engine.store.write(write).await
}

/// Refuses (`Quota`) what would take a project beyond what it may have of a type.
pub(crate) fn expect_room(
    tx: &Tx,
    project: ProjectId,
    (id, of_type): (VolumeTypeId, &str),
    more: Usage,
) -> Result<(), Fault> {
    let set = limits(tx, Some(project))?;
    let asked = NOUNS
        .map(|noun| limit(&set, &format!("{noun}_{of_type}")))
        .into_iter()
        .zip([more.volumes, more.snapshots, more.gigabytes]);
    let limited: Vec<_> = asked.enumerate().filter(|(_, (limit, _))| limit.is_some()).collect();
    if limited.is_empty() {
        return Ok(());
    }
    let has = used(tx, project, id)?;
    for (at, (limit, more)) in limited {
        let (Some(limit), Some(used), Some(noun)) = (limit, has.get(at), NOUNS.get(at)) else {
            continue;
        };
        if more > 0 && used.saturating_add(more) > limit {
            let text = format!(
                "The quota of {noun}_{of_type} would be exceeded: the project may have {limit}, has {used}, and {more} more \
                 are asked for."
            );
            return Err(Fault::new(FaultCode::Quota, text));
        }
    }
    Ok(())
}
