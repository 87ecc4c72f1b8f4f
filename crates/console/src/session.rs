//! Signing in and out.

use crate::{
    Console, answer, layout,
    trouble::{Trouble, is_ours},
    visit::{self, COOKIE, Posted, SCOPE},
};
use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{Response, StatusCode, Uri};
use maud::{Markup, html};
use stillpoint_auth::{AuthError, SESSION_IDLE, TokenKind};

/// What the sign-in form holds.
#[derive(Debug, Default)]
struct Form<'a> {
    user: &'a str,
    next: &'a str,
    error: Option<&'a str>,
}

/// The sign-in page.
pub(crate) async fn login_page(uri: Uri) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    let next = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "next")
        .map(|(_, next)| next.into_owned())
        .unwrap_or_default();
    let form = Form {
        next: inside(&next),
        ..Form::default()
    };
    answer::page(StatusCode::OK, sign_in(&form))
}

/// Signs somebody in: a session begins, and he gets where he wanted to go.
pub(crate) async fn login(State(console): State<Console>, request: Request) -> Result<Response<Body>, Trouble> {
    let (head, body) = request.into_parts();
    // Somebody else's page must not sign a visitor in as its own user.
    if !visit::is_from_here(&head.headers, &console) {
        return Err(Trouble::Forged);
    }
    let fields = visit::read_form(body).await?;
    let user = fields.text("user").unwrap_or_default();
    let next = inside(fields.raw("next").unwrap_or_default());
    let full = if user.contains('@') {
        user.to_owned()
    } else {
        format!("{user}@{}", stillpoint_auth::INTERNAL)
    };
    let caller = match console
        .auth()
        .login(&full, fields.raw("password").unwrap_or_default())
        .await
    {
        Ok(caller) => caller,
        Err(error) if is_ours(&error) => return Err(error.into()),
        Err(error) => {
            let (status, text) = match error {
                AuthError::Busy => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many people sign in at this moment. Try again in a few seconds.",
                ),
                _ => (
                    StatusCode::UNAUTHORIZED,
                    "Wrong user name or password. The first start wrote a password into the file admin-password of the data directory.",
                ),
            };
            let error = Some(text);
            return Ok(answer::page(status, sign_in(&Form { user, next, error })));
        }
    };
    let kind = TokenKind::Session { csrf: true };
    let token = console.auth().issue_token(&caller, SCOPE, kind, SESSION_IDLE).await?;
    let place = if next.is_empty() { "/console/" } else { next };
    Ok(answer::with_cookie(
        answer::see_other(place),
        &cookie(&console, COOKIE, &token, ""),
    ))
}

/// Ends the session.
pub(crate) async fn logout(posted: Posted) -> Result<Response<Body>, Trouble> {
    let console = &posted.visit.console;
    console.auth().revoke(&posted.visit.token).await?;
    let gone = cookie(console, COOKIE, "", "; Max-Age=0");
    Ok(answer::with_cookie(answer::see_other("/console/login"), &gone))
}

/// A cookie of the console.
pub(crate) fn cookie(console: &Console, name: &str, value: &str, more: &str) -> String {
    let secure = if console.is_secure() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/console; HttpOnly; SameSite=Strict{secure}{more}")
}

/// The place, if it is one of the console's own pages: a link in a mail must not lead a visitor elsewhere after he signed in.
fn inside(place: &str) -> &str {
    let own = place.starts_with("/console/") && !place.contains(['\\', '\r', '\n']) && !place.starts_with("/console//");
    if own { place } else { "" }
}

fn sign_in(form: &Form<'_>) -> Markup {
    let content = html! {
        form.card.narrow method="post" action="/console/login" {
            @if let Some(error) = form.error { p.error role="alert" { (error) } }
            input type="hidden" name="next" value=(form.next);
            label for="user" { "User" }
            input id="user" name="user" value=(form.user) autocomplete="username" autocapitalize="none" required
                autofocus[form.user.is_empty()];
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password" required
                autofocus[!form.user.is_empty()];
            button type="submit" { "Sign in" }
        }
    };
    layout::bare("Sign in", &content)
}
