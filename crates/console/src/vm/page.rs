//! The page of a virtual machine: how it is, its disks, and the tree of its snapshots.

use super::{Scene, step};
use crate::{
    layout,
    snapshot::{plan::many_cpus, tree::Tree},
    trouble::Trouble,
    ui,
    visit::Visit,
};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::StepView;
use stillpoint_types::{Micros, SnapshotType, VmStatus};

/// The page.
pub(crate) async fn show(Path(id): Path<String>, visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let scene = Scene::look(&visit, &id).await?;
    let (engine, who, vm) = (visit.engine(), &visit.who, scene.vm.id);
    let frozen = engine.frozen_until(who, vm).await?;
    let checkpoints = engine.checkpoints(who, vm).await?;
    let step = step(&visit, scene.vm.holder.as_ref()).await?;
    let tree = Tree {
        scene: &scene,
        checkpoints: &checkpoints,
        step: step.as_ref(),
        all: visit.query.is_set("all"),
    };
    let content = html! {
        (ui::live("vm", &html! {
            (head(&scene, step.as_ref()))
            div.grid {
                (facts(&scene, frozen))
                (disks(&scene))
            }
        }))
        (ui::live("snapshots", &html! {
            section.card aria-labelledby="snapshots-title" {
                h2 id="snapshots-title" { "Snapshots" }
                @if scene.snapshots.iter().any(|one| one.kind == SnapshotType::Regular) {
                    (tree.render())
                } @else {
                    p { "None yet. A snapshot keeps all disks as they are at one instant, while the guest goes on; you can come \
                        back to it whenever you want." }
                    (tree.render())
                }
            }
        }))
    };
    let page = layout::page(&visit, scene.name(), "/console/", &content);
    Ok(layout::unless_known(&headers, page))
}

/// Status, who holds it, and what can be done with it now.
fn head(scene: &Scene, step: Option<&StepView>) -> Markup {
    let (vm, here) = (&scene.vm, scene.place());
    let is = |all: &[VmStatus]| all.contains(&vm.status);
    let button = |can: bool, verb: &str, text: &str, class: &str| {
        html! { @if can { a.button.(class) href={ (here) "/" (verb) } { (text) } } }
    };
    let is_down = is(&[VmStatus::Down, VmStatus::Suspended]);
    html! {
        p.state {
            (ui::badge(vm.status.label()))
            @if !vm.status_detail.is_empty() { " " span.bad.badge { (vm.status_detail) } }
            @if vm.holder.is_some() { " " (ui::holder(vm.holder.as_ref())) }
            @if let Some(step) = step {
                span.holder { ": " (step.description) " " progress max="100" value=(step.progress) aria-label=(step.description) {}
                    " " (step.progress) "%" }
            }
        }
        @if !vm.config.description.is_empty() { p { (vm.config.description) } }
        @if scene.may_operate {
            p.actions.bar {
                (button(is_down || vm.status == VmStatus::Paused, "start", if is_down { "Start" } else { "Let it run" }, "go"))
                (button(vm.status == VmStatus::Up, "shutdown", "Shut down", "quiet"))
                (button(vm.status == VmStatus::Up, "reboot", "Reboot", "quiet"))
                (button(!is(&[VmStatus::Down, VmStatus::PoweringUp]), "stop", "Stop at once", "quiet"))
                (button(is_down, "delete", "Delete", "quiet"))
            }
        }
    }
}

fn facts(scene: &Scene, frozen: Option<Micros>) -> Markup {
    let config = &scene.vm.config;
    html! {
        section.card {
            h2 { "Machine" }
            dl.facts {
                dt { "Memory" } dd { (ui::bytes(config.memory_bytes)) }
                dt { "CPUs" } dd { (many_cpus(config.sockets, config.cores, config.threads)) }
                dt { "Boots from" } dd { @match &config.kernel {
                    Some(kernel) => { "kernel " code { (kernel) } @if let Some(initrd) = &config.initrd { " with " code { (initrd) } } },
                    None => "its disks",
                } }
                @if let Some(until) = frozen {
                    dt { "File systems" } dd { (ui::badge("frozen")) " until " (ui::moment(until)) " UTC at the latest" }
                }
                dt { "Network" } dd {
                    @if config.nics.is_empty() { "none" }
                    @for nic in &config.nics {
                        span.nic { (nic.name) " " code { (nic.mac) } " " span.dim { (nic.interface) @if !nic.linked { ", unplugged" } } }
                    }
                }
                @match (scene.is_running(), scene.vm.started_at, scene.vm.stopped_at) {
                    (true, Some(at), _) => { dt { "Started" } dd { (ui::moment(at)) " UTC" } },
                    (false, _, Some(at)) => { dt { "Stopped" } dd { (ui::moment(at)) " UTC" } },
                    _ => {},
                }
                dt { "Id" } dd { code { (scene.vm.id) } }
            }
        }
    }
}

fn disks(scene: &Scene) -> Markup {
    html! {
        section.card {
            h2 { "Disks" }
            @if scene.disks.is_empty() { p.dim { "It has none." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Disks" {
                    table {
                        thead { tr { th scope="col" { "Disk" } th scope="col" { "Size" } th scope="col" { "On disk" } } }
                        tbody {
                            @for one in &scene.disks {
                                tr {
                                    th scope="row" {
                                        a href={ "/console/disks/" (one.disk.id) } { (one.disk.alias) }
                                        @if one.disk.holder.is_some() { " " (ui::badge("locked")) }
                                        @if one.disk.illegal.is_some() { " " (ui::badge("illegal")) }
                                    }
                                    td { (ui::bytes(one.disk.size_bytes))
                                        span.dim { " " (one.interface.label())
                                            @if one.bootable { ", boots" }
                                            @if one.read_only { ", read-only" }
                                            @if !one.active { ", unplugged" } } }
                                    td { (ui::bytes(one.disk.total_bytes)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
