//! The command line.

use crate::{
    backup::BackupCommand,
    client::{
        CheckpointCommand, CloudCommon, Common, DiskCommand, EventCommand, ExplainOptions, JobCommand, KeyCommand,
        ProjectCommand, RepairOptions, SnapshotCommand, TransferCommand, UserCommand, VmCommand, VolumeCommand, code,
        shell::{CompletionOptions, ManOptions},
    },
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

/// Snapshots of QEMU/KVM guests, behind the APIs that your tools speak already.
#[derive(Debug, Parser)]
#[command(
    name = "stillpoint",
    version,
    about,
    after_help = help(),
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What follows the list of commands.
const EXAMPLES: &str = "Examples:
  stillpoint doctor                                   what this host can do, what to install
  stillpoint serve                                    a daemon on 127.0.0.1:8080
  stillpoint serve --listen 0.0.0.0:8443 --tls auto   for other hosts, with its own CA
  stillpoint vm list                                  the VMs; --json for programs
  stillpoint snapshot create db1 'before upgrade'     a snapshot of a VM that runs
  stillpoint snapshot restore db1 'before upgrade' --dry-run
                                                      what would be lost by going back
  stillpoint explain db1                              why it is in its state, what would help
  stillpoint repair --plan                            what is damaged, what would mend it
  stillpoint backup run db1 --to /backup/db1          a point of a VM, in full
  stillpoint backup restore /backup/db1 --as db1-new  a new VM from the newest point
  stillpoint volume create data --size 10G            a volume, as OpenStack has them
  stillpoint user create alice                        somebody else who may come in
  stillpoint completions bash >~/.stillpoint-completions

Which server:
  options                                             --url, --user, --password-file, --ca-file, --project
  or variables                                        STILLPOINT_URL, _USER, _PASSWORD, _TOKEN, _CA, _PROJECT
  or a profile of ~/.config/stillpoint/config.toml    --profile NAME, STILLPOINT_PROFILE";

fn help() -> String {
    format!("{EXAMPLES}\n\n{}", code::HELP)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon.
    ///
    /// Prints `stillpoint ready URL` on standard output once it serves. Guests run on when it ends; at its next start
    /// it finds them again, and ends what it had begun.
    Serve(ServeOptions),
    /// Back VMs up into a directory, verify it, and restore from it.
    ///
    /// Works against any server of the oVirt API. Options of the server can be given as environment variables.
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// VMs: list, make, start, stop, delete.
    Vm {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: VmCommand,
    },
    /// Disks: list, make, attach, extend, delete.
    Disk {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: DiskCommand,
    },
    /// Snapshots of a VM: take, restore, preview, delete.
    Snapshot {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Checkpoints of a VM: what backups are incremental from.
    Checkpoint {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: CheckpointCommand,
    },
    /// Image transfers: the bytes of disks on their way.
    Transfer {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: TransferCommand,
    },
    /// Jobs: what the server does.
    Job {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Events: what happened.
    Event {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: EventCommand,
    },
    /// Volumes and their snapshots, as OpenStack has them: list, make, extend, revert, delete.
    Volume {
        #[command(flatten)]
        common: CloudCommon,
        #[command(subcommand)]
        command: VolumeCommand,
    },
    /// Users: list, make, disable, delete, passwords, roles.
    User {
        #[command(flatten)]
        common: CloudCommon,
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Projects: what VMs, disks and volumes belong to.
    Project {
        #[command(flatten)]
        common: CloudCommon,
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// Keys (application credentials): by which programs log in.
    Key {
        #[command(flatten)]
        common: CloudCommon,
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Say why a VM, a disk, a snapshot or a job is in its state, and what would help.
    #[command(after_help = "Examples:
  stillpoint explain db1
  stillpoint explain disk/data
  stillpoint explain 'snapshot/db1/before upgrade'
  stillpoint explain job/6f1c... --json")]
    Explain {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: ExplainOptions,
    },
    /// Look for damage that no job explains, and mend it: layers of other tools, half merges, lost maps.
    ///
    /// Shows what was seen, what is recorded, what would be done, and what would be lost. Data are never destroyed: a file
    /// that is no image any more is kept in the images' directory, in orphans/. Code 0: nothing is damaged. Code 9: damage
    /// was found and is left. For administrators.
    #[command(after_help = "Examples:
  stillpoint repair --plan                            what is damaged; nothing is changed
  stillpoint repair --plan --json
  stillpoint repair 3f6a90d14be07c52                  mends one finding, after a question
  stillpoint repair --yes                             mends all that can be mended")]
    Repair {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: RepairOptions,
    },
    /// Look at this host: QEMU, KVM, userfaultfd, disk space, the data directory; each with its remedy.
    Doctor(DoctorOptions),
    /// Print a script that completes commands in a shell.
    #[command(after_help = "Examples:
  source <(stillpoint completions bash)
  stillpoint completions zsh >~/.zfunc/_stillpoint")]
    Completions(CompletionOptions),
    /// Write a man page for each command.
    #[command(after_help = "Examples:
  stillpoint man ~/.local/share/man/man1")]
    Man(ManOptions),
    /// Print the reference of all commands, as Markdown: docs/reference/cli.md is made by it.
    #[command(hide = true)]
    Reference,
}

/// Which accelerator guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM, or no start.
    Kvm,
    /// QEMU's own emulation: slow, runs everywhere.
    Tcg,
    /// KVM where it really works, else emulation; the log says which.
    Auto,
}

/// Which dialect answers oVirt requests that name no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiChoice {
    /// RHEV 3.x.
    V3,
    /// oVirt 4.
    V4,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SwitchChoice {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogChoice {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    /// Configuration file (TOML); options given here win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Everything lives here: database, keys, images, sockets, logs. Default: /var/lib/stillpoint for root, else
    /// $XDG_DATA_HOME/stillpoint.
    #[arg(long, value_name = "DIR", env = "STILLPOINT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes any free one. Default: 127.0.0.1:8080.
    #[arg(long, value_name = "IP:PORT", env = "STILLPOINT_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// off, auto (a certificate of our own CA, made at the first start), or CERT,KEY (PEM files). Default: off on
    /// loopback, auto elsewhere.
    #[arg(long, value_name = "off|auto|CERT,KEY")]
    pub(crate) tls: Option<String>,
    /// Whether clients on this host are offered a unix socket for the bytes of disks, which needs no TLS. Default: on.
    #[arg(long, value_enum)]
    pub(crate) local_images: Option<SwitchChoice>,
    /// Users, projects and keys to have (TOML), applied at every start; its passwords win.
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap: Option<PathBuf>,
    /// URL under which clients reach this daemon, for links that need a host.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Dialect of oVirt requests that name no version, neither in the path (/ovirt-engine/api/v3, /ovirt-engine/api/v4)
    /// nor in a header (Version: 3, Version: 4). Default: v4.
    #[arg(long, value_enum)]
    pub(crate) default_api: Option<ApiChoice>,
    /// Accelerator. Default: auto.
    #[arg(long, value_enum)]
    pub(crate) accel: Option<AccelChoice>,
    /// Form of the log, which goes to standard error; RUST_LOG chooses what it holds. Default: text.
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogChoice>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorOptions {
    /// Data directory to look at.
    #[arg(long, value_name = "DIR", env = "STILLPOINT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
