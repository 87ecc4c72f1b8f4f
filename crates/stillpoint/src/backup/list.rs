//! `stillpoint backup list`: what points a directory has.

use super::{Trouble, folder::Folder, options::ListOptions, point::DiskMode, table::Table};
use indicatif::BinaryBytes;
use std::process::ExitCode;

/// Lists the points.
pub(crate) fn list(options: &ListOptions) -> Result<ExitCode, Trouble> {
    let points = Folder::open(&options.dir)?.points()?;
    if options.json {
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
