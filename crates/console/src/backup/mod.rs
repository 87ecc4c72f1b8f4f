//! Backups of a VM: the list, one that runs with a map of its blocks, and what can be done with them.

pub(crate) mod delete;
pub(crate) mod finalize;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod page;
pub(crate) mod rate;
pub(crate) mod start;

use crate::{trouble::Trouble, visit::Visit, vm::Scene};
use maud::{Markup, html};
use stillpoint_engine::view::BackupView;
use stillpoint_types::{BackupId, BackupKind, BackupMode, BackupPhase};

/// A phase as a coloured word.
pub(crate) fn badge(phase: BackupPhase) -> Markup {
    let (kind, word) = match phase {
        BackupPhase::Initializing => ("busy", "freezes its moment"),
        BackupPhase::Starting => ("busy", "works out what changed"),
        BackupPhase::Ready => ("busy", "ready for download"),
        BackupPhase::Finalizing => ("busy", "is being ended"),
        BackupPhase::Succeeded => ("good", "done"),
        BackupPhase::Failed => ("bad", "failed"),
    };
    html! { span.badge.(kind) { (word) } }
}

/// What a guest would find on its disks: said of a backup.
pub(crate) fn consistency(backup: &BackupView) -> &'static str {
    match (backup.kind, backup.consistent, backup.phase) {
        (_, _, BackupPhase::Initializing) => "not known yet",
        (BackupKind::Cold, ..) => "VM was down",
        (_, true, _) => "guest frozen",
        (_, false, _) => "crash-consistent",
    }
}

/// Full, or since when.
pub(crate) fn mode(backup: &BackupView) -> String {
    let full = backup.disks.iter().filter(|disk| disk.mode == BackupMode::Full).count();
    match (backup.from, backup.disks.len()) {
        (None, _) => "full".into(),
        (Some(_), many)
            if full == many && backup.phase != BackupPhase::Initializing && backup.phase != BackupPhase::Starting =>
        {
            "full, although changes were asked for".into()
        }
        (Some(_), _) if full == 0 || matches!(backup.phase, BackupPhase::Initializing | BackupPhase::Starting) => {
            "what changed".into()
        }
        (Some(_), many) => format!("what changed; {full} of {many} disks in full"),
    }
}

/// Where the backups of a VM are.
pub(crate) fn place(scene: &Scene) -> String {
    format!("{}/backups", scene.place())
}

/// The way back up.
pub(crate) fn crumbs(scene: &Scene, more: Option<(&str, &str)>) -> Markup {
    html! {
        p.crumbs {
            a href="/console/" { "Virtual machines" } " › " a href=(scene.place()) { (scene.name()) }
            @if let Some((place, name)) = more { " › " a href=(place) { (name) } }
        }
    }
}

/// The backup that a path names.
pub(crate) async fn find(visit: &Visit, scene: &Scene, id: &str) -> Result<BackupView, Trouble> {
    let id: BackupId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    Ok(visit.engine().backup(&visit.who, scene.vm.id, id).await?)
}
