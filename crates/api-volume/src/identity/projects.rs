//! Projects: whoever has a role on one sees it, administrators see and administer all.

use super::{DOMAIN_ID, body, link, listed, refused};
use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_auth::{Project, ProjectChange};
use stillpoint_types::{ProjectId, UserId};

fn represent(visit: &Visit, project: &Project) -> Value {
    let id = text::hex(project.id.0);
    json!({
        "id": id,
        "name": project.name,
        "description": project.description,
        "enabled": project.enabled,
        "domain_id": DOMAIN_ID,
        "parent_id": DOMAIN_ID,
        "is_domain": false,
        "tags": [],
        "options": {},
        "links": link(visit, &format!("projects/{id}")),
    })
}

/// What the caller sees: an administrator all, others those on which they have a role, whatever the token's scope.
async fn visible(call: &Call) -> Result<Vec<Project>, Refused> {
    let who = call.who();
    if who.is_admin {
        return call.auth().projects(who, "", u32::MAX).await.map_err(refused);
    }
    call.auth().projects_of(who.user).await.map_err(refused)
}

/// `GET /v3/projects`: IAM's clients look their project up by it, so it is everybody's.
pub(super) async fn list(call: Call) -> Result<Answer, Refused> {
    let all = visible(&call).await?;
    Ok(filtered(&call, &all))
}

fn filtered(call: &Call, all: &[Project]) -> Answer {
    let is_elsewhere = call.param("domain_id").is_some_and(|id| id != DOMAIN_ID)
        || call.param("parent_id").is_some_and(|id| id != DOMAIN_ID)
        || call
            .param("is_domain")
            .is_some_and(|text| body::flag(text) == Some(true));
    let enabled = call.param("enabled").and_then(body::flag);
    let items = all
        .iter()
        .filter(|_| !is_elsewhere)
        .filter(|project| call.param("name").is_none_or(|name| project.name == name))
        .filter(|project| enabled.is_none_or(|enabled| project.enabled == enabled))
        .map(|project| represent(call, project))
        .collect::<Vec<_>>();
    listed(call, "projects", &items)
}

/// `GET /v3/auth/projects`: those that the caller can be scoped to.
pub(super) async fn own(call: Call) -> Result<Answer, Refused> {
    let all = call.auth().projects_of(call.who().user).await.map_err(refused)?;
    let items = all
        .iter()
        .filter(|project| project.enabled)
        .map(|project| represent(&call, project))
        .collect::<Vec<_>>();
    Ok(listed(&call, "projects", &items))
}

/// `GET /v3/users/{user}/projects`.
pub(super) async fn of_user(call: Call) -> Result<Answer, Refused> {
    let user = UserId(body::path_id(&call, 0, "user")?);
    if !call.who().is_admin && user != call.who().user {
        return Err(Refused::forbidden("Other users' projects are for administrators"));
    }
    let all = call.auth().projects_of(user).await.map_err(refused)?;
    Ok(filtered(&call, &all))
}

/// `GET /v3/projects/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer, Refused> {
    let id = ProjectId(body::path_id(&call, 0, "project")?);
    let project = visible(&call).await?.into_iter().find(|project| project.id == id);
    let project = project.ok_or_else(|| Refused::not_found("Could not find the project"))?;
    Ok(Answer::ok(&json!({"project": represent(&call, &project)})))
}

fn change(project: &body::Object) -> Result<ProjectChange, Refused> {
    if body::boolean(project, "is_domain")? == Some(true) {
        return Err(Refused::forbidden("There is one domain, and there cannot be more"));
    }
    if body::text(project, "parent_id")?.is_some_and(|id| id != DOMAIN_ID) {
        return Err(Refused::bad_request("Projects are in no other project here"));
    }
    body::check_domain_id(project)?;
    Ok(ProjectChange {
        name: None,
        description: body::nullable(project, "description")?.map(|text| text.unwrap_or_default().to_owned()),
        enabled: body::boolean(project, "enabled")?,
    })
}

/// `POST /v3/projects`.
pub(super) async fn add(call: Call) -> Result<Answer, Refused> {
    let asked = body::inner(&call, "project")?;
    let name = body::needed(&asked, "name")?;
    let project = call
        .auth()
        .create_project(name, change(&asked)?)
        .await
        .map_err(refused)?;
    Ok(Answer::json(
        StatusCode::CREATED,
        &json!({"project": represent(&call, &project)}),
    ))
}

/// `PATCH /v3/projects/{id}`.
pub(super) async fn update(call: Call) -> Result<Answer, Refused> {
    let id = ProjectId(body::path_id(&call, 0, "project")?);
    let asked = body::inner(&call, "project")?;
    let change = ProjectChange {
        name: body::text(&asked, "name")?.map(str::to_owned),
        ..change(&asked)?
    };
    let project = call.auth().update_project(id, change).await.map_err(refused)?;
    Ok(Answer::ok(&json!({"project": represent(&call, &project)})))
}

/// `DELETE /v3/projects/{id}`: 409 while anything belongs to it.
pub(super) async fn remove(call: Call) -> Result<Answer, Refused> {
    let id = ProjectId(body::path_id(&call, 0, "project")?);
    call.auth().delete_project(id).await.map_err(refused)?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}
