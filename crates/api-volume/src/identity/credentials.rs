//! Application credentials: a user makes and deletes his own; only he, not even an administrator for him.

use super::{assignments, body, link, listed, refused, users};
use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_auth::{ApplicationCredential, NewCredential};
use stillpoint_types::{Micros, Role};

fn represent(visit: &Visit, credential: &ApplicationCredential) -> Value {
    let (id, user) = (text::hex(credential.id), text::hex(credential.user.0));
    let roles: Vec<Value> = credential
        .roles
        .split_ascii_whitespace()
        .filter_map(|label| label.parse::<Role>().ok())
        .map(assignments::reference)
        .collect();
    json!({
        "id": id,
        "name": credential.name,
        "description": credential.description,
        "user_id": user,
        "project_id": text::hex(credential.project.0),
        "roles": roles,
        "unrestricted": credential.unrestricted,
        "expires_at": credential.expires_at.map(text::instant),
        "system": null,
        "links": link(visit, &format!("users/{user}/application_credentials/{id}")),
    })
}

fn absent() -> Refused {
    Refused::not_found("Could not find the application credential")
}

/// `GET /v3/users/{user}/application_credentials`.
pub(super) async fn list(call: Call) -> Result<Answer, Refused> {
    let name = call.param("name").map(str::to_owned);
    let all = call
        .auth()
        .credentials(users::own(&call)?, name)
        .await
        .map_err(refused)?;
    let items = all
        .iter()
        .map(|credential| represent(&call, credential))
        .collect::<Vec<_>>();
    Ok(listed(&call, "application_credentials", &items))
}

/// `GET /v3/users/{user}/application_credentials/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer, Refused> {
    let user = users::own(&call)?;
    let id = text::from_hex(call.segment(1)).ok_or_else(absent)?;
    let credential = call.auth().credential(user, id).await.map_err(refused)?;
    let credential = credential.ok_or_else(absent)?;
    Ok(Answer::ok(
        &json!({"application_credential": represent(&call, &credential)}),
    ))
}

/// The user of the path, if it is the caller and his token may administer application credentials.
fn maker(call: &Call) -> Result<stillpoint_types::UserId, Refused> {
    let user = users::own(call)?;
    if user != call.who().user {
        return Err(Refused::forbidden(
            "Nobody makes or deletes application credentials for others",
        ));
    }
    if call.scoped.is_restricted {
        return Err(Refused::forbidden(
            "The application credential is restricted: it may not make or delete others",
        ));
    }
    Ok(user)
}

fn roles(asked: &body::Object) -> Result<Vec<Role>, Refused> {
    let bad = || Refused::bad_request("\"roles\" must be a list of roles, each with an id or a name");
    let list = match asked.get("roles") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(bad()),
    };
    let mut roles = Vec::new();
    for item in list {
        let item = item.as_object().ok_or_else(bad)?;
        let role = match (body::text(item, "id")?, body::text(item, "name")?) {
            (Some(id), _) => assignments::by_id(id),
            (None, Some(name)) => name.parse().ok(),
            (None, None) => return Err(bad()),
        };
        let role = role.ok_or_else(|| Refused::bad_request("There is no such role"))?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Ok(roles)
}

/// `2026-01-02T03:04:05.000000`, in UTC whether it says `Z` or nothing.
fn expires_at(text: &str) -> Result<Micros, Refused> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let civil: Option<jiff::civil::DateTime> = text.parse().ok();
    let at = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok());
    at.map(|at| at.timestamp().as_microsecond())
        .ok_or_else(|| Refused::bad_request("\"expires_at\" is an instant such as 2026-01-02T03:04:05.000000"))
}

/// `POST /v3/users/{user}/application_credentials`: the only answer with the secret.
pub(super) async fn add(call: Call) -> Result<Answer, Refused> {
    maker(&call)?;
    let asked = body::inner(&call, "application_credential")?;
    if asked
        .get("access_rules")
        .is_some_and(|rules| rules.as_array().is_none_or(|rules| !rules.is_empty()))
    {
        return Err(Refused::bad_request("Access rules are not supported"));
    }
    let new = NewCredential {
        name: body::needed(&asked, "name")?.to_owned(),
        description: body::text(&asked, "description")?.map(str::to_owned),
        secret: body::text(&asked, "secret")?.map(Into::into),
        roles: roles(&asked)?,
        unrestricted: body::boolean(&asked, "unrestricted")?.unwrap_or(false),
        expires_at: body::text(&asked, "expires_at")?.map(expires_at).transpose()?,
    };
    let (credential, secret) = call
        .auth()
        .create_credential(&call.scoped, new)
        .await
        .map_err(refused)?;
    let mut shown = represent(&call, &credential);
    shown["secret"] = json!(stillpoint_auth::shown_once(&secret));
    Ok(Answer::json(
        StatusCode::CREATED,
        &json!({"application_credential": shown}),
    ))
}

/// `DELETE /v3/users/{user}/application_credentials/{id}`: its tokens end with it.
pub(super) async fn remove(call: Call) -> Result<Answer, Refused> {
    let user = maker(&call)?;
    let id = text::from_hex(call.segment(1)).ok_or_else(absent)?;
    if call.auth().delete_credential(user, id).await.map_err(refused)? {
        return Ok(Answer::empty(StatusCode::NO_CONTENT));
    }
    Err(absent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_utc_with_or_without_a_z() {
        for text in ["2026-01-02T03:04:05.081642", "2026-01-02T03:04:05.081642Z"] {
            assert_eq!(expires_at(text).unwrap(), 1_767_323_045_081_642);
        }
        assert_eq!(expires_at("2026-01-02T03:04:05").unwrap(), 1_767_323_045_000_000);
        for bad in ["", "tomorrow", "2026-01-02T03:04:05+01:00 or so"] {
            assert!(expires_at(bad).is_err(), "{bad}");
        }
    }
}
