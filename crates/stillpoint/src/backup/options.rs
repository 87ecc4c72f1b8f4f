//! The options of `stillpoint backup ...`.

use crate::client::{Common, FinalizeOptions, OneBackup, ServerOptions, StartOptions};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BackupCommand {
    /// Back a VM up into a directory: all of its disks at one moment, in full or what changed since the last point.
    ///
    /// The VM goes on working; it is not slowed down by a slow network or a slow directory. Each run makes one point:
    /// a directory with a qcow2 file per disk, the VM's hardware, its OVF document and SHA256SUMS. A point is whole or
    /// not there: a run that was killed leaves nothing that looks like one.
    #[command(after_help = "Examples:
  stillpoint backup run db1 --to /backup/db1                  a full point
  stillpoint backup run db1 --to /backup/db1 --incremental    what changed since the newest point there
  stillpoint backup run db1 --to /backup/db1 --require-consistency
                                                              rather no backup than one of unfrozen file systems

  export STILLPOINT_URL=https://host:8443 STILLPOINT_CA=ca.pem STILLPOINT_PASSWORD=...
  qemu-img info --backing-chain /backup/db1/000002-*/disk1.qcow2
                                                              any tool that reads qcow2 reads a point")]
    Run(RunOptions),
    /// Make a new VM from a point.
    ///
    /// The point's files are verified first. The new VM has the point's hardware and disks, ids of its own, and is
    /// down. What a restore that failed had made is removed again.
    #[command(after_help = "Examples:
  stillpoint backup restore /backup/db1 --as db1-restored               the newest point
  stillpoint backup restore /backup/db1 --as db1-monday --at 3          the point with number 3")]
    Restore(RestoreOptions),
    /// Check what a directory holds: every file's digests, structure and place in its chain. Nothing is sent anywhere.
    #[command(after_help = "Examples:
  stillpoint backup verify /backup/db1              every point
  stillpoint backup verify /backup/db1 --at 3       one point, and those that it stands on

Exit code 0 when all is as it was written, 1 when not.")]
    Verify(VerifyOptions),
    /// List the points in a directory, or the backups that a server knows of a VM.
    #[command(after_help = "Examples:
  stillpoint backup list /backup/db1       the points that are there
  stillpoint backup list --vm db1          the server's backups, those that go on included")]
    List(ListOptions),
    /// Begin a backup on the server, for who reads its bytes by something else. `run` does all of it by itself.
    #[command(after_help = "Examples:
  stillpoint backup start db1
  stillpoint backup start db1 --from 7c0e... --require-consistency
  stillpoint backup finalize db1 3f2a...      when its bytes have been read")]
    Start {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: StartOptions,
    },
    /// Show one backup of the server and its disks.
    #[command(after_help = "Examples:
  stillpoint backup show db1 3f2a...")]
    Show {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: OneBackup,
    },
    /// End a backup on the server; its checkpoint stays. The transfers of it must have ended.
    #[command(after_help = "Examples:
  stillpoint backup finalize db1 3f2a...")]
    Finalize {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: FinalizeOptions,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Name or id of the VM.
    pub(crate) vm: String,
    /// Directory of the VM's points; it is made if need be. One VM per directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Only what changed since the newest point in the directory. A disk for which that cannot be said is taken in
    /// full, and the reason is told.
    #[arg(long)]
    pub(crate) incremental: bool,
    /// Fail if the guest's file systems cannot be frozen at the moment of the backup.
    #[arg(long, conflicts_with = "at_rest")]
    pub(crate) require_consistency: bool,
    /// Read from the active volume instead of a snapshot: no snapshot shows up in the VM.
    #[arg(long, conflicts_with = "at_rest")]
    pub(crate) use_active: bool,
    /// Read the disks of a VM that is down without a backup session, for servers that have none. All disks are locked
    /// until the end; the next point is a full one.
    #[arg(long, conflicts_with = "incremental")]
    pub(crate) at_rest: bool,
    /// Text that the server and the point keep.
    #[arg(long, value_name = "TEXT", default_value = "stillpoint backup run")]
    pub(crate) description: String,
    /// Connections that read one disk; the server may allow fewer.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) connections: u8,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreOptions {
    /// Directory of the points.
    pub(crate) dir: PathBuf,
    /// Name of the new VM.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: String,
    /// Which point: its number or its name. Default: the newest.
    #[arg(long, value_name = "POINT")]
    pub(crate) at: Option<String>,
    /// Name or id of the cluster. Default: the first.
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// Name or id of the storage domain. Default: the first for data.
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) storage_domain: Option<String>,
    /// Connections that write one disk; the server may allow fewer.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) connections: u8,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyOptions {
    /// Directory of the points.
    pub(crate) dir: PathBuf,
    /// Which point: its number or its name. Default: all.
    #[arg(long, value_name = "POINT")]
    pub(crate) at: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListOptions {
    /// Directory of the points.
    #[arg(required_unless_present = "vm", conflicts_with = "vm")]
    pub(crate) dir: Option<PathBuf>,
    /// Ask the server for the backups of this VM, by name or id.
    #[arg(long, value_name = "VM")]
    pub(crate) vm: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
}
