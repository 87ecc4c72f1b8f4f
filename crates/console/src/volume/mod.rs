//! Volumes: disks as the volume APIs see them, and snapshots of single ones.

pub(crate) mod act;
pub(crate) mod page;

use crate::{layout, list, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::html;
use stillpoint_engine::view::volume::{Match, Scope, VolumeQuery, VolumeView};
use stillpoint_types::DiskId;

/// The list's place.
pub(crate) const PLACE: &str = "/console/volumes";
const FIELDS: &[&str] = &["search", "status"];
const STATUSES: &[(&str, &str)] = &[("available", "available"), ("in-use", "in use"), ("error", "error")];
/// Snapshots of one volume that are shown.
const SNAPSHOTS_MAX: u64 = 1000;

/// A volume's page.
pub(crate) fn place(id: DiskId) -> String {
    format!("{PLACE}/{id}")
}

/// A list of all that the visitor may see, with these conditions.
pub(crate) fn query(matches: Vec<Match>, limit: u64) -> VolumeQuery {
    VolumeQuery {
        scope: Scope::All,
        matches,
        sort: Vec::new(),
        marker: None,
        offset: 0,
        limit,
        count: false,
    }
}

/// The snapshots of one volume, newest first.
pub(crate) fn of_volume(id: DiskId) -> VolumeQuery {
    query(vec![Match::In("volume_id", vec![id.to_string()])], SNAPSHOTS_MAX)
}

/// What is shown for a name: volumes need not have one.
pub(crate) fn name(volume: &VolumeView) -> String {
    let name = volume.name.clone().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| volume.id.to_string())
}

/// The volumes.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let mut matches = Vec::new();
    if let Some(text) = visit.query.text("search") {
        matches.push(Match::Like("name", text.to_owned()));
    }
    if let Some(status) = visit.query.text("status") {
        matches.push(Match::In("status", vec![status.to_owned()]));
    }
    let limit = u64::try_from(list::SIZE).unwrap_or(u64::MAX);
    let query = VolumeQuery {
        marker: visit.query.text("after").and_then(|text| text.parse().ok()),
        ..query(matches, limit.saturating_add(1))
    };
    let mut volumes = visit.engine().volumes(&visit.who, query).await?.items;
    let has_next = volumes.len() > list::SIZE;
    volumes.truncate(list::SIZE);
    let next = volumes.last().filter(|_| has_next).map(|last| last.id.to_string());
    let shown = html! {
        @if volumes.is_empty() {
            @if list::is_searched(&visit, FIELDS) { (list::nothing_fits(PLACE)) } @else {
                section.card.empty {
                    h2 { "No volume yet" }
                    p { "Every disk is a volume: make one here, or with an OpenStack or EVS client." }
                    p { a.button href="/console/disks/new" { "Make a disk" } }
                }
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Volumes" {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Status" } th.number scope="col" { "Size" }
                        th scope="col" { "Type" } th scope="col" { "Attached to" } th scope="col" { "Made" }
                    } }
                    tbody {
                        @for volume in &volumes {
                            tr {
                                th scope="row" { a href=(place(volume.id)) { (name(volume)) } }
                                td { (badge(volume.status.label())) }
                                td.number { (ui::bytes(volume.size_bytes)) }
                                td { (volume.of_type.1) }
                                td { (servers(volume)) }
                                td.moment { (ui::moment(volume.created_at)) }
                            }
                        }
                    }
                }
            }
            (list::pager_by_id(&visit, PLACE, FIELDS, next.as_deref()))
        }
    };
    let choice = list::Choice {
        field: "status",
        label: "Status",
        entries: STATUSES.to_vec(),
    };
    let content = html! {
        div.find { (list::search(&visit, PLACE, "Name", &[choice], &html! {})) }
        (ui::live("volumes", &shown))
    };
    let page = layout::page(&visit, "Volumes", PLACE, &content);
    Ok(layout::unless_known(&headers, page))
}

/// A status in Cinder's words.
pub(crate) fn badge(status: &str) -> maud::Markup {
    let kind = match status {
        "available" => "good",
        "in-use" | "reserved" => "calm",
        _ if status.starts_with("error") => "bad",
        _ => "busy",
    };
    html! { span.badge.(kind) { (status.replace('_', " ")) } }
}

/// Who has a volume.
pub(crate) fn servers(volume: &VolumeView) -> maud::Markup {
    html! {
        @for one in &volume.attachments {
            @match (one.server, &one.host) {
                (Some(vm), _) => { a href={ "/console/vms/" (vm) } { "a virtual machine" } " " span.dim { (one.device) } },
                (None, Some(host)) => { (host) " " span.dim { (one.device) } },
                (None, None) => { span.dim { "a server elsewhere" } },
            }
            " "
        }
    }
}
