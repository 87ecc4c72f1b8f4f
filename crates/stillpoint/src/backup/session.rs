//! What this program has open on the server, and has to close in every outcome: backups, transfers, and what a restore
//! made so far.
//!
//! A thing is noted before it is asked for where its id is known by then, else as soon as the server said it; it is
//! crossed out when it has ended well. [`Opened::close`] ends the rest: after an error, after Ctrl-C, always. What a
//! program that was killed leaves open is ended by the next run into the same directory ([`end_left_over`]), or on the
//! server by its own limits: a transfer after its idle time, a backup after its lease.

use super::{
    Trouble,
    progress::Progress,
    retry::{Unseen, poll},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use stillpoint_sdk::{
    AddBackupOptions, CallOptions, Connection, DiskService, Error, GetOptions, ImageTransferService, ListOptions,
    RemoveOptions, VmBackupService, VmBackupsService, VmService, types::Backup,
};

/// How long a backup may take to be ready: freezing, a snapshot, and looking through the images.
const READY_LIMIT: Duration = Duration::from_secs(1800);
/// How long a backup may take to end: its snapshot is merged.
const END_LIMIT: Duration = Duration::from_secs(900);
/// How long anything else may take to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(120);
/// How long it is believed that a backup whose request was sent may still appear.
const APPEAR_LIMIT: Duration = Duration::from_secs(5);

/// What is open. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opened(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    backup: Option<VmBackupService>,
    transfers: Vec<(String, ImageTransferService)>,
    disks: Vec<DiskService>,
    vm: Option<VmService>,
}

impl Opened {
    fn change<T>(&self, change: impl FnOnce(&mut List) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add_transfer(&self, id: &str, service: ImageTransferService) {
        self.change(|list| list.transfers.push((id.to_owned(), service)));
    }

    pub(crate) fn end_transfer(&self, id: &str) {
        self.change(|list| list.transfers.retain(|(other, _)| other != id));
    }

    pub(crate) fn add_disk(&self, service: DiskService) {
        self.change(|list| list.disks.push(service));
    }

    pub(crate) fn add_vm(&self, service: VmService) {
        self.change(|list| list.vm = Some(service));
    }

    /// What was made is to stay.
    pub(crate) fn keep(&self) {
        self.change(|list| {
            list.disks.clear();
            list.vm = None;
        });
    }

    /// Starts a backup whose id is in `wanted`, and waits until it is ready.
    pub(crate) async fn start_backup(
        &self,
        backups: &VmBackupsService,
        wanted: &Backup,
        options: AddBackupOptions,
    ) -> Result<Backup, Trouble> {
        let id = wanted.head.id.as_deref().unwrap_or_default();
        let service = backups.backup_service(id);
        self.change(|list| list.backup = Some(service.clone()));
        // Sent by a task of its own: a request that was cut off could still be carried out, unseen.
        let begun = match backups.add(wanted, options.wait(false)).await {
            Ok(_backup) => Ok(()),
            // Perhaps it was carried out, and the answer was lost: its id tells.
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the answer to the start of the backup was lost");
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            self.change(|list| list.backup = None);
            return Err(refused_start(error));
        }
        poll("a backup that is ready", READY_LIMIT, async || {
            let backup = service.get(GetOptions::new()).await?;
            match phase(&backup) {
                "ready" => Ok(Some(backup)),
                "failed" => {
                    self.change(|list| list.backup = None);
                    let text = "the server's backup failed before it was ready";
                    Err(Trouble::new(text)
                        .hint("the server's events say why; with --require-consistency, the guest agent must answer")
                        .into())
                }
                "finalizing" | "succeeded" => {
                    Err(Trouble::new("somebody else finalized the backup before it was ready").into())
                }
                _ => Ok(None),
            }
        })
        .await
    }

    /// Finalizes the backup and waits for its end.
    pub(crate) async fn finalize_backup(&self) -> Result<(), Trouble> {
        let Some(service) = self.change(|list| list.backup.clone()) else {
            return Ok(());
        };
        let is_good = end_backup(&service).await?;
        self.change(|list| list.backup = None);
        if is_good {
            Ok(())
        } else {
            Err(Trouble::new(
                "the server could not end the backup well; its events say why",
            ))
        }
    }

    /// Ends whatever is still open. What cannot be ended is said, with what the server will do about it. Whether no backup
    /// is open any more.
    pub(crate) async fn close(&self, progress: &Progress) -> bool {
        let mut is_backup_ended = true;
        let transfers = self.change(|list| std::mem::take(&mut list.transfers));
        for (id, transfer) in transfers {
            if let Err(trouble) = cancel_transfer(&transfer).await {
                let text = format!("transfer {id} is still open, the server ends it when it was idle for its time");
                progress.say(&format!("warning: {text}: {}", trouble.chain()));
            }
        }
        if let Some(backup) = self.change(|list| list.backup.take()) {
            match end_backup(&backup).await {
                Ok(_) => progress.say("the backup was finalized on the server; nothing of it is kept here"),
                Err(trouble) => {
                    is_backup_ended = false;
                    let text = "the backup is still open on the server, which ends it when its lease is over";
                    progress.say(&format!("warning: {text}: {}", trouble.chain()));
                }
            }
        }
        let (vm, disks) = self.change(|list| (list.vm.take(), std::mem::take(&mut list.disks)));
        if vm.is_none() && disks.is_empty() {
            return is_backup_ended;
        }
        let removed = async {
            if let Some(vm) = vm {
                gone("the new VM's end", async || vm.remove(RemoveOptions::new()).await).await?;
            }
            for disk in disks {
                gone("a new disk's end", async || disk.remove(RemoveOptions::new()).await).await?;
            }
            Ok::<(), Trouble>(())
        };
        match removed.await {
            Ok(()) => progress.say("what the restore had made was removed again"),
            Err(trouble) => progress.say(&format!(
                "warning: not all of what the restore made could be removed: {}",
                trouble.chain()
            )),
        }
        is_backup_ended
    }
}

fn phase(backup: &Backup) -> &str {
    let shown = backup.phase.as_deref().or(backup.status.as_deref());
    shown.unwrap_or_default()
}

/// Finalizes a backup, whatever its phase is; whether it ended well.
async fn end_backup(service: &VmBackupService) -> Result<bool, Trouble> {
    let begin = std::time::Instant::now();
    poll("the end of the backup", END_LIMIT, async || {
        let backup = match service.get(GetOptions::new()).await {
            Ok(backup) => backup,
            // The request that was to start it may still be on its way; after that, it never arrived.
            Err(Error::NotFound(_)) if begin.elapsed() > APPEAR_LIMIT => return Ok(Some(false)),
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match phase(&backup) {
            "succeeded" => return Ok(Some(true)),
            "failed" => return Ok(Some(false)),
            "finalizing" => return Ok(None),
            _ => {}
        }
        match service.finalize(CallOptions::new()).await {
            Ok(_) => Ok(None),
            // A transfer of it is still ending, or it has just gone on by itself: the next look tells.
            Err(error) if error.status() == Some(409) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Ends a backup that an earlier run left open, with its transfers; whether there was anything to end.
pub(crate) async fn end_left_over(connection: &Connection, vm: &VmService, id: &str) -> Result<bool, Trouble> {
    let backup = vm.backups_service().backup_service(id);
    match backup.get(GetOptions::new()).await {
        Ok(shown) if matches!(phase(&shown), "succeeded" | "failed") => return Ok(false),
        Ok(_) => {}
        Err(Error::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let transfers = connection.system_service().image_transfers_service();
    for transfer in transfers.list(ListOptions::new()).await? {
        let of = transfer.backup.as_ref().and_then(|backup| backup.head.id.as_deref());
        if let (true, Some(open)) = (of == Some(id), transfer.head.id.as_deref()) {
            cancel_transfer(&transfers.image_transfer_service(open)).await?;
        }
    }
    end_backup(&backup).await?;
    Ok(true)
}

/// Whether a transfer's phase is one that it stays in.
pub(crate) fn has_ended(phase: &str) -> bool {
    matches!(
        phase,
        "finished_success" | "finished_failure" | "finished_cleanup" | "cancelled"
    )
}

async fn cancel_transfer(service: &ImageTransferService) -> Result<(), Trouble> {
    poll("the end of a transfer", CLOSE_LIMIT, async || {
        let transfer = match service.get(GetOptions::new()).await {
            Ok(transfer) => transfer,
            Err(Error::NotFound(_)) => return Ok(Some(())),
            Err(error) => return Err(error.into()),
        };
        let phase = transfer.phase.unwrap_or_default();
        if has_ended(&phase) {
            return Ok(Some(()));
        }
        if phase.starts_with("cancelled") || phase.starts_with("finalizing") {
            return Ok(None);
        }
        match service.cancel(CallOptions::new()).await {
            Ok(_) => Ok(None),
            Err(error) if error.status() == Some(409) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Removes something, until it is not there any more.
async fn gone(what: &str, remove: impl AsyncFn() -> Result<(), Error>) -> Result<(), Trouble> {
    poll(what, CLOSE_LIMIT, async || match remove().await {
        Ok(()) => Ok(None),
        Err(Error::NotFound(_)) => Ok(Some(())),
        // Something works on it still, or it is being removed.
        Err(error) if error.status() == Some(409) => Ok(None),
        Err(error) => Err(Unseen::from(error)),
    })
    .await
}

fn refused_start(error: Error) -> Trouble {
    let hint = match error.status() {
        Some(409) => Some("another operation or another backup of the VM is at work: wait for it, or finalize it"),
        Some(404) => Some("this server has no backups; of a VM that is down, --at-rest reads the disks without one"),
        _ => None,
    };
    let trouble = Trouble::from(error);
    let trouble = trouble.context("the backup did not start");
    match hint {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    }
}
