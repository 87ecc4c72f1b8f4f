//! Making users and projects.

use super::{PLACE, expect_admin, form, place, told};
use crate::{
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::body::Body;
use http::Response;
use maud::html;
use secrecy::SecretString;
use stillpoint_auth::{ProjectChange, UserChange};

fn user_form(visit: &Visit, typed: &Fields, error: Option<&str>) -> Response<Body> {
    let typed = |name: &str| typed.raw(name).unwrap_or_default();
    let content = html! {
        form.card.narrow method="post" {
            (ui::error(error))
            (ui::word(visit))
            label for="name" { "Name" }
            input id="name" name="name" value=(typed("name")) maxlength="255" autocomplete="off" autocapitalize="none" required autofocus;
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="new-password" required;
            label for="description" { "Description" }
            input id="description" name="description" value=(typed("description")) autocomplete="off";
            p.hint { "He sees nothing until he is granted a role in a project: that comes next." }
            p.actions { button type="submit" { "Make the user" } a href=(PLACE) { "Cancel" } }
        }
    };
    form(visit, "New user", error, &content)
}

/// The form of a user.
pub(crate) async fn ask(visit: Visit) -> Result<Response<Body>, Trouble> {
    expect_admin(&visit)?;
    Ok(user_form(&visit, &Fields::default(), None))
}

/// Makes him.
pub(crate) async fn act(posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    expect_admin(&visit)?;
    let Some(password) = form.raw("password").filter(|text| !text.is_empty()) else {
        return Ok(user_form(&visit, &form, Some("A user who signs in needs a password.")));
    };
    let change = UserChange {
        password: Some(SecretString::from(password)),
        description: form.text("description").map(|text| Some(text.to_owned())),
        ..UserChange::default()
    };
    let name = form.text("name").unwrap_or_default();
    match visit.console.auth().create_user(name, change).await {
        Ok(user) => Ok(ui::done(
            &visit,
            &format!("{}/grant", place(user.id)),
            &format!("User {} is made. Grant him a role.", user.name),
        )),
        Err(error) => Ok(user_form(&visit, &form, Some(&told(error)?))),
    }
}

fn project_form(visit: &Visit, typed: &Fields, error: Option<&str>) -> Response<Body> {
    let typed = |name: &str| typed.raw(name).unwrap_or_default();
    let content = html! {
        form.card.narrow method="post" {
            (ui::error(error))
            (ui::word(visit))
            label for="name" { "Name" }
            input id="name" name="name" value=(typed("name")) maxlength="255" autocomplete="off" required autofocus;
            label for="description" { "Description" }
            input id="description" name="description" value=(typed("description")) autocomplete="off";
            p.actions { button type="submit" { "Make the project" } a href=(PLACE) { "Cancel" } }
        }
    };
    form(visit, "New project", error, &content)
}

/// The form of a project.
pub(crate) async fn ask_project(visit: Visit) -> Result<Response<Body>, Trouble> {
    expect_admin(&visit)?;
    Ok(project_form(&visit, &Fields::default(), None))
}

/// Makes it.
pub(crate) async fn act_project(posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    expect_admin(&visit)?;
    let change = ProjectChange {
        description: form.text("description").map(str::to_owned),
        ..ProjectChange::default()
    };
    let name = form.text("name").unwrap_or_default();
    match visit.console.auth().create_project(name, change).await {
        Ok(project) => Ok(ui::done(&visit, PLACE, &format!("Project {} is made.", project.name))),
        Err(error) => Ok(project_form(&visit, &form, Some(&told(error)?))),
    }
}
