//! Which kill of a backup or an upload a seed stands for, what it came to, and what a series of them did.

use super::client::Stage;
use super::random::next;
use super::{Operation, Outcome, Victim};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Longest time from the begin of a stage to the kill, in milliseconds: about what the stage takes.
const DELAY_MAX_MS: u64 = 400;
/// The same of a download, which takes longer.
const DELAY_TRANSFER_MAX_MS: u64 = 1000;
/// The same of a VM at rest.
const DELAY_REST_MAX_MS: u64 = 250;
/// The same of an upload's begin and end.
const DELAY_UPLOAD_MAX_MS: u64 = 40;
/// The same while its bytes are sent.
const DELAY_SENDING_MAX_MS: u64 = 100;
/// The same once a storage daemon is there that is to be killed: it lives as long as a switch or a merge takes.
const DELAY_STORAGE_DAEMON_MAX_MS: u64 = 25;

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A backup of a VM that runs.
    Running,
    /// A backup of a VM that is down, whose machine is the storage daemon of its switch or of a merge.
    Rest,
    /// An upload into a disk of a VM that is down, whose machine is the storage daemon that writes it.
    Upload,
}

/// What the VM's two disks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Two of qcow2.
    Cow,
    /// One of qcow2, and one that was made raw.
    Raw,
}

/// One random kill in a backup or an upload.
#[derive(Debug, Clone, Copy)]
pub struct BackupKill {
    /// What it was made from.
    pub seed: u64,
    /// What is under way.
    pub kind: Kind,
    /// Of what disks.
    pub layout: Layout,
    /// The kind of the backup of a running VM: with a snapshot that users see, or without.
    pub use_active: bool,
    /// What goes on beside it, if anything.
    pub beside: Option<Operation>,
    /// When that begins.
    pub beside_at: Stage,
    /// Large layers of the middle are merged beside the chain (ADR 0020); this daemon takes all of them for large.
    pub large: bool,
    /// Who dies.
    pub victim: Victim,
    /// In which stage of the backup or the upload.
    pub stage: Stage,
    /// How long after the stage began; of a storage daemon: after it was there, too.
    pub delay: Duration,
    /// The client has lost what it downloaded before the kill; it gives up an upload.
    pub forgets: bool,
    /// The disks of a VM at rest were changed by its guest before, which ran for a moment; else by a tool.
    pub by_guest: bool,
}

impl BackupKill {
    /// The kill that a seed stands for. Ten seeds in a row hold each kind as often as any other ten.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut state = seed;
        let mut below = |n: u64| next(&mut state) % n;
        let (kind, layout) = match seed % 10 {
            0..=2 => (Kind::Running, Layout::Cow),
            3..=5 => (Kind::Running, Layout::Raw),
            6 => (Kind::Rest, Layout::Cow),
            7 => (Kind::Rest, Layout::Raw),
            other => {
                let kind = if other == 8 { Kind::Rest } else { Kind::Upload };
                (kind, if below(2) == 0 { Layout::Cow } else { Layout::Raw })
            }
        };
        let stage = |n: u64| match n {
            0 => Stage::Begin,
            1 => Stage::Transfer,
            _ => Stage::End,
        };
        let beside = match (kind, below(4)) {
            (Kind::Upload, _) | (_, 0) => None,
            (Kind::Running, 1) => Some(Operation::Create {
                memory: false,
                live: true,
            }),
            (Kind::Running, 2) => Some(Operation::DeleteActive { live: true }),
            (Kind::Running, _) => Some(Operation::DeleteMiddle),
            (Kind::Rest, 1) => Some(Operation::Create {
                memory: false,
                live: false,
            }),
            (Kind::Rest, _) => Some(Operation::DeleteActive { live: false }),
        };
        // A guest that died must boot again, which takes most of the time.
        let victim = match (kind, below(5)) {
            (Kind::Running, 0..=2) | (Kind::Rest | Kind::Upload, 0 | 1) => Victim::Daemon,
            (Kind::Running, 3) | (Kind::Rest | Kind::Upload, 2 | 3) => Victim::Machine,
            _ => Victim::Both,
        };
        let (beside_at, stage) = (stage(below(3)), stage(below(3)));
        let delay_max = match (kind, victim, stage) {
            (Kind::Rest, Victim::Machine, _) => DELAY_STORAGE_DAEMON_MAX_MS,
            (Kind::Upload, _, Stage::Transfer) => DELAY_SENDING_MAX_MS,
            (Kind::Upload, ..) => DELAY_UPLOAD_MAX_MS,
            (Kind::Rest, _, Stage::Begin | Stage::End) => DELAY_REST_MAX_MS,
            (_, _, Stage::Transfer) => DELAY_TRANSFER_MAX_MS,
            _ => DELAY_MAX_MS,
        };
        Self {
            seed,
            kind,
            layout,
            use_active: below(2) == 0,
            beside,
            beside_at,
            // A raw base is merged within its chain in any case.
            large: layout == Layout::Cow && kind == Kind::Running && below(2) == 0,
            victim,
            stage,
            delay: Duration::from_millis(below(delay_max + 1)),
            forgets: below(2) == 0,
            by_guest: kind == Kind::Rest && below(3) == 0,
        }
    }

    /// A series in the order in which it costs least: worlds of other disks, and guests that boot, are expensive.
    ///
    /// `STILLPOINT_CRASH_KIND` (`Running`, `Rest` or `Upload`) leaves the other kinds out.
    #[must_use]
    pub fn series(seeds: Vec<u64>) -> Vec<Self> {
        let mut kills: Vec<Self> = seeds.into_iter().map(Self::of).collect();
        if let Ok(kind) = std::env::var("STILLPOINT_CRASH_KIND") {
            kills.retain(|kill| format!("{:?}", kill.kind) == kind);
        }
        kills.sort_by_key(|kill| (kill.layout, kill.kind, kill.large, kill.seed));
        kills
    }
}

/// What became of a backup, or an upload, that met a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The request was not heard.
    Never,
    /// It succeeded.
    Succeeded,
    /// It failed, and said so.
    Failed,
}

/// What one kill came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How far the client was when it happened; over, when nothing was there that could die before.
    pub met: Stage,
    /// What became of the backup, or the upload.
    pub fate: Fate,
    /// What became of what went on beside it.
    pub beside: Option<Outcome>,
    /// Merges beside a chain that were begun.
    pub aside: usize,
    /// Why the next backup was not incremental. After an upload: of the other disk, as the one that was uploaded into is
    /// promised to be full.
    pub full: Option<String>,
}

/// What a run of such kills came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupHits {
    /// Kills.
    pub all: usize,
    /// Of these: before the client was done.
    pub met: usize,
    /// Backups and uploads that succeeded all the same.
    pub succeeded: usize,
    /// Kills in uploads: the next backup of that disk is full, as promised.
    pub uploads: usize,
    /// Next backups that were incremental, after other kills.
    pub incremental: usize,
    /// Merges beside a chain that were begun.
    pub aside: usize,
}

impl fmt::Display for BackupHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            all,
            met,
            succeeded,
            uploads,
            incremental,
            aside,
        } = self;
        write!(
            f,
            "{all} kills, {met} before the client was done, {uploads} in uploads; {succeeded} succeeded all the same; of the \
             other kinds {incremental} next backups stayed incremental: {} %; {aside} merges beside a chain",
            100 * incremental / all.saturating_sub(*uploads).max(1)
        )
    }
}

impl AddAssign<(&BackupKill, &Told)> for BackupHits {
    fn add_assign(&mut self, (kill, told): (&BackupKill, &Told)) {
        let is_upload = kill.kind == Kind::Upload;
        self.all += 1;
        self.met += usize::from(told.met != Stage::Over);
        self.succeeded += usize::from(told.fate == Fate::Succeeded);
        self.uploads += usize::from(is_upload);
        self.incremental += usize::from(!is_upload && told.full.is_none());
        self.aside += told.aside;
    }
}
