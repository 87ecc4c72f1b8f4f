//! The backups of a VM, and its checkpoints.

use super::{badge, consistency, crumbs, mode, place};
use crate::{layout, trouble::Trouble, ui, visit::Visit, vm::Scene};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::{BackupView, CheckpointView};

/// The page.
pub(crate) async fn show(Path(id): Path<String>, visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let scene = Scene::look(&visit, &id).await?;
    let (engine, who, vm) = (visit.engine(), &visit.who, scene.vm.id);
    let backups = engine.backups(who, vm).await?;
    let checkpoints = engine.checkpoints(who, vm).await?;
    let content = html! {
        (crumbs(&scene, None))
        (ui::live("backups", &html! {
            @if scene.may_operate {
                p.actions.bar {
                    @if !backups.iter().any(|one| !one.phase.is_end()) && !scene.disks.is_empty() {
                        a.button href={ (place(&scene)) "/new" } { "Start a backup" }
                    }
                    a.button.quiet href={ (scene.place()) "/points" } { "Points in time" }
                }
            }
            (table(&scene, &backups))
            (marks(&scene, &checkpoints))
        }))
    };
    let page = layout::page(&visit, &format!("Backups of {}", scene.name()), "/console/", &content);
    Ok(layout::unless_known(&headers, page))
}

fn table(scene: &Scene, backups: &[BackupView]) -> Markup {
    html! {
        @if backups.is_empty() {
            section.card.empty {
                h2 { "No backup runs, and none has ended lately" }
                @if scene.disks.is_empty() {
                    p { "The VM has no disk that could be backed up." }
                } @else {
                    p { "A backup holds one moment of the disks while a client downloads them; the guest goes on, and waits for nobody. The command line \
                         does all of it, into a directory:" }
                    pre { "stillpoint backup run " (scene.name()) " /backup/" (scene.name()) }
                }
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Backups" {
                table {
                    thead { tr { th scope="col" { "Backup" } th scope="col" { "State" } th scope="col" { "Holds" } th scope="col" { "Consistency" } th scope="col" { "Disks" } } }
                    tbody {
                        @for one in backups.iter().rev() {
                            tr {
                                th scope="row" {
                                    a href={ (place(scene)) "/" (one.id) } { (ui::moment(one.created_at)) " UTC" }
                                    @if !one.description.is_empty() { br; span.dim { (one.description) } }
                                }
                                td { (badge(one.phase)) @if let Some(reason) = &one.reason { p.failure { (reason) } } }
                                td { (mode(one)) }
                                td { (consistency(one)) }
                                td { @for (number, disk) in one.disks.iter().enumerate() { @if number > 0 { ", " } (disk.disk.alias) } }
                            }
                        }
                    }
                }
            }
            p.dim { "Backups that ended well are shown for 15 minutes, others for half an hour: their data are where their client has put them." }
        }
    }
}

fn marks(scene: &Scene, checkpoints: &[CheckpointView]) -> Markup {
    html! {
        section.card aria-labelledby="checkpoints" {
            h2 id="checkpoints" { "Checkpoints" }
            p.dim { "A checkpoint is a mark in time: the daemon knows what has changed since, so that the next backup has to hold only that. It holds no data \
                     itself." }
            @if checkpoints.is_empty() { p { "None yet: each backup that ends well leaves one." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Checkpoints" {
                    table {
                        thead { tr { th scope="col" { "Moment (UTC)" } th scope="col" { "Of the backup" } th scope="col" { "Disks" } @if scene.may_operate { th scope="col" { "What can be done" } } } }
                        tbody {
                            @for one in checkpoints.iter().rev() {
                                tr {
                                    th scope="row" { (ui::moment(one.created_at)) }
                                    td { @if one.description.is_empty() { span.dim { "without description" } } @else { (one.description) } }
                                    td { @for (number, disk) in one.disks.iter().enumerate() { @if number > 0 { ", " } (disk.alias) }
                                         @if one.disks.is_empty() { span.dim { "none: nothing is known any more" } } }
                                    @if scene.may_operate {
                                        td.does {
                                            a href={ (place(scene)) "/new?from=" (one.id) } aria-label={ "Back up what changed since " (shown(one)) } { "back up what changed since" } ", "
                                            a href={ (scene.place()) "/checkpoints/" (one.id) "/delete" } aria-label={ "Delete the checkpoint of " (shown(one)) } { "delete" }
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

/// A checkpoint's moment as text.
pub(crate) fn shown(one: &CheckpointView) -> String {
    match jiff::Timestamp::from_microsecond(one.created_at) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_out_of_range) => "an unknown moment".into(),
    }
}
