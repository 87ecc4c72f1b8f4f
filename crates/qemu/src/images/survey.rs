//! What a repair asks of a directory of images: all names in it, whether one file has gone into another, and a way to take
//! a file out of the way without destroying it.

use super::{
    directory::{Directory, split},
    fail::{errno, fault, io, unreadable},
};
use crate::qcow2::{self, ReadError};
use rustix::fs::{AtFlags, FileType, RenameFlags};
use std::{fs, io::ErrorKind, path::Path};
use stillpoint_engine::ports::{DirtyMap, Driven, DriverError, DriverErrorKind, FoundFile, ImageRef};
use stillpoint_qcow2::{Chain, Patience, Place};
use stillpoint_types::ImageFormat;

/// Names of one directory that are looked at.
const NAMES_MAX: usize = 10_000;
/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// See [`stillpoint_engine::ports::Images::list`].
pub(super) fn list(directory: &Path) -> Driven<Vec<FoundFile>> {
    const OP: &str = "list image files";
    let failed = |error| io(OP, directory, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)?.take(NAMES_MAX) {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let stat = match rustix::fs::lstat(&path) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(errno(OP, &path, error)),
        };
        found.push(FoundFile {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            written_at: i64::from(stat.st_mtime).saturating_mul(1_000_000),
        });
    }
    Ok(found)
}

/// See [`stillpoint_engine::ports::Images::set_aside`].
pub(super) fn set_aside(from: &Path, to: &Path) -> Driven<()> {
    const OP: &str = "set a file aside";
    let ((from_directory, old), (to_directory, new)) = (split(OP, from)?, split(OP, to)?);
    match fs::create_dir(to_directory) {
        Ok(()) => {
            let above = to_directory.parent().unwrap_or(Path::new("/"));
            Directory::open(OP, above)?.sync(OP)?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(OP, to_directory, error)),
    }
    let (source, target) = (Directory::open(OP, from_directory)?, Directory::open(OP, to_directory)?);
    match (source.stat(OP, old)?, target.stat(OP, new)?) {
        (Some(_), None) => source.move_new(OP, old, &target, new)?,
        (None, Some(_)) => {}
        (Some(_), Some(_)) => {
            let text = format!("{} is there beside {}", to.display(), from.display());
            return Err(fault(DriverErrorKind::AlreadyExists, OP, text));
        }
        (None, None) => {
            let text = format!("{} is not there", from.display());
            return Err(fault(DriverErrorKind::NotFound, OP, text));
        }
    }
    // The new name first: a file that has two names after a crash is not lost.
    target.sync(OP)?;
    source.sync(OP)
}

impl Directory {
    /// Moves a name into another directory, never replacing one there.
    fn move_new(&self, op: &'static str, from: &str, to: &Self, name: &str) -> Driven<()> {
        let failed = |error| errno(op, &to.join(name), error);
        match rustix::fs::renameat_with(self.as_fd(), from, to.as_fd(), name, RenameFlags::NOREPLACE) {
            // NFS cannot rename so; a hard link fails the same way if the name is taken.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                rustix::fs::linkat(self.as_fd(), from, to.as_fd(), name, AtFlags::empty()).map_err(failed)?;
                self.unlink(op, from)
            }
            moved => moved.map_err(failed),
        }
    }
}

/// See [`stillpoint_engine::ports::Images::contains`].
pub(super) fn contains(below: &[ImageRef], top: &ImageRef) -> Driven<bool> {
    const OP: &str = "compare images";
    if top.format == ImageFormat::Raw {
        return Err(fault(
            DriverErrorKind::InvalidImage,
            OP,
            "a raw image stands on nothing",
        ));
    }
    let (parent, name) = split(OP, &top.path)?;
    let (file, _) = Directory::open(OP, parent)?.present(OP, name)?;
    let failed = |error| unreadable(OP, &top.path, error);
    let header = qcow2::Header::read(&file).map_err(failed)?;
    let mut held = DirtyMap::empty(header.size_bytes);
    qcow2::allocated::mark(&file, &header, &mut held).map_err(failed)?;

    let mut places: Vec<Place> = below.iter().map(place).collect();
    let alone = open(OP, &places)?;
    places.push(place(top));
    let both = open(OP, &places)?;
    if alone.size_bytes() < both.size_bytes() {
        return Ok(false);
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < both.size_bytes() {
        let (is_held, length) = held.run(at);
        if length == 0 {
            break;
        }
        let end = at.saturating_add(length).min(both.size_bytes());
        while is_held && at < end {
            let piece = PIECE.min(end - at);
            let bytes = usize::try_from(piece).unwrap_or(usize::MAX);
            one.resize(bytes, 0);
            other.resize(bytes, 0);
            let unread = |error: ReadError| {
                DriverError::new(DriverErrorKind::InvalidImage, OP, top.path.display()).caused_by(error)
            };
            both.read(&mut one, at, Patience::Wait).map_err(unread)?;
            alone.read(&mut other, at, Patience::Wait).map_err(unread)?;
            if one != other {
                return Ok(false);
            }
            at += piece;
        }
        at = end;
    }
    Ok(true)
}

fn place(image: &ImageRef) -> Place {
    Place {
        path: image.path.clone(),
        is_raw: image.format == ImageFormat::Raw,
    }
}

fn open(op: &'static str, places: &[Place]) -> Driven<Chain> {
    Chain::open(places)
        .map_err(|(path, error)| DriverError::new(DriverErrorKind::InvalidImage, op, path.display()).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_set_aside_as_often_as_one_likes_and_never_over_another() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("a.qcow2"), temp.path().join("orphans/a.qcow2"));
        assert_eq!(set_aside(&from, &to).unwrap_err().kind, DriverErrorKind::NotFound);
        fs::write(&from, "content").unwrap();
        for _ in 0..2 {
            set_aside(&from, &to).unwrap();
            assert!(!from.exists());
            assert_eq!(fs::read_to_string(&to).unwrap(), "content");
        }
        fs::write(&from, "other").unwrap();
        assert_eq!(set_aside(&from, &to).unwrap_err().kind, DriverErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "content");
        let names = list(temp.path()).unwrap();
        let regular: Vec<_> = names
            .iter()
            .filter(|found| found.is_regular)
            .map(|found| found.name.as_str())
            .collect();
        assert_eq!((names.len(), regular), (2, vec!["a.qcow2"]));
    }
}
