//! What a point says about itself: `manifest.json`.
//!
//! All that a restore needs is in it or beside it; the server may be gone. Members are only added: `format` changes when
//! an older program could misread one. A manifest comes from a disk that anybody may have written to, so names in it
//! are checked before they become paths.

use super::Trouble;
use serde::{Deserialize, Serialize};

/// What this program writes.
pub(crate) const FORMAT: u32 = 1;
/// In a point's directory.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The VM's OVF document, if the server gave one.
pub(crate) const OVF: &str = "vm.ovf";
/// Digests of all files of the point, for `sha256sum -c`.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// A point: the disks of one VM at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// 1 for the first point in a directory; each is one more than the one before.
    pub(crate) number: u64,
    /// Name of the point's directory.
    pub(crate) point: String,
    /// When the server made the backup (RFC 3339); of a VM at rest: when it was read.
    pub(crate) time: String,
    pub(crate) description: String,
    pub(crate) vm: Machine,
    /// How the disks were read.
    pub(crate) source: SourceKind,
    /// The server's backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backup_id: Option<String>,
    /// What the next point can be incremental from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_id: Option<String>,
    /// In the order of the VM.
    pub(crate) disks: Vec<Disk>,
    /// Whether `vm.ovf` is there.
    pub(crate) has_ovf: bool,
}

/// How the disks of a point were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceKind {
    /// From a backup of the server.
    Backup,
    /// From the disks of a VM that was down.
    AtRest,
}

/// The VM's hardware, as far as a restore without the OVF document needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_guaranteed_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sockets: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<i32>,
    /// `server`, `desktop`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initrd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cmdline: Option<String>,
    /// `q35_sea_bios`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) firmware: Option<String>,
}

/// What a disk's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskMode {
    /// The whole disk.
    Full,
    /// What changed since the point before.
    Incremental,
}

/// One disk of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) id: String,
    pub(crate) alias: String,
    pub(crate) bootable: bool,
    /// `virtio`, `virtio_scsi`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    pub(crate) mode: DiskMode,
    /// Why it is full although the point is incremental.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why_full: Option<String>,
    /// Bytes of the disk.
    pub(crate) size_bytes: u64,
    /// Name of its file in the point's directory.
    pub(crate) file: String,
    pub(crate) file_bytes: u64,
    /// What an incremental file stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backing: Option<Backing>,
    /// SHA-256 of the file's bytes.
    pub(crate) sha256: String,
    /// SHA-256 of what the file holds of the disk; see the guide.
    pub(crate) content_sha256: String,
    /// Bytes of the disk in the file.
    pub(crate) data_bytes: u64,
    /// Bytes of the disk that the file says are zero.
    pub(crate) zero_bytes: u64,
    /// How long it took to read it from the server.
    pub(crate) milliseconds: u64,
}

/// A file of an earlier point in the same directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backing {
    pub(crate) point: String,
    pub(crate) file: String,
}

impl Backing {
    /// Its name as a qcow2 header says it: relative to the file that stands on it.
    pub(crate) fn name(&self) -> String {
        format!("../{}/{}", self.point, self.file)
    }
}

impl Manifest {
    /// Whether the point has nothing below it.
    pub(crate) fn is_full(&self) -> bool {
        self.disks.iter().all(|disk| disk.mode == DiskMode::Full)
    }

    /// Reads a manifest that should be the one of `point`.
    pub(crate) fn parse(point: &str, text: &[u8]) -> Result<Self, Trouble> {
        let bad = |detail: String| Trouble::new(format!("the manifest of point {point} is damaged: {detail}"));
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        // First of all: a newer program may have changed everything else.
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(Trouble::new(format!(
                    "point {point} has format {format}; this program knows {FORMAT}: use a newer one"
                )));
            }
            None => return Err(bad("it says no format".into())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        if manifest.point != point {
            return Err(bad(format!("it says that it is point {:?}", manifest.point)));
        }
        for disk in &manifest.disks {
            let backing = disk.backing.iter().flat_map(|backing| [&backing.point, &backing.file]);
            for name in backing.chain([&disk.file]) {
                if !is_plain(name) {
                    return Err(bad(format!("{name:?} is no name of a file in a point")));
                }
            }
            if (disk.mode == DiskMode::Incremental) != disk.backing.is_some() {
                return Err(bad(format!(
                    "disk {} is incremental without a file below, or full with one",
                    disk.id
                )));
            }
        }
        Ok(manifest)
    }
}

/// Whether a name is one that this program gives: it leads to no other directory.
pub(crate) fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(good)
}
