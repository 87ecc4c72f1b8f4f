//! What happened: the events, newest first, live.

use crate::{layout, list, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::html;
use stillpoint_engine::view::{Filter, Find};
use stillpoint_types::Severity;

const PLACE: &str = "/console/events";
const FIELDS: &[&str] = &["search", "severity", "vm"];
/// Severities from which on events are shown, with the number that the catalogue sorts them by.
const SEVERITIES: &[(&str, &str, i64)] = &[
    ("warning", "warnings and worse", 1),
    ("error", "errors and worse", 2),
    ("alert", "alerts", 3),
];

/// The events.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let mut all = vec![list::typed(&visit, &["message", "correlation_id", "user", "disk"])];
    if let Some(wanted) = visit.query.text("severity")
        && let Some((.., least)) = SEVERITIES.iter().find(|(name, ..)| *name == wanted)
    {
        all.push(list::at_least("severity", *least));
    }
    if let Some(vm) = visit.query.text("vm") {
        all.push(Find::Any(vec![list::holds("vm", vm), list::equals("vm_id", vm)]));
    }
    let filter = Filter {
        find: Find::All(all),
        sort: None,
    };
    let page = list::page(&visit.query);
    let events = visit.engine().events(&visit.who, &filter, &page).await?;
    let shown = html! {
        @if events.items.is_empty() {
            @if list::is_searched(&visit, FIELDS) { (list::nothing_fits(PLACE)) } @else {
                section.card.empty { p { "Nothing has happened yet in your projects." } }
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Events" {
                table {
                    thead { tr {
                        th scope="col" { "When (UTC)" } th scope="col" { "Severity" } th scope="col" { "What" }
                        th scope="col" { "Where" } th scope="col" { "Who" }
                    } }
                    tbody {
                        @for event in &events.items {
                            tr {
                                td.moment { (ui::moment(event.at)) }
                                td { span.badge.(kind(event.severity)) { (event.severity.label()) } }
                                td.text { (event.text) }
                                td {
                                    @if let Some((id, name)) = &event.vm { a href={ "/console/vms/" (id) } { (name) } " " }
                                    @if let Some((id, alias)) = &event.disk { a href={ "/console/disks/" (id) } { (alias) } }
                                }
                                td.dim { @if let Some((_, name)) = &event.user { (name) } }
                            }
                        }
                    }
                }
            }
            (list::pager(&visit, PLACE, FIELDS, events.next.as_ref()))
        }
    };
    let choice = list::Choice {
        field: "severity",
        label: "Severity",
        entries: SEVERITIES.iter().map(|(value, text, _)| (*value, *text)).collect(),
    };
    let vm = html! {
        div {
            label for="vm" { "Virtual machine" }
            input id="vm" name="vm" value=(visit.query.raw("vm").unwrap_or_default()) autocomplete="off";
        }
    };
    let content = html! {
        div.find { (list::search(&visit, PLACE, "Text, disk, user or correlation id", &[choice], &vm)) }
        (ui::live("events", &shown))
    };
    let page = layout::page(&visit, "Events", PLACE, &content);
    Ok(layout::unless_known(&headers, page))
}

fn kind(severity: Severity) -> &'static str {
    match severity {
        Severity::Normal => "calm",
        Severity::Warning => "busy",
        Severity::Error | Severity::Alert => "bad",
    }
}
