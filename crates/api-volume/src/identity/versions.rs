//! Which versions there are: what clients ask before they log in.

use crate::{answer::Answer, call::Visit, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};

fn version(visit: &Visit) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/identity/v3/", visit.api.public_url())}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.identity-v3+json",
        }],
    })
}

/// 300: the choice, of one.
pub(crate) async fn list(visit: Visit) -> Result<Answer, Refused> {
    let document = json!({"versions": {"values": [version(&visit)]}});
    let place = format!("{}/identity/v3/", visit.api.public_url());
    Ok(Answer::json(StatusCode::MULTIPLE_CHOICES, &document).with_header("location", &place))
}

pub(crate) async fn get(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"version": version(&visit)})))
}
