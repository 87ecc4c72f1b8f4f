//! The data directory: made with the right modes, and locked so that one daemon at a time owns it.

use crate::Failure;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Holds the lock while it lives; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// Makes the directory and its parts, and takes the lock.
///
/// # Errors
/// Exit code 4 when another daemon holds it, 2 when the directory cannot be made or written.
pub(crate) fn take(dir: &Path) -> Result<DataDirLock, Failure> {
    let told = |what: &str, error: std::io::Error| {
        Failure::new(
            2,
            format!(
                "data directory {}: {what}: {error}; choose another with --data-dir",
                dir.display()
            ),
        )
    };
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(dir).map_err(|error| told("cannot be made", error))?;
    for part in ["images", "boot", "run", "keys"] {
        make(&dir.join(part)).map_err(|error| told(part, error))?;
    }
    // The directory holds keys and disks: whatever made it, only its owner may look inside.
    let mode = std::fs::metadata(dir)
        .map_err(|error| told("cannot be read", error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir, private).map_err(|error| told("cannot be made private", error))?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(|error| told("cannot be written", error))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let owner = std::fs::read_to_string(dir.join("lock")).unwrap_or_default();
        let owner = owner.trim().chars().filter(char::is_ascii_digit).collect::<String>();
        return Err(Failure::new(
            4,
            format!(
                "data directory {} is locked by another daemon (process {owner}): stop it, or choose another directory \
                 with --data-dir",
                dir.display()
            ),
        ));
    }
    file.set_len(0).map_err(|error| told("cannot be written", error))?;
    writeln!(file, "{}", std::process::id()).map_err(|error| told("cannot be written", error))?;
    Ok(DataDirLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused_with_code_4() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        let refused = take(dir.path()).unwrap_err();
        assert_eq!(refused.code, 4);
        assert!(refused.message.contains(&std::process::id().to_string()));
        drop(first);
        assert!(take(dir.path()).is_ok());
    }

    #[test]
    fn the_directory_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        std::fs::create_dir(&path).unwrap();
        let _lock = take(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
