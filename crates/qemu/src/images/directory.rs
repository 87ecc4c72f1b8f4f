//! A directory held open: files in it are named by one plain component, so no link or `..` can lead elsewhere.

use super::fail::{errno, fault};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use stillpoint_engine::ports::{Driven, DriverErrorKind};

/// Suffix of a file that is being made.
pub(crate) const DRAFT_SUFFIX: &str = ".new";
/// Suffix of the mark that an active merge leaves beside its top's file.
pub(crate) const MERGED_SUFFIX: &str = ".merged";

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    /// As it was given.
    pub(crate) path: PathBuf,
}

/// What a name turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file, open for reading.
    File(File, Stat),
    /// Nothing.
    Absent,
    /// A symbolic link, not followed.
    Link,
    /// A device, pipe, socket or directory.
    Special,
}

/// The directory and the plain file name of an absolute path.
pub(crate) fn split<'a>(op: &'static str, path: &'a Path) -> Driven<(&'a Path, &'a str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(parent), Some(name)) if path.is_absolute() && path.ends_with(name) => Ok((parent, name)),
        _ => Err(fault(
            DriverErrorKind::InvalidImage,
            op,
            format_args!("{} is not an absolute path to a file with a UTF-8 name", path.display()),
        )),
    }
}

impl Directory {
    /// Opens it. An absent directory is `NotFound`, never "nothing there": the storage may just not be mounted.
    pub(crate) fn open(op: &'static str, path: &Path) -> Driven<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|error| errno(op, path, error))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Its descriptor, for calls on two directories.
    pub(super) fn as_fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The path of a file in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading, following nothing, waiting for nothing.
    pub(crate) fn find(&self, name: &str) -> Result<Found, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Found::Absent),
            Err(Errno::LOOP) => return Ok(Found::Link),
            Err(Errno::NXIO | Errno::NODEV) => return Ok(Found::Special),
            Err(error) => return Err(error),
        };
        let stat = fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(File::from(fd), stat)),
            _ => Ok(Found::Special),
        }
    }

    /// Opens a regular file or says why there is none; `None` when nothing is there.
    pub(crate) fn regular(&self, op: &'static str, name: &str) -> Driven<Option<(File, Stat)>> {
        let path = self.join(name);
        let refuse = |what| {
            let text = format!("{} is {what}: only regular files are images", path.display());
            Err(fault(DriverErrorKind::InvalidImage, op, text))
        };
        match self.find(name).map_err(|error| errno(op, &path, error))? {
            Found::File(file, stat) => Ok(Some((file, stat))),
            Found::Absent => Ok(None),
            Found::Link => refuse("a symbolic link"),
            Found::Special => refuse("a directory or device"),
        }
    }

    /// The same where absence is a failure.
    pub(crate) fn present(&self, op: &'static str, name: &str) -> Driven<(File, Stat)> {
        self.regular(op, name)?.ok_or_else(|| {
            let text = format!("{} is not there", self.join(name).display());
            fault(DriverErrorKind::NotFound, op, text)
        })
    }

    /// What `name` is, without opening it.
    pub(crate) fn stat(&self, op: &'static str, name: &str) -> Driven<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(errno(op, &self.join(name), error)),
        }
    }

    /// Makes a file that was not there.
    pub(crate) fn create(&self, op: &'static str, name: &str) -> Driven<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        let fd = fs::openat(&self.fd, name, flags, mode).map_err(|error| errno(op, &self.join(name), error))?;
        Ok(File::from(fd))
    }

    /// Removes a name; absent is success. Not durable before [`Self::sync`].
    pub(crate) fn unlink(&self, op: &'static str, name: &str) -> Driven<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(errno(op, &self.join(name), error)),
        }
    }

    /// Gives a file its final name, never replacing another.
    ///
    /// Where the file system cannot rename so (NFS), a hard link does: it fails the same way if the name is taken.
    pub(crate) fn rename_new(&self, op: &'static str, from: &str, to: &str) -> Driven<()> {
        match fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link_new(op, from, to),
            Err(error) => Err(errno(op, &self.join(to), error)),
            Ok(()) => Ok(()),
        }
    }

    fn link_new(&self, op: &'static str, from: &str, to: &str) -> Driven<()> {
        fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()).map_err(|error| errno(op, &self.join(to), error))?;
        self.unlink(op, from)
    }

    /// Makes its entries durable.
    pub(crate) fn sync(&self, op: &'static str) -> Driven<()> {
        fs::fsync(&self.fd).map_err(|error| errno(op, &self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_way_of_giving_a_name_replaces_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open("test", temp.path()).unwrap();
        std::fs::write(temp.path().join("a.new"), "new").unwrap();
        std::fs::write(temp.path().join("taken"), "old").unwrap();
        let kinds = [
            directory.rename_new("test", "a.new", "taken").unwrap_err().kind,
            directory.link_new("test", "a.new", "taken").unwrap_err().kind,
        ];
        assert_eq!(kinds, [DriverErrorKind::AlreadyExists; 2]);
        assert_eq!(std::fs::read_to_string(temp.path().join("taken")).unwrap(), "old");
        directory.link_new("test", "a.new", "free").unwrap();
        assert_eq!(std::fs::read_to_string(temp.path().join("free")).unwrap(), "new");
        assert!(!temp.path().join("a.new").exists());
    }
}
