//! The front: the virtual machines, searched and in pages. And what is no page.

use crate::{answer, layout, list, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::{Markup, html};
use std::collections::HashMap;
use stillpoint_engine::view::{AttachmentView, Filter, Find, VmView};
use stillpoint_types::{Access, Need, VmId};

const PLACE: &str = "/console/";
/// What the address of a search holds.
const FIELDS: &[&str] = &["search", "status"];
/// Statuses that are asked for.
const STATUSES: &[(&str, &str)] = &[
    ("up", "up"),
    ("down", "down"),
    ("paused", "paused"),
    ("suspended", "suspended"),
    ("not_responding", "not responding"),
];

/// `/console`: to its front.
pub(crate) async fn to_front() -> Response<Body> {
    answer::see_other(PLACE)
}

/// Everything that is no page.
pub(crate) async fn nowhere(_visit: Visit) -> Trouble {
    Trouble::Nowhere
}

/// The virtual machines.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let mut all = vec![list::typed(&visit, &["name", "description", "id", "disk"])];
    if let Some(status) = visit.query.text("status") {
        all.push(list::equals("status", status));
    }
    let filter = Filter {
        find: Find::All(all),
        sort: None,
    };
    let (engine, who) = (visit.engine(), &visit.who);
    let vms = engine.vms(who, &filter, &list::page(&visit.query)).await?;
    let ids: Vec<VmId> = vms.items.iter().map(|vm| vm.id).collect();
    let disks = engine.attachments_of_all(who, ids.clone()).await?;
    let counts = engine.snapshot_counts(ids).await?;
    let may_make = who.may(who.home_project, Need::Operate) == Access::Allowed;
    let is_searched = list::is_searched(&visit, FIELDS);
    let shown = if !vms.items.is_empty() {
        html! {
            (table(&vms.items, &disks, &counts))
            (list::pager(&visit, PLACE, FIELDS, vms.next.as_ref()))
        }
    } else if is_searched {
        list::nothing_fits(PLACE)
    } else {
        first_step(&visit, may_make)
    };
    let content = html! {
        @if is_searched || !vms.items.is_empty() {
            div.find {
                (list::search(&visit, PLACE, "Name, description or disk", &[list::Choice {
                    field: "status",
                    label: "Status",
                    entries: STATUSES.to_vec(),
                }], &html! {}))
                @if may_make { a.button href="/console/vms/new" { "New virtual machine" } }
            }
        }
        (ui::live("vms", &shown))
    };
    let page = layout::page(&visit, "Virtual machines", PLACE, &content);
    Ok(layout::unless_known(&headers, page))
}

fn table(vms: &[VmView], disks: &HashMap<VmId, Vec<AttachmentView>>, counts: &HashMap<VmId, u64>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Virtual machines" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Status" } th.number scope="col" { "Memory" }
                    th.number scope="col" { "Disks" } th.number scope="col" { "Snapshots" } th scope="col" { "Description" }
                } }
                tbody {
                    @for vm in vms {
                        @let disks = disks.get(&vm.id).map_or(&[][..], Vec::as_slice);
                        tr {
                            th scope="row" { a href={ "/console/vms/" (vm.id) } { (vm.config.name) } }
                            td {
                                (ui::badge(vm.status.label())) " "
                                @if !vm.status_detail.is_empty() { span.dim { (vm.status_detail) } " " }
                                (ui::holder(vm.holder.as_ref()))
                            }
                            td.number { (ui::bytes(vm.config.memory_bytes)) }
                            td.number {
                                (disks.len())
                                @if !disks.is_empty() {
                                    " " span.dim { "(" (ui::bytes(disks.iter().map(|one| one.disk.size_bytes).sum())) ")" }
                                }
                            }
                            // The active one is none that somebody took.
                            td.number { (counts.get(&vm.id).copied().unwrap_or_default().saturating_sub(1)) }
                            td.text { (vm.config.description) }
                        }
                    }
                }
            }
        }
    }
}

/// What to do where nothing is yet.
fn first_step(visit: &Visit, may_make: bool) -> Markup {
    let url = &visit.console.settings().public_url;
    html! {
        section.card.empty {
            h2 { "No virtual machine yet" }
            @if may_make {
                ol {
                    li { "Make a virtual machine: give it a name, memory, and a disk." }
                    li { "Start it, and let it work." }
                    li { "Take a snapshot before you change something. If the change goes wrong, preview the snapshot, then restore it." }
                }
                p { a.button href="/console/vms/new" { "Make the first one" } }
                h2 { "From the command line" }
                pre { "export STILLPOINT_URL=" (url) "\nstillpoint vm create db1 --memory 1G\nstillpoint disk create db1_data --size 10G\n"
                    "stillpoint snapshot create db1 'before the upgrade'" }
                p.dim { "An oVirt client (SDK, Ansible, backup tool) finds its API at " code { (url) "/ovirt-engine/api" } "." }
            } @else {
                p { "There is none in your projects, and you may not make one: ask an administrator for the role member." }
            }
        }
    }
}
