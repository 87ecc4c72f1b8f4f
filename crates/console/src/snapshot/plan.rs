//! What an action on a VM or a snapshot will do and what it will lose, in sentences made from the state as it is.
//!
//! Nothing is promised here that the core does not do; the core decides anew when the form is posted. A form holds the mark
//! of what it said would be lost: if that has changed meanwhile, it is shown again instead of being done.

use crate::{
    layout,
    trouble::{Trouble, status_of},
    ui::{self, Confirm},
    visit::{Fields, Visit},
    vm::Scene,
};
use axum::body::Body;
use http::{Response, StatusCode};
use maud::{Markup, html};
use sha2::{Digest as _, Sha256};
use stillpoint_engine::{Fault, config::SnapshotConfig, view::SnapshotView};
use stillpoint_types::{FaultCode, SnapshotId, SnapshotType, VmStatus};

/// The field with the mark.
const MARK: &str = "seen";
/// Snapshots that are named before the rest is only counted.
const NAMED: usize = 12;

/// An action that is about to be asked about.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The page's headline.
    pub(crate) title: String,
    /// What will happen.
    pub(crate) happens: Vec<String>,
    /// What will be lost.
    pub(crate) loses: Vec<String>,
    /// What stands in the way now.
    pub(crate) blockers: Vec<String>,
    /// The things whose loss was told; sizes that a running guest changes are not among them.
    pub(crate) lost_things: Vec<String>,
    /// Further fields.
    pub(crate) fields: Option<Markup>,
    /// The button's verb.
    pub(crate) button: &'static str,
    /// Where "Cancel" leads.
    pub(crate) back: String,
}

/// Why a form is shown again.
#[derive(Debug)]
pub(crate) enum Again {
    /// The core refused.
    Fault(Fault),
    /// More, or something else, would be lost than was told.
    Changed,
}

impl From<Fault> for Again {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Plan {
    fn mark(&self) -> String {
        let mut digest = Sha256::new();
        for thing in &self.lost_things {
            digest.update(thing.as_bytes());
            digest.update([0]);
        }
        digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether what was posted agreed to these losses and no others.
    pub(crate) fn expect_seen(&self, form: &Fields) -> Result<(), Again> {
        match form.raw(MARK) {
            Some(seen) if seen == self.mark() => Ok(()),
            _ => Err(Again::Changed),
        }
    }

    /// The page that asks.
    pub(crate) fn page(&self, visit: &Visit, again: Option<&Again>) -> Result<Response<Body>, Trouble> {
        let changed = "Things have changed since this page was made. Read again what will be lost, then confirm.";
        let (status, error) = match again {
            None => (StatusCode::OK, None),
            Some(Again::Changed) => (StatusCode::CONFLICT, Some(changed)),
            Some(Again::Fault(fault)) if matches!(fault.code, FaultCode::NotFound | FaultCode::Forbidden) => {
                return Err(fault.clone().into());
            }
            Some(Again::Fault(fault)) => (status_of(fault), Some(fault.text.as_str())),
        };
        let fields = html! {
            input type="hidden" name=(MARK) value=(self.mark());
            @if let Some(fields) = &self.fields { (fields) }
        };
        let confirm = Confirm {
            happens: self.happens.clone(),
            loses: self.loses.clone(),
            fields: Some(fields),
            button: self.button,
            back: &self.back,
            error,
        };
        let content = html! {
            @if !self.blockers.is_empty() && error.is_none() {
                section.blocked aria-label="In the way" {
                    h2 { "In the way now" }
                    ul { @for one in &self.blockers { li { (one) } } }
                }
            }
            (confirm.render(visit))
        };
        Ok(layout::page_with(visit, status, &self.title, "/console/", &content))
    }

    /// Something stands in the way if so.
    pub(crate) fn blocked(&mut self, is: bool, by: impl Into<String>) {
        if is {
            self.blockers.push(by.into());
        }
    }

    /// A loss that has to be agreed to.
    pub(crate) fn lose(&mut self, text: impl Into<String>, thing: impl std::fmt::Display) {
        self.loses.push(text.into());
        self.lost_things.push(thing.to_string());
    }

    /// A job that holds the VM is in the way of everything.
    pub(crate) fn blocked_by_holder(&mut self, scene: &Scene) {
        if let Some(holder) = &scene.vm.holder {
            self.blockers
                .push(format!("VM {} is held: {}.", scene.name(), holder.what));
        }
    }
}

/// A moment as text.
pub(crate) fn when(one: &SnapshotView) -> String {
    let text = jiff::Timestamp::from_microsecond(one.date).map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    text.unwrap_or_else(|_out_of_range| "an unknown moment".into())
}

/// So many of something.
pub(crate) fn many(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

/// Names in a sentence.
pub(crate) fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

/// The regular snapshots that are newer than that one.
pub(crate) fn newer(scene: &Scene, than: SnapshotId) -> impl Iterator<Item = &SnapshotView> {
    let after = scene.snapshots.iter().skip_while(move |one| one.id != than).skip(1);
    after.filter(|one| one.kind == SnapshotType::Regular)
}

/// Bytes of the layers that were written since a snapshot, on the line that goes to what the VM had before a preview, or has.
pub(crate) fn written_since(scene: &Scene, since: SnapshotId) -> u64 {
    let after = scene.snapshots.iter().skip_while(|one| one.id != since).skip(1);
    let kept: u64 = after.filter_map(|one| scene.sizes.disks.get(&one.id)).sum();
    let active = if scene.former().is_some() {
        0
    } else {
        scene.active_bytes()
    };
    kept + active
}

/// What is lost by going back to a snapshot and staying there.
pub(crate) fn lose_later(plan: &mut Plan, scene: &Scene, one: &SnapshotView) {
    let held = held(one).count();
    if held > 0 {
        let text = format!(
            "What was written to {} since {}: layers of {} on disk.",
            many(held, "disk"),
            when(one),
            ui::bytes(written_since(scene, one.id))
        );
        plan.lose(text, "what was written");
    }
    let newer: Vec<_> = newer(scene, one.id).collect();
    for lost in newer.iter().take(NAMED) {
        let memory = if lost.memory.is_some() { ", with its memory" } else { "" };
        plan.loses.push(format!(
            "The newer snapshot “{}” of {}{memory}.",
            lost.description,
            when(lost)
        ));
    }
    if newer.len() > NAMED {
        plan.loses.push(format!(
            "And {} more, to the newest.",
            many(newer.len() - NAMED, "newer snapshot")
        ));
    }
    plan.lost_things.extend(newer.iter().map(|lost| lost.id.to_string()));
    for change in changes(scene, one) {
        plan.lose(change.clone(), change);
    }
}

/// The disks that a snapshot holds.
pub(crate) fn held(one: &SnapshotView) -> impl Iterator<Item = &stillpoint_engine::config::AttachmentConfig> {
    let config = one.config.iter();
    config.flat_map(|config| config.attachments.iter().filter(|a| a.image.is_some()))
}

/// What of the VM's configuration has changed since a snapshot, and would be as it was then.
fn changes(scene: &Scene, one: &SnapshotView) -> Vec<String> {
    let Some(SnapshotConfig {
        config, attachments, ..
    }) = &one.config
    else {
        return Vec::new();
    };
    let now = &scene.vm.config;
    let mut found = Vec::new();
    let mut differs = |what: &str, now: String, then: String| {
        if now != then {
            found.push(format!("The present {what}: {now} becomes {then}, as it was then."));
        }
    };
    differs(
        "memory size",
        ui::bytes(now.memory_bytes),
        ui::bytes(config.memory_bytes),
    );
    let cpus = |of: &stillpoint_engine::config::VmConfig| many_cpus(of.sockets, of.cores, of.threads);
    differs("number of processors", cpus(now), cpus(config));
    let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "none".into());
    differs("kernel", text(&now.kernel), text(&config.kernel));
    differs("initial RAM disk", text(&now.initrd), text(&config.initrd));
    differs("kernel command line", text(&now.cmdline), text(&config.cmdline));
    let nics = |of: &stillpoint_engine::config::VmConfig| match of.nics.len() {
        0 => "none".to_owned(),
        _ => names(of.nics.iter().map(|nic| nic.name.as_str())),
    };
    differs("network interfaces", nics(now), nics(config));
    for attached in &scene.disks {
        if !attachments.iter().any(|a| a.disk == attached.disk.id) {
            found.push(format!(
                "The attachment of disk {}: the disk stays, but belongs to no VM then.",
                attached.disk.alias
            ));
        }
    }
    found
}

/// The number of processors.
pub(crate) fn many_cpus(sockets: u32, cores: u32, threads: u32) -> String {
    u64::from(sockets)
        .saturating_mul(u64::from(cores))
        .saturating_mul(u64::from(threads))
        .to_string()
}

/// Whether the VM's status is one of these; else what stands in the way.
pub(crate) fn blocked_unless(plan: &mut Plan, scene: &Scene, allowed: &[VmStatus], words: &str) {
    let status = scene.vm.status;
    plan.blocked(
        !allowed.contains(&status),
        format!(
            "VM {} is {}; it must be {words}.",
            scene.name(),
            status.label().replace('_', " ")
        ),
    );
}

/// The disks that a snapshot leaves out, though the VM had them.
pub(crate) fn left_out(one: &SnapshotView) -> Vec<&str> {
    let config = one.config.iter();
    let out = config.flat_map(|config| config.attachments.iter().filter(|a| a.image.is_none()));
    out.map(|a| a.alias.as_str()).collect()
}

/// A box to tick, with what it means.
pub(crate) fn tick(name: &str, is_set: bool, label: &str, hint: &Markup) -> Markup {
    html! {
        div.check {
            input type="checkbox" id={ "tick-" (name) } name=(name) value="yes" checked[is_set] aria-describedby={ "hint-" (name) };
            div {
                label for={ "tick-" (name) } { (label) }
                span.hint id={ "hint-" (name) } { (hint) }
            }
        }
    }
}

/// The box that has a running guest stopped first.
pub(crate) fn stop_first(scene: &Scene, form: Option<&Fields>) -> Markup {
    let hint = html! { "As by pulling the plug. To end it properly, " a href={ (scene.place()) "/shutdown" } { "shut it down" } " first." };
    tick(
        "stop",
        form.is_some_and(|form| form.is_set("stop")),
        "Stop the VM at once first",
        &hint,
    )
}
