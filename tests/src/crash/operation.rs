//! Which operation, killed where, and what must come of it.

use std::fmt;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The daemon.
    Daemon,
    /// QEMU, or the storage daemon of an operation at rest.
    Machine,
    /// Both at once.
    Both,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A snapshot is taken.
    Create {
        /// With the memory; only of a running VM.
        memory: bool,
        /// The VM runs.
        live: bool,
    },
    /// The newest snapshot is deleted: the layer that is written to is merged.
    DeleteActive {
        /// The VM runs.
        live: bool,
    },
    /// The one before the newest is deleted, while the VM runs: a layer that only is read is merged.
    DeleteMiddle,
    /// The newest snapshot is restored.
    Restore,
    /// The VM is started.
    Start,
}

impl Operation {
    /// Whether the VM runs when it begins.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Create { live, .. } | Self::DeleteActive { live } => live,
            Self::DeleteMiddle => true,
            Self::Restore | Self::Start => false,
        }
    }

    /// How many snapshots must be there.
    #[must_use]
    pub fn snapshots(self) -> usize {
        match self {
            Self::Create { .. } | Self::Start => 0,
            Self::DeleteActive { .. } | Self::Restore => 1,
            Self::DeleteMiddle => 2,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Complete,
    /// It was taken back.
    Gone,
}

/// One kill.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is under way.
    pub operation: Operation,
    /// Name of the crash point.
    pub point: String,
    /// Who dies there.
    pub victim: Victim,
    /// `None`: either is right.
    pub expect: Option<Outcome>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} killed at {} in {:?}", self.victim, self.point, self.operation)
    }
}

/// A named moment, and what must come of an operation whose daemon dies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub &'static str, pub Outcome);

use Outcome::{Complete, Gone};

const CREATE_LIVE: [Moment; 8] = [
    Moment("snapshot_create:prepare:started", Complete),
    Moment("snapshot_create:prepare:effect", Complete),
    Moment("snapshot_create:prepare:done", Gone),
    Moment("snapshot_create:switch:started", Gone),
    Moment("switch:frozen", Gone),
    Moment("switch:switched", Complete),
    Moment("snapshot_create:switch:effect", Complete),
    Moment("snapshot_create:switch:done", Complete),
];
const CREATE_MEMORY: [Moment; 12] = [
    Moment("snapshot_create:prepare:started", Complete),
    Moment("snapshot_create:prepare:effect", Complete),
    Moment("snapshot_create:prepare:done", Gone),
    Moment("snapshot_create:switch:started", Gone),
    Moment("save:stopped", Gone),
    Moment("save:switched", Complete),
    Moment("save:saving", Complete),
    Moment("snapshot_create:switch:effect", Complete),
    Moment("snapshot_create:switch:done", Complete),
    Moment("snapshot_create:save:started", Complete),
    Moment("snapshot_create:save:effect", Complete),
    Moment("snapshot_create:save:done", Complete),
];
const CREATE_REST: [Moment; 6] = [
    Moment("snapshot_create:prepare:started", Complete),
    Moment("snapshot_create:prepare:effect", Complete),
    Moment("snapshot_create:prepare:done", Complete),
    Moment("snapshot_create:switch:started", Complete),
    Moment("snapshot_create:switch:effect", Complete),
    Moment("snapshot_create:switch:done", Complete),
];
const DELETE_ACTIVE: [Moment; 9] = [
    Moment("snapshot_delete:merge:started", Complete),
    Moment("merge:running", Complete),
    Moment("merge:ready", Complete),
    Moment("merge:pending", Complete),
    Moment("merge:marked", Complete),
    Moment("merge:finalizing", Complete),
    Moment("merge:concluded", Complete),
    Moment("snapshot_delete:merge:effect", Complete),
    Moment("snapshot_delete:merge:done", Complete),
];
const DELETE_MIDDLE: [Moment; 7] = [
    Moment("snapshot_delete:merge:started", Complete),
    Moment("merge:running", Complete),
    Moment("merge:pending", Complete),
    Moment("merge:finalizing", Complete),
    Moment("merge:concluded", Complete),
    Moment("snapshot_delete:merge:effect", Complete),
    Moment("snapshot_delete:merge:done", Complete),
];
const RESTORE: [Moment; 6] = [
    Moment("snapshot_restore:prepare:started", Complete),
    Moment("snapshot_restore:prepare:effect", Complete),
    Moment("snapshot_restore:prepare:done", Complete),
    Moment("snapshot_restore:switch:started", Complete),
    Moment("snapshot_restore:switch:effect", Complete),
    Moment("snapshot_restore:switch:done", Complete),
];
const START: [Moment; 6] = [
    Moment("vm_start:spawn:started", Complete),
    Moment("vm_start:spawn:effect", Complete),
    Moment("vm_start:spawn:done", Complete),
    Moment("vm_start:run:started", Complete),
    Moment("vm_start:run:effect", Complete),
    Moment("vm_start:run:done", Complete),
];

/// Every moment of an operation, with this victim. A machine can only be killed where there is one.
#[must_use]
pub fn cases(operation: Operation, victim: Victim) -> Vec<Case> {
    let moments: &[Moment] = match operation {
        Operation::Create { live: false, .. } => &CREATE_REST,
        Operation::Create { memory: true, .. } => &CREATE_MEMORY,
        Operation::Create { .. } => &CREATE_LIVE,
        Operation::DeleteActive { .. } => &DELETE_ACTIVE,
        Operation::DeleteMiddle => &DELETE_MIDDLE,
        Operation::Restore => &RESTORE,
        Operation::Start => &START,
    };
    let has_machine = |point: &str| match operation {
        Operation::Start => point != "vm_start:spawn:started",
        _ => operation.is_live() || point.starts_with("merge:"),
    };
    moments
        .iter()
        .filter(|Moment(point, _)| victim == Victim::Daemon || has_machine(point))
        .map(|Moment(point, outcome)| Case {
            operation,
            point: (*point).to_owned(),
            victim,
            expect: expected(operation, victim, *outcome),
        })
        .collect()
}

/// A merge goes on at rest when its machine is dead, in a new storage daemon when the old one is: a merge that is given up
/// in the middle would leave a snapshot of no moment. A new snapshot may be removed: its disks are either set.
/// A start is not tried twice, but for one whose process was not on record yet.
fn expected(operation: Operation, victim: Victim, outcome: Outcome) -> Option<Outcome> {
    let may_go = match operation {
        Operation::Create { .. } => victim != Victim::Daemon,
        Operation::Start => victim != Victim::Daemon,
        _ => false,
    };
    (!may_go).then_some(outcome)
}
