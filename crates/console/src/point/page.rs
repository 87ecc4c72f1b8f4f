//! The timeline: an axis, the same as a list, and what can be done with the chosen point.

use super::{Kind, Point, all, axis};
use crate::{
    backup::{self, crumbs},
    layout,
    trouble::Trouble,
    ui,
    visit::Visit,
    vm::Scene,
};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_types::BackupPhase;

/// Points that are shown before it takes a link to see all.
const SHOWN: usize = 100;

/// The page.
pub(crate) async fn show(Path(id): Path<String>, visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let scene = Scene::look(&visit, &id).await?;
    let (engine, who, vm) = (visit.engine(), &visit.who, scene.vm.id);
    let backups = engine.backups(who, vm).await?;
    let points = all(&scene, &backups, &engine.checkpoints(who, vm).await?);
    let wanted = visit.query.text("point");
    let chosen = points.iter().find(|point| Some(point.word().as_str()) == wanted);
    let here = format!("{}/points", scene.place());
    let limit = if visit.query.is_set("all") { usize::MAX } else { SHOWN };
    let shown = points.get(..limit.min(points.len())).unwrap_or_default();
    let content = html! {
        (crumbs(&scene, None))
        (ui::live("points", &html! {
            @if points.is_empty() { (empty(&scene)) } @else {
                section.card aria-label="Time axis" {
                    (axis::drawn(shown, wanted, &here, engine.now()))
                }
                div.timeline {
                    (list(shown, wanted, &here))
                    div.side {
                        @match chosen {
                            Some(point) => (one(&scene, point)),
                            None => { section.card id="chosen" { h2 { "Choose a point" } p { "Then it is shown here what it is, and how the VM comes back from it: over what \
                                it is now, or beside it as a new VM." } } },
                        }
                    }
                }
                @if shown.len() < points.len() { p { a href={ (here) "?all" } { "Show all " (points.len()) } } }
            }
        }))
    };
    let page = layout::page(
        &visit,
        &format!("Points in time of {}", scene.name()),
        "/console/",
        &content,
    );
    Ok(layout::unless_known(&headers, page))
}

fn empty(scene: &Scene) -> Markup {
    html! {
        section.card.empty {
            h2 { "No point in time yet" }
            p { "A snapshot keeps all disks as they are at one instant, here; a backup holds an instant until a client has copied it elsewhere. Begin with one of \
                 them:" }
            @if scene.may_operate {
                p.actions {
                    a.button href={ (scene.place()) "/snapshots/new" } { "Take a snapshot" }
                    a.button.quiet href={ (backup::place(scene)) "/new" } { "Start a backup" }
                }
            } @else {
                pre { "stillpoint snapshot create " (scene.name()) " 'before the upgrade'" }
            }
        }
    }
}

fn list(points: &[Point], chosen: Option<&str>, here: &str) -> Markup {
    html! {
        ol.points aria-label="Points in time, newest first" {
            @for point in points {
                @let word = point.word();
                li .chosen[chosen == Some(word.as_str())] {
                    (axis::sample(point.kind))
                    div {
                        a.name href={ (here) "?point=" (word) "#chosen" } aria-current=[(chosen == Some(word.as_str())).then_some("true")] { (point.name) }
                        p.dim { (point.noun()) ", " (ui::moment(point.at)) " UTC, " (point.size()) }
                        p { (point.level.badge())
                            @if let Kind::Backup(_, phase) = point.kind { " " (backup::badge(phase)) }
                            @else if point.is_held { " " (ui::badge("locked")) } }
                    }
                }
            }
        }
    }
}

/// What the chosen point is, and how to come back from it.
fn one(scene: &Scene, point: &Point) -> Markup {
    let (_, _, means) = point.level.told();
    html! {
        section.card id="chosen" aria-labelledby="chosen-title" {
            h2 id="chosen-title" { (point.name) }
            dl.facts {
                dt { "What" } dd { (point.noun()) }
                dt { "Moment" } dd { (ui::moment(point.at)) " UTC" }
                dt { "Consistency" } dd { (point.level.badge()) }
                dt { "Takes here" } dd { (point.size()) }
            }
            p { (means) }
            (ways_back(scene, point))
        }
    }
}

fn ways_back(scene: &Scene, point: &Point) -> Markup {
    let here = scene.place();
    html! {
        @match point.kind {
            Kind::Snapshot(id) | Kind::Memory(id) => {
                @if scene.may_operate {
                    p.actions {
                        a.button.danger href={ (here) "/snapshots/" (id) "/restore" } { "Restore over the VM" }
                        a.button href={ (here) "/snapshots/" (id) "/clone" } { "Restore beside it" }
                    }
                    p.dim { "Over: the VM goes on from there, and what is newer is lost. Beside: a new VM is made of it, and this one stays as it is. Each page says \
                             first what will happen." }
                } @else { p.dim { "To restore it, you need the role member in the VM's project." } }
                p { a href={ (here) "/snapshots/" (id) } { "All about the snapshot" } }
            },
            Kind::Former => {
                p { "A snapshot is being previewed. This is what the VM had before it, and gets back when the preview is undone." }
                @if scene.may_operate { p.actions { a.button href={ (here) "/undo" } { "Undo the preview" } } }
            },
            Kind::Backup(id, phase) => {
                @if !phase.is_end() && phase != BackupPhase::Finalizing {
                    p { "It is under way: a client downloads it now, or will. It can be restored once the client is done." }
                }
                (by_command(scene))
                p { a href={ (backup::place(scene)) "/" (id) } { "How far the backup is" } }
            },
            Kind::Checkpoint(_) => {
                p { "A checkpoint alone holds no data: it marks the moment since which changes are known. The data of that moment are in the backup that made it, \
                     wherever its client has put them." }
                (by_command(scene))
                p { a href=(backup::place(scene)) { "Backups and checkpoints" } }
            },
        }
    }
}

/// How a backup comes back.
fn by_command(scene: &Scene) -> Markup {
    html! {
        p { "A backup that was made with the command line comes back from its directory, always beside, as a new VM:" }
        pre tabindex="0" { "stillpoint backup list /backup/" (scene.name()) "\nstillpoint backup restore /backup/" (scene.name()) " --as " (scene.name()) "-restored" }
        p.dim { "For one of another backup program, use that program." }
    }
}
