//! `stillpoint backup start`, `show` and `finalize`: backups on the server, for who reads their bytes by something else.

use super::{
    Session, Trouble, code,
    connect::id_of,
    find,
    retry::{Patience, Unseen, poll},
    session::{READS_MAX, Waiting},
    shown::{Shown, moment, note, or_dash},
    size,
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{
    AddBackupOptions, Error, GetOptions, ListOptions, VmBackupService, by_id,
    types::{Backup, Disk},
};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ServerBackupCommand {
    Start(StartOptions),
    Show(OneBackup),
    Finalize(FinalizeOptions),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StartOptions {
    /// Name or id of the VM.
    vm: String,
    /// Only this disk, by name or id; can be given several times. Default: all disks.
    #[arg(long, value_name = "DISK")]
    disk: Vec<String>,
    /// Only what changed since this checkpoint, by its id.
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<String>,
    /// Fail if the guest's file systems cannot be frozen at the moment of the backup.
    #[arg(long)]
    require_consistency: bool,
    /// Read from the active volume instead of a snapshot: no snapshot shows up in the VM.
    #[arg(long)]
    use_active: bool,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OneBackup {
    /// Name or id of the VM.
    vm: String,
    /// Id of the backup.
    backup: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FinalizeOptions {
    #[command(flatten)]
    one: OneBackup,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(session: &Session, command: ServerBackupCommand) -> Result<ExitCode, Trouble> {
    match command {
        ServerBackupCommand::Start(options) => start(session, &options).await,
        ServerBackupCommand::Show(one) => {
            let service = one.look(session).await?.0;
            show(session, &service).await
        }
        ServerBackupCommand::Finalize(options) => finalize(session, &options).await,
    }
}

fn phase(backup: &Backup) -> &str {
    let shown = backup.phase.as_deref().or(backup.status.as_deref());
    shown.unwrap_or_default()
}

impl OneBackup {
    async fn look(&self, session: &Session) -> Result<(VmBackupService, Backup), Trouble> {
        let (_, service) = find::vm(session, &self.vm).await?;
        let service = service.backups_service().backup_service(&self.backup);
        let read = session.read(|| service.get(GetOptions::new())).await;
        let list = format!("stillpoint backup list --vm {}", self.vm);
        let found = read.map_err(|error| find::unread(error, "backup", &self.backup, &list))?;
        Ok((service, found))
    }
}

/// The disks of a new backup.
async fn disks(session: &Session, options: &StartOptions) -> Result<Vec<Disk>, Trouble> {
    let mut chosen = Vec::new();
    for disk in &options.disk {
        let id = id_of(&find::disk(session, disk).await?, "a disk")?;
        chosen.push(by_id::<Disk>(&id));
    }
    if options.disk.is_empty() {
        let (_, service) = find::vm(session, &options.vm).await?;
        let attachments = service.disk_attachments_service();
        let all = session.read(|| attachments.list(ListOptions::new())).await?;
        chosen.extend(all.iter().filter_map(|one| one.head.id.as_deref()).map(by_id::<Disk>));
    }
    if chosen.is_empty() {
        let text = format!("the VM {:?} has no disks to back up", options.vm);
        return Err(Trouble::new(text).hint(format!("stillpoint disk attach {} DISK", options.vm)));
    }
    Ok(chosen)
}

async fn start(session: &Session, options: &StartOptions) -> Result<ExitCode, Trouble> {
    let (vm, service) = find::vm(session, &options.vm).await?;
    // Given by us, so that the request can be sent again: the server makes one backup of an id.
    let id = uuid::Uuid::new_v4().to_string();
    let mut wanted = Backup {
        from_checkpoint_id: options.from.clone(),
        disks: Some(disks(session, options).await?),
        ..Backup::default()
    };
    wanted.head.id = Some(id.clone());
    wanted.head.description.clone_from(&options.description);
    let backups = service.backups_service();
    let service = backups.backup_service(&id);
    let name = vm.head.name.as_deref().unwrap_or(&options.vm);
    let end = format!("it is open until: stillpoint backup finalize {name} {id}");
    let mut patience = Patience::of(READS_MAX);
    loop {
        let call = AddBackupOptions::new()
            .require_consistency(options.require_consistency)
            .use_active(options.use_active);
        let sent = session
            .send_to_the_end(
                &format!("stillpoint backup show {name} {id}"),
                backups.add(&wanted, call),
            )
            .await;
        match sent {
            Ok(_backup) => break,
            Err(error) if error.is_transient() && error.status().is_none() => {
                patience.after(error).await.map_err(|error| {
                    Trouble::from(error)
                        .context(format!("whether the backup {id} was begun is not known"))
                        .replace_hint(format!("look: stillpoint backup show {name} {id}"))
                })?;
                match session.read(|| service.get(GetOptions::new())).await {
                    Ok(_begun) => break,
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => {
                let trouble = Trouble::from(error).context(format!("the backup of VM {name:?} was not begun"));
                return Err(trouble.hint(format!("what is open: stillpoint backup list --vm {name}")));
            }
        }
    }
    session.leaves(format!("the backup was begun; {end}"));
    if options.waiting.waits() {
        let is_ready = async || {
            let backup = service.get(GetOptions::new()).await?;
            match phase(&backup) {
                "ready" => Ok(Some(())),
                "initializing" | "starting" => Ok(None),
                other => Err(Unseen::from(failed(&id, other, name))),
            }
        };
        poll("a backup that is ready", options.waiting.limit(), is_ready).await?;
    }
    note(&end);
    show(session, &service).await
}

fn failed(id: &str, phase: &str, vm: &str) -> Trouble {
    Trouble::new(format!("the backup {id} is {phase}"))
        .hint(format!("why: stillpoint event list --vm {vm}"))
        .code(code::FAILED)
}

async fn finalize(session: &Session, options: &FinalizeOptions) -> Result<ExitCode, Trouble> {
    let OneBackup { vm, backup: id } = &options.one;
    let (service, found) = options.one.look(session).await?;
    if phase(&found) == "succeeded" {
        note("it was finalized before");
        return show(session, &service).await;
    }
    let failure = format!("the backup {id} of VM {vm:?} was not finalized");
    // A transfer of it that goes on is what refuses.
    let (_, _change) = session
        .change(failure, |call| service.finalize(call))
        .await
        .map_err(|trouble| trouble.hint("transfers of it must have ended: stillpoint transfer list"))?;
    if options.waiting.waits() {
        let has_ended = async || {
            let backup = service.get(GetOptions::new()).await?;
            match phase(&backup) {
                "succeeded" => Ok(Some(())),
                "failed" => Err(Unseen::from(failed(id, "failed", vm))),
                _ => Ok(None),
            }
        };
        poll("the end of the backup", options.waiting.limit(), has_ended).await?;
    }
    show(session, &service).await
}

async fn show(session: &Session, service: &VmBackupService) -> Result<ExitCode, Trouble> {
    let backup = session.read(|| service.get(GetOptions::new())).await?;
    let disks = service.disks_service();
    let disks = session.read(|| disks.list(ListOptions::new())).await?;
    let disks = disks.iter().map(|disk| {
        let name = disk.head.name.as_deref().or(disk.head.id.as_deref());
        let mode = disk.backup_mode.as_deref().unwrap_or("full");
        format!("{} ({}, {mode})", or_dash(name), size::shown(disk.provisioned_size))
    });
    Shown::object(
        &backup,
        &[
            ("id", backup.head.id.clone()),
            ("phase", Some(phase(&backup).to_owned())),
            ("begun", backup.creation_date.map(|date| moment(date.0))),
            ("description", backup.head.description.clone()),
            ("from", backup.from_checkpoint_id.clone()),
            ("checkpoint", backup.to_checkpoint_id.clone()),
            ("disks", Some(disks.collect::<Vec<_>>().join(", "))),
        ],
    )?
    .print(session)
}
