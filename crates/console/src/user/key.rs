//! Keys of a user (application credentials): made by himself, shown once, deleted by himself or an administrator.

use super::{PLACE, form, place, told, user};
use crate::{
    layout,
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_auth::{NewCredential, Project, Scope, Scoped, User, shown_once};
use stillpoint_types::{ProjectId, Role};
use uuid::Uuid;

/// The visitor himself: nobody makes a key for somebody else.
async fn own(visit: &Visit, id: &str) -> Result<User, Trouble> {
    let user = user(visit, id).await?;
    if user.id == visit.who.user {
        Ok(user)
    } else {
        Err(super::forbidden_keys(visit))
    }
}

fn new_form(visit: &Visit, user: &User, projects: &[Project], typed: &Fields, error: Option<&str>) -> Response<Body> {
    let back = place(user.id);
    let is_typed = |name: &str, value: &str| typed.text(name) == Some(value);
    let confirm = ui::Confirm {
        happens: vec![
            "A program that has the key works as you in that project, until you delete the key.".into(),
            "Its secret is shown once, on the next page.".into(),
        ],
        fields: Some(html! {
            label for="name" { "Name" }
            input id="name" name="name" value=(typed.raw("name").unwrap_or_default()) maxlength="255" autocomplete="off" required autofocus;
            label for="project" { "Project" }
            select id="project" name="project" {
                @for project in projects {
                    option value=(project.id) selected[is_typed("project", &project.id.to_string())] { (project.name) }
                }
            }
            label for="most" { "It may" }
            select id="most" name="most" {
                option value="" { "do what you may there" }
                option value="reader" selected[is_typed("most", "reader")] { "look, and change nothing" }
            }
        }),
        button: "Make the key",
        back: &back,
        error,
        ..ui::Confirm::default()
    };
    form(visit, "New key", error, &confirm.render(visit))
}

/// The form of a key.
pub(crate) async fn ask_new(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let user = own(&visit, &id).await?;
    let projects = visit.console.auth().projects_of(user.id).await?;
    Ok(new_form(&visit, &user, &projects, &Fields::default(), None))
}

/// Makes it, and shows its secret: in the answer to the form itself, so that no address leads there again.
pub(crate) async fn make(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let user = own(&visit, &id).await?;
    let auth = visit.console.auth();
    let projects = auth.projects_of(user.id).await?;
    let project: Option<ProjectId> = form.text("project").and_then(|text| text.parse().ok());
    let maker = project.and_then(|project| Scoped::narrow(&visit.who, Scope::Project(project)));
    let Some(maker) = maker else {
        return Ok(new_form(
            &visit,
            &user,
            &projects,
            &form,
            Some("Choose one of your projects."),
        ));
    };
    let new = NewCredential {
        name: form.text("name").unwrap_or_default().to_owned(),
        description: None,
        secret: None,
        roles: if form.text("most") == Some("reader") {
            vec![Role::Reader]
        } else {
            Vec::new()
        },
        unrestricted: false,
        expires_at: None,
    };
    let (key, secret) = match auth.create_credential(&maker, new).await {
        Ok(made) => made,
        Err(error) => return Ok(new_form(&visit, &user, &projects, &form, Some(&told(error)?))),
    };
    let content = html! {
        section.card.confirm {
            p role="status" { "Copy the secret now: it is not shown again, to nobody." }
            h2 { "Id" } pre.secret tabindex="0" aria-label="Id" { (key.id.simple()) }
            h2 { "Secret" } pre.secret tabindex="0" aria-label="Secret" { (shown_once(&secret)) }
            h2 { "For OpenStack clients" }
            pre.secret tabindex="0" aria-label="For OpenStack clients" {
                "export OS_AUTH_TYPE=v3applicationcredential OS_AUTH_URL=" (visit.console.settings().public_url) "/identity/v3\n"
                "export OS_APPLICATION_CREDENTIAL_ID=" (key.id.simple()) " OS_APPLICATION_CREDENTIAL_SECRET=..."
            }
            p.actions { a.button href=(place(user.id)) { "I have copied it" } }
        }
    };
    Ok(layout::page(&visit, &format!("Key {}", key.name), PLACE, &content))
}

async fn key_of(visit: &Visit, user: &User, id: &str) -> Result<stillpoint_auth::ApplicationCredential, Trouble> {
    let id: Uuid = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    visit
        .console
        .auth()
        .credential(user.id, id)
        .await?
        .ok_or(Trouble::Nowhere)
}

/// What deleting a key would do.
pub(crate) async fn ask_delete(
    visit: Visit,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response<Body>, Trouble> {
    let user = user(&visit, &id).await?;
    let key = key_of(&visit, &user, &key).await?;
    let back = place(user.id);
    let confirm = ui::Confirm {
        happens: vec![format!(
            "Programs that use the key {} are refused at once; its tokens end.",
            key.name
        )],
        loses: vec!["The key. Another one can be made, with another secret.".into()],
        button: "Delete the key",
        back: &back,
        ..ui::Confirm::default()
    };
    Ok(form(
        &visit,
        &format!("Delete key {}", key.name),
        None,
        &confirm.render(&visit),
    ))
}

/// Deletes it.
pub(crate) async fn delete(Path((id, key)): Path<(String, String)>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, .. } = posted;
    let user = user(&visit, &id).await?;
    let key = key_of(&visit, &user, &key).await?;
    visit.console.auth().delete_credential(user.id, key.id).await?;
    Ok(ui::done(
        &visit,
        &place(user.id),
        &format!("Key {} is deleted.", key.name),
    ))
}
