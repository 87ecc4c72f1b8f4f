//! Disks: the list, one with its chain of images, and what can be done with it.

pub(crate) mod act;
pub(crate) mod page;

use crate::{layout, list, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::{Markup, html};
use std::collections::HashMap;
use stillpoint_engine::view::{DiskView, Filter, Find, Page};
use stillpoint_types::{Access, DiskId, Need, VmId};

/// The list's place.
pub(crate) const PLACE: &str = "/console/disks";
const FIELDS: &[&str] = &["search", "status", "use"];

/// The id in a path; what is none names nothing.
pub(crate) fn disk_id(text: &str) -> Result<DiskId, Trouble> {
    text.parse().map_err(|_bad| Trouble::Nowhere)
}

/// A disk's page.
pub(crate) fn place(id: DiskId) -> String {
    format!("{PLACE}/{id}")
}

/// What a disk is.
pub(crate) fn status(disk: &DiskView) -> &'static str {
    match (&disk.holder, &disk.illegal) {
        (Some(_), _) => "locked",
        (None, Some(_)) => "illegal",
        (None, None) => "ok",
    }
}

/// Names of VMs, by id: asked for together.
pub(crate) async fn names(visit: &Visit, disks: &[DiskView]) -> Result<HashMap<VmId, String>, Trouble> {
    let ids: Vec<Find> = disks
        .iter()
        .flat_map(|disk| &disk.vms)
        .map(|id| list::equals("id", &id.to_string()))
        .collect();
    let page = Page {
        limit: ids.len(),
        ..Page::default()
    };
    let filter = Filter {
        find: Find::Any(ids),
        sort: None,
    };
    let vms = visit.engine().vms(&visit.who, &filter, &page).await?.items;
    Ok(vms.into_iter().map(|vm| (vm.id, vm.config.name)).collect())
}

/// The VMs that have a disk.
pub(crate) fn users(disk: &DiskView, names: &HashMap<VmId, String>) -> Markup {
    html! {
        @if disk.vms.is_empty() { span.dim { "nothing" } }
        @for (number, id) in disk.vms.iter().enumerate() {
            @if number > 0 { ", " }
            a href={ "/console/vms/" (id) } { (names.get(id).map_or("a virtual machine", String::as_str)) }
        }
    }
}

/// The disks.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let mut all = vec![list::typed(&visit, &["alias", "description", "id", "vm"])];
    if let Some(status) = visit.query.text("status") {
        all.push(list::equals("status", status));
    }
    match visit.query.text("use") {
        Some("used") => all.push(list::at_least("vms", 1)),
        Some("free") => all.push(list::is_number("vms", 0)),
        _ => {}
    }
    let filter = Filter {
        find: Find::All(all),
        sort: None,
    };
    let (engine, who) = (visit.engine(), &visit.who);
    let disks = engine.disks(who, &filter, &list::page(&visit.query)).await?;
    let names = names(&visit, &disks.items).await?;
    let may_make = who.may(who.home_project, Need::Operate) == Access::Allowed;
    let is_searched = list::is_searched(&visit, FIELDS);
    let shown = html! {
        @if !disks.items.is_empty() {
            (table(&disks.items, &names))
            (list::pager(&visit, PLACE, FIELDS, disks.next.as_ref()))
        } @else if is_searched { (list::nothing_fits(PLACE)) } @else {
            section.card.empty {
                h2 { "No disk yet" }
                p { "A disk is made with a virtual machine, or alone and attached later. It is a volume of the volume APIs, too." }
                @if may_make { p { a.button href="/console/disks/new" { "Make a disk" } } }
            }
        }
    };
    let choices = [
        list::Choice {
            field: "status",
            label: "Status",
            entries: vec![("ok", "ok"), ("locked", "locked"), ("illegal", "illegal")],
        },
        list::Choice {
            field: "use",
            label: "Used",
            entries: vec![("used", "by a virtual machine"), ("free", "by none")],
        },
    ];
    let content = html! {
        @if is_searched || !disks.items.is_empty() {
            div.find {
                (list::search(&visit, PLACE, "Name, description or virtual machine", &choices, &html! {}))
                @if may_make { a.button href="/console/disks/new" { "New disk" } }
            }
        }
        (ui::live("disks", &shown))
    };
    let page = layout::page(&visit, "Disks", PLACE, &content);
    Ok(layout::unless_known(&headers, page))
}

fn table(disks: &[DiskView], names: &HashMap<VmId, String>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Disks" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Status" } th.number scope="col" { "Size" }
                    th.number scope="col" { "On disk" } th scope="col" { "Format" } th scope="col" { "Used by" }
                } }
                tbody {
                    @for disk in disks {
                        tr {
                            th scope="row" { a href=(place(disk.id)) { (disk.alias) } }
                            td { (ui::badge(status(disk))) " " (ui::holder(disk.holder.as_ref())) }
                            td.number { (ui::bytes(disk.size_bytes)) }
                            td.number { (ui::bytes(disk.total_bytes)) }
                            td { (disk.format.label()) }
                            td { (users(disk, names)) }
                        }
                    }
                }
            }
        }
    }
}
