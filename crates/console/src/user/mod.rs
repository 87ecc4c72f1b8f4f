//! Users, projects, roles and keys. Administrators see and change all; everybody else himself alone: his password and keys.

pub(crate) mod act;
pub(crate) mod create;
pub(crate) mod key;
pub(crate) mod page;
pub(crate) mod role;

use crate::{answer, layout, trouble::Trouble, trouble::is_ours, visit::Visit};
use axum::body::Body;
use http::{Response, StatusCode};
use maud::{Markup, html};
use stillpoint_auth::{AuthError, Project, RoleGrant, User};
use stillpoint_engine::Fault;
use stillpoint_types::{FaultCode, UserId};

/// The list's place.
pub(crate) const PLACE: &str = "/console/users";
/// Users and projects that are shown.
const MOST: u32 = 500;

/// A user's page.
pub(crate) fn place(id: UserId) -> String {
    format!("{PLACE}/{id}")
}

fn forbidden(visit: &Visit) -> Trouble {
    let text = format!(
        "User {} is no administrator: only administrators may do that.",
        visit.who.name
    );
    Fault::new(FaultCode::Forbidden, text).into()
}

/// Why nobody makes a key for somebody else.
fn forbidden_keys(visit: &Visit) -> Trouble {
    let text = format!(
        "User {} cannot make keys for others: everybody makes his own.",
        visit.who.name
    );
    Fault::new(FaultCode::Forbidden, text).into()
}

/// Refuses whoever is no administrator.
pub(crate) fn expect_admin(visit: &Visit) -> Result<(), Trouble> {
    if visit.who.is_admin {
        Ok(())
    } else {
        Err(forbidden(visit))
    }
}

/// The user of a path, for an administrator or himself. For others he is not there.
pub(crate) async fn user(visit: &Visit, id: &str) -> Result<User, Trouble> {
    let id: UserId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    if !visit.who.is_admin && visit.who.user != id {
        return Err(Trouble::Nowhere);
    }
    visit.console.auth().user_row(id).await?.ok_or(Trouble::Nowhere)
}

/// Why a form failed, for showing it again; what is ours to mend is a trouble.
pub(crate) fn told(error: AuthError) -> Result<String, Trouble> {
    match error {
        AuthError::BadCredentials => Ok("The present password is another one.".to_owned()),
        error if is_ours(&error) || matches!(error, AuthError::Busy) => Err(error.into()),
        error => {
            let text = error.to_string();
            let mut letters = text.chars();
            let first = letters
                .next()
                .map(|first| first.to_uppercase().collect::<String>())
                .unwrap_or_default();
            Ok(format!("{first}{}.", letters.as_str()))
        }
    }
}

/// A form, which failed if there is an error.
pub(crate) fn form(visit: &Visit, title: &str, error: Option<&str>, content: &Markup) -> Response<Body> {
    let status = if error.is_some() {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    layout::page_with(visit, status, title, PLACE, content)
}

/// The users and projects; for whoever is no administrator, his own page.
pub(crate) async fn show(visit: Visit) -> Result<Response<Body>, Trouble> {
    if !visit.who.is_admin {
        return Ok(answer::see_other(&place(visit.who.user)));
    }
    let auth = visit.console.auth();
    let users = auth.user_rows(None, "", MOST).await?;
    let projects = auth.projects(&visit.who, "", MOST).await?;
    let grants = auth.grants(None, None).await?;
    let content = html! {
        p.actions {
            a.button href={ (PLACE) "/new" } { "New user" }
            a.button.quiet href="/console/projects/new" { "New project" }
        }
        (user_table(&users, &projects, &grants))
        h2 { "Projects" }
        (project_table(&projects, &grants))
    };
    Ok(layout::page(&visit, "Users", PLACE, &content))
}

/// A project's name, by its id.
pub(crate) fn project_name(projects: &[Project], grant: &RoleGrant) -> String {
    let found = projects.iter().find(|project| project.id == grant.project);
    found.map_or_else(|| grant.project.to_string(), |project| project.name.clone())
}

fn user_table(users: &[User], projects: &[Project], grants: &[RoleGrant]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Users" {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Roles" } th scope="col" { "Description" } } }
                tbody { @for user in users { tr {
                    th scope="row" { a href=(place(user.id)) { (user.name) } }
                    td {
                        @if user.enabled { span.badge.good { "enabled" } } @else { span.badge.bad { "disabled" } }
                        @if user.password_hash.is_none() { " " span.badge.calm { "no password" } }
                    }
                    td {
                        @if user.is_admin { "administrator of everything " }
                        @for (number, grant) in grants.iter().filter(|grant| grant.user == user.id).enumerate() {
                            @if number > 0 { ", " }
                            (grant.role.label()) " of " (project_name(projects, grant))
                        }
                    }
                    td.text { @if let Some(text) = &user.profile.description { (text) } }
                } } }
            }
        }
    }
}

fn project_table(projects: &[Project], grants: &[RoleGrant]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Projects" {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "State" } th.number scope="col" { "Roles granted" } th scope="col" { "Description" } } }
                tbody { @for project in projects { tr {
                    th scope="row" { (project.name) " " code.dim { (project.id) } }
                    td { @if project.enabled { span.badge.good { "enabled" } } @else { span.badge.bad { "disabled" } } }
                    td.number { (grants.iter().filter(|grant| grant.project == project.id).count()) }
                    td.text { (project.description) }
                } } }
            }
        }
    }
}
