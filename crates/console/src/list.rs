//! Lists: what somebody looks for in them, and their pages.
//!
//! What is typed into the box is looked for anywhere in the fields, without case; a `*` in it is any run of characters.

use crate::visit::{Fields, Visit};
use base64::Engine as _;
use maud::{Markup, html};
use stillpoint_engine::view::{Find, Op, Page, Value};

/// Things on a page.
pub(crate) const SIZE: usize = 50;

/// The page that is asked for.
pub(crate) fn page(query: &Fields) -> Page {
    Page {
        after: query.text("after").and_then(mark),
        skip: 0,
        limit: SIZE,
    }
}

/// Where a page begins, as its address says it; what is no such mark leads to the first page.
fn mark(text: &str) -> Option<(String, String)> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (key, id) = text.split_once('\0')?;
    Some((key.to_owned(), id.to_owned()))
}

/// The fields that are not empty, as a query.
fn query_of(visit: &Visit, fields: &[&str], more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in fields {
        if let Some(value) = visit.query.text(name) {
            query.append_pair(name, value);
        }
    }
    query.extend_pairs(more);
    query.finish()
}

/// The ways to the first and the next page; nothing if one page has all.
pub(crate) fn pager(visit: &Visit, place: &str, fields: &[&str], next: Option<&(String, String)>) -> Markup {
    let is_first = !visit.query.is_set("after");
    html! {
        @if !is_first || next.is_some() {
            nav.pager aria-label="Pages" {
                @if !is_first { a href={ (place) "?" (query_of(visit, fields, &[])) } { "First page" } }
                @if let Some((key, id)) = next {
                    @let after = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{key}\0{id}"));
                    a rel="next" href={ (place) "?" (query_of(visit, fields, &[("after", &after)])) } { "Next page" }
                }
            }
        }
    }
}

/// The same for a list whose next page begins after an id.
pub(crate) fn pager_by_id(visit: &Visit, place: &str, fields: &[&str], next: Option<&str>) -> Markup {
    let is_first = !visit.query.is_set("after");
    html! {
        @if !is_first || next.is_some() {
            nav.pager aria-label="Pages" {
                @if !is_first { a href={ (place) "?" (query_of(visit, fields, &[])) } { "First page" } }
                @if let Some(id) = next {
                    a rel="next" href={ (place) "?" (query_of(visit, fields, &[("after", id)])) } { "Next page" }
                }
            }
        }
    }
}

/// A choice of a search: its field, what is written at it, and its entries (value and text).
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) field: &'a str,
    pub(crate) label: &'a str,
    pub(crate) entries: Vec<(&'a str, &'a str)>,
}

/// The form with which a list is searched.
pub(crate) fn search(visit: &Visit, place: &str, hint: &str, choices: &[Choice<'_>], more: &Markup) -> Markup {
    let typed = |name: &str| visit.query.raw(name).unwrap_or_default();
    html! {
        form.search role="search" method="get" action=(place) {
            div.wide {
                label for="search" { (hint) }
                input id="search" name="search" type="search" value=(typed("search")) autocomplete="off";
            }
            @for choice in choices {
                div {
                    label for=(choice.field) { (choice.label) }
                    select id=(choice.field) name=(choice.field) {
                        option value="" { "any" }
                        @for (value, text) in &choice.entries {
                            option value=(value) selected[typed(choice.field) == *value] { (text) }
                        }
                    }
                }
            }
            (more)
            button type="submit" { "Search" }
        }
    }
}

/// Whether something is looked for.
pub(crate) fn is_searched(visit: &Visit, fields: &[&str]) -> bool {
    fields.iter().any(|name| visit.query.text(name).is_some())
}

/// A field that holds the text somewhere.
pub(crate) fn holds(field: &'static str, text: &str) -> Find {
    equals(field, &format!("*{text}*"))
}

/// A field that is the text.
pub(crate) fn equals(field: &'static str, text: &str) -> Find {
    Find::Is {
        field,
        op: Op::Equal,
        value: Value::Text(text.to_owned()),
        case_sensitive: false,
    }
}

/// A field that is at least the number.
pub(crate) fn at_least(field: &'static str, number: i64) -> Find {
    Find::Is {
        field,
        op: Op::AtLeast,
        value: Value::Number(number),
        case_sensitive: false,
    }
}

/// A field that is the number.
pub(crate) fn is_number(field: &'static str, number: i64) -> Find {
    Find::Is {
        field,
        op: Op::Equal,
        value: Value::Number(number),
        case_sensitive: false,
    }
}

/// One of the fields holds what is typed into the box; nothing typed: all.
pub(crate) fn typed(visit: &Visit, fields: &[&'static str]) -> Find {
    match visit.query.text("search") {
        Some(text) => Find::Any(fields.iter().map(|field| holds(field, text)).collect()),
        None => Find::default(),
    }
}

/// What is said of a list in which nothing fits.
pub(crate) fn nothing_fits(place: &str) -> Markup {
    html! {
        section.card.empty {
            p { "Nothing fits what you look for." }
            p { a href=(place) { "Show all" } }
        }
    }
}
