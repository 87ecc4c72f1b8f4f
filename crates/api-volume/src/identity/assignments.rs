//! Roles, and who has which on what. There are three, and no more can be made.

use super::{DOMAIN_ID, DOMAIN_NAME, body, link, listed, refused};
use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;
use stillpoint_auth::RoleGrant;
use stillpoint_types::{ProjectId, Role, UserId};
use uuid::Uuid;

const ROLES: [Role; 3] = [Role::Admin, Role::Member, Role::Reader];

/// A role's id, the same in every installation.
fn role_id(role: Role) -> String {
    const BASE: u128 = 0x726f_6c65_7374_4f69_8e74_0000_0000_0000;
    let number = match role {
        Role::Admin => 1,
        Role::Member => 2,
        Role::Reader => 3,
    };
    text::hex(Uuid::from_u128(BASE + number))
}

/// A role as tokens name it.
pub(super) fn reference(role: Role) -> Value {
    json!({"id": role_id(role), "name": role.label()})
}

/// The role of that id.
pub(super) fn by_id(id: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| role_id(*role) == id)
}

fn represent(visit: &Visit, role: Role) -> Value {
    json!({
        "id": role_id(role),
        "name": role.label(),
        "domain_id": null,
        "description": null,
        "options": {},
        "links": link(visit, &format!("roles/{}", role_id(role))),
    })
}

/// `GET /v3/roles`.
pub(super) async fn roles(call: Call) -> Result<Answer, Refused> {
    let items = ROLES
        .into_iter()
        .filter(|role| call.param("name").is_none_or(|name| role.label() == name))
        .filter(|_| call.param("domain_id").is_none())
        .map(|role| represent(&call, role))
        .collect::<Vec<_>>();
    Ok(listed(&call, "roles", &items))
}

fn no_role() -> Refused {
    Refused::not_found("Could not find the role")
}

/// `GET /v3/roles/{role}`.
pub(super) async fn role(call: Call) -> Result<Answer, Refused> {
    let role = by_id(call.segment(0)).ok_or_else(no_role)?;
    Ok(Answer::ok(&json!({"role": represent(&call, role)})))
}

/// `POST /v3/roles`: refused, for one that is there as a duplicate.
pub(super) async fn add_role(call: Call) -> Result<Answer, Refused> {
    let asked = body::inner(&call, "role")?;
    let name = body::needed(&asked, "name")?;
    if ROLES.iter().any(|role| role.label() == name) {
        return Err(Refused::conflict("There is a role of that name already"));
    }
    Err(Refused::forbidden(
        "The roles are admin, member and reader, and no others",
    ))
}

/// User and project of the path.
fn ends(call: &Call) -> Result<(UserId, ProjectId), Refused> {
    let project = ProjectId(body::path_id(call, 0, "project")?);
    Ok((UserId(body::path_id(call, 1, "user")?), project))
}

fn named(call: &Call) -> Result<RoleGrant, Refused> {
    let (user, project) = ends(call)?;
    let role = by_id(call.segment(2)).ok_or_else(no_role)?;
    Ok(RoleGrant { user, project, role })
}

/// `GET /v3/projects/{id}/users/{user}/roles`.
pub(super) async fn of_user(call: Call) -> Result<Answer, Refused> {
    let (user, project) = ends(&call)?;
    let roles = call.auth().roles_on(user, project).await.map_err(refused)?;
    let items = roles.into_iter().map(|role| represent(&call, role)).collect::<Vec<_>>();
    Ok(listed(&call, "roles", &items))
}

/// `GET` and `HEAD` of a grant: 204 if it was made.
pub(super) async fn check(call: Call) -> Result<Answer, Refused> {
    let grant = named(&call)?;
    let roles = call.auth().roles_on(grant.user, grant.project).await.map_err(refused)?;
    if !roles.contains(&grant.role) {
        return Err(Refused::not_found("Could not find the role assignment"));
    }
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `PUT` of a grant.
pub(super) async fn grant(call: Call) -> Result<Answer, Refused> {
    call.auth().grant_role(named(&call)?).await.map_err(refused)?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// `DELETE` of a grant.
pub(super) async fn revoke(call: Call) -> Result<Answer, Refused> {
    if call.auth().revoke_role(named(&call)?).await.map_err(refused)? {
        return Ok(Answer::empty(StatusCode::NO_CONTENT));
    }
    Err(Refused::not_found("Could not find the role assignment"))
}

/// `GET /v3/role_assignments`; with `effective`, implied roles too.
pub(super) async fn list(call: Call) -> Result<Answer, Refused> {
    let wanted = |name: &str| call.param(name).map(|id| text::from_hex(id).unwrap_or_default());
    let grants = call
        .auth()
        .grants(wanted("user.id").map(UserId), wanted("scope.project.id").map(ProjectId))
        .await
        .map_err(refused)?;
    let is_asked = |name: &str| call.param(name).is_some_and(|text| body::flag(text) != Some(false));
    let names = if is_asked("include_names") {
        Some(Names::read(&call).await?)
    } else {
        None
    };
    let mut items: Vec<Value> = Vec::new();
    for grant in grants {
        let own = [grant.role];
        let roles: &[Role] = if is_asked("effective") {
            grant.role.with_implied()
        } else {
            &own
        };
        for role in roles {
            let id = role_id(*role);
            if call.param("role.id").is_some_and(|wanted| wanted != id) {
                continue;
            }
            let mut item = json!({
                "role": {"id": id},
                "user": {"id": text::hex(grant.user.0)},
                "scope": {"project": {"id": text::hex(grant.project.0)}},
                "links": link(&call, "role_assignments"),
            });
            if let Some(names) = &names {
                names.put(&mut item, *role, grant);
            }
            // Two grants may imply the same.
            if !items.contains(&item) {
                items.push(item);
            }
        }
    }
    Ok(listed(&call, "role_assignments", &items))
}

/// The names of all users and projects.
struct Names {
    users: HashMap<UserId, String>,
    projects: HashMap<ProjectId, String>,
}

impl Names {
    async fn read(call: &Call) -> Result<Self, Refused> {
        let auth = call.auth();
        let users = auth.user_rows(None, "", u32::MAX).await.map_err(refused)?;
        let projects = auth.projects(call.who(), "", u32::MAX).await.map_err(refused)?;
        Ok(Self {
            users: users.into_iter().map(|user| (user.id, user.name)).collect(),
            projects: projects.into_iter().map(|project| (project.id, project.name)).collect(),
        })
    }

    fn put(&self, item: &mut Value, role: Role, grant: RoleGrant) {
        let domain = json!({"id": DOMAIN_ID, "name": DOMAIN_NAME});
        item["role"]["name"] = json!(role.label());
        item["user"]["name"] = json!(self.users.get(&grant.user));
        item["user"]["domain"] = domain.clone();
        item["scope"]["project"]["name"] = json!(self.projects.get(&grant.project));
        item["scope"]["project"]["domain"] = domain;
    }
}
