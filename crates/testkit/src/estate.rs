//! Everything that a daemon keeps, as lines of text: two of them are equal when nothing was changed.
//!
//! VMs, attachments, snapshots with their disks, disks and images as the API tells them, and the image files with what
//! their headers say. Not in it: jobs and events, which tell of attempts, and sizes that a running guest changes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{Api, Daemon, Xml};

impl Daemon {
    /// All that `api`'s user can see, and all files of the storage domain.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn estate(&self, api: &Api) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for vm in list(api, "vms")? {
            let id = vm.id()?;
            lines.push(line("vm", &vm, &["name", "description", "status", "memory"])?);
            for item in list(api, &format!("vms/{id}/diskattachments"))? {
                lines.push(line(
                    " attached",
                    &item,
                    &["bootable", "interface", "active", "read_only"],
                )?);
            }
            for snapshot in list(api, &format!("vms/{id}/snapshots"))? {
                let members = ["description", "snapshot_type", "snapshot_status", "persist_memorystate"];
                lines.push(line(" snapshot", &snapshot, &members)?);
                for disk in list(api, &format!("vms/{id}/snapshots/{}/disks", snapshot.id()?))? {
                    lines.push(line("  holds", &disk, &["image_id"])?);
                }
            }
        }
        for disk in list(api, "disks")? {
            let members = [
                "alias",
                "description",
                "status",
                "image_id",
                "format",
                "provisioned_size",
            ];
            lines.push(line("disk", &disk, &members)?);
        }
        lines.extend(self.image_files()?);
        Ok(lines)
    }

    /// The directory of the storage domain.
    #[must_use]
    pub fn images_dir(&self) -> std::path::PathBuf {
        self.data_dir().join("images")
    }

    /// Its files, sorted; qcow2 files with size and backing name of their headers.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn image_files(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.images_dir()).context("reading the images directory")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let what = match qcow2_header(&path) {
                Some((size, backing)) => format!("qcow2 {size} over {backing:?}"),
                None => "other".to_owned(),
            };
            lines.push(format!("file {name} {what}"));
        }
        lines.sort();
        Ok(lines)
    }
}

fn list(api: &Api, path: &str) -> Result<Vec<Xml>> {
    Ok(api.get(path)?.expect(&[200])?.xml()?.children)
}

fn line(kind: &str, item: &Xml, members: &[&str]) -> Result<String> {
    let values = members.iter().map(|member| item.text_at(member).unwrap_or("-"));
    Ok(format!(
        "{kind} {} {}",
        item.id()?,
        values.collect::<Vec<_>>().join(" | ")
    ))
}

/// Virtual size and backing name, as far as a file has a qcow2 header (`docs/interop/qcow2`).
fn qcow2_header(path: &Path) -> Option<(u64, String)> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let head: Vec<u8> = {
        use std::io::Read;
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(65_536).read_to_end(&mut bytes).ok()?;
        bytes
    };
    let word = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        Some(bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    if head.get(..4)? != b"QFI\xfb" {
        return None;
    }
    let (offset, length) = (usize::try_from(word(8, 8)?).ok()?, usize::try_from(word(16, 4)?).ok()?);
    let name = head.get(offset..offset.checked_add(length)?)?;
    Some((word(24, 8)?, String::from_utf8_lossy(name).into_owned()))
}
