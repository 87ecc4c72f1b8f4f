//! Points in time of a VM: its snapshots, backups and checkpoints in the order of their moments; one is chosen, and restored over
//! the VM or beside it.

pub(crate) mod axis;
pub(crate) mod page;

use crate::{backup, ui, vm::Scene};
use maud::{Markup, html};
use stillpoint_engine::{
    config::Consistency,
    view::{BackupView, CheckpointView, SnapshotStatus, SnapshotView},
};
use stillpoint_types::{BackupId, BackupKind, BackupPhase, CheckpointId, Micros, SnapshotId, SnapshotType};

/// What a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A snapshot of disks.
    Snapshot(SnapshotId),
    /// A snapshot of disks and memory.
    Memory(SnapshotId),
    /// What the VM had before the preview that goes on.
    Former,
    /// A backup that the daemon still knows of.
    Backup(BackupId, BackupPhase),
    /// A checkpoint whose backup it does not know of any more.
    Checkpoint(CheckpointId),
}

/// What a guest would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// It goes on where it was.
    WithMemory,
    /// File systems frozen.
    Frozen,
    /// The VM was down.
    Down,
    /// As after a power cut.
    Crash,
    /// It was not written down.
    Unknown,
}

impl Level {
    /// In words, and what they mean.
    pub(crate) fn told(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::WithMemory => ("good", "with memory", "The guest goes on in the middle of what it did."),
            Self::Frozen => (
                "good",
                "guest frozen",
                "The guest's file systems were frozen for that instant: nothing was half written.",
            ),
            Self::Down => ("good", "VM was down", "The VM was down: its disks are as it left them."),
            Self::Crash => (
                "busy",
                "crash-consistent",
                "As after a power cut: file systems and databases repair themselves from their journals at the next start.",
            ),
            Self::Unknown => (
                "calm",
                "not recorded",
                "Whether the guest was frozen at that instant was not written down.",
            ),
        }
    }

    /// As a coloured word.
    pub(crate) fn badge(self) -> Markup {
        let (kind, word, _) = self.told();
        html! { span.badge.(kind) { (word) } }
    }
}

/// A point in time.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) kind: Kind,
    pub(crate) at: Micros,
    /// As its user calls it.
    pub(crate) name: String,
    pub(crate) level: Level,
    /// Bytes that it takes here, disks and memory; `None`: nothing of its own.
    pub(crate) bytes: Option<u64>,
    /// A job holds it.
    pub(crate) is_held: bool,
}

impl Point {
    /// The word by which a query names it.
    pub(crate) fn word(&self) -> String {
        match self.kind {
            Kind::Snapshot(id) | Kind::Memory(id) => format!("s-{id}"),
            Kind::Former => "former".into(),
            Kind::Backup(id, _) => format!("b-{id}"),
            Kind::Checkpoint(id) => format!("c-{id}"),
        }
    }

    /// What it is.
    pub(crate) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Snapshot(_) | Kind::Memory(_) => "snapshot",
            Kind::Former => "before the preview",
            Kind::Backup(..) => "backup",
            Kind::Checkpoint(_) => "checkpoint",
        }
    }

    /// What it takes, as a text.
    pub(crate) fn size(&self) -> String {
        self.bytes.map_or_else(|| "no data here".into(), ui::bytes)
    }
}

fn of_snapshot(scene: &Scene, one: &SnapshotView) -> Option<Point> {
    let kind = match (one.kind, one.memory) {
        (SnapshotType::Active, _) => return None,
        (SnapshotType::Preview, _) => Kind::Former,
        (SnapshotType::Regular, Some(_)) => Kind::Memory(one.id),
        (SnapshotType::Regular, None) => Kind::Snapshot(one.id),
    };
    let level = match one.config.as_ref().and_then(|config| config.consistency) {
        _ if one.memory.is_some() => Level::WithMemory,
        Some(Consistency::Frozen) => Level::Frozen,
        Some(Consistency::Down) => Level::Down,
        Some(Consistency::Crash) => Level::Crash,
        None => Level::Unknown,
    };
    let size = |sizes: &std::collections::HashMap<SnapshotId, u64>| sizes.get(&one.id).copied().unwrap_or(0);
    Some(Point {
        kind,
        at: one.date,
        name: one.description.clone(),
        level,
        bytes: Some(size(&scene.sizes.disks) + size(&scene.sizes.memory)),
        is_held: one.status == SnapshotStatus::Locked,
    })
}

fn of_backup(one: &BackupView, at: Option<Micros>) -> Point {
    let level = match (one.kind, one.consistent, one.phase) {
        (_, _, BackupPhase::Initializing) => Level::Unknown,
        (BackupKind::Cold, ..) => Level::Down,
        (_, true, _) => Level::Frozen,
        (_, false, _) => Level::Crash,
    };
    let text = if one.description.is_empty() {
        "without description"
    } else {
        &one.description
    };
    Point {
        kind: Kind::Backup(one.id, one.phase),
        at: at.unwrap_or(one.created_at),
        name: format!("{text} ({})", backup::mode(one)),
        level,
        bytes: None,
        is_held: !one.phase.is_end(),
    }
}

/// The points, newest first. A backup that the daemon knows stands for its checkpoint and its snapshot, too; one that failed is no
/// point.
pub(crate) fn all(scene: &Scene, backups: &[BackupView], checkpoints: &[CheckpointView]) -> Vec<Point> {
    let backups: Vec<_> = backups.iter().filter(|one| one.phase != BackupPhase::Failed).collect();
    let is_of_backup = |one: &&SnapshotView| !backups.iter().any(|backup| backup.snapshot == Some(one.id));
    let mut points: Vec<Point> = scene
        .snapshots
        .iter()
        .filter(is_of_backup)
        .filter_map(|one| of_snapshot(scene, one))
        .collect();
    for one in &backups {
        let moment = checkpoints.iter().find(|checkpoint| Some(checkpoint.id) == one.to);
        points.push(of_backup(one, moment.map(|checkpoint| checkpoint.created_at)));
    }
    for one in checkpoints
        .iter()
        .filter(|one| !backups.iter().any(|backup| backup.to == Some(one.id)))
    {
        points.push(Point {
            kind: Kind::Checkpoint(one.id),
            at: one.created_at,
            name: if one.description.is_empty() {
                "without description".into()
            } else {
                one.description.clone()
            },
            level: Level::Unknown,
            bytes: None,
            is_held: false,
        });
    }
    points.sort_by_key(|point| std::cmp::Reverse(point.at));
    points
}
