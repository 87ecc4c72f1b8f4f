//! The gate: whether an image file that somebody brought may be taken into a storage domain.
//!
//! A qcow2 header can name any file of the host, or a network server, and QEMU would open it. So a brought file is
//! judged by our own reader before any QEMU tool sees it. Nothing is opened but plain file names in the domain's
//! directory, links are not followed, the file is opened once and judged by its descriptor, and nothing is written.
//! Names in headers are followed only to images that are recorded already.
//!
//! Blocking: call it through `spawn_blocking`. What it found is true of the moment; whoever may write to the domain's
//! directory afterwards is trusted.
//!
//! Locks: none is taken, but `F_OFD_GETLK` asks whether somebody holds one of QEMU's bytes (100 to 300).

use crate::{
    images::{
        directory::{DRAFT_SUFFIX, Directory, Found, MERGED_SUFFIX},
        facts,
    },
    qcow2::{Damage, Header, ReadError},
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc::{F_UNLCK, F_WRLCK, SEEK_SET, c_short, flock},
};
use rustix::fs::Stat;
use std::{
    fs::File,
    path::{Component, Path},
};
use stillpoint_engine::ports::{ImageFacts, ImageRef};
use stillpoint_types::ImageFormat;

/// Longest backing chain that is followed.
pub const CHAIN_MAX: usize = 256;

/// QEMU's lock bytes (`block/file-posix.c`: `RAW_LOCK_PERM_BASE`, `RAW_LOCK_SHARED_BASE`).
const QEMU_LOCKS: std::ops::Range<i64> = 100..300;

/// Why a file was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The name given is no plain file name.
    NotPlainName,
    /// The file or the directory is not there.
    NotFound,
    /// A symbolic link.
    SymbolicLink,
    /// A directory, device, pipe or socket.
    NotRegular,
    /// The file has a second name.
    HardLinked,
    /// It is recorded already.
    AlreadyKnown,
    /// A process holds QEMU's lock on it.
    InUse,
    /// A merged top: its content is stale.
    Merged,
    /// The storage failed.
    Unreadable,
    /// No qcow2 header, and raw was not asked for.
    RawNotAsked,
    /// Raw was asked for, but it begins like qcow2.
    RawLooksLikeQcow2,
    /// A raw file that is empty or not whole sectors long.
    RawLength,
    /// The header is damaged, or needs what is not supported.
    Damaged(Damage),
    /// QEMU marked it corrupt.
    MarkedCorrupt,
    /// It was not closed cleanly.
    MarkedDirty,
    /// It holds internal snapshots, which a merge would lose.
    InternalSnapshots,
    /// The backing name is a protocol or `json:`.
    BackingProtocol,
    /// The backing name contains `..`.
    BackingParent,
    /// The backing name leads out of the directory.
    BackingOutside,
    /// The backing name is the file's own.
    BackingSelf,
    /// The chain comes back to itself.
    BackingCycle,
    /// The chain has more than [`CHAIN_MAX`] layers.
    ChainTooLong,
    /// The backing name is no recorded image's.
    BackingUnknown,
    /// A recorded base is not there, or no regular file, or damaged.
    BackingBroken,
    /// No backing format is recorded: QEMU would guess.
    BackingFormatMissing,
    /// The backing format is not the recorded image's.
    BackingFormatWrong,
    /// It is smaller than its base: a merge would cut or grow the disk.
    SmallerThanBase,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// What was decided on.
    pub reason: Reason,
    /// Object, cause and remedy, for an operator.
    pub text: String,
}

/// A file that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// What it is.
    pub facts: ImageFacts,
    /// The recorded image that it lies over.
    pub parent: Option<ImageRef>,
}

/// Finds the recorded image of a file name.
pub type Known<'a> = &'a dyn Fn(&str) -> Option<ImageRef>;

/// The gate itself.
#[derive(Debug, Clone, Copy)]
pub struct Gate;

impl Gate {
    /// Judges `file_name` in `directory`.
    ///
    /// `format_hint`: raw must be asked for, as any file would do for raw; otherwise only qcow2 is taken.
    /// `known`: the recorded image of a file name in this directory.
    ///
    /// # Errors
    /// The first [`Reason`] found. Nothing was changed.
    pub fn check(
        directory: &Path,
        file_name: &str,
        format_hint: Option<ImageFormat>,
        known: Known<'_>,
    ) -> Result<Adopted, Refused> {
        let case = Case {
            directory,
            file_name,
            known,
        };
        case.check(format_hint)
    }
}

struct Case<'a> {
    directory: &'a Path,
    file_name: &'a str,
    known: Known<'a>,
}

impl Case<'_> {
    fn refuse<T>(&self, reason: Reason, cause: &str, remedy: &str) -> Result<T, Refused> {
        let text = format!("{}: {cause}; {remedy}", self.directory.join(self.file_name).display());
        Err(Refused { reason, text })
    }

    fn check(&self, hint: Option<ImageFormat>) -> Result<Adopted, Refused> {
        if !is_plain(self.file_name) {
            let remedy = "name a file that lies directly in the storage domain";
            return self.refuse(Reason::NotPlainName, "this is no plain file name", remedy);
        }
        if (self.known)(self.file_name).is_some() {
            return self.refuse(
                Reason::AlreadyKnown,
                "it is a recorded image",
                "use the disk that it belongs to",
            );
        }
        let directory = match Directory::open("adopt image", self.directory) {
            Ok(directory) => directory,
            Err(error) => return self.refuse(Reason::NotFound, &error.chain(), "look whether the storage is mounted"),
        };
        let (file, stat) = self.open(&directory)?;
        self.judge_use(&directory, &file, &stat)?;
        let read = facts(&file, &stat, hint.or(Some(ImageFormat::Cow)));
        if hint == Some(ImageFormat::Raw) {
            self.judge_raw(&file, &stat)?;
        }
        let (facts, header) = read.or_else(|error| self.refuse_unreadable(&error))?;
        let Some(header) = header else {
            return Ok(Adopted { facts, parent: None });
        };
        self.judge_header(&header)?;
        let Some(name) = &header.backing_name else {
            return Ok(Adopted { facts, parent: None });
        };
        let parent = self.parent(self.file_name, name, header.backing_format.as_deref())?;
        self.judge_chain(&directory, &parent, header.size_bytes)?;
        Ok(Adopted {
            facts,
            parent: Some(parent),
        })
    }

    fn open(&self, directory: &Directory) -> Result<(File, Stat), Refused> {
        match directory.find(self.file_name) {
            Ok(Found::File(file, stat)) => Ok((file, stat)),
            Ok(Found::Absent) => self.refuse(Reason::NotFound, "it is not there", "copy the file into the directory"),
            Ok(Found::Link) => self.refuse(
                Reason::SymbolicLink,
                "it is a symbolic link",
                "put the file itself there",
            ),
            Ok(Found::Special) => {
                let cause = "it is a directory, device, pipe or socket";
                self.refuse(Reason::NotRegular, cause, "copy its content into a regular file")
            }
            Err(error) => self.refuse(
                Reason::Unreadable,
                &std::io::Error::from(error).to_string(),
                "give the daemon's user permission to read it",
            ),
        }
    }

    fn judge_use(&self, directory: &Directory, file: &File, stat: &Stat) -> Result<(), Refused> {
        if stat.st_nlink != 1 {
            let cause = format!("the file has {} names, so others may change it", stat.st_nlink);
            return self.refuse(Reason::HardLinked, &cause, "remove the other names or copy the file");
        }
        let mark = format!("{}{MERGED_SUFFIX}", self.file_name);
        let is_mark = self.file_name.ends_with(MERGED_SUFFIX) || self.file_name.ends_with(DRAFT_SUFFIX);
        let is_merged = match directory.stat("adopt image", &mark) {
            Ok(stat) => stat.is_some(),
            Err(error) => return self.refuse(Reason::Unreadable, &error.chain(), "look at the storage"),
        };
        if is_mark || is_merged {
            let cause = "it is the remainder of a merge or of an interrupted creation: its content is stale";
            return self.refuse(Reason::Merged, cause, "adopt its base instead");
        }
        match has_lock(file) {
            Ok(false) => Ok(()),
            Ok(true) => self.refuse(Reason::InUse, "a process has it open as a disk", "stop that process"),
            Err(error) => self.refuse(
                Reason::Unreadable,
                &std::io::Error::from(error).to_string(),
                "look whether the file system knows locks",
            ),
        }
    }

    fn judge_raw(&self, file: &File, stat: &Stat) -> Result<(), Refused> {
        // Once it had been taken as raw, a guest could have written this header itself, naming any file of the host.
        match Header::read(file) {
            Err(ReadError::Damage(Damage::NoMagic)) => {}
            Err(ReadError::Io(error)) => {
                return self.refuse(Reason::Unreadable, &error.to_string(), "look at the storage");
            }
            Ok(_) | Err(ReadError::Damage(_)) => {
                let remedy = "adopt it as qcow2, or convert it with qemu-img convert";
                return self.refuse(
                    Reason::RawLooksLikeQcow2,
                    "raw was asked, but it begins like qcow2",
                    remedy,
                );
            }
        }
        if stat.st_size <= 0 || stat.st_size % 512 != 0 {
            let cause = format!("{} bytes are not one or more whole sectors of 512 bytes", stat.st_size);
            return self.refuse(Reason::RawLength, &cause, "look whether the copy is complete");
        }
        Ok(())
    }

    fn refuse_unreadable<T>(&self, error: &ReadError) -> Result<T, Refused> {
        match error {
            ReadError::Io(error) => self.refuse(Reason::Unreadable, &error.to_string(), "look at the storage"),
            ReadError::Damage(Damage::NoMagic) => {
                let remedy = "ask for raw if that is what it is, else convert it with qemu-img convert";
                self.refuse(Reason::RawNotAsked, "it has no qcow2 header", remedy)
            }
            ReadError::Damage(damage) => {
                let remedy = match damage {
                    Damage::DataFile | Damage::Encrypted(_) | Damage::UnknownFeatures(_) | Damage::Compression(_) => {
                        "convert it to plain qcow2 where it came from"
                    }
                    _ => "the file is damaged: copy it again, or repair it where it came from",
                };
                self.refuse(Reason::Damaged(*damage), &damage.to_string(), remedy)
            }
        }
    }

    fn judge_header(&self, header: &Header) -> Result<(), Refused> {
        if header.is_corrupt {
            let remedy = "repair it with qemu-img check -r all on a copy";
            return self.refuse(Reason::MarkedCorrupt, "QEMU has marked it corrupt", remedy);
        }
        if header.is_dirty {
            let remedy = "run qemu-img check -r all on it";
            return self.refuse(Reason::MarkedDirty, "it was not closed cleanly (dirty bit)", remedy);
        }
        if header.snapshots > 0 {
            let cause = format!(
                "it holds {} internal snapshots, which a merge would lose",
                header.snapshots
            );
            let remedy = "copy them out with qemu-img convert -l, then delete them with qemu-img snapshot -d";
            return self.refuse(Reason::InternalSnapshots, &cause, remedy);
        }
        Ok(())
    }

    /// The recorded image that a backing name in the header of `of` means.
    fn parent(&self, of: &str, backing: &str, format: Option<&str>) -> Result<ImageRef, Refused> {
        let shown = backing.escape_debug();
        let remedy = "write the base's plain file name with qemu-img rebase -u -F FORMAT -b NAME";
        // QEMU takes what stands before a colon for a protocol, unless a slash comes first.
        if backing.split('/').next().is_some_and(|first| first.contains(':')) {
            let cause = format!("{of} names {shown} as its base, which is a protocol, no file");
            return self.refuse(Reason::BackingProtocol, &cause, remedy);
        }
        let path = Path::new(backing);
        if path.components().any(|part| part == Component::ParentDir) {
            let cause = format!("{of} names {shown} as its base, with \"..\" in it");
            return self.refuse(Reason::BackingParent, &cause, remedy);
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let place = self.directory.join(path.parent().unwrap_or(Path::new("")));
        let is_here = match (place.canonicalize(), self.directory.canonicalize()) {
            (Ok(place), Ok(directory)) => place == directory,
            _ => false,
        };
        let (Some(name), true) = (name.filter(|name| is_plain(name) && backing.ends_with(name)), is_here) else {
            let cause = format!("{of} names {shown} as its base, which is not in this directory");
            return self.refuse(Reason::BackingOutside, &cause, remedy);
        };
        if name == of {
            return self.refuse(Reason::BackingSelf, &format!("{of} names itself as its base"), remedy);
        }
        if name == self.file_name {
            let cause = format!("{of} names it as its base, so the chain comes back to itself");
            return self.refuse(Reason::BackingCycle, &cause, remedy);
        }
        let Some(image) = (self.known)(name) else {
            let cause = format!("{of} names {shown} as its base, which is no recorded image");
            return self.refuse(Reason::BackingUnknown, &cause, "adopt the base first");
        };
        let wanted = match image.format {
            ImageFormat::Cow => "qcow2",
            ImageFormat::Raw => "raw",
        };
        match format {
            Some(format) if format == wanted => Ok(image),
            None => {
                let cause = format!("{of} does not say the format of its base, so QEMU would guess");
                self.refuse(Reason::BackingFormatMissing, &cause, remedy)
            }
            Some(other) => {
                let cause = format!("{of} says its base is {}, but it is {wanted}", other.escape_debug());
                self.refuse(Reason::BackingFormatWrong, &cause, remedy)
            }
        }
    }

    /// Follows the recorded images below, each by its own header.
    fn judge_chain(&self, directory: &Directory, parent: &ImageRef, size_bytes: u64) -> Result<(), Refused> {
        let mut seen = Vec::new();
        let mut image = parent.clone();
        let mut base_bytes = None;
        while seen.len() < CHAIN_MAX {
            let Some(name) = image.path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                return self.refuse(
                    Reason::BackingBroken,
                    "a recorded base has no file name",
                    "look at the records",
                );
            };
            if seen.contains(&name) {
                let cause = format!("its chain comes back to {name}");
                return self.refuse(Reason::BackingCycle, &cause, "repair the chain of the recorded images");
            }
            let (file, stat) = match directory.find(&name) {
                Ok(Found::File(file, stat)) => (file, stat),
                _ => {
                    let cause = format!("its recorded base {name} is not there as a regular file");
                    return self.refuse(Reason::BackingBroken, &cause, "bring the base back first");
                }
            };
            let (found, header) = match facts(&file, &stat, Some(image.format)) {
                Ok(found) => found,
                Err(error) => {
                    let cause = format!("its recorded base {name} cannot be read: {error}");
                    return self.refuse(Reason::BackingBroken, &cause, "repair the base first");
                }
            };
            if size_bytes < *base_bytes.get_or_insert(found.size_bytes) {
                let cause = format!("it has {size_bytes} bytes, its base {name} has {}", found.size_bytes);
                return self.refuse(Reason::SmallerThanBase, &cause, "grow it with qemu-img resize");
            }
            let Some(backing) = found.backing_name else {
                return Ok(());
            };
            let format = header.and_then(|header| header.backing_format);
            image = self.parent(&name, &backing, format.as_deref())?;
            seen.push(name);
        }
        let cause = format!("its chain has more than {CHAIN_MAX} layers");
        self.refuse(Reason::ChainTooLong, &cause, "merge snapshots below it first")
    }
}

/// Whether anybody holds one of QEMU's lock bytes. Asks only; `nix`, as `rustix` 1.1 panics at the answer for an OFD
/// lock (process id -1).
fn has_lock(file: &File) -> nix::Result<bool> {
    let kind = |kind: i32| c_short::try_from(kind).map_err(|_too_big| nix::errno::Errno::EINVAL);
    let mut lock = flock {
        l_type: kind(F_WRLCK)?,
        l_whence: kind(SEEK_SET)?,
        l_start: QEMU_LOCKS.start,
        l_len: QEMU_LOCKS.end - QEMU_LOCKS.start,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(lock.l_type != kind(F_UNLCK)?)
}

/// One path component that is a name.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    is_one && name.len() <= 255 && !name.contains(['/', '\0'])
}
