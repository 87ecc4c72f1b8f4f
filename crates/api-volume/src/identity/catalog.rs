//! The catalogue: where the services of this daemon are, for whoever works in a project.

use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use serde_json::{Value, json};
use stillpoint_types::ProjectId;
use uuid::Uuid;

/// The only region.
const REGION: &str = "RegionOne";

/// An id that stays the same for ever: of a service (`endpoint` 0) or one of its endpoints.
fn fixed_id(service: u128, endpoint: u128) -> String {
    const BASE: u128 = 0x7374_696c_6c70_4f69_8e74_0000_0000_0000;
    text::hex(Uuid::from_u128(BASE + service * 16 + endpoint))
}

/// The entries for a token: the identity service for all, the others for those of a project.
pub(super) fn entries(visit: &Visit, project: Option<ProjectId>) -> Value {
    let public = visit.api.public_url();
    let mut services = vec![("identity", "keystone", format!("{public}/identity/v3"))];
    if let Some(project) = project {
        let project = text::hex(project.0);
        let cinder = format!("{public}/volume/v3/{project}");
        let evs = format!("{public}/v2/{project}");
        // Clients look for one of the names, literally.
        services.extend([
            ("block-storage", "cinder", cinder.clone()),
            ("volumev3", "cinderv3", cinder.clone()),
            ("volume", "cinder", cinder),
            ("volumev2", "evs", evs.clone()),
            ("evs", "evs", evs),
        ]);
        if visit.api.network_stub() {
            services.push(("network", "neutron", format!("{public}/volume/no-network")));
        }
    }
    let represent = |(number, (kind, name, url)): (u128, &(&str, &str, String))| {
        let endpoints: Vec<Value> = (1_u128..)
            .zip(["public", "internal", "admin"])
            .map(|(endpoint, interface)| {
                json!({
                    "id": fixed_id(number, endpoint),
                    "interface": interface,
                    "region": REGION,
                    "region_id": REGION,
                    "url": url,
                })
            })
            .collect();
        json!({"id": fixed_id(number, 0), "type": kind, "name": name, "endpoints": endpoints})
    };
    (1_u128..).zip(&services).map(represent).collect()
}

/// `GET /v3/auth/catalog`.
pub(super) async fn get(call: Call) -> Result<Answer, Refused> {
    let catalog = entries(&call, call.scoped.scope.project());
    let own = format!("{}/identity/v3/auth/catalog", call.api.public_url());
    Ok(Answer::ok(
        &json!({"catalog": catalog, "links": {"self": own, "previous": null, "next": null}}),
    ))
}
