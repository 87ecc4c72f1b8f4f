//! Roles: granting and revoking them.

use super::{expect_admin, form, place, told, user};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_auth::{RoleGrant, User};
use stillpoint_types::Role;

/// Roles with what they allow, the one that most need first.
const ROLES: &[(Role, &str)] = &[
    (Role::Member, "member: makes and changes things"),
    (Role::Reader, "reader: looks"),
    (Role::Admin, "admin: a member; in the volume APIs an administrator"),
];

async fn grant_form(
    visit: &Visit,
    user: &User,
    typed: &Fields,
    error: Option<&str>,
) -> Result<Response<Body>, Trouble> {
    let projects = visit.console.auth().projects(&visit.who, "", super::MOST).await?;
    let back = place(user.id);
    let is_typed = |name: &str, value: &str| typed.text(name) == Some(value);
    let content = html! {
        form.card.narrow method="post" {
            (ui::error(error))
            (ui::word(visit))
            label for="project" { "Project" }
            select id="project" name="project" {
                @for project in &projects {
                    option value=(project.id) selected[is_typed("project", &project.id.to_string())] { (project.name) }
                }
            }
            label for="role" { "Role" }
            select id="role" name="role" {
                @for (role, text) in ROLES { option value=(role.label()) selected[is_typed("role", role.label())] { (text) } }
            }
            p.actions { button type="submit" { "Grant the role" } a href=(back) { "Cancel" } }
        }
    };
    Ok(form(visit, &format!("Grant {} a role", user.name), error, &content))
}

/// The role that the fields name; `None`: none.
fn named(user: &User, fields: &Fields) -> Option<RoleGrant> {
    Some(RoleGrant {
        user: user.id,
        project: fields.text("project")?.parse().ok()?,
        role: fields.text("role")?.parse().ok()?,
    })
}

/// The form of a role.
pub(crate) async fn ask_grant(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    grant_form(&visit, &user, &Fields::default(), None).await
}

/// Grants it.
pub(crate) async fn grant(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    let Some(grant) = named(&user, &form) else {
        return grant_form(&visit, &user, &form, Some("Choose a project and a role.")).await;
    };
    match visit.console.auth().grant_role(grant).await {
        Ok(()) => Ok(ui::done(
            &visit,
            &place(user.id),
            "The role is granted. It counts at once.",
        )),
        Err(error) => grant_form(&visit, &user, &form, Some(&told(error)?)).await,
    }
}

/// What taking a role back would do.
pub(crate) async fn ask_revoke(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    let grant = named(&user, &visit.query).ok_or(Trouble::Nowhere)?;
    let project = visit
        .console
        .auth()
        .project(&visit.who, grant.project)
        .await?
        .ok_or(Trouble::Nowhere)?;
    let back = place(user.id);
    let confirm = ui::Confirm {
        happens: vec![format!(
            "{} is no longer {} of project {}. It counts at once, also for what he is doing now.",
            user.name,
            grant.role.label(),
            project.name
        )],
        fields: Some(html! {
            input type="hidden" name="project" value=(grant.project);
            input type="hidden" name="role" value=(grant.role.label());
        }),
        button: "Revoke the role",
        back: &back,
        ..ui::Confirm::default()
    };
    Ok(form(&visit, "Revoke a role", None, &confirm.render(&visit)))
}

/// Takes it back.
pub(crate) async fn revoke(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    let grant = named(&user, &form).ok_or(Trouble::Nowhere)?;
    let said = if visit.console.auth().revoke_role(grant).await? {
        "The role is revoked."
    } else {
        "He did not have that role."
    };
    Ok(ui::done(&visit, &place(user.id), said))
}
