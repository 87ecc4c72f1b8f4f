//! One volume and its snapshots.

use super::{PLACE, badge, name, of_volume, place, servers};
use crate::{disk::disk_id, layout, trouble::Trouble, ui, visit::Visit};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::volume::{VolumeSnapshotView, VolumeView};
use stillpoint_types::{Access, Need};

/// The page.
pub(crate) async fn show(visit: Visit, Path(id): Path<String>, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let (engine, who) = (visit.engine(), &visit.who);
    let volume = engine.volume(who, disk_id(&id)?).await?;
    let snapshots = engine.volume_snapshots(who, of_volume(volume.id)).await?.items;
    let may_operate = who.may(volume.project, Need::Operate) == Access::Allowed;
    let shown = html! {
        (facts(&volume, may_operate))
        h2 { "Snapshots" }
        (list(&volume, &snapshots, may_operate))
    };
    let page = layout::page(&visit, &name(&volume), PLACE, &ui::live("volume", &shown));
    Ok(layout::unless_known(&headers, page))
}

fn facts(volume: &VolumeView, may_operate: bool) -> Markup {
    html! {
        section.card {
            p { (badge(volume.status.label())) }
            dl.facts {
                dt { "Size" } dd { (ui::bytes(volume.size_bytes)) }
                dt { "Type" } dd { (volume.of_type.1) }
                @if !volume.attachments.is_empty() { dt { "Attached to" } dd { (servers(volume)) } }
                @if let Some(text) = volume.description.as_deref().filter(|text| !text.is_empty()) {
                    dt { "Description" } dd { (text) }
                }
                @if volume.bootable { dt { "Boots" } dd { "yes" } }
                @for (key, value) in &volume.metadata { dt { (key) } dd { (value) } }
                dt { "Made" } dd { (ui::moment(volume.created_at)) }
                dt { "Id" } dd { code { (volume.id) } }
            }
            p.actions {
                @if may_operate { a.button href={ (place(volume.id)) "/snapshots/new" } { "Take a snapshot" } }
                a href={ "/console/disks/" (volume.id) } { "As a disk" }
                a href={ "/console/dialects/disk/" (volume.id) } { "In every API" }
            }
        }
    }
}

fn list(volume: &VolumeView, snapshots: &[VolumeSnapshotView], may_operate: bool) -> Markup {
    html! {
        @if snapshots.is_empty() { p.dim { "None yet." } } @else {
            div.scroll tabindex="0" role="region" aria-label="Snapshots" {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Status" } th scope="col" { "Taken" }
                        th.number scope="col" { "Size then" } th scope="col" { "What can be done" }
                    } }
                    tbody {
                        @for one in snapshots {
                            @let shown = shown_name(one);
                            @let here = format!("{}/snapshots/{}", place(volume.id), one.id);
                            tr {
                                th scope="row" { (shown) }
                                td { (badge(one.status.label())) }
                                td.moment { (ui::moment(one.created_at)) }
                                td.number { (ui::bytes(one.size_bytes)) }
                                td {
                                    @if let (Some(snapshot), Some(vm)) = (one.vm_snapshot, volume.attachments.iter().find_map(|at| at.server)) {
                                        a href={ "/console/vms/" (vm) "/snapshots/" (snapshot) } { "Snapshot of the virtual machine" }
                                    } @else if may_operate && one.backup.is_none() {
                                        span.actions {
                                            a href={ (here) "/revert" } aria-label={ "Revert to " (shown) } { "Revert" }
                                            a href={ (here) "/delete" } aria-label={ "Delete " (shown) } { "Delete" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What is shown for a name: snapshots need not have one.
pub(crate) fn shown_name(snapshot: &VolumeSnapshotView) -> String {
    let name = snapshot.name.clone().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| snapshot.id.to_string())
}
