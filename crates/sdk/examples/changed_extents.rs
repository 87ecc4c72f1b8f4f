//! Downloads what has changed on a VM's disks since a checkpoint, and nothing else: one file a disk with the data, and one
//! with the extents that it is made of.
//!
//! ```text
//! STILLPOINT_PASSWORD=change-me cargo run -p stillpoint-sdk --example changed_extents -- VM CHECKPOINT DIRECTORY
//! ```
//!
//! `DISK.extents` has a line `START LENGTH` for each changed extent, in bytes; `DISK.data` their bytes one after the other.
//! A Stillpoint server gives many small extents in one answer; of any other server they are read one by one.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

mod common;

use common::{Trouble, connect, download, end_backup, end_download, id, ready, vm_named};
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};
use stillpoint_sdk::{
    AddBackupOptions, BodyReader, Connection, ExtentContext, ImageClient, ListOptions, VmBackupService, by_id,
    types::{Backup, Disk},
};

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vm, checkpoint, directory] = arguments.as_slice() else {
        return Err("give the name of a VM, a checkpoint, and a directory".into());
    };
    let connection = connect()?;
    let bytes = run(&connection, vm, checkpoint, Path::new(directory)).await?;
    println!("{bytes} bytes have changed");
    Ok(connection.close().await?)
}

/// Does it; returns how many bytes have changed.
///
/// # Errors
/// When the server refuses, or a file cannot be written.
pub(crate) async fn run(connection: &Connection, vm: &str, checkpoint: &str, directory: &Path) -> Result<u64, Trouble> {
    let vm = connection
        .system_service()
        .vms_service()
        .vm_service(&vm_named(connection, vm).await?);
    let known = vm.checkpoints_service().checkpoint_service(checkpoint);
    let disks = known.disks_service().list(ListOptions::new()).await?;
    let wanted = Backup {
        from_checkpoint_id: Some(checkpoint.to_owned()),
        disks: Some(disks.iter().map(|disk| by_id::<Disk>(&id(disk))).collect()),
        ..Backup::default()
    };
    let backups = vm.backups_service();
    let begun = backups.add(&wanted, AddBackupOptions::new()).await?;
    let backup = backups.backup_service(&id(&begun));
    let done = store(connection, &backup, &id(&begun), directory).await;
    // Whatever happened: a backup that is not finalized stands in the way of the next one.
    let ended = end_backup(&backup).await;
    let changed = done?;
    ended?;
    Ok(changed)
}

async fn store(connection: &Connection, backup: &VmBackupService, of: &str, to: &Path) -> Result<u64, Trouble> {
    ready(backup).await?;
    let mut changed = 0;
    for disk in backup.disks_service().list(ListOptions::new()).await? {
        let (transfer, image) = download(connection, of, &id(&disk)).await?;
        changed += one_disk(&image, &to.join(id(&disk))).await?;
        end_download(&transfer).await?;
    }
    Ok(changed)
}

async fn one_disk(image: &ImageClient, to: &Path) -> Result<u64, Trouble> {
    let many = image.features().await?.many_ranges;
    let (mut extents, mut changed) = (image.extents(ExtentContext::Dirty).await?, Vec::new());
    let mut list = BufWriter::new(File::create(to.with_extension("extents"))?);
    while let Some(extent) = extents.next().await? {
        if extent.is_dirty {
            writeln!(list, "{} {}", extent.start, extent.length)?;
            changed.push((extent.start, extent.length));
        }
    }
    list.flush()?;
    let mut data = BufWriter::new(File::create(to.with_extension("data"))?);
    for ranges in changed.chunks(many.max(1)) {
        match ranges {
            [(start, length)] => append(image.read(*start, *length).await?, &mut data).await?,
            _ => append(image.read_many(ranges).await?, &mut data).await?,
        }
    }
    data.into_inner()?.sync_all()?;
    Ok(changed.iter().map(|(_, length)| length).sum())
}

async fn append(mut body: BodyReader, to: &mut BufWriter<File>) -> Result<(), Trouble> {
    while let Some(bytes) = body.next().await? {
        to.write_all(&bytes)?;
    }
    Ok(())
}
