//! `GET /` and `GET /{version}`: which versions of EVS there are.

use crate::{answer::Answer, call::Visit, fault::Refused};
use http::{StatusCode, header};
use serde_json::{Value, json};

fn version(visit: &Visit, name: &str, id: &str, status: &str, version: &str, min_version: &str) -> Value {
    json!({
        "id": id,
        "status": status,
        "version": version,
        "min_version": min_version,
        "updated": "2023-08-31T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/{name}/", visit.api.public_url())}],
        "media-types": [{
            "base": "application/json",
            "type": format!("application/vnd.openstack.volume+json;version={}", &id[1..2]),
        }],
    })
}

fn first(visit: &Visit) -> Value {
    version(visit, "v1", "v1.0", "SUPPORTED", "", "")
}

fn second(visit: &Visit) -> Value {
    version(visit, "v2", "v2.0", "SUPPORTED", "", "")
}

fn third(visit: &Visit) -> Value {
    version(visit, "v3", "v3.0", "CURRENT", "3.0", "3.0")
}

/// 300: all versions. A browser, which no client of an API is, is led to the console.
pub(crate) async fn list(visit: Visit) -> Result<Answer, Refused> {
    let accept = visit.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return Ok(Answer::json(StatusCode::SEE_OTHER, &json!({})).with_header("location", "/console/"));
    }
    let document = json!({"versions": [first(&visit), second(&visit), third(&visit)]});
    Ok(Answer::json(StatusCode::MULTIPLE_CHOICES, &document))
}

pub(crate) async fn v1(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"version": first(&visit)})))
}

pub(crate) async fn v2(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"version": second(&visit)})))
}

pub(crate) async fn v3(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"versions": [third(&visit)]})))
}
