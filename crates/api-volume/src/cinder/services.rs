//! What administrators see of the installation: one daemon that is both the volume service and its scheduler.
//!
//! There is no `cinder-backup`: backups are made through other APIs.

use super::{
    body, limits, list,
    show::{self, BACKEND},
    volume,
};
use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    text::{hex, instant},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stillpoint_engine::view::volume::VolumeQuery;

const VENDOR: &str = "Stillpoint";

/// Binary and host.
fn services() -> [(&'static str, String); 2] {
    let host = show::host();
    [
        ("cinder-volume", format!("{host}@{BACKEND}")),
        ("cinder-scheduler", host.to_owned()),
    ]
}

/// The daemon answers, so it is up, and was heard from now.
fn now() -> String {
    instant(jiff::Timestamp::now().as_microsecond())
}

/// A host with or without the back end names both.
fn is_on(host: &str, asked: &str) -> bool {
    host == asked || host.split('@').next() == Some(asked)
}

/// `GET os-services`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let services: Vec<Value> = services()
        .into_iter()
        .filter(|(binary, host)| {
            call.param("binary").is_none_or(|asked| *binary == asked)
                && call.param("host").is_none_or(|asked| is_on(host, asked))
        })
        .map(|(binary, host)| {
            let mut service = json!({
                "binary": binary,
                "host": host,
                "zone": list::ZONE,
                "status": "enabled",
                "state": "up",
                "updated_at": now(),
                "disabled_reason": null,
            });
            if let Some(service) = service.as_object_mut() {
                if binary == "cinder-volume" {
                    service.insert("frozen".to_owned(), json!(false));
                    service.insert("replication_status".to_owned(), json!("disabled"));
                    service.insert("active_backend_id".to_owned(), Value::Null);
                    if call.microversion.at_least(49) {
                        service.insert("backend_state".to_owned(), json!("up"));
                    }
                }
                if call.microversion.at_least(7) {
                    service.insert("cluster".to_owned(), Value::Null);
                }
            }
            service
        })
        .collect();
    Ok(Answer::ok(&json!({"services": services})))
}

/// `PUT os-services/{action}`: there is one of each, so none can be taken out of service.
pub(crate) async fn act(call: Call) -> Result<Answer, Refused> {
    let action = call.segment(0);
    let object = call.object()?;
    let text = |key: &str| body::text(&object, key).map(Option::flatten);
    let host = text("host")?.ok_or_else(|| Refused::bad_request("host is needed"))?;
    let is_known_host = services().iter().any(|(_, known)| is_on(known, &host));
    match action {
        "enable" | "disable" | "disable-log-reason" => {
            if action == "disable-log-reason" && text("disabled_reason")?.is_none_or(|reason| reason.trim().is_empty())
            {
                return Err(Refused::bad_request("disabled_reason is needed"));
            }
            let binary = text("binary")?
                .or(text("service")?)
                .ok_or_else(|| Refused::bad_request("binary is needed"))?;
            let is_known = services()
                .iter()
                .any(|(known, at)| *known == binary && is_on(at, &host));
            if !is_known {
                return Err(Refused::not_found(format!(
                    "Service {} could not be found on host {}.",
                    super::snapshot::short(&binary),
                    super::snapshot::short(&host)
                )));
            }
            if action != "enable" {
                return Err(Refused::bad_request("The only service of its kind is not disabled"));
            }
            Ok(Answer::ok(&json!({
                "host": host,
                "service": binary,
                "binary": binary,
                "disabled": false,
                "status": "enabled",
                "disabled_reason": null,
            })))
        }
        "freeze" | "thaw" | "failover_host" | "failover" => {
            if !is_known_host {
                return Err(Refused::bad_request(format!(
                    "Host {} could not be found.",
                    super::snapshot::short(&host)
                )));
            }
            if action == "thaw" {
                return Ok(Answer::empty(http::StatusCode::OK));
            }
            Err(Refused::bad_request("The only back end is not replicated"))
        }
        _ => Err(Refused::no_such_route()),
    }
}

/// `GET os-hosts`.
pub(crate) async fn hosts(call: Call) -> Result<Answer, Refused> {
    let hosts: Vec<Value> = services()
        .into_iter()
        .filter(|(binary, _)| call.param("service").is_none_or(|asked| *binary == asked))
        .map(|(binary, host)| {
            json!({
                "host_name": host,
                "service": binary,
                "zone": list::ZONE,
                "service-status": "available",
                "service-state": "enabled",
                "last-update": now(),
            })
        })
        .collect();
    Ok(Answer::ok(&json!({"hosts": hosts})))
}

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    volumes: u64,
    volume_gb: u64,
    snapshots: u64,
    snapshot_gb: u64,
}

/// `GET os-hosts/{host}`: what lies on the back end, in all and of each project.
pub(crate) async fn host(call: Call) -> Result<Answer, Refused> {
    let host = call.segment(0);
    let own = format!("{}@{BACKEND}", show::host());
    if host != own {
        return Err(Refused::not_found(format!(
            "Host {} has no volume service.",
            super::snapshot::short(host)
        )));
    }
    let mut projects: BTreeMap<String, Held> = BTreeMap::new();
    for view in volume::every(&call, volume::all_query()).await? {
        let held = projects.entry(hex(view.project.0)).or_default();
        held.volumes += 1;
        held.volume_gb += show::gib(view.size_bytes);
    }
    let mut query = volume::all_query();
    loop {
        let VolumeQuery { limit, .. } = query;
        let page = call.engine().volume_snapshots(call.who(), query.clone()).await?.items;
        let is_full = u64::try_from(page.len()).is_ok_and(|length| length == limit);
        query.marker = page.last().map(|view| view.id.0);
        for view in page {
            let held = projects.entry(hex(view.project.0)).or_default();
            held.snapshots += 1;
            held.snapshot_gb += show::gib(view.size_bytes);
        }
        if !is_full {
            break;
        }
    }
    let total = projects.values().fold(Held::default(), |sum, held| Held {
        volumes: sum.volumes + held.volumes,
        volume_gb: sum.volume_gb + held.volume_gb,
        snapshots: sum.snapshots + held.snapshots,
        snapshot_gb: sum.snapshot_gb + held.snapshot_gb,
    });
    let row = |project: &str, held: &Held| {
        json!({"resource": {
            "host": host,
            "project": project,
            "volume_count": held.volumes.to_string(),
            "total_volume_gb": held.volume_gb.to_string(),
            "snapshot_count": held.snapshots.to_string(),
            "total_snapshot_gb": held.snapshot_gb.to_string(),
        }})
    };
    let mut rows = vec![row("(total)", &total)];
    rows.extend(projects.iter().map(|(project, held)| row(project, held)));
    Ok(Answer::ok(&json!({"host": rows})))
}

/// `GET scheduler-stats/get_pools`.
pub(crate) async fn pools(call: Call) -> Result<Answer, Refused> {
    let is_detail = call
        .param("detail")
        .is_some_and(|word| body::word_of_flag(word) == Some(true));
    let mut pool = Map::new();
    pool.insert("name".to_owned(), json!(show::pool()));
    if is_detail {
        let domains = call.engine().domains(call.who()).await?;
        let free: u64 = domains.iter().map(|domain| domain.available_bytes).sum();
        let used: u64 = domains.iter().map(|domain| domain.used_bytes).sum();
        let committed: u64 = domains.iter().map(|domain| domain.committed_bytes).sum();
        pool.insert(
            "capabilities".to_owned(),
            json!({
                "volume_backend_name": BACKEND,
                "vendor_name": VENDOR,
                "driver_version": env!("CARGO_PKG_VERSION"),
                "storage_protocol": BACKEND,
                "total_capacity_gb": limits::capacity(free.saturating_add(used)),
                "free_capacity_gb": limits::capacity(free),
                "allocated_capacity_gb": limits::capacity(committed),
                "provisioned_capacity_gb": limits::capacity(committed),
                "reserved_percentage": 0,
                "thin_provisioning_support": true,
                "thick_provisioning_support": false,
                "multiattach": false,
                "QoS_support": false,
                "backend_state": "up",
                "updated": now(),
                "timestamp": now(),
            }),
        );
    }
    Ok(Answer::ok(&json!({"pools": [pool]})))
}

/// `GET capabilities/{host}`.
pub(crate) async fn capabilities(call: Call) -> Result<Answer, Refused> {
    let host = call.segment(0);
    if host != show::pool() && host != format!("{}@{BACKEND}", show::host()) {
        return Err(Refused::not_found(format!(
            "Host {} could not be found.",
            super::snapshot::short(host)
        )));
    }
    let thin = json!({
        "title": "Thin Provisioning",
        "description": "Sets thin provisioning.",
        "type": "boolean",
    });
    Ok(Answer::ok(&json!({
        "namespace": format!("OS::Storage::Capabilities::{host}"),
        "vendor_name": VENDOR,
        "volume_backend_name": BACKEND,
        "pool_name": null,
        "driver_version": env!("CARGO_PKG_VERSION"),
        "storage_protocol": BACKEND,
        "display_name": null,
        "description": null,
        "visibility": null,
        "replication_targets": [],
        "properties": {"thin_provisioning": thin},
    })))
}
