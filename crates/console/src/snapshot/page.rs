//! The page of one snapshot: what it holds, and what can be done with it.

use super::{
    plan::{held, left_out, many, many_cpus, names, newer, written_since},
    tree::under_way,
};
use crate::{
    layout,
    trouble::Trouble,
    ui,
    visit::Visit,
    vm::{Scene, step},
};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::{SnapshotDiskView, SnapshotStatus, SnapshotView};
use stillpoint_types::SnapshotType;

/// The page.
pub(crate) async fn show(
    Path((id, sid)): Path<(String, String)>,
    visit: Visit,
    headers: HeaderMap,
) -> Result<Response<Body>, Trouble> {
    let scene = Scene::look(&visit, &id).await?;
    let one = scene.snapshot(&sid)?;
    let disks = visit.engine().snapshot_disks(&visit.who, scene.vm.id, one.id).await?;
    let step = step(&visit, one.holder.as_ref()).await?;
    let title = match one.kind {
        SnapshotType::Regular if !one.description.is_empty() => one.description.clone(),
        SnapshotType::Regular => "Snapshot without a name".into(),
        SnapshotType::Preview => "Before the preview".into(),
        SnapshotType::Active => format!("{} as it is now", scene.name()),
    };
    let content = html! {
        p.crumbs { a href={ (scene.place()) "#snapshot-" (one.id) } { "VM " (scene.name()) } " / snapshot" }
        (ui::live("snapshot", &html! {
            @if let (true, Some(_)) = (one.kind == SnapshotType::Regular, &one.holder) { (under_way(one, step.as_ref())) }
            (actions(&scene, one))
            div.grid {
                (facts(&scene, one))
                (disk_table(one, &disks))
            }
        }))
    };
    Ok(layout::unless_known(
        &headers,
        layout::page(&visit, &title, "/console/", &content),
    ))
}

fn actions(scene: &Scene, one: &SnapshotView) -> Markup {
    let here = scene.snapshot_place(one.id);
    html! {
        @if scene.may_operate && one.kind == SnapshotType::Regular {
            p.actions.bar {
                @match one.status {
                    SnapshotStatus::Locked => {},
                    SnapshotStatus::InPreview => {
                        a.button href={ (scene.place()) "/commit" } { "Commit" }
                        a.button.quiet href={ (scene.place()) "/undo" } { "Undo" }
                    },
                    SnapshotStatus::Ok if scene.previewed().is_none() => {
                        a.button href={ (here) "/restore" } { "Restore" }
                        a.button.quiet href={ (here) "/preview" } { "Preview" }
                        a.button.quiet href={ (here) "/clone" } { "New VM from it" }
                        a.button.quiet href={ (here) "/delete" } { "Delete" }
                    },
                    SnapshotStatus::Ok => span.dim { "Another snapshot is being previewed: commit or undo that first." },
                }
            }
        }
    }
}

fn facts(scene: &Scene, one: &SnapshotView) -> Markup {
    let newer = newer(scene, one.id).count();
    let is_regular = one.kind == SnapshotType::Regular;
    let bytes = scene.sizes.disks.get(&one.id);
    html! {
        section.card {
            h2 { "What it is" }
            dl.facts {
                dt { "Status" } dd { (ui::badge(match one.status {
                    SnapshotStatus::Ok => "ok", SnapshotStatus::Locked => "locked", SnapshotStatus::InPreview => "in_preview",
                })) }
                dt { "Taken" } dd { (ui::moment(one.date)) " UTC" }
                dt { "Memory" } dd { @match scene.sizes.memory.get(&one.id) {
                    Some(bytes) => { (ui::badge("memory")) " " (ui::bytes(*bytes)) },
                    None => "not saved: restored, the guest boots as after a power cut",
                } }
                @if let Some(bytes) = bytes { dt { "On disk" } dd { (ui::bytes(*bytes)) } }
                @if is_regular {
                    dt { "Since then" } dd {
                        (many(newer, "newer snapshot"))
                        @if bytes.is_some() { ", " (ui::bytes(written_since(scene, one.id))) " written" }
                    }
                }
                @if let Some(kept) = &one.config {
                    dt { "VM" } dd {
                        (ui::bytes(kept.config.memory_bytes)) " memory, "
                        (many_cpus(kept.config.sockets, kept.config.cores, kept.config.threads)) " CPU"
                        @if let Some(kernel) = &kept.config.kernel { ", kernel " code { (kernel) } }
                    }
                }
                dt { "Id" } dd { code { (one.id) } }
            }
        }
    }
}

fn disk_table(one: &SnapshotView, disks: &[SnapshotDiskView]) -> Markup {
    let out = left_out(one);
    html! {
        section.card {
            h2 { "Disks" }
            @if disks.is_empty() { p.dim { "It holds no disk: only the VM's configuration." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Disks" {
                    table {
                        thead { tr { th scope="col" { "Disk" } th scope="col" { "Size" } th scope="col" { "On disk" } } }
                        tbody {
                            @for disk in disks {
                                tr {
                                    th scope="row" { a href={ "/console/disks/" (disk.attachment.disk) } { (disk.attachment.alias) } }
                                    td { (ui::bytes(disk.attachment.size_bytes)) }
                                    td { (ui::bytes(disk.actual_bytes)) }
                                }
                            }
                        }
                    }
                }
            }
            @if held(one).count() > 0 && !out.is_empty() {
                p.dim { "Left out: " (names(out.into_iter())) "." }
            }
        }
    }
}
