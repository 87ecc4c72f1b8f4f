//! The pieces of which pages are made: badges, sizes, moments, forms, confirmations.

use crate::{
    answer, session,
    visit::{SAID, Visit, WORD, encoded},
};
use axum::body::Body;
use http::Response;
use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};
use stillpoint_engine::view::Holder;
use stillpoint_types::Micros;

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: &[&str] = &["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut whole, mut rest, mut unit) = (count, 0, "B");
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024, whole / 1024, next);
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {unit}"),
        tenth => format!("{whole}.{tenth} {unit}"),
    }
}

/// A moment: day and time in UTC, exact in the machine-readable part.
pub(crate) fn moment(at: Micros) -> Markup {
    match Timestamp::from_microsecond(at) {
        Ok(at) => {
            let shown = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string();
            html! { time datetime=(at.to_string()) { (shown) } }
        }
        Err(_out_of_range) => html! { span { "unknown" } },
    }
}

/// A status as a coloured word; the word alone says it, too.
pub(crate) fn badge(status: &str) -> Markup {
    let kind = match status {
        "up" | "ok" | "succeeded" | "finished" | "available" | "finished_success" => "good",
        "down" | "suspended" | "undone" | "finalizing" => "calm",
        "illegal" | "failed" | "error" | "not_responding" | "unknown" | "finished_failure" => "bad",
        _ => "busy",
    };
    html! { span.badge.(kind) { (status.replace('_', " ")) } }
}

/// Who holds a thing, with the way to the job.
pub(crate) fn holder(holder: Option<&Holder>) -> Markup {
    html! {
        @if let Some(holder) = holder {
            span.holder { "held by " a href={ "/console/jobs/" (holder.job) } { (holder.what) } " since " (moment(holder.since)) }
        }
    }
}

/// The hidden field of every form that is posted.
pub(crate) fn word(visit: &Visit) -> Markup {
    html! { input type="hidden" name=(WORD) value=(visit.word); }
}

/// A box with what went wrong, at the head of a form that is shown again.
pub(crate) fn error(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p.error role="alert" { (text) } } }
}

/// A page's part that is replaced when it has changed.
pub(crate) fn live(id: &str, content: &Markup) -> Markup {
    html! { div id=(id) data-live { (content) } }
}

/// What an action does, before it is done: a page of its own, so that it works without script and with a keyboard.
#[derive(Debug, Default)]
pub(crate) struct Confirm<'a> {
    /// What will happen, a sentence each.
    pub(crate) happens: Vec<String>,
    /// What will be lost, a sentence each; none: nothing.
    pub(crate) loses: Vec<String>,
    /// Further fields of the form.
    pub(crate) fields: Option<Markup>,
    /// What is written on the button: a verb.
    pub(crate) button: &'a str,
    /// Where "Cancel" leads.
    pub(crate) back: &'a str,
    /// Why the last try failed.
    pub(crate) error: Option<&'a str>,
}

impl Confirm<'_> {
    /// The form; it is posted to its own page.
    pub(crate) fn render(&self, visit: &Visit) -> Markup {
        html! {
            form.card.confirm method="post" {
                (error(self.error))
                (word(visit))
                @if !self.happens.is_empty() {
                    h2 { "What will happen" }
                    ul { @for one in &self.happens { li { (one) } } }
                }
                h2 { "What will be lost" }
                @if self.loses.is_empty() { p { "Nothing." } } @else {
                    ul.loses { @for one in &self.loses { li { (one) } } }
                }
                @if let Some(fields) = &self.fields { (fields) }
                p.actions {
                    button type="submit" .danger[!self.loses.is_empty()] { (self.button) }
                    a href=(self.back) { "Cancel" }
                }
            }
        }
    }
}

/// After a form: to another page, which says once what was done.
pub(crate) fn done(visit: &Visit, place: &str, said: &str) -> Response<Body> {
    let cookie = session::cookie(&visit.console, SAID, &encoded(said), "; Max-Age=60");
    answer::with_cookie(answer::see_other(place), &cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
    }
}
