//! `stillpoint volume snapshot ...`

use super::{find, gib};
use crate::client::{
    Trouble,
    cloud::Talk,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, instant, or_dash},
    vm::gone,
};
use clap::{Args, Subcommand};
use std::{collections::HashMap, process::ExitCode};
use stillpoint_sdk::volume::{Cloud, Snapshot};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List the snapshots of a volume, or of all volumes of the project, oldest first.
    #[command(after_help = "Examples:
  stillpoint volume snapshot list data
  stillpoint volume snapshot list")]
    List(List),
    /// Show one snapshot of a volume.
    #[command(after_help = "Examples:
  stillpoint volume snapshot show data before")]
    Show(Named),
    /// Take a snapshot of a volume, also while a VM writes to it.
    #[command(after_help = "Examples:
  stillpoint volume snapshot create data before")]
    Create(Create),
    /// Delete a snapshot of a volume. What the volume has stays, and volumes that were made from the snapshot.
    #[command(after_help = "Examples:
  stillpoint volume snapshot delete data before --dry-run
  stillpoint volume snapshot delete data before --yes")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Name or id of the volume. Default: all.
    volume: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// Name or id of the volume.
    volume: String,
    /// Name or id of the snapshot.
    snapshot: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name or id of the volume.
    volume: String,
    /// What the snapshot is called.
    name: String,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn run(talk: &Talk, command: SnapshotCommand) -> Result<ExitCode, Trouble> {
    match command {
        SnapshotCommand::List(options) => list(talk, &options).await,
        SnapshotCommand::Show(named) => {
            let volume = find::volume(talk, &named.volume).await?;
            let snapshot = find::snapshot(talk, Some(&volume), &named.snapshot).await?;
            shown(&snapshot)?.print(&talk.session)
        }
        SnapshotCommand::Create(options) => create(talk, &options).await,
        SnapshotCommand::Delete(options) => delete(talk, &options).await,
    }
}

async fn list(talk: &Talk, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let of = match &options.volume {
            Some(volume) => Some(find::volume(talk, volume).await?.id),
            None => None,
        };
        let all = find::snapshots(talk, of.as_deref()).await?;
        let volumes = talk.read(|| talk.cloud.volumes(None)).await?;
        let names: HashMap<_, _> = volumes
            .iter()
            .map(|volume| (volume.id.as_str(), volume.name.as_deref()))
            .collect();
        let head = ["NAME", "TIME", "STATUS", "SIZE", "VOLUME", "ID"];
        Shown::plain_list(&all, &head, |one| {
            let volume = names.get(one.volume_id.as_str()).copied().flatten();
            vec![
                or_dash(one.name.as_deref()),
                instant(one.created_at.as_deref()),
                one.status.clone(),
                gib(one.size),
                volume.unwrap_or(&one.volume_id).to_owned(),
                one.id.clone(),
            ]
        })
    };
    options.watch.show(&talk.session, look).await
}

fn shown(one: &Snapshot) -> Result<Shown, Trouble> {
    let metadata = one.metadata.iter().map(|(key, value)| format!("{key}={value}"));
    Shown::plain_object(
        one,
        &[
            ("name", one.name.clone()),
            ("id", Some(one.id.clone())),
            ("volume", Some(one.volume_id.clone())),
            ("time", Some(instant(one.created_at.as_deref()))),
            ("status", Some(one.status.clone())),
            ("size", Some(gib(one.size))),
            ("description", one.description.clone()),
            ("metadata", Some(metadata.collect::<Vec<_>>().join(", "))),
        ],
    )
}

fn look(named: &Named) -> String {
    format!("stillpoint volume snapshot show {} {}", named.volume, named.snapshot)
}

async fn create(talk: &Talk, options: &Create) -> Result<ExitCode, Trouble> {
    let volume = find::volume(talk, &options.volume).await?;
    let (id, name, text) = (volume.id, options.name.clone(), options.description.clone());
    let failure = format!(
        "the snapshot {:?} of volume {:?} was not taken",
        options.name, options.volume
    );
    let list = format!("stillpoint volume snapshot list {}", options.volume);
    let make = |cloud: Cloud| async move { cloud.create_snapshot(&id, &name, text.as_deref()).await };
    let made = talk.change(&failure, &list, make).await?;
    let named = Named {
        volume: options.volume.clone(),
        snapshot: made.id.clone(),
    };
    let what = format!(
        "snapshot {:?} of volume {} is being taken",
        options.name, options.volume
    );
    let end = async |limit| talk.cloud.settled_snapshot(&made.id, limit).await;
    let taken = talk.wait(&what, &look(&named), &options.waiting, end).await?;
    shown(&taken.unwrap_or(made))?.print(&talk.session)
}

async fn delete(talk: &Talk, options: &Delete) -> Result<ExitCode, Trouble> {
    let named = &options.named;
    let volume = find::volume(talk, &named.volume).await?;
    let snapshot = find::snapshot(talk, Some(&volume), &named.snapshot).await?;
    let at = instant(snapshot.created_at.as_deref());
    let of = snapshot.metadata.get("stillpoint:vm_snapshot");
    let plan = Plan::new(format!(
        "Delete the snapshot {:?} of volume {:?}",
        named.snapshot, named.volume
    ))
    .lose(format!("the way back to {at}"))
    .keep("what the volume has, its other snapshots, and volumes that were made from this one")
    .blocked(
        snapshot.status != "available" && !snapshot.status.starts_with("error"),
        format!("its status is {}", snapshot.status),
    )
    .blocked(
        of.is_some(),
        format!(
            "it is part of the VM snapshot {}, if that holds other disks, too: stillpoint snapshot delete VM SNAPSHOT",
            of.map(String::as_str).unwrap_or_default()
        ),
    );
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!(
        "the snapshot {:?} of volume {:?} was not deleted",
        named.snapshot, named.volume
    );
    let id = snapshot.id;
    let make = |cloud: Cloud| {
        let id = id.clone();
        async move { cloud.delete_snapshot(&id).await }
    };
    talk.remove(&failure, &look(named), make)
        .await
        .map_err(|trouble| plan.refused(trouble))?;
    let what = format!("snapshot {:?} is being deleted", named.snapshot);
    let end = async |limit| talk.cloud.gone_snapshot(&id, limit).await;
    talk.wait(&what, &look(named), &options.waiting, end).await?;
    gone(&talk.session, "snapshot", &named.snapshot)
}
