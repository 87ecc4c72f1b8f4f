//! Damage that no job explains: what there is, and mending it.

use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_engine::view::FindingView;

/// `GET /stillpoint/v1/repairs`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let found = call.engine().repairs(call.who()).await?;
    let found: Vec<Value> = found.iter().map(represent).collect();
    Ok(Answer::ok(&json!({ "repairs": found })))
}

/// `POST /stillpoint/v1/repairs/{id}`.
pub(crate) async fn start(call: Call) -> Result<Answer, Refused> {
    call.expect_no_body()?;
    let begun = call.engine().repair(call.who(), &call.origin, call.segment(0)).await?;
    let document = json!({ "repair": { "id": begun.id, "job": begun.job.to_string() } });
    Ok(Answer::json(StatusCode::ACCEPTED, &document))
}

fn represent(found: &FindingView) -> Value {
    json!({
        "id": found.id,
        "kind": found.kind.label(),
        "object": {
            "kind": found.object_kind,
            "id": found.object_id,
            "name": found.object_name,
        },
        "seen": found.seen,
        "recorded": found.recorded,
        "plan": found.plan,
        "loses": found.loses,
        "safe": found.safe,
    })
}
