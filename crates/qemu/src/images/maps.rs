//! Maps of changes in files: read whole, written whole, and what nobody needs any more is removed.
//!
//! Crash consistency: written under a temporary name, flushed, renamed over the old one, the directory flushed. A crash
//! leaves the old map or the new one; a leftover temporary file is overwritten by the next write.

use super::fail::{fault, io};
use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use stillpoint_engine::ports::{DirtyMap, Driven, DriverErrorKind};

/// Longest file that is read: a map of the largest disk.
const FILE_BYTES_MAX: u64 = 257 << 20;

pub(super) fn load(path: &Path) -> Driven<DirtyMap> {
    const OP: &str = "read a map of changes";
    let file = File::open(path).map_err(|error| io(OP, path, error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| io(OP, path, error))?;
    DirtyMap::decode(&bytes).map_err(|bad| fault(DriverErrorKind::InvalidImage, OP, path.display()).caused_by(bad))
}

pub(super) fn store(path: &Path, bytes: &[u8]) -> Driven<()> {
    const OP: &str = "write a map of changes";
    let Some((directory, root)) = path
        .parent()
        .and_then(|directory| Some((directory, directory.parent()?)))
    else {
        return Err(fault(DriverErrorKind::InvalidImage, OP, path.display()));
    };
    let failed = |at: &Path| {
        let at = at.to_owned();
        move |error| io(OP, &at, error)
    };
    for (made, above) in [(Some(root), root.parent()), (Some(directory), Some(root))] {
        let (Some(made), Some(above)) = (made, above) else {
            continue;
        };
        match fs::create_dir(made) {
            Ok(()) => sync(above).map_err(failed(above))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(OP, made, error)),
        }
    }
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary).map_err(failed(&temporary))?;
    file.write_all(bytes).map_err(failed(&temporary))?;
    file.sync_all().map_err(failed(&temporary))?;
    fs::rename(&temporary, path).map_err(failed(path))?;
    sync(directory).map_err(failed(directory))
}

fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn sweep(root: &Path, keep: &HashSet<String>) -> Driven<()> {
    const OP: &str = "remove old maps of changes";
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(OP, root, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| io(OP, root, error))?;
        let is_kept = entry.file_name().to_str().is_some_and(|name| keep.contains(name));
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_kept && is_directory {
            fs::remove_dir_all(entry.path()).map_err(|error| io(OP, &entry.path(), error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_back_as_it_was_stored_and_a_damaged_one_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("maps/checkpoint/disk.map");
        assert_eq!(load(&path).unwrap_err().kind, DriverErrorKind::NotFound);
        let mut map = DirtyMap::empty(10 << 20);
        for k in 0..3 {
            map.mark(k << 20, 1);
            store(&path, &map.encode()).unwrap();
            assert_eq!(load(&path).unwrap(), map);
        }
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(load(&path).unwrap_err().kind, DriverErrorKind::InvalidImage);
    }

    #[test]
    fn only_directories_that_nobody_keeps_are_swept() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("maps");
        sweep(&root, &HashSet::new()).unwrap();
        let map = DirtyMap::empty(1);
        for name in ["old", "kept"] {
            store(&root.join(name).join("disk.map"), &map.encode()).unwrap();
        }
        sweep(&root, &HashSet::from(["kept".to_owned()])).unwrap();
        assert!(!root.join("old").exists() && root.join("kept/disk.map").exists());
    }
}
