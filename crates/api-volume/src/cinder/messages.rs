//! Messages (3.3): why something went to `error`.

use super::{body, show};
use crate::{answer::Answer, call::Call, fault::Refused, text::instant};
use serde_json::{Value, json};
use stillpoint_engine::view::volume::MessageView;

fn show(call: &Call, view: &MessageView) -> Value {
    let (kind, about) = view.about;
    json!({
        "id": view.id,
        "event_id": format!("{kind}_{}_{}", view.action, view.detail),
        "user_message": view.text,
        "message_level": "ERROR",
        "resource_type": kind,
        "resource_uuid": about,
        "request_id": format!("req-{}", view.id),
        "created_at": instant(view.created_at),
        "guaranteed_until": instant(view.expires_at),
        "links": show::links(call, "messages", &view.id.to_string()),
    })
}

async fn all(call: &Call) -> Result<Vec<MessageView>, Refused> {
    if !call.microversion.at_least(3) {
        return Err(Refused::no_such_route());
    }
    Ok(call.engine().volume_messages(call.who(), call.project()?).await?)
}

/// `GET messages`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let shown: Vec<Value> = all(&call)
        .await?
        .iter()
        .filter(|view| {
            call.param("resource_uuid")
                .is_none_or(|asked| view.about.1.to_string() == asked)
                && call.param("resource_type").is_none_or(|asked| view.about.0 == asked)
        })
        .map(|view| show(&call, view))
        .collect();
    Ok(Answer::ok(&json!({"messages": shown})))
}

/// `GET messages/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let id = body::uuid(call.segment(0));
    let messages = all(&call).await?;
    let view = messages
        .iter()
        .find(|view| Some(view.id) == id)
        .ok_or_else(|| Refused::not_found("Message could not be found."))?;
    Ok(Answer::ok(&json!({"message": show(&call, view)})))
}

/// `DELETE messages/{id}`.
pub(crate) async fn delete(call: Call) -> Result<Answer, Refused> {
    if !call.microversion.at_least(3) {
        return Err(Refused::no_such_route());
    }
    let id = body::uuid(call.segment(0)).ok_or_else(|| Refused::not_found("Message could not be found."))?;
    call.engine()
        .delete_volume_message(call.who(), call.origin(), call.project()?, id)
        .await?;
    Ok(Answer::empty(http::StatusCode::NO_CONTENT))
}
