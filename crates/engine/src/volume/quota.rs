//! What projects may have, and have.
//!
//! A command that makes something asks [`expect_room`] in the transaction that writes it, so that no two slip through
//! together. The other dialects are not limited, but what they make counts: use may exceed the limit.

pub(crate) mod of_type;

use crate::command::{Origin, volume::Limits};
use crate::view::volume::{QuotaView, Usage};
use crate::{access, engine::Inner, fault::Fault};
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx, quota,
    usage::{self, UsageRow},
    volume_backup,
};
use stillpoint_types::{Caller, FaultCode, Need, ProjectId};

/// What holds until somebody says otherwise: enough for anything but a mistake.
pub(crate) const DEFAULTS: Limits = Limits {
    volumes: Some(1000),
    snapshots: Some(1000),
    gigabytes: Some(100_000),
    backups: Some(1000),
    backup_gigabytes: Some(100_000),
    per_volume_gigabytes: None,
    groups: Some(10),
};

/// The limit of that name.
fn limit<'a>(limits: &'a mut Limits, name: &str) -> Option<&'a mut Option<u64>> {
    Some(match name {
        "volumes" => &mut limits.volumes,
        "snapshots" => &mut limits.snapshots,
        "gigabytes" => &mut limits.gigabytes,
        "backups" => &mut limits.backups,
        "backup_gigabytes" => &mut limits.backup_gigabytes,
        "per_volume_gigabytes" => &mut limits.per_volume_gigabytes,
        "groups" => &mut limits.groups,
        _ => return None,
    })
}

/// What was set lies over what held before; -1 is no limit.
fn over(mut limits: Limits, set: Vec<(String, i64)>) -> Limits {
    for (name, number) in set {
        if let Some(place) = limit(&mut limits, &name) {
            *place = u64::try_from(number).ok();
        }
    }
    limits
}

fn default_limits(conn: &Conn) -> Result<Limits, Fault> {
    Ok(over(DEFAULTS, quota::limits(conn, None)?))
}

pub(crate) fn limits_of(conn: &Conn, project: ProjectId) -> Result<Limits, Fault> {
    Ok(over(default_limits(conn)?, quota::limits(conn, Some(project))?))
}

fn usage_of(conn: &Conn, project: ProjectId) -> Result<Usage, Fault> {
    let UsageRow {
        volumes,
        snapshots,
        gigabytes,
    } = usage::of_project(conn, project)?;
    Ok(Usage {
        volumes,
        snapshots,
        gigabytes,
        backups: volume_backup::count_of(conn, project)?,
    })
}

fn view(conn: &Conn, project: ProjectId) -> Result<QuotaView, Fault> {
    Ok(QuotaView {
        limits: limits_of(conn, project)?,
        usage: usage_of(conn, project)?,
    })
}

fn put(tx: &Tx, project: Option<ProjectId>, limits: Vec<(&'static str, Option<u64>)>) -> Result<(), Fault> {
    for (name, wanted) in limits {
        if limit(&mut Limits::default(), name).is_none() {
            return Err(Fault::new(
                FaultCode::InvalidValue,
                format!("There is no quota of {name}."),
            ));
        }
        let number = match wanted {
            None => -1,
            Some(number) => i64::try_from(number).map_err(|_large| {
                Fault::new(
                    FaultCode::OutOfRange,
                    format!("The quota of {name}, {number}, is too large."),
                )
            })?,
        };
        quota::set(tx, project, name, number)?;
    }
    Ok(())
}

pub(crate) async fn set(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    project: ProjectId,
    limits: Vec<(&'static str, Option<u64>)>,
) -> Result<QuotaView, Fault> {
    super::expect_admin(who, None, "change quotas")?;
    let write = move |tx: &Tx| -> Result<QuotaView, Fault> {
        put(tx, Some(project), limits)?;
        view(tx, project)
    };
    engine.store.write(write).await
}

pub(crate) async fn reset(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    project: ProjectId,
) -> Result<(), Fault> {
    super::expect_admin(who, None, "change quotas")?;
    let write = move |tx: &Tx| -> Result<(), Fault> { Ok(quota::reset(tx, project)?) };
    engine.store.write(write).await
}

pub(crate) async fn set_default(
    engine: &Arc<Inner>,
    who: &Caller,
    _origin: &Origin,
    limits: Vec<(&'static str, Option<u64>)>,
) -> Result<Limits, Fault> {
    super::expect_admin(who, None, "change quotas")?;
    let write = move |tx: &Tx| -> Result<Limits, Fault> {
        put(tx, None, limits)?;
        default_limits(tx)
    };
    engine.store.write(write).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, project: ProjectId) -> Result<QuotaView, Fault> {
    access::check(who, project, Need::Read, "project", &project.to_string())?;
    engine.store.read(move |conn: &Conn| view(conn, project)).await
}

pub(crate) async fn defaults(engine: &Arc<Inner>, _who: &Caller) -> Result<Limits, Fault> {
    engine.store.read(default_limits).await
}

/// Refuses (`Quota`) what would take a project beyond its quota.
pub(crate) fn expect_room(tx: &Tx, project: ProjectId, more: Usage) -> Result<(), Fault> {
    let QuotaView { limits, usage } = view(tx, project)?;
    let asked = [
        ("volumes", limits.volumes, usage.volumes, more.volumes),
        ("snapshots", limits.snapshots, usage.snapshots, more.snapshots),
        ("gigabytes", limits.gigabytes, usage.gigabytes, more.gigabytes),
    ];
    for (name, limit, used, more) in asked {
        // What asks for no more is not refused, however much there is: oVirt's disks count, too.
        if let Some(limit) = limit.filter(|limit| more > 0 && used.saturating_add(more) > *limit) {
            let text = format!(
                "The quota of {name} would be exceeded: the project may have {limit}, has {used}, and {more} more are \
                 asked for."
            );
            return Err(Fault::new(FaultCode::Quota, text));
        }
    }
    Ok(())
}

/// Refuses (`Quota`) a volume that is larger than one may be.
pub(crate) fn expect_size(tx: &Tx, project: ProjectId, gigabytes: u64) -> Result<(), Fault> {
    match limits_of(tx, project)?.per_volume_gigabytes {
        Some(limit) if gigabytes > limit => {
            let text = format!(
                "The quota of per_volume_gigabytes would be exceeded: a volume may have {limit} GiB, and {gigabytes} are \
                 asked for."
            );
            Err(Fault::new(FaultCode::Quota, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_lies_over_what_held_before_and_minus_one_is_no_limit() {
        let set = vec![
            ("volumes".to_owned(), 3),
            ("gigabytes".to_owned(), -1),
            ("gone".to_owned(), 1),
        ];
        let limits = over(DEFAULTS, set);
        assert_eq!(limits.volumes, Some(3));
        assert_eq!(limits.gigabytes, None);
        assert_eq!(limits.snapshots, DEFAULTS.snapshots);
    }
}
