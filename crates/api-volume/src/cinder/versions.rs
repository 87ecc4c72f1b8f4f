//! Which versions there are: what clients ask before they log in.

use crate::{answer::Answer, call::Visit, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};

fn document(visit: &Visit) -> Value {
    json!({"versions": [{
        // Stays v3.0 for ever; `version` moves.
        "id": "v3.0",
        "status": "CURRENT",
        "version": "3.71",
        "min_version": "3.0",
        "updated": "2023-08-31T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/volume/v3/", visit.api.public_url())}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.volume+json;version=3",
        }],
    }]})
}

/// 300: the choice, of one.
pub(crate) async fn list(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::json(StatusCode::MULTIPLE_CHOICES, &document(&visit)))
}

/// 200, the same: openstacksdk asks it without a token before anything else.
pub(crate) async fn get(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&document(&visit)))
}
