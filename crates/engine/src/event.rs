//! Events: what users read of what happened, with oVirt's codes.
//!
//! An event is written in the transaction of the change that it tells of, so neither is there without the other.

use crate::{fault::Fault, journal::Actor};
use stillpoint_store::{Tx, event::EventRow};
use stillpoint_types::{DiskId, ProjectId, Severity, VmId, now_micros};

/// What can happen, with oVirt's numeric code and severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    VmAdded,
    VmUpdated,
    VmRemoved,
    VmStarted,
    VmStartFailed,
    VmResumed,
    VmStopped,
    VmShutdownAsked,
    VmDown,
    VmDownError,
    VmPausedIo,
    VmCrashed,
    VmNotResponding,
    VmResponding,
    DiskAdded,
    DiskAddFailed,
    DiskRemoved,
    DiskUpdated,
    DiskExtended,
    DiskExtendFailed,
    DiskCopied,
    DiskCopyFailed,
    DiskSparsified,
    DiskSparsifyFailed,
    DiskAttached,
    DiskDetached,
    DiskPlugged,
    DiskPlugFailed,
    DiskUnplugged,
    SnapshotStarted,
    SnapshotDone,
    SnapshotFailed,
    SnapshotMemoryLost,
    SnapshotRemoveStarted,
    SnapshotRemoved,
    SnapshotRemoveFailed,
    SnapshotPartlyRemoved,
    RestoreStarted,
    RestoreDone,
    RestoreFailed,
    PreviewStarted,
    PreviewDone,
    PreviewFailed,
    UndoStarted,
    UndoDone,
    TransferStarted,
    TransferDone,
    TransferCancelled,
    TransferFailed,
    TransferLost,
    UploadPausedIdle,
    DownloadCancelledIdle,
    TransferPaused,
    TransferResumed,
    TransferCancelledByPolicy,
    TransferPausedByPolicy,
    BackupStarted,
    BackupFull,
    BackupFailed,
    BackupDone,
    BackupFinalized,
    BackupLeftover,
    CheckpointRemoved,
    CheckpointLost,
    FreezeFailed,
    ThawFailed,
    Frozen,
    Thawed,
    UserFreezeFailed,
    UserThawFailed,
    VmRebooted,
    VmCloned,
    VmCloneFailed,
    Recovered,
    GraphMismatch,
    JobWaits,
    Repaired,
    RepairFailed,
}

impl What {
    #[expect(clippy::too_many_lines, reason = "a table, one line each")]
    fn code(self) -> (u32, Severity) {
        use Severity::{Alert, Error, Normal, Warning};
        match self {
            Self::VmAdded => (34, Normal),
            Self::VmUpdated => (35, Normal),
            Self::VmRemoved => (113, Normal),
            Self::VmStarted => (32, Normal),
            Self::VmStartFailed => (54, Error),
            Self::VmResumed => (39, Normal),
            Self::VmStopped => (33, Normal),
            Self::VmShutdownAsked => (73, Normal),
            Self::VmDown => (61, Normal),
            Self::VmDownError => (119, Error),
            Self::VmPausedIo => (145, Error),
            Self::VmNotResponding => (126, Warning),
            Self::VmResponding => (127, Normal),
            Self::DiskAdded => (2021, Normal),
            Self::DiskAddFailed => (2022, Error),
            Self::DiskRemoved => (2014, Normal),
            Self::DiskUpdated => (2018, Normal),
            Self::DiskExtended => (371, Normal),
            Self::DiskExtendFailed => (370, Error),
            Self::DiskCopied => (2006, Normal),
            Self::DiskCopyFailed => (2007, Error),
            Self::DiskSparsified => (1326, Normal),
            Self::DiskSparsifyFailed => (1327, Error),
            Self::DiskAttached => (2016, Normal),
            Self::DiskDetached => (2017, Normal),
            Self::DiskPlugged => (2000, Normal),
            Self::DiskPlugFailed => (2001, Error),
            Self::DiskUnplugged => (2002, Normal),
            Self::SnapshotStarted => (45, Normal),
            Self::SnapshotDone => (68, Normal),
            Self::SnapshotFailed => (69, Error),
            Self::SnapshotMemoryLost => (173, Error),
            Self::SnapshotRemoveStarted => (342, Normal),
            Self::SnapshotRemoved => (356, Normal),
            Self::SnapshotRemoveFailed => (357, Error),
            Self::SnapshotPartlyRemoved => (359, Warning),
            Self::RestoreStarted => (94, Normal),
            Self::RestoreDone => (95, Normal),
            Self::RestoreFailed => (96, Error),
            Self::PreviewStarted => (46, Normal),
            Self::PreviewDone => (71, Normal),
            Self::PreviewFailed => (99, Error),
            Self::UndoStarted => (650, Normal),
            Self::UndoDone => (651, Normal),
            Self::TransferStarted => (1031, Normal),
            Self::TransferDone => (1032, Normal),
            Self::TransferCancelled => (1033, Normal),
            Self::TransferFailed => (1034, Error),
            Self::TransferLost => (1065, Error),
            Self::UploadPausedIdle => (1071, Error),
            Self::DownloadCancelledIdle => (1072, Error),
            Self::TransferPaused => (1073, Normal),
            Self::TransferResumed => (1074, Normal),
            Self::TransferCancelledByPolicy => (1076, Error),
            Self::TransferPausedByPolicy => (1077, Warning),
            Self::BackupStarted => (10790, Normal),
            // An error in oVirt, whose whole backup fails then; ours takes that disk in full.
            Self::BackupFull => (10791, Warning),
            Self::BackupFailed => (10792, Error),
            Self::BackupDone => (10793, Normal),
            Self::BackupFinalized => (10794, Normal),
            Self::BackupLeftover => (10813, Warning),
            Self::CheckpointRemoved => (10797, Normal),
            Self::FreezeFailed => (10764, Warning),
            Self::ThawFailed => (10765, Warning),
            Self::Frozen => (10767, Normal),
            Self::Thawed => (10768, Normal),
            Self::UserFreezeFailed => (10769, Warning),
            Self::UserThawFailed => (10770, Warning),
            Self::VmRebooted => (157, Normal),
            Self::VmCloned => (53, Normal),
            Self::VmCloneFailed => (60, Error),
            // Ours: oVirt has no code for these.
            Self::Recovered => (20001, Warning),
            Self::GraphMismatch => (20002, Alert),
            Self::JobWaits => (20003, Alert),
            Self::CheckpointLost => (20004, Warning),
            Self::VmCrashed => (20005, Error),
            Self::Repaired => (20010, Normal),
            Self::RepairFailed => (20011, Error),
        }
    }
}

impl What {
    /// The numeric code.
    pub(crate) fn number(self) -> u32 {
        self.code().0
    }
}

/// An event being put together.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    row: EventRow,
}

impl Event {
    pub(crate) fn new(what: What, text: impl Into<String>) -> Self {
        let (code, severity) = what.code();
        let row = EventRow {
            index: 0,
            code,
            severity,
            text: text.into(),
            at: now_micros(),
            correlation_id: None,
            project: None,
            user: None,
            vm: None,
            disk: None,
            client: None,
        };
        Self { row }
    }

    pub(crate) fn by(mut self, actor: &Actor) -> Self {
        self.row.correlation_id = (!actor.correlation_id.is_empty()).then(|| actor.correlation_id.clone());
        self.row.user = Some((actor.user, actor.name.clone()));
        self
    }

    pub(crate) fn vm(mut self, project: ProjectId, id: VmId, name: &str) -> Self {
        self.row.project = Some(project);
        self.row.vm = Some((id, name.to_owned()));
        self
    }

    pub(crate) fn disk(mut self, project: ProjectId, id: DiskId, alias: &str) -> Self {
        self.row.project = Some(project);
        self.row.disk = Some((id, alias.to_owned()));
        self
    }

    pub(crate) fn write(self, tx: &Tx) -> Result<(), Fault> {
        stillpoint_store::event::insert(tx, &self.row)?;
        Ok(())
    }
}
