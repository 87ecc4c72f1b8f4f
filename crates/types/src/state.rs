//! Closed enums with the field's labels: what is stored in a column is what is shown on the wire.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The text names no value of the enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a member of {kind}")]
pub struct BadLabel {
    /// The enum's name, as faults show it.
    pub kind: &'static str,
    /// What was given, cut to 64 characters.
    pub value: String,
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $label)] $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label that is stored and shown.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.label())
            }
        }

        impl FromStr for $name {
            type Err = BadLabel;

            fn from_str(text: &str) -> Result<Self, BadLabel> {
                match text {
                    $($label => Ok(Self::$variant),)*
                    _ => Err(BadLabel { kind: stringify!($name), value: text.chars().take(64).collect() }),
                }
            }
        }
    )*};
}

labels! {
    /// What a VM is doing (oVirt API `vm_status`).
    ///
    /// ```text
    /// down -> powering_up -> up <-> paused -> powering_down -> down
    /// down -> suspended (a restore with memory) -> powering_up
    /// up -> not_responding (the monitor does not answer) -> up | down
    /// ```
    VmStatus {
        /// No process.
        Down = "down",
        /// The process is being started.
        PoweringUp = "powering_up",
        /// The guest's vCPUs run.
        Up = "up",
        /// The guest was asked to shut down.
        PoweringDown = "powering_down",
        /// The process lives, the vCPUs are stopped (by a user or by an I/O error).
        Paused = "paused",
        /// No process; the next start resumes a saved memory.
        Suspended = "suspended",
        /// The process lives, its monitor does not answer.
        NotResponding = "not_responding",
    }

    /// What a volume is doing, in Cinder's words (evs-cinder-api 4.3); an edge with other words translates.
    ///
    /// Most are derived (`available`, `in-use`, what a job does); a few are stored, because a client of the volume API said so.
    VolumeStatus {
        /// Its base image is being made.
        Creating = "creating",
        /// Free.
        Available = "available",
        /// Kept for a server that will attach it by `/attachments`.
        Reserved = "reserved",
        /// Kept for a server that is attaching it.
        Attaching = "attaching",
        /// Its server is letting go of it.
        Detaching = "detaching",
        /// Attached to a VM, or to a server that a client of the volume API named.
        InUse = "in-use",
        /// An administrator works on it.
        Maintenance = "maintenance",
        /// Going away.
        Deleting = "deleting",
        /// Offered to another project.
        AwaitingTransfer = "awaiting-transfer",
        /// Unusable.
        Error = "error",
        /// Its removal failed.
        ErrorDeleting = "error_deleting",
        /// A backup reads it.
        BackingUp = "backing-up",
        /// A backup is being written to it.
        RestoringBackup = "restoring-backup",
        /// A backup of it failed.
        ErrorBackingUp = "error_backing-up",
        /// The restoring of a backup failed.
        ErrorRestoring = "error_restoring",
        /// Its extension failed.
        ErrorExtending = "error_extending",
        /// An image is being copied to it.
        Downloading = "downloading",
        /// It is being copied to an image.
        Uploading = "uploading",
        /// Its type is being changed.
        Retyping = "retyping",
        /// It grows.
        Extending = "extending",
        /// It is being brought back to a snapshot.
        Reverting = "reverting",
        /// Bringing it back to a snapshot failed: Cinder shows `error`.
        ErrorReverting = "error_reverting",
        /// It is being taken over.
        Managing = "managing",
        /// Taking it over failed.
        ErrorManaging = "error_managing",
    }

    /// What a snapshot of a volume is doing, in Cinder's words (evs-cinder-api 3.3).
    VolumeSnapshotStatus {
        /// Being made.
        Creating = "creating",
        /// Usable.
        Available = "available",
        /// Its creation failed.
        Error = "error",
        /// Going away.
        Deleting = "deleting",
        /// Its removal failed.
        ErrorDeleting = "error_deleting",
        /// A backup reads it.
        BackingUp = "backing-up",
        /// Its volume is being brought back to it.
        Restoring = "restoring",
        /// Being changed.
        Updating = "updating",
        /// Being forgotten without removal of data.
        Unmanaging = "unmanaging",
    }

    /// The kind of a snapshot (oVirt API `snapshot_type`).
    SnapshotType {
        /// Made by a user or a backup.
        Regular = "regular",
        /// What the VM runs on now: exactly one a VM.
        Active = "active",
        /// The former active state, kept while another snapshot is previewed.
        Preview = "preview",
    }

    /// Format of an image file. The labels are oVirt's.
    ImageFormat {
        /// qcow2.
        Cow = "cow",
        /// Plain bytes; only ever a base.
        Raw = "raw",
    }

    /// The bus a disk is attached to (oVirt API `disk_interface`).
    DiskInterface {
        /// virtio-blk.
        Virtio = "virtio",
        /// A disk on a virtio-scsi controller.
        VirtioScsi = "virtio_scsi",
        /// IDE: four disks at most.
        Ide = "ide",
        /// SATA through an AHCI controller: six disks at most.
        Sata = "sata",
    }

    /// State of a durable job. `done`, `undone` and `stuck` are ends.
    JobState {
        /// Written, not yet begun.
        Queued = "queued",
        /// Its steps are being run.
        Running = "running",
        /// A step before the pivot failed; the steps that began are being undone.
        Unwinding = "unwinding",
        /// Every step done.
        Done = "done",
        /// Every begun step undone: the world is as it was.
        Undone = "undone",
        /// Nobody here can drive it on (its version is unknown): waits for the next start.
        Stuck = "stuck",
    }

    /// State of one step of a job.
    StepState {
        /// Not begun.
        Pending = "pending",
        /// Begun: its effect may or may not have happened.
        Started = "started",
        /// Its effect has happened.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// Its effect has been taken back.
        Undone = "undone",
    }

    /// Which way the bytes of an image transfer go (oVirt API `image_transfer_direction`).
    TransferDirection {
        /// To the client.
        Download = "download",
        /// To the disk.
        Upload = "upload",
    }

    /// What becomes of an image transfer whose client is idle for too long (oVirt API
    /// `image_transfer_timeout_policy`).
    TimeoutPolicy {
        /// Uploads are paused, downloads are cancelled.
        Legacy = "legacy",
        /// It is paused.
        Pause = "pause",
        /// It is cancelled.
        Cancel = "cancel",
    }

    /// Where an image transfer stands (oVirt API `image_transfer_phase`, without its values that ours never has).
    ///
    /// ```text
    /// initializing -> transferring <-> paused_user, paused_system (back through resuming)
    /// any of these -> finalizing_success -> finished_success
    /// any of these -> cancelled_user   -> finalizing_cleanup -> finished_failure
    /// any of these -> cancelled_system -> finalizing_failure -> finished_failure
    /// ```
    TransferPhase {
        /// Its ticket is being made.
        Initializing = "initializing",
        /// Its URL answers.
        Transferring = "transferring",
        /// On its way from paused back to transferring.
        Resuming = "resuming",
        /// Paused by the daemon: the client was idle, or the storage failed.
        PausedSystem = "paused_system",
        /// Paused by its user.
        PausedUser = "paused_user",
        /// Its user gave it up.
        CancelledUser = "cancelled_user",
        /// The daemon gave it up.
        CancelledSystem = "cancelled_system",
        /// The client is done: it is being closed and verified.
        FinalizingSuccess = "finalizing_success",
        /// It failed and is being cleaned up.
        FinalizingFailure = "finalizing_failure",
        /// It was cancelled by its user and is being cleaned up.
        FinalizingCleanup = "finalizing_cleanup",
        /// All is well.
        FinishedSuccess = "finished_success",
        /// It failed or was cancelled.
        FinishedFailure = "finished_failure",
    }

    /// Where a backup stands (oVirt API `backup_phase`).
    ///
    /// ```text
    /// initializing -> starting -> ready -> finalizing -> succeeded
    /// any of these (with a reason) -> finalizing -> failed
    /// ```
    BackupPhase {
        /// Its disks are being frozen at one instant.
        Initializing = "initializing",
        /// What changed is being worked out.
        Starting = "starting",
        /// Its disks can be downloaded.
        Ready = "ready",
        /// Its client is done, or it failed: it is being cleaned up.
        Finalizing = "finalizing",
        /// All is well; its checkpoint stays.
        Succeeded = "succeeded",
        /// It failed; it left no checkpoint and no snapshot.
        Failed = "failed",
    }

    /// What is to be downloaded of one disk of a backup (oVirt API `disk_backup_mode`).
    BackupMode {
        /// All of it.
        Full = "full",
        /// What changed since the backup's from-checkpoint.
        Incremental = "incremental",
    }

    /// How a backup holds its moment, and what is refused meanwhile.
    BackupKind {
        /// A snapshot of a running VM that users see; the VM may be used as always.
        Snapshot = "snapshot",
        /// Of a running VM, without a snapshot that users see; the VM is locked until the backup ends.
        Live = "live",
        /// Of a VM that is down; it is locked until the backup ends.
        Cold = "cold",
    }

    /// State of a checkpoint (oVirt API `checkpoint_state`).
    CheckpointState {
        /// Usable.
        Created = "created",
        /// It can only be removed. Ours never is: a disk whose changes are not known leaves its checkpoint.
        Invalid = "invalid",
    }

    /// How a lock row excludes others.
    LockMode {
        /// Nobody else may hold the entity.
        Exclusive = "exclusive",
        /// Other shared holders may.
        Shared = "shared",
    }

    /// What a user may do in a project.
    Role {
        /// Everything in the project.
        Admin = "admin",
        /// All operations on the project's things.
        Member = "member",
        /// Reading only.
        Reader = "reader",
    }

    /// Severity of an event (oVirt API `log_severity`).
    Severity {
        /// As expected.
        Normal = "normal",
        /// Odd, and the operation went on.
        Warning = "warning",
        /// An operation failed.
        Error = "error",
        /// Somebody must look.
        Alert = "alert",
    }
}

impl TransferPhase {
    /// Whether the transfer is over.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::FinishedSuccess | Self::FinishedFailure)
    }

    /// Whether the transfer has a ticket that a client may use now or after a resume.
    #[must_use]
    pub fn has_ticket(self) -> bool {
        matches!(
            self,
            Self::Transferring | Self::Resuming | Self::PausedSystem | Self::PausedUser
        )
    }
}

impl BackupPhase {
    /// Whether the backup is over.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl JobState {
    /// Whether nothing will happen any more without an operator or a restart.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::Stuck)
    }
}
