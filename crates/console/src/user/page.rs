//! One user: what he may do, and his keys.

use super::{PLACE, place, project_name, user};
use crate::{layout, trouble::Trouble, ui, visit::Visit};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::{Markup, html};
use stillpoint_auth::{ApplicationCredential, Project, RoleGrant, User};

/// The page.
pub(crate) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let user = user(&visit, &id).await?;
    let auth = visit.console.auth();
    let projects = auth.projects_of(user.id).await?;
    let grants = auth.grants(Some(user.id), None).await?;
    let keys = auth.credentials(user.id, None).await?;
    let is_self = visit.who.user == user.id;
    let content = html! {
        (facts(&user, visit.who.is_admin))
        h2 { "Roles" }
        (roles(&user, &projects, &grants, visit.who.is_admin))
        h2 { "Keys" }
        (key_list(&user, &projects, &keys, is_self))
    };
    Ok(layout::page(&visit, &user.name, PLACE, &content))
}

fn facts(user: &User, is_admin: bool) -> Markup {
    let here = place(user.id);
    html! {
        section.card {
            p { @if user.enabled { span.badge.good { "enabled" } } @else { span.badge.bad { "disabled" } } }
            dl.facts {
                dt { "Signs in as" } dd { code { (user.name) "@" (user.domain) } }
                @if user.is_admin { dt { "May" } dd { "do everything in every project" } }
                @if let Some(text) = &user.profile.description { dt { "Description" } dd { (text) } }
                @if let Some(text) = &user.profile.email { dt { "Mail" } dd { (text) } }
                dt { "Id" } dd { code { (user.id) } }
            }
            p.actions {
                a.button href={ (here) "/password" } { "Change the password" }
                @if is_admin {
                    a.button.quiet href={ (here) "/enabled" } { (if user.enabled { "Disable" } else { "Enable" }) }
                }
            }
        }
    }
}

fn roles(user: &User, projects: &[Project], grants: &[RoleGrant], is_admin: bool) -> Markup {
    let here = place(user.id);
    html! {
        @if grants.is_empty() {
            p.dim { @if user.is_admin { "An administrator needs none." } @else { "None: he sees nothing." } }
        } @else {
            table {
                thead { tr { th scope="col" { "Project" } th scope="col" { "Role" } @if is_admin { th scope="col" { "What can be done" } } } }
                tbody { @for grant in grants {
                    @let project = project_name(projects, grant);
                    tr {
                        th scope="row" { (project) }
                        td { (grant.role.label()) }
                        @if is_admin { td {
                            a href={ (here) "/revoke?project=" (grant.project) "&role=" (grant.role.label()) }
                                aria-label={ "Revoke " (grant.role.label()) " of " (project) } { "Revoke" }
                        } }
                    }
                } }
            }
        }
        @if is_admin { p { a.button.quiet href={ (here) "/grant" } { "Grant a role" } } }
    }
}

fn key_list(user: &User, projects: &[Project], keys: &[ApplicationCredential], is_self: bool) -> Markup {
    let here = place(user.id);
    html! {
        p.dim { "A key (an application credential) lets a program work as its owner in one project, without his password." }
        @if keys.is_empty() { p.dim { "None." } } @else {
            div.scroll tabindex="0" role="region" aria-label="Keys" {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Project" } th scope="col" { "Roles" }
                        th scope="col" { "Made" } th scope="col" { "Ends" } th scope="col" { "What can be done" }
                    } }
                    tbody { @for key in keys { tr {
                        th scope="row" { (key.name) " " code.dim { (key.id.simple()) } }
                        td { (projects.iter().find(|one| one.id == key.project).map_or("", |one| one.name.as_str())) }
                        td { (key.roles) }
                        td.moment { (ui::moment(key.created_at)) }
                        td.moment { @match key.expires_at { Some(at) => (ui::moment(at)), None => "never" } }
                        td { a href={ (here) "/keys/" (key.id) "/delete" } aria-label={ "Delete key " (key.name) } { "Delete" } }
                    } } }
                }
            }
        }
        @if is_self { p { a.button.quiet href={ (here) "/keys/new" } { "New key" } } }
    }
}
