//! Volumes offered to other projects: `os-volume-transfer`, and since 3.55 `volume-transfers`.

use super::{body, show, snapshot::short};
use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    text::{hex, instant},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use stillpoint_engine::{
    command::volume::{AcceptVolume, OfferVolume},
    view::volume::OfferView,
};
use stillpoint_types::DiskId;
use uuid::Uuid;

/// Whether the newer spelling of the path was used, and may be.
fn is_new(call: &Call) -> Result<bool, Refused> {
    let is_new = call.route.pattern.contains("/volume-transfers");
    if is_new && !call.microversion.at_least(55) {
        return Err(Refused::no_such_route());
    }
    Ok(is_new)
}

fn id(call: &Call) -> Result<Uuid, Refused> {
    let text = call.segment(0);
    body::uuid(text).ok_or_else(|| Refused::not_found(format!("Transfer {} could not be found.", short(text))))
}

/// How much of an offer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Summary,
    Full,
}

fn show(call: &Call, view: &OfferView, depth: Depth) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| {
        shown.insert(key.to_owned(), value);
    };
    put("id", json!(view.id));
    put("volume_id", json!(view.volume));
    put("name", json!(view.name));
    let plural = if call.route.pattern.contains("/volume-transfers") {
        "volume-transfers"
    } else {
        "os-volume-transfer"
    };
    put("links", show::links(call, plural, &view.id.to_string()));
    if depth == Depth::Full {
        put("created_at", json!(instant(view.created_at)));
        let is_new = plural == "volume-transfers";
        if is_new && call.microversion.at_least(55) {
            put("no_snapshots", json!(view.no_snapshots));
        }
        if is_new && call.microversion.at_least(57) {
            put("source_project_id", json!(hex(view.project.0)));
            put("destination_project_id", Value::Null);
            put("accepted", json!(false));
        }
    }
    shown
}

/// `POST os-volume-transfer`, `POST volume-transfers`.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let is_new = is_new(&call)?;
    let object = body::object(&call, "transfer", true)?;
    let known: &[&str] = if is_new {
        &["volume_id", "name", "no_snapshots"]
    } else {
        &["volume_id", "name"]
    };
    body::only(&object, "transfer", known)?;
    let volume = body::optional_id(&object, "volume_id")?
        .map(DiskId)
        .ok_or_else(|| Refused::bad_request("transfer must have a volume_id"))?;
    let command = OfferVolume {
        volume,
        name: body::name(&object)?.flatten(),
        // Before 3.55 snapshots never went with their volume.
        no_snapshots: !is_new || body::optional_flag(&object, "no_snapshots")?.unwrap_or(false),
    };
    let offered = call.engine().offer_volume(call.who(), call.origin(), command).await?;
    let mut shown = show(&call, &offered.offer, Depth::Full);
    shown.insert("auth_key".to_owned(), json!(offered.key));
    Ok(Answer::json(StatusCode::ACCEPTED, &json!({"transfer": shown})))
}

async fn page(call: Call, depth: Depth) -> Result<Answer, Refused> {
    is_new(&call)?;
    let offers = call.engine().volume_offers(call.who(), call.project()?).await?;
    let shown: Vec<Value> = offers
        .iter()
        .map(|view| Value::Object(show(&call, view, depth)))
        .collect();
    Ok(Answer::ok(&json!({"transfers": shown})))
}

/// `GET os-volume-transfer`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    page(call, Depth::Summary).await
}

/// `GET os-volume-transfer/detail`.
pub(crate) async fn detail(call: Call) -> Result<Answer, Refused> {
    page(call, Depth::Full).await
}

/// `GET os-volume-transfer/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    is_new(&call)?;
    let view = call.engine().volume_offer(call.who(), id(&call)?).await?;
    Ok(Answer::ok(&json!({"transfer": show(&call, &view, Depth::Full)})))
}

/// `DELETE os-volume-transfer/{id}`.
pub(crate) async fn delete(call: Call) -> Result<Answer, Refused> {
    is_new(&call)?;
    call.engine()
        .withdraw_offer(call.who(), call.origin(), id(&call)?)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

/// `POST os-volume-transfer/{id}/accept`.
pub(crate) async fn accept(call: Call) -> Result<Answer, Refused> {
    is_new(&call)?;
    let object = body::object(&call, "accept", true)?;
    body::only(&object, "accept", &["auth_key"])?;
    let key = body::text(&object, "auth_key")?
        .flatten()
        .ok_or_else(|| Refused::bad_request("accept must have an auth_key"))?;
    let command = AcceptVolume {
        offer: id(&call)?,
        key,
        project: call.project()?,
    };
    let view = call.engine().accept_volume(call.who(), call.origin(), command).await?;
    Ok(Answer::json(
        StatusCode::ACCEPTED,
        &json!({"transfer": show(&call, &view, Depth::Summary)}),
    ))
}
