//! `stillpoint backup list`: what points a directory has, or what backups a server knows.

use super::{Trouble, blocking, connect, folder::Folder, options::ListOptions, point::DiskMode, table::Table};
use crate::client::shown::{Shown, moment, or_dash};
use indicatif::BinaryBytes;
use std::{path::Path, process::ExitCode};
use stillpoint_sdk::ListOptions as Wanted;

/// Lists the one or the other.
pub(crate) async fn list(options: ListOptions) -> Result<ExitCode, Trouble> {
    match (&options.vm, options.dir.clone()) {
        (Some(vm), _) => on_the_server(&options, vm).await,
        (None, Some(dir)) => blocking(move || in_a_directory(&dir, options.json)).await,
        (None, None) => Err(Trouble::new("name a directory of points, or a VM with --vm")),
    }
}

async fn on_the_server(options: &ListOptions, vm: &str) -> Result<ExitCode, Trouble> {
    let connection = connect::connect(&options.server)?;
    let vm = connect::find_vm(&connection, vm).await?;
    let vms = connection.system_service().vms_service();
    let backups = vms.vm_service(&connect::id_of(&vm, "a VM")?).backups_service();
    let list = backups.list(Wanted::new()).await?;
    let shown = Shown::list(&list, &["BEGUN", "PHASE", "FROM", "CHECKPOINT", "ID"], |backup| {
        vec![
            backup
                .creation_date
                .map_or_else(|| "-".to_owned(), |date| moment(date.0)),
            or_dash(backup.phase.as_deref()),
            or_dash(backup.from_checkpoint_id.as_deref()),
            or_dash(backup.to_checkpoint_id.as_deref()),
            or_dash(backup.head.id.as_deref()),
        ]
    })?;
    super::print(&if options.json {
        shown.json.to_string()
    } else {
        shown.text
    })?;
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the logout failed");
    }
    Ok(ExitCode::SUCCESS)
}

fn in_a_directory(dir: &Path, json: bool) -> Result<ExitCode, Trouble> {
    let points = Folder::open(dir)?.points()?;
    if json {
        let text = serde_json::to_string(&points).map_err(|error| Trouble::of("the list cannot be written", error))?;
        super::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["POINT", "TIME", "VM", "DISKS", "MODE", "BYTES", "DESCRIPTION"]);
    for point in &points {
        let full = point.disks.iter().filter(|disk| disk.mode == DiskMode::Full).count();
        let mode = match full {
            0 => "incremental".to_owned(),
            full if full == point.disks.len() => "full".to_owned(),
            full => format!("incremental, {full} full"),
        };
        table.row(vec![
            point.number.to_string(),
            point.time.clone(),
            point.vm.name.clone(),
            point.disks.len().to_string(),
            mode,
            BinaryBytes(point.disks.iter().map(|disk| disk.file_bytes).sum()).to_string(),
            point.description.clone(),
        ]);
    }
    super::print(&table.text())?;
    Ok(ExitCode::SUCCESS)
}
