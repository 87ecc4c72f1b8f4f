//! Files that only the daemon's user may read, written whole or not at all.
//!
//! Crash consistency: content is synced under another name, then renamed, then the folder is synced. A crash leaves the old
//! file or the new one; at worst a temporary file beside it.

use crate::AuthError;
use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};
use tempfile::NamedTempFile;

/// Writes the file with mode 0600, over one of that name if `replace`.
pub(crate) fn write(path: &Path, content: &[u8], replace: bool) -> Result<(), AuthError> {
    write_io(path, content, replace).map_err(|source| AuthError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn write_io(path: &Path, content: &[u8], replace: bool) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Made with mode 0600, before there is anything in it.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    if replace {
        file.persist(path).map_err(|error| error.error)?;
    } else {
        file.persist_noclobber(path).map_err(|error| error.error)?;
    }
    File::open(folder)?.sync_all()
}

/// Reads at most `max_bytes`; one byte more is an error.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, AuthError> {
    read_io(path, max_bytes).map_err(|source| AuthError::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

fn read_io(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("larger than {max_bytes} bytes")));
    }
    Ok(content)
}

/// Whether anybody but the owner may read or write the file.
pub(crate) fn is_open_to_others(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}
