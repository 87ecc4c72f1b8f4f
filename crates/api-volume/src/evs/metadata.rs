//! Metadata of snapshots. Keys that begin with `__system__` are shown and never written here.

use super::{
    body::{self, MALFORMED, MISSING, WRONG_TYPE},
    snapshot,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_engine::command::volume::{Metadata, MetadataChange};

/// `GET .../metadata`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let view = snapshot::asked(&call).await?;
    Ok(Answer::ok(&json!({"metadata": view.metadata})))
}

/// `POST .../metadata`: these, too.
pub(crate) async fn merge(call: Call) -> Result<Answer, Refused> {
    let pairs = given(&call)?;
    whole(&call, MetadataChange::Merge(pairs)).await
}

/// `PUT .../metadata`: these and no others (but the daemon's own).
pub(crate) async fn replace(call: Call) -> Result<Answer, Refused> {
    let pairs = given(&call)?;
    whole(&call, MetadataChange::Replace(pairs)).await
}

fn given(call: &Call) -> Result<Metadata, Refused> {
    let body = call.object()?;
    let pairs = body
        .get("metadata")
        .ok_or_else(|| Refused::bad_request("The body must have an object \"metadata\"").evs(MISSING))?;
    body::pairs(pairs, "metadata")
}

async fn whole(call: &Call, change: MetadataChange) -> Result<Answer, Refused> {
    Ok(Answer::ok(&json!({"metadata": changed(call, change).await?})))
}

async fn changed(call: &Call, change: MetadataChange) -> Result<Metadata, Refused> {
    let snapshot = snapshot::named(call)?;
    let engine = call.engine();
    Ok(engine
        .change_snapshot_metadata(call.who(), call.origin(), snapshot, change)
        .await?)
}

fn no_key(key: &str) -> Refused {
    let shown: String = key.chars().take(64).collect();
    Refused::not_found(format!("The snapshot's metadata has no key {shown:?}"))
}

/// `GET .../metadata/{key}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = snapshot::asked(&call).await?;
    let key = call.segment(1);
    let value = view.metadata.get(key).ok_or_else(|| no_key(key))?;
    Ok(Answer::ok(&json!({"meta": {key: value}})))
}

/// `PUT .../metadata/{key}` with `{"meta": {key: value}}`.
pub(crate) async fn set(call: Call) -> Result<Answer, Refused> {
    let key = call.segment(1).to_owned();
    let body = call.object()?;
    let meta = body
        .get("meta")
        .ok_or_else(|| Refused::bad_request("The body must have an object \"meta\"").evs(MISSING))?;
    let Value::Object(object) = meta else {
        return Err(Refused::bad_request("meta must be an object").evs(WRONG_TYPE));
    };
    if object.len() != 1 || !object.contains_key(&key) {
        let text = "meta must have exactly the key that the URL names";
        return Err(Refused::bad_request(text).evs(MALFORMED));
    }
    let pairs = body::pairs(meta, "meta")?;
    changed(&call, MetadataChange::Merge(pairs.clone())).await?;
    Ok(Answer::ok(&json!({"meta": pairs})))
}

/// `DELETE .../metadata/{key}`: 200 without body.
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let key = call.segment(1).to_owned();
    // Nobody's key can be removed: is it there at all?
    let view = snapshot::asked(&call).await?;
    if !view.metadata.contains_key(&key) {
        return Err(no_key(&key));
    }
    body::own_key(&key)?;
    changed(&call, MetadataChange::Remove(key)).await?;
    Ok(Answer::empty(StatusCode::OK))
}
