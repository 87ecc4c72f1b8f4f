//! The frame of every page: head, navigation, what the form before has to say, content.

use crate::visit::{SAID, Visit, WORD};
use crate::{answer, session};
use axum::body::Body;
use http::{HeaderMap, Response, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

/// The parts of the console, as the navigation has them: path and name.
const PARTS: &[(&str, &str)] = &[
    ("/console/", "Virtual machines"),
    ("/console/disks", "Disks"),
    ("/console/volumes", "Volumes"),
    ("/console/jobs", "Jobs"),
    ("/console/events", "Events"),
    ("/console/storage", "Storage"),
    ("/console/users", "Users"),
];

/// A page of somebody who is signed in. `part`: the path of the navigation's part that it belongs to.
pub(crate) fn page(visit: &Visit, title: &str, part: &str, content: &Markup) -> Response<Body> {
    page_with(visit, StatusCode::OK, title, part, content)
}

/// The same with another status: a form that failed is shown again with what was typed.
pub(crate) fn page_with(
    visit: &Visit,
    status: StatusCode,
    title: &str,
    part: &str,
    content: &Markup,
) -> Response<Body> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-live-stream="/console/live" {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    a.brand href="/console/" { img src="/console/assets/icon.svg" alt="" width="24" height="24"; "Stillpoint" }
                    nav aria-label="Parts" {
                        ul {
                            @for (path, name) in PARTS {
                                li { a href=(path) aria-current=[(*path == part).then_some("page")] {
                                    (if *path == "/console/users" && !visit.who.is_admin { "Account" } else { name })
                                } }
                            }
                        }
                    }
                    form.who method="post" action="/console/logout" {
                        input type="hidden" name=(WORD) value=(visit.word);
                        span { (visit.who.name) }
                        button.quiet type="submit" { "Sign out" }
                    }
                }
                main id="content" tabindex="-1" {
                    h1 { (title) }
                    @if let Some(said) = &visit.said { p.said role="status" { (said) } }
                    (content)
                }
                p id="live" .live role="status" aria-live="polite" {}
            }
        }
    };
    let response = answer::page(status, markup);
    if visit.said.is_some() {
        return answer::with_cookie(response, &session::cookie(&visit.console, SAID, "", "; Max-Age=0"));
    }
    response
}

/// A page of nobody: signing in, and troubles.
pub(crate) fn bare(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                header.top {
                    a.brand href="/console/" { img src="/console/assets/icon.svg" alt="" width="24" height="24"; "Stillpoint" }
                }
                main id="content" {
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}

/// Nothing, if the browser has the page already. For pages that are asked for again and again.
pub(crate) fn unless_known(headers: &HeaderMap, page: Response<Body>) -> Response<Body> {
    if page.status() == StatusCode::OK
        && let Some(known) = headers.get(header::IF_NONE_MATCH)
        && page.headers().get(header::ETAG) == Some(known)
    {
        let mut same = Response::new(Body::empty());
        *same.status_mut() = StatusCode::NOT_MODIFIED;
        return answer::guarded(same);
    }
    page
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " - Stillpoint" }
            link rel="icon" href="/console/assets/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/console/assets/style.css";
            script src="/console/assets/console.js" defer {}
        }
    }
}
