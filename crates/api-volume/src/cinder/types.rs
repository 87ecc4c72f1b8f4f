//! Types of volumes: what they ask of storage, and who sees them.

use super::{
    body::{self, Keys, Object},
    snapshot::short,
    volume_action::inner,
};
use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    text::{from_hex, hex},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use stillpoint_engine::{
    command::volume::{Metadata, MetadataChange, TypeFields},
    view::volume::VolumeTypeView,
};
use stillpoint_types::{ProjectId, VolumeTypeId};

/// The type of the path.
fn id(call: &Call) -> Result<VolumeTypeId, Refused> {
    let text = call.segment(0);
    body::uuid(text)
        .map(VolumeTypeId)
        .ok_or_else(|| Refused::not_found(format!("Volume type {} could not be found.", short(text))))
}

fn show(call: &Call, view: &VolumeTypeView) -> Value {
    let is_admin = call.who().is_admin;
    // What others than administrators may know of what a type asks of storage.
    let is_open =
        |key: &str| is_admin || matches!(key, "multiattach" | "replication_enabled" | "RESKEY:availability_zones");
    let specs: Map<String, Value> = view
        .extra_specs
        .iter()
        .filter(|(key, _)| is_open(key))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut shown = json!({
        "id": view.id,
        "name": view.name,
        "is_public": view.is_public,
        "description": view.description,
        "extra_specs": specs,
        "os-volume-type-access:is_public": view.is_public,
    });
    if is_admin && let Some(shown) = shown.as_object_mut() {
        shown.insert("qos_specs_id".to_owned(), Value::Null);
    }
    shown
}

/// Without what is said of a type's quality of service, which its making and changing leave out.
fn show_made(call: &Call, view: &VolumeTypeView) -> Value {
    let mut shown = show(call, view);
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("qos_specs_id");
    }
    shown
}

/// `GET types`.
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let mut types = call.engine().volume_types(call.who()).await?;
    if call.who().is_admin {
        let wanted = match call.param("is_public") {
            None => Some(true),
            Some("None" | "none") => None,
            Some(word) => Some(
                body::word_of_flag(word)
                    .ok_or_else(|| Refused::bad_request("is_public must be true, false or none"))?,
            ),
        };
        types.retain(|view| wanted.is_none_or(|wanted| view.is_public == wanted));
    }
    let shown: Vec<Value> = types.iter().map(|view| show(&call, view)).collect();
    Ok(Answer::ok(&json!({"volume_types": shown})))
}

/// `GET types/{id}`.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().volume_type(call.who(), id(&call)?).await?;
    Ok(Answer::ok(&json!({"volume_type": show(&call, &view)})))
}

/// `GET types/default`.
pub(crate) async fn get_default(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().default_volume_type(call.who()).await?;
    Ok(Answer::ok(&json!({"volume_type": show(&call, &view)})))
}

fn fields(object: &Object) -> Result<TypeFields, Refused> {
    let name = body::text(object, "name")?.flatten().map(|name| name.trim().to_owned());
    if name.as_deref().is_some_and(str::is_empty) {
        return Err(Refused::bad_request("A volume type must have a name"));
    }
    let is_public = match body::optional_flag(object, "os-volume-type-access:is_public")? {
        Some(flag) => Some(flag),
        None => body::optional_flag(object, "is_public")?,
    };
    Ok(TypeFields {
        name,
        description: body::text(object, "description")?,
        is_public,
    })
}

/// `POST types`.
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "volume_type", true)?;
    body::only(
        &object,
        "volume_type",
        &["name", "description", "extra_specs", "os-volume-type-access:is_public"],
    )?;
    let fields = fields(&object)?;
    if fields.name.is_none() {
        return Err(Refused::bad_request("A volume type must have a name"));
    }
    let specs = match object.get("extra_specs") {
        None | Some(Value::Null) => Metadata::new(),
        Some(value) => body::pairs(value, "extra_specs", Keys::Slash)?,
    };
    let mut view = call
        .engine()
        .create_volume_type(call.who(), call.origin(), fields)
        .await?;
    if !specs.is_empty() {
        view.extra_specs = call
            .engine()
            .change_type_specs(call.who(), call.origin(), view.id, MetadataChange::Merge(specs))
            .await?;
    }
    Ok(Answer::ok(&json!({"volume_type": show_made(&call, &view)})))
}

/// `PUT types/{id}`.
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let object = body::object(&call, "volume_type", true)?;
    body::only(&object, "volume_type", &["name", "description", "is_public"])?;
    let fields = fields(&object)?;
    if fields == TypeFields::default() {
        return Err(Refused::bad_request(
            "volume_type must have a name, a description or is_public",
        ));
    }
    let view = call
        .engine()
        .update_volume_type(call.who(), call.origin(), id(&call)?, fields)
        .await?;
    let mut shown = show_made(&call, &view);
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("os-volume-type-access:is_public");
    }
    Ok(Answer::ok(&json!({"volume_type": shown})))
}

/// `DELETE types/{id}`.
pub(crate) async fn delete(call: Call) -> Result<Answer, Refused> {
    call.engine()
        .delete_volume_type(call.who(), call.origin(), id(&call)?)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

async fn specs(call: &Call) -> Result<Metadata, Refused> {
    Ok(call.engine().volume_type(call.who(), id(call)?).await?.extra_specs)
}

/// `GET types/{id}/extra_specs`.
pub(crate) async fn list_specs(call: Call) -> Result<Answer, Refused> {
    let specs = specs(&call).await?;
    Ok(Answer::ok(&json!({"extra_specs": specs})))
}

async fn change_specs(call: &Call, change: MetadataChange) -> Result<(), Refused> {
    let engine = call.engine();
    engine
        .change_type_specs(call.who(), call.origin(), id(call)?, change)
        .await?;
    Ok(())
}

/// `POST types/{id}/extra_specs`.
pub(crate) async fn add_specs(call: Call) -> Result<Answer, Refused> {
    let mut outer = call.object()?;
    let value = outer
        .remove("extra_specs")
        .ok_or_else(|| Refused::bad_request("The body must have an object \"extra_specs\""))?;
    body::only(&outer, "The body", &[])?;
    let pairs = body::pairs(&value, "extra_specs", Keys::Slash)?;
    change_specs(&call, MetadataChange::Merge(pairs.clone())).await?;
    Ok(Answer::ok(&json!({"extra_specs": pairs})))
}

/// `GET types/{id}/extra_specs/{key}`.
pub(crate) async fn get_spec(call: Call) -> Result<Answer, Refused> {
    let key = call.segment(1);
    let specs = specs(&call).await?;
    let value = specs
        .get(key)
        .ok_or_else(|| Refused::not_found(format!("The type has no extra spec {}.", short(key))))?;
    Ok(Answer::ok(&json!({key: value})))
}

/// `PUT types/{id}/extra_specs/{key}`.
pub(crate) async fn put_spec(call: Call) -> Result<Answer, Refused> {
    let key = call.segment(1);
    let pairs = body::pairs(&Value::Object(call.object()?), "The body", Keys::Slash)?;
    if pairs.len() != 1 || !pairs.contains_key(key) {
        return Err(Refused::bad_request(
            "The body must have the key of the URL, and no other",
        ));
    }
    change_specs(&call, MetadataChange::Merge(pairs.clone())).await?;
    Ok(Answer::ok(&pairs))
}

/// `DELETE types/{id}/extra_specs/{key}`.
pub(crate) async fn delete_spec(call: Call) -> Result<Answer, Refused> {
    let change = MetadataChange::Remove(call.segment(1).to_owned());
    change_specs(&call, change).await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

/// `GET types/{id}/os-volume-type-access`.
pub(crate) async fn access(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().volume_type(call.who(), id(&call)?).await?;
    if view.is_public {
        return Err(Refused::not_found("Access to a public volume type is everybody's."));
    }
    let rows: Vec<Value> = view
        .projects
        .iter()
        .map(|project| json!({"volume_type_id": view.id, "project_id": hex(project.0)}))
        .collect();
    Ok(Answer::ok(&json!({"volume_type_access": rows})))
}

/// `POST types/{id}/action`: `addProjectAccess`, `removeProjectAccess`.
pub(crate) async fn act(call: Call) -> Result<Answer, Refused> {
    let mut entries = call.object()?.into_iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        return Err(Refused::bad_request("The body must name one action"));
    };
    let seen = match name.as_str() {
        "addProjectAccess" => true,
        "removeProjectAccess" => false,
        other => {
            return Err(Refused::bad_request(format!(
                "There is no such action: {}",
                short(other)
            )));
        }
    };
    let object = inner(value, &name)?;
    body::only(&object, &name, &["project"])?;
    let project = object
        .get("project")
        .and_then(Value::as_str)
        .and_then(from_hex)
        .ok_or_else(|| Refused::bad_request("project must be a project's id"))?;
    call.engine()
        .share_type(call.who(), call.origin(), id(&call)?, ProjectId(project), seen)
        .await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

/// `GET types/{id}/encryption`: no type encrypts.
pub(crate) async fn encryption(call: Call) -> Result<Answer, Refused> {
    call.engine().volume_type(call.who(), id(&call)?).await?;
    Ok(Answer::ok(&json!({})))
}

/// `POST types/{id}/encryption`.
pub(crate) async fn add_encryption(call: Call) -> Result<Answer, Refused> {
    call.engine().volume_type(call.who(), id(&call)?).await?;
    Err(Refused::bad_request("Volumes are not encrypted here"))
}
