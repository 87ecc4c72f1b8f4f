//! One backup: its phase, how long the guest stood still, and each disk with its map, its speed and what is left.

use super::{badge, consistency, crumbs, find, map, mode, place};
use crate::{
    job::{page::stalled, words},
    layout,
    trouble::Trouble,
    ui,
    visit::Visit,
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use std::time::Instant;
use stillpoint_engine::view::{
    BackupDiskView, BackupView,
    watch::{BackupWatch, DiskWatch},
};
use stillpoint_types::{BackupKind, BackupMode, BackupPhase};

/// How often a page looks again while bytes move, which no commit tells: milliseconds.
const EVERY_MS: u32 = 1000;

/// The page.
pub(crate) async fn show(
    Path((id, backup)): Path<(String, String)>,
    visit: Visit,
    headers: HeaderMap,
) -> Result<Response<Body>, Trouble> {
    let scene = Scene::look(&visit, &id).await?;
    let backup = find(&visit, &scene, &backup).await?;
    let watch = visit.engine().backup_watch(&visit.who, scene.vm.id, backup.id).await?;
    let rates: Vec<_> = watch.disks.iter().map(|disk| rate(&visit, &backup, disk)).collect();
    let content = html! {
        (crumbs(&scene, Some((&place(&scene), "Backups"))))
        (ui::live("backup", &html! {
            @if !backup.phase.is_end() { span hidden data-every=(EVERY_MS) {} }
            (head(&scene, &backup))
            (facts(&scene, &backup, &watch))
            @for (number, (disk, rate)) in watch.disks.iter().zip(&rates).enumerate() {
                @if let Some(view) = backup.disks.iter().find(|one| one.disk.id == disk.disk) {
                    (one_disk(number, view, disk, *rate, backup.phase))
                }
            }
        }))
    };
    let page = layout::page(&visit, &format!("Backup of {}", scene.name()), "/console/", &content);
    Ok(layout::unless_known(&headers, page))
}

/// Bytes a second, while it can move.
fn rate(visit: &Visit, backup: &BackupView, disk: &DiskWatch) -> Option<u64> {
    if backup.phase != BackupPhase::Ready {
        return None;
    }
    visit
        .console
        .rates()
        .note((backup.id, disk.disk), disk.moved_bytes, Instant::now())
}

fn head(scene: &Scene, backup: &BackupView) -> Markup {
    let means = match backup.phase {
        BackupPhase::Initializing => "The disks are being frozen at one instant; the guest goes on.",
        BackupPhase::Starting => "The moment is held. What changed since the checkpoint is being worked out.",
        BackupPhase::Ready => {
            "The moment is held, and its disks can be downloaded. The guest goes on, and waits for nobody."
        }
        BackupPhase::Finalizing => "Its client is done. What was held apart is being merged.",
        BackupPhase::Succeeded => {
            "Its client is done, and its checkpoint stays. The data are where the client has put them."
        }
        BackupPhase::Failed => "It left no checkpoint and no snapshot; the VM is as if it had not been begun.",
    };
    html! {
        p.state { (badge(backup.phase)) @if !backup.description.is_empty() { " " (backup.description) } }
        @if let Some(reason) = &backup.reason { section.error aria-label="Why it failed" { strong { "Why: " } (reason) } }
        p { (means) }
        @if scene.may_operate && !backup.phase.is_end() && backup.phase != BackupPhase::Finalizing {
            p.actions.bar { a.button href={ (place(scene)) "/" (backup.id) "/finalize" } { "Finalize" } }
        }
    }
}

fn facts(scene: &Scene, backup: &BackupView, watch: &BackupWatch) -> Markup {
    let holds = match backup.kind {
        BackupKind::Snapshot => "with a snapshot that users see; the VM can be used as always",
        BackupKind::Live => "without a snapshot that users see; the VM is locked until it ends",
        BackupKind::Cold => "the VM is down, and locked until it ends",
    };
    html! {
        section.card {
            h2 { "About it" }
            dl.facts {
                dt { "Holds" } dd { (mode(backup)) " (" (holds) ")" }
                dt { "Consistency" } dd { (consistency(backup)) }
                dt { "Guest stood still" } dd { @match watch.stall {
                    Some(stall) => (stalled(stall)),
                    None if backup.kind == BackupKind::Cold => "the VM is down",
                    None if backup.phase == BackupPhase::Initializing => "not yet",
                    None => span.dim { "was not measured, or its record is gone" },
                } }
                dt { "Began" } dd { (ui::moment(backup.created_at)) " UTC" }
                @if backup.phase == BackupPhase::Ready {
                    dt { "Given up" } dd { "at " (ui::moment(watch.lease_until)) " UTC, if its client does nothing until then" }
                } @else if backup.phase.is_end() {
                    dt { "Ended" } dd { (ui::moment(backup.modified_at)) " UTC" }
                }
                @if let Some(from) = backup.from { dt { "Since checkpoint" } dd { code { (from) } } }
                @if let Some(to) = backup.to { dt { "Its checkpoint" } dd { code { (to) } @if backup.phase == BackupPhase::Failed { " (gone)" } } }
                @if let Some(snapshot) = backup.snapshot { dt { "Its snapshot" } dd { a href={ (scene.place()) "/snapshots/" (snapshot) } { (snapshot) } } }
                dt { "Job" } dd { a href={ "/console/jobs/" (backup.id) } { (backup.id) } }
            }
        }
    }
}

fn one_disk(number: usize, view: &BackupDiskView, disk: &DiskWatch, rate: Option<u64>, phase: BackupPhase) -> Markup {
    let alias = &view.disk.alias;
    html! {
        section.card.disk aria-labelledby={ "disk-" (number) } {
            h2 id={ "disk-" (number) } { (alias) " " span.dim { (ui::bytes(disk.size_bytes)) } }
            @match (view.mode, phase) {
                (_, BackupPhase::Initializing | BackupPhase::Starting) => {},
                (BackupMode::Full, _) => { p { "All of it is wanted" @if let Some(why) = &disk.why_full { ", because " (why) } "." } },
                (BackupMode::Incremental, _) => { p { "Wanted is what changed since the checkpoint." } },
            }
            @if let Some(map) = &disk.map {
                @let total = map.total();
                @let left = total.dirty - total.copied;
                dl.numbers {
                    div { dt { "Copied" } dd { (ui::bytes(total.copied)) " of " (ui::bytes(total.dirty)) } }
                    div { dt { "Moved in all" } dd { (ui::bytes(disk.moved_bytes)) } }
                    div { dt { "Speed" } dd { @match rate { Some(rate) if disk.transfers > 0 => { (ui::bytes(rate)) "/s" }, _ => "–" } } }
                    div { dt { "Left" } dd { (eta(left, rate.filter(|_| disk.transfers > 0))) } }
                    div { dt { "Transfers" } dd { (disk.transfers) @if disk.transfers == 0 && left > 0 { " (no client downloads)" } } }
                }
                progress.wide max="100" value=(percent(total.copied, total.dirty)) aria-label={ "Copied of disk " (alias) } {}
                (map::drawn(map, number, alias))
                (map::table(map, number))
            }
            @if let Some(why) = &disk.no_map { p.dim { "There is no map of it: " (why) ". Moved so far: " (ui::bytes(disk.moved_bytes)) "." } }
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        100
    } else {
        u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100)
    }
}

fn eta(left: u64, rate: Option<u64>) -> Markup {
    html! {
        @match (left, rate) {
            (0, _) => "nothing: all is copied",
            (_, None) => (ui::bytes(left)),
            (_, Some(0)) => { (ui::bytes(left)) ", stands still" },
            (_, Some(rate)) => { "about " (words::span(i64::try_from(left.saturating_mul(1_000_000) / rate).unwrap_or(i64::MAX))) },
        }
    }
}
