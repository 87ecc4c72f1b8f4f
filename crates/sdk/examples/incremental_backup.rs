//! Backs up a VM into a directory, one raw file a disk: all of it the first time, what has changed after that.
//!
//! ```text
//! STILLPOINT_PASSWORD=change-me cargo run -p stillpoint-sdk --example incremental_backup -- VM DIRECTORY
//! ```
//!
//! The files are the disks as they were at the newest backup. The file `checkpoint` has the point from which the next
//! run goes on. A run that was cut off leaves files of no one moment: remove `checkpoint` and begin anew.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

mod common;

use common::{Trouble, connect, download, end_backup, end_download, id, ready, vm_named};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};
use stillpoint_sdk::{
    AddBackupOptions, Connection, ExtentContext, ImageClient, ListOptions, VmBackupService, by_id,
    types::{Backup, Disk},
};

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vm, directory] = arguments.as_slice() else {
        return Err("give the name of a VM, and a directory".into());
    };
    let connection = connect()?;
    let checkpoint = run(&connection, vm, Path::new(directory)).await?;
    println!("the next backup goes on from checkpoint {checkpoint}");
    Ok(connection.close().await?)
}

/// Does it; returns the checkpoint from which the next backup goes on.
///
/// # Errors
/// When the server refuses, or a file cannot be written.
pub(crate) async fn run(connection: &Connection, vm: &str, directory: &Path) -> Result<String, Trouble> {
    let vm = connection
        .system_service()
        .vms_service()
        .vm_service(&vm_named(connection, vm).await?);
    let attachments = vm.disk_attachments_service().list(ListOptions::new()).await?;
    let disks = attachments
        .iter()
        .map(|attachment| by_id::<Disk>(&id(attachment)))
        .collect();
    let before = directory.join("checkpoint");
    let wanted = Backup {
        from_checkpoint_id: fs::read_to_string(&before).ok(),
        disks: Some(disks),
        ..Backup::default()
    };
    let backups = vm.backups_service();
    let begun = backups.add(&wanted, AddBackupOptions::new()).await?;
    let backup = backups.backup_service(&id(&begun));
    let done = store(connection, &backup, directory).await;
    // Whatever happened: a backup that is not finalized stands in the way of the next one.
    let ended = end_backup(&backup).await;
    let checkpoint = done?;
    ended?;
    fs::write(before, &checkpoint)?;
    Ok(checkpoint)
}

/// Brings the files to the backup's moment.
async fn store(connection: &Connection, backup: &VmBackupService, directory: &Path) -> Result<String, Trouble> {
    let ready = ready(backup).await?;
    for disk in backup.disks_service().list(ListOptions::new()).await? {
        // A disk that the checkpoint does not know is taken in full; the server says which.
        let is_full = disk.backup_mode.as_deref() != Some("incremental");
        let file = directory.join(format!("{}.raw", id(&disk)));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(is_full)
            .open(file)?;
        file.set_len(disk.provisioned_size.ok_or("a disk without a size")?)?;
        let (transfer, image) = download(connection, &id(&ready), &id(&disk)).await?;
        let copied = copy(&image, &file, is_full).await?;
        file.sync_all()?;
        end_download(&transfer).await?;
        println!(
            "{}: {copied} bytes, {}",
            id(&disk),
            disk.backup_mode.unwrap_or_default()
        );
    }
    Ok(ready.to_checkpoint_id.ok_or("a backup without a checkpoint")?)
}

/// Copies what is not zeroes (of a full backup) or what changed (of an incremental one); returns how many bytes came.
async fn copy(image: &ImageClient, file: &File, is_full: bool) -> Result<u64, Trouble> {
    let context = if is_full {
        ExtentContext::Zero
    } else {
        ExtentContext::Dirty
    };
    let (mut extents, mut copied) = (image.extents(context).await?, 0);
    while let Some(extent) = extents.next().await? {
        // A new file reads as zeroes already.
        if (is_full && extent.is_zero) || !(is_full || extent.is_dirty) {
            continue;
        }
        let mut data = image.read(extent.start, extent.length).await?;
        let mut at = extent.start;
        while let Some(bytes) = data.next().await? {
            file.write_all_at(&bytes, at)?;
            at += bytes.len() as u64;
        }
        copied += extent.length;
    }
    Ok(copied)
}
