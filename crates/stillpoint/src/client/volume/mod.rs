//! `stillpoint volume ...`: OpenStack's view of disks. `snapshot`: its second noun.

mod change;
mod find;
mod snapshot;

use super::{
    Trouble,
    cloud::Talk,
    plan::Sure,
    session::Waiting,
    shown::{Shown, Watch, instant, or_dash},
    size,
};
use clap::{Args, Subcommand};
use snapshot::SnapshotCommand;
use std::process::ExitCode;
use stillpoint_sdk::volume::Volume;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the volumes of the project.
    #[command(after_help = "Examples:
  stillpoint volume list
  stillpoint volume list --project demo --watch
  stillpoint volume list --json | jq -r '.[].id'")]
    List(List),
    /// Show one volume and its snapshots.
    #[command(after_help = "Examples:
  stillpoint volume show data")]
    Show(Watched),
    /// Make a volume: an empty one, or one that begins as a snapshot or as another volume.
    #[command(after_help = "Examples:
  stillpoint volume create data --size 10G
  stillpoint volume create copy --snapshot before        as data was then
  stillpoint volume create twin --volume data            as data is now")]
    Create(Create),
    /// Make a volume larger, also while a VM uses it. It cannot be made smaller again.
    #[command(after_help = "Examples:
  stillpoint volume extend data --size 20G")]
    Extend(Extend),
    /// Bring a volume back to its newest snapshot: what was written since is lost.
    #[command(after_help = "Examples:
  stillpoint volume revert data before --dry-run         what would be lost
  stillpoint volume revert data before
  stillpoint volume create copy --snapshot before        beside it instead; also of an older snapshot")]
    Revert(Revert),
    /// Delete a volume and what is on it.
    #[command(after_help = "Examples:
  stillpoint volume delete data --dry-run
  stillpoint volume delete data --with-snapshots --yes")]
    Delete(Delete),
    /// Snapshots of volumes: take, list, show, delete.
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Watched {
    /// Name or id of the volume.
    volume: String,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new volume.
    name: String,
    /// Size with its unit, rounded up to whole GiB. Default: that of what it begins as.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_gib, required_unless_present_any = ["snapshot", "volume"])]
    size: Option<u64>,
    /// The snapshot that it begins as, by name or id.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "volume")]
    snapshot: Option<String>,
    /// The volume that it begins as, by name or id.
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// Name or id of its type. Default: the server's.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Extend {
    /// Name or id of the volume.
    volume: String,
    /// The new size with its unit, rounded up to whole GiB.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_gib)]
    size: u64,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Revert {
    /// Name or id of the volume.
    volume: String,
    /// Name or id of its newest snapshot.
    snapshot: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    /// Name or id of the volume.
    volume: String,
    /// Delete its snapshots, too; without it, a volume that has some is not deleted.
    #[arg(long)]
    with_snapshots: bool,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(talk: &Talk, command: VolumeCommand) -> Result<ExitCode, Trouble> {
    talk.expect_project().await?;
    match command {
        VolumeCommand::List(options) => list(talk, &options).await,
        VolumeCommand::Show(options) => {
            let look = async || show(talk, &find::volume(talk, &options.volume).await?.id).await;
            options.watch.show(&talk.session, look).await
        }
        VolumeCommand::Create(options) => change::create(talk, &options).await,
        VolumeCommand::Extend(options) => change::extend(talk, &options).await,
        VolumeCommand::Revert(options) => change::revert(talk, &options).await,
        VolumeCommand::Delete(options) => change::delete(talk, &options).await,
        VolumeCommand::Snapshot { command } => snapshot::run(talk, command).await,
    }
}

/// A size as people read it.
fn gib(size: u64) -> String {
    size::shown(size.checked_mul(1 << 30))
}

/// The servers that have it.
fn attached(volume: &Volume) -> String {
    let server = |attachment: &serde_json::Value| {
        let server = attachment.get("server_id").and_then(serde_json::Value::as_str);
        let host = attachment.get("host_name").and_then(serde_json::Value::as_str);
        server.or(host).map(str::to_owned)
    };
    let servers: Vec<_> = volume.attachments.iter().filter_map(server).collect();
    or_dash(Some(&servers.join(", ")))
}

async fn list(talk: &Talk, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let list = talk.read(|| talk.cloud.volumes(None)).await?;
        Shown::plain_list(
            &list,
            &["NAME", "SIZE", "STATUS", "TYPE", "ATTACHED TO", "ID"],
            |volume| {
                vec![
                    or_dash(volume.name.as_deref()),
                    gib(volume.size),
                    volume.status.clone(),
                    or_dash(volume.volume_type.as_deref()),
                    attached(volume),
                    volume.id.clone(),
                ]
            },
        )
    };
    options.watch.show(&talk.session, look).await
}

async fn show(talk: &Talk, id: &str) -> Result<Shown, Trouble> {
    let volume = talk.read(|| talk.cloud.volume(id)).await?;
    let snapshots = find::snapshots(talk, Some(id)).await?;
    let snapshots = snapshots
        .iter()
        .map(|snapshot| or_dash(snapshot.name.as_deref()))
        .collect::<Vec<_>>();
    let metadata = volume.metadata.iter().map(|(key, value)| format!("{key}={value}"));
    Shown::plain_object(
        &volume,
        &[
            ("name", volume.name.clone()),
            ("id", Some(volume.id.clone())),
            ("status", Some(volume.status.clone())),
            ("size", Some(gib(volume.size))),
            ("type", volume.volume_type.clone()),
            ("description", volume.description.clone()),
            ("created", Some(instant(volume.created_at.as_deref()))),
            ("bootable", volume.bootable.clone()),
            ("attached to", Some(attached(&volume))),
            ("from snapshot", volume.snapshot_id.clone()),
            ("from volume", volume.source_volid.clone()),
            ("snapshots", Some(snapshots.join(", "))),
            ("metadata", Some(metadata.collect::<Vec<_>>().join(", "))),
        ],
    )
}
