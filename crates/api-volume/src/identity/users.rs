//! Users: administrators administer them; everybody sees himself and changes his own password.

use super::{DOMAIN_ID, body, link, listed, refused};
use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_auth::{User, UserChange};
use stillpoint_types::{ProjectId, UserId};

fn represent(visit: &Visit, user: &User) -> Value {
    let id = text::hex(user.id.0);
    let mut shown = json!({
        "id": id,
        "name": user.name,
        "domain_id": DOMAIN_ID,
        "enabled": user.enabled,
        "password_expires_at": null,
        "options": {},
        "links": link(visit, &format!("users/{id}")),
    });
    for (name, value) in [
        ("description", user.profile.description.clone()),
        ("email", user.profile.email.clone()),
        (
            "default_project_id",
            user.profile.default_project.map(|id| text::hex(id.0)),
        ),
    ] {
        if let Some(value) = value {
            shown[name] = json!(value);
        }
    }
    shown
}

/// The user of the path, if he asks himself or an administrator.
pub(super) fn own(call: &Call) -> Result<UserId, Refused> {
    let id = UserId(body::path_id(call, 0, "user")?);
    if !call.who().is_admin && id != call.who().user {
        return Err(Refused::forbidden("Other users are for administrators"));
    }
    Ok(id)
}

/// `GET /v3/users`.
pub(super) async fn list(call: Call) -> Result<Answer, Refused> {
    let all = call
        .auth()
        .user_rows(call.param("name"), "", u32::MAX)
        .await
        .map_err(refused)?;
    let is_elsewhere = call.param("domain_id").is_some_and(|id| id != DOMAIN_ID);
    let enabled = call.param("enabled").and_then(body::flag);
    let items = all
        .iter()
        .filter(|user| !is_elsewhere && enabled.is_none_or(|enabled| user.enabled == enabled))
        .map(|user| represent(&call, user))
        .collect::<Vec<_>>();
    Ok(listed(&call, "users", &items))
}

/// `GET /v3/users/{user}`.
pub(super) async fn get(call: Call) -> Result<Answer, Refused> {
    let user = call.auth().user_row(own(&call)?).await.map_err(refused)?;
    let user = user.ok_or_else(|| Refused::not_found("Could not find the user"))?;
    Ok(Answer::ok(&json!({"user": represent(&call, &user)})))
}

fn change(user: &body::Object) -> Result<UserChange, Refused> {
    body::check_domain_id(user)?;
    let owned = |name| -> Result<Option<Option<String>>, Refused> {
        Ok(body::nullable(user, name)?.map(|text| text.map(str::to_owned)))
    };
    let default_project = match body::nullable(user, "default_project_id")? {
        None => None,
        Some(None) => Some(None),
        Some(Some(id)) => {
            let id = text::from_hex(id).ok_or_else(|| Refused::not_found("Could not find the default project"))?;
            Some(Some(ProjectId(id)))
        }
    };
    Ok(UserChange {
        name: body::text(user, "name")?.map(str::to_owned),
        password: body::text(user, "password")?.map(Into::into),
        enabled: body::boolean(user, "enabled")?,
        description: owned("description")?,
        email: owned("email")?,
        default_project,
    })
}

/// `POST /v3/users`.
pub(super) async fn add(call: Call) -> Result<Answer, Refused> {
    let asked = body::inner(&call, "user")?;
    let name = body::needed(&asked, "name")?;
    let user = call.auth().create_user(name, change(&asked)?).await.map_err(refused)?;
    Ok(Answer::json(
        StatusCode::CREATED,
        &json!({"user": represent(&call, &user)}),
    ))
}

/// `PATCH /v3/users/{user}`.
pub(super) async fn update(call: Call) -> Result<Answer, Refused> {
    let id = UserId(body::path_id(&call, 0, "user")?);
    let change = change(&body::inner(&call, "user")?)?;
    let user = call.auth().update_user(id, change).await.map_err(refused)?;
    Ok(Answer::ok(&json!({"user": represent(&call, &user)})))
}

/// `DELETE /v3/users/{user}`.
pub(super) async fn remove(call: Call) -> Result<Answer, Refused> {
    let id = UserId(body::path_id(&call, 0, "user")?);
    call.auth().delete_user(id).await.map_err(refused)?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `POST /v3/users/{user}/password`: the password that is to be replaced is the proof, so no token is asked for.
pub(super) async fn password(visit: Visit) -> Result<Answer, Refused> {
    let asked = body::inner(&visit, "user")?;
    let original = body::needed(&asked, "original_password")?;
    let password = body::needed(&asked, "password")?;
    // Who is not there has no password either: the same 401, as late.
    let id = text::from_hex(visit.segment(0)).unwrap_or_default();
    visit
        .auth()
        .change_password(UserId(id), original, password)
        .await
        .map_err(refused)?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}
