//! The judge of the demo guest's records: tells whether disk images are ONE moment, and which.
//!
//! The format and the promises are written at the top of `guest/record_writer.c`. Images are read offline through
//! `qemu-img`, as a whole backing chain; the ext4 file system of disk 0 gets its journal replayed on a copy
//! (`e2fsck -p`, which refuses to touch real damage) and is read with `debugfs`. No image is ever written to.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of one record.
pub const RECORD: usize = 512;
/// How many of the newest records a disk holds.
pub const SLOTS: u64 = 16384;
/// First bytes of every record.
pub const MAGIC: &[u8; 8] = b"SPREC001";
const RING_BYTES: usize = 16384 * RECORD;

/// Why images are not one moment.
#[derive(Debug, thiserror::Error)]
pub enum NotOneMoment {
    /// A record, or the file system that holds it, is not what the guest wrote.
    #[error("disk {disk}: damaged: {what}")]
    Damaged {
        /// Index in the order given.
        disk: usize,
        /// Where, and what is wrong.
        what: String,
    },
    /// A number that was written before the last one is missing.
    #[error("disk {disk}: record {missing} is missing, the last one is {last}")]
    Hole {
        /// Index in the order given.
        disk: usize,
        /// The smallest missing number.
        missing: u64,
        /// The last number.
        last: u64,
    },
    /// The disks are from different moments.
    #[error("the disks are from different moments, their last records are {last:?}")]
    Mixed {
        /// Last number per disk.
        last: Vec<u64>,
    },
    /// A record that was known to be durable is not there.
    #[error("record {wanted} was durable and is lost, the last records are {last:?}")]
    Lost {
        /// What was asked for.
        wanted: u64,
        /// Last number per disk.
        last: Vec<u64>,
    },
    /// The disks could not be read at all; says nothing about their content.
    #[error("{what}")]
    Unreadable {
        /// Which tool said what.
        what: String,
        /// The cause, when the system gave one.
        #[source]
        source: Option<std::io::Error>,
    },
}

/// What the images hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Last number per disk, in the order given.
    pub last: Vec<u64>,
}

impl Moment {
    /// The last number that every disk holds.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.last.iter().copied().min().unwrap_or(0)
    }
}

/// What to demand of a set of images beyond being one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checker {
    at_least: u64,
    late_disks: bool,
}

impl Checker {
    /// Demands nothing beyond one moment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that all disks hold record `number`: one that the console reported is durable.
    #[must_use]
    pub fn at_least(self, number: u64) -> Self {
        Self {
            at_least: number,
            ..self
        }
    }

    /// Accepts disks that joined after the first record. Without this a blanked disk is a lost one.
    #[must_use]
    pub fn late_disks(self) -> Self {
        Self {
            late_disks: true,
            ..self
        }
    }

    /// Checks images (raw or qcow2 with its chain, told apart by their first bytes) given in the guest's disk order.
    ///
    /// Frozen layers below a running guest may be checked too; the active layer of a running guest may not.
    ///
    /// # Errors
    /// The first reason why they are not one moment.
    pub fn check<P: AsRef<Path>>(self, images: &[P]) -> Result<Moment, NotOneMoment> {
        let mut last = Vec::new();
        for (disk, image) in images.iter().enumerate() {
            let ring = if disk == 0 {
                read_file_system(image.as_ref())?
            } else {
                read_ring(image.as_ref())?
            };
            last.push(self.check_ring(&ring, disk)?);
        }
        let falling = last.windows(2).all(|pair| pair[0] >= pair[1]);
        if !falling
            || last
                .first()
                .zip(last.last())
                .is_some_and(|(first, end)| first - end > 1)
        {
            return Err(NotOneMoment::Mixed { last });
        }
        let moment = Moment { last };
        if moment.complete() < self.at_least {
            return Err(NotOneMoment::Lost {
                wanted: self.at_least,
                last: moment.last,
            });
        }
        Ok(moment)
    }

    /// Returns the last number of one disk's ring, 0 when nothing was written.
    fn check_ring(self, ring: &[u8], disk: usize) -> Result<u64, NotOneMoment> {
        let damaged = |what: String| NotOneMoment::Damaged { disk, what };
        if !ring.len().is_multiple_of(RECORD) || ring.len() > RING_BYTES {
            return Err(damaged(format!("{} bytes of records", ring.len())));
        }
        let mut found = Vec::new();
        for (slot, bytes) in (0_u64..).zip(ring.chunks_exact(RECORD)) {
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let (number, first) = read_record(bytes, disk).map_err(|what| damaged(format!("slot {slot}: {what}")))?;
            if first == 0 || number < first || (number - 1) % SLOTS != slot {
                return Err(damaged(format!("slot {slot}: record {number} is in the wrong place")));
            }
            found.push((number, first));
        }
        found.sort_unstable();
        let Some(&(last, first)) = found.last() else {
            return Ok(0);
        };
        if found.iter().any(|(_, other)| *other != first) {
            return Err(damaged("its records do not agree on the first number".to_owned()));
        }
        if first != 1 && !self.late_disks {
            return Err(NotOneMoment::Hole {
                disk,
                missing: first - 1,
                last,
            });
        }
        let oldest = first.max((last + 1).saturating_sub(SLOTS));
        for (expected, (number, _)) in (oldest..).zip(&found) {
            if *number != expected {
                return Err(NotOneMoment::Hole {
                    disk,
                    missing: expected,
                    last,
                });
            }
        }
        Ok(last)
    }
}

/// Makes the bytes of record `number` of a disk, as the guest's writer does.
#[must_use]
pub fn make_record(number: u64, first: u64, disk: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&disk.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let start = number.wrapping_mul(7).wrapping_add(u64::from(disk) * 13);
    bytes.extend((start..).take(RECORD - 32).map(|value| value.to_le_bytes()[0]));
    let crc = crc32fast::hash(&bytes);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_record(bytes: &[u8], disk: usize) -> Result<(u64, u64), String> {
    let word = |at: usize| {
        bytes[at..at + 8]
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let (number, first) = (word(8), word(16));
    let index = u32::try_from(disk).map_err(|error| format!("disk {disk}: {error}"))?;
    if bytes[..8] != MAGIC[..] {
        return Err("neither a record nor zero".to_owned());
    }
    if bytes[24..28] != index.to_le_bytes() {
        return Err(format!("record {number} belongs to another disk"));
    }
    if bytes != make_record(number, first, index) {
        return Err(format!("record {number} has a wrong checksum or content"));
    }
    Ok((number, first))
}

fn unreadable(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> NotOneMoment {
    let what = what.into();
    move |source| NotOneMoment::Unreadable {
        what,
        source: Some(source),
    }
}

/// Runs a tool; its exit code must be one of `good`. Returns what it printed.
fn run(program: &str, arguments: &[&str], good: &[i32]) -> Result<String, NotOneMoment> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .map_err(unreadable(format!("cannot run {program}")))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    if done.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(said);
    }
    Err(NotOneMoment::Unreadable {
        what: format!("{program} {arguments:?}: {}: {said}", done.status),
        source: None,
    })
}

fn text(path: &Path) -> Result<&str, NotOneMoment> {
    path.to_str().ok_or_else(|| NotOneMoment::Unreadable {
        what: format!("path {path:?}"),
        source: None,
    })
}

fn format_of(image: &Path) -> Result<&'static str, NotOneMoment> {
    let mut head = [0; 4];
    let file = std::fs::File::open(image).map_err(unreadable(format!("cannot open {}", image.display())))?;
    let count = file
        .take(4)
        .read(&mut head)
        .map_err(unreadable(format!("cannot read {}", image.display())))?;
    Ok(if count == 4 && head == *b"QFI\xfb" {
        "qcow2"
    } else {
        "raw"
    })
}

/// The first 8 MiB as the guest saw them.
fn read_ring(image: &Path) -> Result<Vec<u8>, NotOneMoment> {
    let copy = tempfile::NamedTempFile::new().map_err(unreadable("cannot make a temporary file"))?;
    let (from, to) = (format!("if={}", text(image)?), format!("of={}", text(copy.path())?));
    let fixed = ["dd", "-U", "-f", format_of(image)?, "-O", "raw", "bs=1M", "count=8"];
    run("qemu-img", &[&fixed[..], &[&from, &to]].concat(), &[0])?;
    let mut ring = std::fs::read(copy.path()).map_err(unreadable("cannot read the copy"))?;
    ring.truncate(RING_BYTES);
    Ok(ring)
}

/// The file `/records` of disk 0.
fn read_file_system(image: &Path) -> Result<Vec<u8>, NotOneMoment> {
    let directory = tempfile::tempdir().map_err(unreadable("cannot make a temporary directory"))?;
    let (copy, file): (PathBuf, PathBuf) = (directory.path().join("disk"), directory.path().join("records"));
    let disk = text(&copy)?;
    run(
        "qemu-img",
        &[
            "convert",
            "-U",
            "-f",
            format_of(image)?,
            "-O",
            "raw",
            text(image)?,
            disk,
        ],
        &[0],
    )?;
    let mut start = Vec::new();
    let opened = std::fs::File::open(&copy).map_err(unreadable("cannot open the copy"))?;
    opened
        .take(1 << 20)
        .read_to_end(&mut start)
        .map_err(unreadable("cannot read the copy"))?;
    if start.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new()); // not even a file system yet
    }
    // 1: something was put right, which after a crash is the journal and the counters that follow from it.
    run("e2fsck", &["-f", "-p", disk], &[0, 1]).map_err(|error| NotOneMoment::Damaged {
        disk: 0,
        what: error.to_string(),
    })?;
    let said = run(
        "debugfs",
        &["-R", &format!("dump /records {}", text(&file)?), disk],
        &[0],
    )?;
    match std::fs::read(&file) {
        Ok(bytes) => Ok(bytes),
        Err(_) if said.contains("File not found") => Ok(Vec::new()), // a file system, but no record yet
        Err(error) => Err(NotOneMoment::Unreadable {
            what: format!("debugfs: {said}"),
            source: Some(error),
        }),
    }
}
