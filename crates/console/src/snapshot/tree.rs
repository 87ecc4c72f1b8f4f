//! Draws a VM's snapshots: what stands on what, where the VM is, and when changes were marked for backups.
//!
//! It is a list, oldest first, so that a screen reader and the tab key go through it in its order; beside each item is its
//! piece of the drawing. The pieces join, whatever height an item has.

use super::{
    graph::{Line, Place, fold, layout},
    plan::many,
};
use crate::{ui, vm::Scene};
use maud::{Markup, html};
use std::collections::HashMap;
use stillpoint_engine::view::{CheckpointView, SnapshotStatus, SnapshotView, StepView};
use stillpoint_types::{Micros, SnapshotId, SnapshotType};

/// Width of a lane, in pixels.
const LANE: usize = 22;
/// Where in an item its node is, in pixels from its top.
const NODE: usize = 25;
/// Checkpoints between two snapshots that are named one by one.
const TICKS: usize = 2;

/// What is to be drawn.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) checkpoints: &'a [CheckpointView],
    /// Where the job stands that holds the VM.
    pub(crate) step: Option<&'a StepView>,
    /// Leave nothing out.
    pub(crate) all: bool,
}

/// What each snapshot stands on, as places in the same list. They are a line, but for a preview: what was there before stands
/// on the newest, and what the VM runs on now on the previewed one.
fn parents(snapshots: &[SnapshotView]) -> Vec<Option<usize>> {
    let places: HashMap<SnapshotId, usize> = snapshots.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
    let previewed = snapshots.iter().position(|one| one.status == SnapshotStatus::InPreview);
    let of = |one: &SnapshotView| match one.kind {
        SnapshotType::Active if previewed.is_some() => previewed,
        _ => one.previous.and_then(|previous| places.get(&previous).copied()),
    };
    snapshots.iter().map(of).collect()
}

fn x(lane: usize) -> usize {
    lane * LANE + LANE / 2
}

/// The piece of the drawing beside an item. `node`: what stands there.
fn rail(width: usize, place: &Place, node: &Markup) -> Markup {
    let own = x(place.lane);
    html! {
        svg.rail width=(width) aria-hidden="true" focusable="false" {
            @for lane in &place.passing {
                line x1=(x(*lane)) y1="0" x2=(x(*lane)) y2="100%" {}
            }
            @if place.from_above { line x1=(own) y1="0" x2=(own) y2=(NODE) .trial[!place.is_trunk] {} }
            @if place.goes_on { line x1=(own) y1=(NODE) x2=(own) y2="100%" {} }
            @for lane in &place.branches {
                path.trial d=(format!("M{own} {NODE} H{} Q{to} {NODE} {to} {}", x(*lane) - 8, NODE + 8, to = x(*lane))) {}
                line.trial x1=(x(*lane)) y1=(NODE + 8) x2=(x(*lane)) y2="100%" {}
            }
            (node)
        }
    }
}

impl Tree<'_> {
    /// The list.
    pub(crate) fn render(&self) -> Markup {
        let snapshots = &self.scene.snapshots;
        let places = layout(&parents(snapshots));
        let lanes = places
            .iter()
            .flat_map(|place| place.branches.iter().chain([&place.lane]))
            .max()
            .map_or(1, |most| most + 1);
        let width = lanes * LANE;
        let mut ticks = self.ticks(&places);
        let lines = if self.all {
            (0..places.len()).map(Line::Row).collect()
        } else {
            fold(places.len(), |row| {
                places
                    .get(row)
                    .is_some_and(|place| self.is_plain(place) && !ticks.contains_key(&row))
            })
        };
        html! {
            ol.tree .long[lines.len() > 100] {
                @for line in lines {
                    @match line {
                        Line::Row(row) => @if let Some(place) = places.get(row) {
                            @if let Some(marks) = ticks.remove(&row) { (self.marks(width, place, &marks)) }
                            @if let Some(one) = snapshots.get(place.node) { (self.item(width, place, one)) }
                        },
                        Line::Gap(row, count) => @if let Some(place) = places.get(row) { (self.gap(width, place, count)) },
                    }
                }
            }
        }
    }

    /// Nothing to be seen there but one more snapshot.
    fn is_plain(&self, place: &Place) -> bool {
        let one = self.scene.snapshots.get(place.node);
        place.branches.is_empty()
            && place.passing.is_empty()
            && one.is_some_and(|one| one.kind == SnapshotType::Regular && one.status == SnapshotStatus::Ok)
    }

    /// The checkpoints that lie before each row, on the line that is kept.
    fn ticks(&self, places: &[Place]) -> HashMap<usize, Vec<&CheckpointView>> {
        let trunk: Vec<(usize, Micros)> = places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.is_trunk)
            .filter_map(|(row, place)| Some((row, self.scene.snapshots.get(place.node)?.date)))
            .collect();
        let mut ticks: HashMap<usize, Vec<&CheckpointView>> = HashMap::new();
        for one in self.checkpoints {
            // The last is where the line is now: it has no date of its own.
            let past = trunk.iter().take(trunk.len().saturating_sub(1));
            let row = past.clone().find(|(_, date)| *date >= one.created_at).or(trunk.last());
            if let Some((row, _)) = row {
                ticks.entry(*row).or_default().push(one);
            }
        }
        ticks
    }

    fn marks(&self, width: usize, next: &Place, marks: &[&CheckpointView]) -> Markup {
        let place = Place {
            goes_on: true,
            branches: Vec::new(),
            is_trunk: true,
            ..next.clone()
        };
        let at = x(place.lane);
        let tick = html! { line.tick x1=(at - 7) y1="14" x2=(at + 7) y2="14" {} };
        let points = format!("{}/points", self.scene.place());
        let named = |one: &CheckpointView| {
            let text = if one.description.is_empty() {
                "Checkpoint"
            } else {
                &one.description
            };
            html! { span.name { (text) } " " span.dim { "checkpoint, " (ui::moment(one.created_at)) } }
        };
        html! {
            @if marks.len() <= TICKS {
                @for one in marks { li.mark { (rail(width, &place, &tick)) div { (named(one)) } } }
            } @else if let (Some(first), Some(last)) = (marks.first(), marks.last()) {
                li.mark {
                    (rail(width, &place, &tick))
                    div { a href=(points) { (many(marks.len(), "checkpoint")) } " "
                        span.dim { (ui::moment(first.created_at)) " to " (ui::moment(last.created_at)) } }
                }
            }
        }
    }

    fn gap(&self, width: usize, place: &Place, count: usize) -> Markup {
        let dots = html! { line.dots x1=(x(place.lane)) y1="0" x2=(x(place.lane)) y2="100%" {} };
        let place = Place {
            from_above: false,
            goes_on: false,
            ..place.clone()
        };
        html! {
            li.gap {
                (rail(width, &place, &dots))
                div { a href={ (self.scene.place()) "?all=1#snapshots" } { "Show " (count) " more" } " "
                    span.dim { "in one line, each on the one before it" } }
            }
        }
    }

    fn item(&self, width: usize, place: &Place, one: &SnapshotView) -> Markup {
        let kind = match (one.kind, one.status) {
            (SnapshotType::Active, _) => "now",
            (SnapshotType::Preview, _) => "kept",
            (_, SnapshotStatus::Locked) => "held",
            (_, SnapshotStatus::InPreview) => "previewed",
            _ => "plain",
        };
        let (at, radius) = (x(place.lane), if one.kind == SnapshotType::Active { 8 } else { 6 });
        let node = html! {
            circle.(kind) cx=(at) cy=(NODE) r=(radius) { }
            @if one.memory.is_some() { circle.heart cx=(at) cy=(NODE) r="2" {} }
        };
        html! {
            li.(kind) id={ "snapshot-" (one.id) } {
                (rail(width, place, &node))
                div {
                    @match one.kind {
                        SnapshotType::Active => (self.now(place)),
                        SnapshotType::Preview => {
                            p.head { span.name { "Before the preview" } " " (ui::badge("kept")) }
                            p.dim { "What the VM had: undo leads back to it." (self.size(one)) }
                        },
                        SnapshotType::Regular => (self.regular(one)),
                    }
                }
            }
        }
    }

    fn size(&self, one: &SnapshotView) -> Markup {
        html! {
            @if let Some(bytes) = self.scene.sizes.disks.get(&one.id) { span.size { (ui::bytes(*bytes)) " on disk" } }
        }
    }

    fn regular(&self, one: &SnapshotView) -> Markup {
        let name = if one.description.is_empty() {
            "(no name)"
        } else {
            &one.description
        };
        html! {
            p.head {
                a.name href=(self.scene.snapshot_place(one.id)) { (name) }
                @if let Some(bytes) = self.scene.sizes.memory.get(&one.id) {
                    " " span.badge.memory title=(ui::bytes(*bytes)) { "memory" }
                }
                @match one.status {
                    SnapshotStatus::Ok => {},
                    SnapshotStatus::Locked => { " " (ui::badge("locked")) },
                    SnapshotStatus::InPreview => { " " (ui::badge("in_preview")) },
                }
            }
            p.dim { (ui::moment(one.date)) " " (self.size(one)) }
            @if one.holder.is_some() { (under_way(one, self.step)) }
        }
    }

    /// Where the VM is now.
    fn now(&self, place: &Place) -> Markup {
        let (scene, href) = (self.scene, self.scene.place());
        let is_trial = !place.is_trunk || scene.previewed().is_some();
        let is_free = scene.vm.holder.is_none();
        html! {
            p.head {
                span.name { @if is_trial { "On trial: the VM as it is now" } @else { "The VM as it is now" } }
                " " (ui::badge(scene.vm.status.label()))
            }
            @if !scene.disks.is_empty() {
                p.dim { (ui::bytes(scene.active_bytes())) " written since" }
            }
            @if scene.may_operate && is_free {
                p.actions {
                    @if is_trial {
                        a.button href={ (href) "/commit" } { "Commit" }
                        a.button.quiet href={ (href) "/undo" } { "Undo" }
                    } @else {
                        a.button href={ (href) "/snapshots/new" } { "Take a snapshot" }
                    }
                }
            }
        }
    }
}

/// What a job does with a snapshot, and how far it is.
pub(crate) fn under_way(one: &SnapshotView, step: Option<&StepView>) -> Markup {
    html! {
        p.dim {
            (ui::holder(one.holder.as_ref()))
            @if let Some(step) = step {
                ": " (step.description) " "
                progress max="100" value=(step.progress) aria-label=(step.description) {}
                " " (step.progress) "%"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: SnapshotId, kind: SnapshotType, status: SnapshotStatus, previous: Option<SnapshotId>) -> SnapshotView {
        SnapshotView {
            id,
            vm: stillpoint_types::VmId::fresh(),
            vm_name: "db1".into(),
            description: "x".into(),
            kind,
            status,
            holder: None,
            date: 0,
            memory: None,
            config: None,
            previous,
        }
    }

    #[test]
    fn during_a_preview_the_vm_stands_on_the_previewed_snapshot() {
        let ids: Vec<_> = (0..4).map(|_| SnapshotId::fresh()).collect();
        let (regular, ok) = (SnapshotType::Regular, SnapshotStatus::Ok);
        let mut all = vec![
            one(ids[0], regular, SnapshotStatus::InPreview, None),
            one(ids[1], regular, ok, Some(ids[0])),
            one(ids[2], SnapshotType::Preview, ok, Some(ids[1])),
            one(ids[3], SnapshotType::Active, ok, Some(ids[2])),
        ];
        assert_eq!(parents(&all), [None, Some(0), Some(1), Some(0)]);
        all[0].status = ok;
        all.remove(2);
        all[2].previous = Some(ids[1]);
        assert_eq!(parents(&all), [None, Some(0), Some(1)]);
    }
}
