//! A user's password, and whether he may come in.

use super::{expect_admin, form, place, told, user};
use crate::{
    answer, session,
    trouble::Trouble,
    ui,
    visit::{COOKIE, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_auth::{AuthError, SESSION_IDLE, TokenKind, User, UserChange};

fn password_form(visit: &Visit, user: &User, error: Option<&str>) -> Response<Body> {
    let back = place(user.id);
    let is_self = visit.who.user == user.id;
    let whose = if is_self {
        "All your other sessions and tokens end. Keys stay."
    } else {
        "All his sessions and tokens end. Keys stay."
    };
    let confirm = ui::Confirm {
        happens: vec![whose.to_owned()],
        fields: Some(html! {
            @if is_self {
                label for="present" { "Present password" }
                input id="present" name="present" type="password" autocomplete="current-password" required autofocus;
            }
            label for="password" { "New password" }
            input id="password" name="password" type="password" autocomplete="new-password" required;
            label for="again" { "New password again" }
            input id="again" name="again" type="password" autocomplete="new-password" required;
        }),
        button: "Change the password",
        back: &back,
        error,
        ..ui::Confirm::default()
    };
    form(
        visit,
        &format!("Password of {}", user.name),
        error,
        &confirm.render(visit),
    )
}

/// The form of a password.
pub(crate) async fn ask_password(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    let user = user(&visit, &id).await?;
    Ok(password_form(&visit, &user, None))
}

/// Changes it. Whoever changes his own goes on with a new session.
pub(crate) async fn password(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let user = user(&visit, &id).await?;
    let (new, again) = (
        form.raw("password").unwrap_or_default(),
        form.raw("again").unwrap_or_default(),
    );
    if new != again {
        return Ok(password_form(&visit, &user, Some("The two new passwords differ.")));
    }
    let auth = visit.console.auth();
    let is_self = visit.who.user == user.id;
    let done = if is_self {
        auth.change_password(user.id, form.raw("present").unwrap_or_default(), new)
            .await
    } else {
        auth.set_password(user.id, new).await
    };
    match done {
        Ok(()) => {}
        Err(error) => return Ok(password_form(&visit, &user, Some(&told(error)?))),
    }
    let response = ui::done(&visit, &place(user.id), "The password is changed.");
    if !is_self {
        return Ok(response);
    }
    let kind = TokenKind::Session { csrf: true };
    let token = auth
        .issue_token(&visit.who, crate::visit::SCOPE, kind, SESSION_IDLE)
        .await?;
    Ok(answer::with_cookie(
        response,
        &session::cookie(&visit.console, COOKIE, &token, ""),
    ))
}

fn enabled_form(visit: &Visit, user: &User, error: Option<&str>) -> Response<Body> {
    let back = place(user.id);
    let (happens, button) = if user.enabled {
        (
            "He cannot sign in any more, anywhere, and his sessions and tokens end. What he made stays: it is the project's.",
            "Disable",
        )
    } else {
        ("He can sign in again, with the password that he had.", "Enable")
    };
    let confirm = ui::Confirm {
        happens: vec![happens.to_owned()],
        fields: Some(html! { input type="hidden" name="enabled" value=(if user.enabled { "no" } else { "yes" }); }),
        button,
        back: &back,
        error,
        ..ui::Confirm::default()
    };
    form(visit, &format!("{button} {}", user.name), error, &confirm.render(visit))
}

/// What disabling or enabling would do.
pub(crate) async fn ask_enabled(visit: Visit, Path(id): Path<String>) -> Result<Response<Body>, Trouble> {
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    Ok(enabled_form(&visit, &user, None))
}

/// Disables or enables him.
pub(crate) async fn enabled(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    expect_admin(&visit)?;
    let user = user(&visit, &id).await?;
    let enabled = form.text("enabled") == Some("yes");
    let refused = if !enabled && visit.who.user == user.id {
        Err(AuthError::InUse(
            "you would lock yourself out: another administrator can do it".into(),
        ))
    } else {
        let change = UserChange {
            enabled: Some(enabled),
            ..UserChange::default()
        };
        visit.console.auth().update_user(user.id, change).await
    };
    match refused {
        Ok(_) => {
            let said = if enabled {
                "He can sign in again."
            } else {
                "He is disabled."
            };
            Ok(ui::done(&visit, &place(user.id), said))
        }
        Err(error) => Ok(enabled_form(&visit, &user, Some(&told(error)?))),
    }
}
