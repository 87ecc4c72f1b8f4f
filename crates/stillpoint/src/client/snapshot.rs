//! `stillpoint snapshot ...`

use super::{
    Session, Trouble, find,
    plan::{Plan, Sure},
    session::Waiting,
    shown::{Shown, Watch, json, moment, or_dash},
    size, tree,
    vm::{gone, status},
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{
    GetOptions, ListOptions, VmService, by_id,
    types::{Action, Disk, DiskAttachment, Snapshot, Vm},
};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List the snapshots of a VM, oldest first.
    #[command(after_help = "Examples:
  stillpoint snapshot list db1
  stillpoint snapshot list db1 --tree       what stands on what, and where the VM is
  stillpoint snapshot list db1 --json")]
    List(List),
    /// Show one snapshot and its disks.
    #[command(after_help = "Examples:
  stillpoint snapshot show db1 'before upgrade'")]
    Show(Named),
    /// List the disks in a snapshot, as they were then.
    #[command(after_help = "Examples:
  stillpoint snapshot disks db1 'before upgrade'")]
    Disks(Named),
    /// Take a snapshot, at one moment for all disks. The VM goes on.
    #[command(after_help = "Examples:
  stillpoint snapshot create db1 'before upgrade'
  stillpoint snapshot create db1 'as it runs' --memory     with the guest's memory
  stillpoint snapshot create db1 'data only' --disk db1_disk2")]
    Create(Create),
    /// Delete a snapshot, also while the VM runs. What the VM has on its disks stays.
    #[command(after_help = "Examples:
  stillpoint snapshot delete db1 'before upgrade' --dry-run
  stillpoint snapshot delete db1 'before upgrade' --yes")]
    Delete(Destroy),
    /// Bring a VM that is down back to a snapshot: what came later is lost.
    #[command(after_help = "Examples:
  stillpoint snapshot restore db1 'before upgrade' --dry-run    what would be lost
  stillpoint snapshot restore db1 'before upgrade'
  stillpoint snapshot preview db1 'before upgrade'              look first; it can be undone")]
    Restore(Restore),
    /// Let a VM that is down go on from a snapshot until that is committed or undone. Nothing is lost.
    #[command(after_help = "Examples:
  stillpoint snapshot preview db1 'before upgrade'
  stillpoint vm start db1                      look at it
  stillpoint snapshot undo db1                 back, or: stillpoint snapshot commit db1")]
    Preview(Preview),
    /// Keep what is previewed: what came after the snapshot is lost.
    #[command(after_help = "Examples:
  stillpoint snapshot commit db1 --dry-run")]
    Commit(End),
    /// End a preview and bring the VM back to where it was: what was done in the preview is lost.
    #[command(after_help = "Examples:
  stillpoint snapshot undo db1")]
    Undo(End),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Name or id of the VM.
    vm: String,
    /// Draw what stands on what.
    #[arg(long)]
    tree: bool,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// Name or id of the VM.
    vm: String,
    /// Description or id of the snapshot.
    snapshot: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name or id of the VM.
    vm: String,
    /// What the snapshot is called.
    description: String,
    /// Save the guest's memory, too.
    #[arg(long)]
    memory: bool,
    /// Only this disk, by name or id; can be given several times. Default: all disks.
    #[arg(long, value_name = "DISK")]
    disk: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    destroy: Destroy,
    /// Start from the snapshot's memory, if it has one.
    #[arg(long)]
    memory: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Preview {
    #[command(flatten)]
    named: Named,
    /// Start from the snapshot's memory, if it has one.
    #[arg(long)]
    memory: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct End {
    /// Name or id of the VM.
    vm: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

/// A snapshot in its place.
struct Found {
    vm: Vm,
    service: VmService,
    all: Vec<Snapshot>,
    one: Snapshot,
    id: String,
}

impl Found {
    async fn look(session: &Session, named: &Named) -> Result<Self, Trouble> {
        let (vm, service) = find::vm(session, &named.vm).await?;
        let all = find::snapshots(session, &service.snapshots_service()).await?;
        let one = find::snapshot(&named.vm, &all, &named.snapshot)?;
        let id = super::connect::id_of(&one, "a snapshot")?;
        Ok(Self {
            vm,
            service,
            all,
            one,
            id,
        })
    }

    /// The snapshots that are newer.
    fn newer(&self) -> impl Iterator<Item = &Snapshot> {
        let date = self.one.date.map(|date| date.0);
        let is_newer = move |one: &&Snapshot| find::kind(one) == "regular" && one.date.map(|date| date.0) > date;
        self.all.iter().filter(is_newer)
    }
}

pub(crate) async fn run(session: &Session, command: SnapshotCommand) -> Result<ExitCode, Trouble> {
    match command {
        SnapshotCommand::List(options) => list(session, &options).await,
        SnapshotCommand::Show(named) => show(session, &named).await?.print(session),
        SnapshotCommand::Disks(named) => disks(session, &named).await,
        SnapshotCommand::Create(options) => create(session, &options).await,
        SnapshotCommand::Delete(options) => delete(session, &options).await,
        SnapshotCommand::Restore(options) => restore(session, &options).await,
        SnapshotCommand::Preview(options) => preview(session, &options).await,
        SnapshotCommand::Commit(options) => end(session, &options, true).await,
        SnapshotCommand::Undo(options) => end(session, &options, false).await,
    }
}

fn has_memory(snapshot: &Snapshot) -> &'static str {
    match snapshot.persist_memorystate {
        Some(true) => "yes",
        _ => "-",
    }
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let (_, service) = find::vm(session, &options.vm).await?;
        let all = find::snapshots(session, &service.snapshots_service()).await?;
        let mut shown = Shown::list(
            &all,
            &["DESCRIPTION", "TIME", "STATUS", "KIND", "MEMORY", "ID"],
            |one| {
                vec![
                    or_dash(Some(find::description(one))),
                    one.date.map_or_else(|| "-".to_owned(), |date| moment(date.0)),
                    or_dash(one.snapshot_status.as_deref()),
                    or_dash(Some(find::kind(one))),
                    has_memory(one).to_owned(),
                    or_dash(one.base.head.id.as_deref()),
                ]
            },
        )?;
        if options.tree {
            shown.text = tree::draw(&all);
        }
        Ok(shown)
    };
    options.watch.show(session, look).await
}

async fn show(session: &Session, named: &Named) -> Result<Shown, Trouble> {
    let found = Found::look(session, named).await?;
    let service = found.service.snapshots_service().snapshot_service(&found.id);
    let follow = || GetOptions::new().follow("disks");
    let one = session.read(|| service.get(follow())).await?;
    let disks = one.disks.iter().flatten().map(|disk| {
        let name = or_dash(disk.head.name.as_deref());
        format!(
            "{name} ({}, image {})",
            size::shown(disk.provisioned_size),
            or_dash(disk.image_id.as_deref())
        )
    });
    Shown::object(
        &one,
        &[
            ("description", Some(find::description(&one).to_owned())),
            ("id", Some(found.id.clone())),
            ("VM", found.vm.head.name.clone()),
            ("time", one.date.map(|date| moment(date.0))),
            ("status", one.snapshot_status.clone()),
            ("kind", Some(find::kind(&one).to_owned())),
            ("memory", Some(has_memory(&one).to_owned())),
            ("disks", Some(disks.collect::<Vec<_>>().join(", "))),
        ],
    )
}

async fn disks(session: &Session, named: &Named) -> Result<ExitCode, Trouble> {
    let found = Found::look(session, named).await?;
    let service = found.service.snapshots_service().snapshot_service(&found.id);
    let disks = service.disks_service();
    let list = session.read(|| disks.list(ListOptions::new())).await?;
    Shown::list(&list, &["NAME", "SIZE", "USED", "FORMAT", "IMAGE", "ID"], |disk| {
        vec![
            or_dash(disk.head.name.as_deref()),
            size::shown(disk.provisioned_size),
            size::shown(disk.actual_size),
            or_dash(disk.format.as_deref()),
            or_dash(disk.image_id.as_deref()),
            or_dash(disk.head.id.as_deref()),
        ]
    })?
    .print(session)
}

async fn create(session: &Session, options: &Create) -> Result<ExitCode, Trouble> {
    let (vm, service) = find::vm(session, &options.vm).await?;
    let mut chosen = Vec::new();
    for disk in &options.disk {
        let id = super::connect::id_of(&find::disk(session, disk).await?, "a disk")?;
        chosen.push(DiskAttachment {
            disk: Some(Box::new(by_id::<Disk>(&id))),
            ..DiskAttachment::default()
        });
    }
    let mut wanted = Snapshot {
        persist_memorystate: Some(options.memory),
        ..Snapshot::default()
    };
    wanted.base.head.description = Some(options.description.clone());
    wanted.base.disk_attachments = Some(chosen).filter(|chosen| !chosen.is_empty());
    let name = vm.head.name.as_deref().unwrap_or_default();
    let failure = format!("the snapshot {:?} of VM {name:?} was not taken", options.description);
    let snapshots = service.snapshots_service();
    let (made, change) = session.change(failure, |call| snapshots.add(&wanted, call)).await?;
    session.wait(&change, &options.waiting).await?;
    let snapshot = made.base.head.id.clone().unwrap_or_default();
    let vm = options.vm.clone();
    show(session, &Named { vm, snapshot }).await?.print(session)
}

async fn delete(session: &Session, options: &Destroy) -> Result<ExitCode, Trouble> {
    let found = Found::look(session, &options.named).await?;
    let (vm, text) = (&options.named.vm, find::description(&found.one));
    let mut plan = Plan::new(format!("Delete the snapshot {text:?} of VM {vm:?}"))
        .lose("the way back to that moment")
        .keep("what the VM has on its disks, and its other snapshots")
        .blocked(
            found.one.snapshot_status.as_deref() != Some("ok"),
            format!(
                "its status is {}",
                found.one.snapshot_status.as_deref().unwrap_or_default()
            ),
        );
    if found.one.persist_memorystate == Some(true) {
        plan = plan.lose("the guest's memory of that moment");
    }
    if !plan.confirm(session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let service = found.service.snapshots_service().snapshot_service(&found.id);
    let failure = format!("the snapshot {text:?} of VM {vm:?} was not deleted");
    let change = session.remove(failure, |call| service.remove(call)).await?;
    session.wait(&change, &options.waiting).await?;
    gone(session, "snapshot", text)
}

/// What is lost by going back to a snapshot and staying there.
fn lose_later(mut plan: Plan, found: &Found) -> Plan {
    let since = found.one.date.map_or_else(String::new, |date| moment(date.0));
    plan = plan.lose(format!("everything that was written to the VM's disks since {since}"));
    for newer in found.newer() {
        let at = newer.date.map_or_else(String::new, |date| moment(date.0));
        plan = plan.lose(format!("the newer snapshot {:?} of {at}", find::description(newer)));
    }
    plan.lose("changes of the VM's configuration since then").keep(format!(
        "the snapshot {:?} itself, and the older ones",
        find::description(&found.one)
    ))
}

async fn restore(session: &Session, options: &Restore) -> Result<ExitCode, Trouble> {
    let Destroy { named, sure, waiting } = &options.destroy;
    let found = Found::look(session, named).await?;
    let (vm, text) = (&named.vm, find::description(&found.one));
    let plan = Plan::new(format!("Bring the VM {vm:?} back to the snapshot {text:?}"));
    let plan = lose_later(plan, &found).blocked(
        !matches!(status(&found.vm), "down" | "suspended"),
        format!("it is {}: stillpoint vm shutdown {vm}", status(&found.vm)),
    );
    if !plan.confirm(session, sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let service = found.service.snapshots_service().snapshot_service(&found.id);
    let action = Action {
        restore_memory: Some(options.memory),
        ..Action::default()
    };
    let failure = format!("the VM {vm:?} was not restored to the snapshot {text:?}");
    let (_, change) = session.change(failure, |call| service.restore(&action, call)).await?;
    session.wait(&change, waiting).await?;
    said(session, &found.service, &format!("VM {vm} is at the snapshot {text:?}")).await
}

async fn preview(session: &Session, options: &Preview) -> Result<ExitCode, Trouble> {
    let found = Found::look(session, &options.named).await?;
    let (vm, text) = (&options.named.vm, find::description(&found.one));
    let action = Action {
        snapshot: Some(Box::new(by_id::<Snapshot>(&found.id))),
        restore_memory: Some(options.memory),
        ..Action::default()
    };
    let failure = format!("the preview of the snapshot {text:?} of VM {vm:?} did not begin");
    let (_, change) = session
        .change(failure, |call| found.service.preview_snapshot(&action, call))
        .await?;
    session.wait(&change, &options.waiting).await?;
    let text = format!("VM {vm} previews the snapshot {text:?}; end it with: stillpoint snapshot commit|undo {vm}");
    said(session, &found.service, &text).await
}

async fn end(session: &Session, options: &End, is_commit: bool) -> Result<ExitCode, Trouble> {
    let (vm, service) = find::vm(session, &options.vm).await?;
    let all = find::snapshots(session, &service.snapshots_service()).await?;
    let previewed = all
        .iter()
        .find(|one| one.snapshot_status.as_deref() == Some("in_preview"));
    let name = &options.vm;
    let Some(one) = previewed.cloned() else {
        return Err(Trouble::new(format!("the VM {name:?} previews no snapshot"))
            .hint(format!("begin with: stillpoint snapshot preview {name} SNAPSHOT"))
            .code(super::code::IN_THE_WAY));
    };
    let text = find::description(&one).to_owned();
    let id = super::connect::id_of(&one, "a snapshot")?;
    let is_running = status(&vm) != "down";
    let blocker = format!("it is {}: stillpoint vm shutdown {name}", status(&vm));
    let found = Found {
        vm,
        service,
        all,
        one,
        id,
    };
    let plan = if is_commit {
        let plan = Plan::new(format!("Keep the VM {name:?} at the previewed snapshot {text:?}"));
        lose_later(plan, &found).keep("what was written in the preview")
    } else {
        Plan::new(format!(
            "Bring the VM {name:?} back to where it was before the preview of {text:?}"
        ))
        .lose("everything that was written in the preview")
        .keep("all snapshots, and what was on the disks before")
    };
    if !plan
        .blocked(is_running, blocker)
        .confirm(session, &options.sure)
        .await?
    {
        return Ok(ExitCode::SUCCESS);
    }
    let word = if is_commit { "committed" } else { "undone" };
    let failure = format!("the preview of VM {name:?} was not {word}");
    let service = &found.service;
    let request = |call| {
        if is_commit {
            service.commit_snapshot(call)
        } else {
            service.undo_snapshot(call)
        }
    };
    let (_, change) = session.change(failure, request).await?;
    session.wait(&change, &options.waiting).await?;
    said(session, service, &format!("the preview of VM {name} is {word}")).await
}

async fn said(session: &Session, service: &VmService, text: &str) -> Result<ExitCode, Trouble> {
    let vm = session.read(|| service.get(GetOptions::new())).await?;
    Shown::new(text, json(&vm)?).print(session)
}
