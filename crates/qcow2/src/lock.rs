//! QEMU's image locks, for a reader: byte ranges of the image file, as open file descriptions have them (`F_OFD_SETLK`).
//!
//! A program that does something has a shared lock on byte `100 + n`; one that does not suffer others to do it has a shared
//! lock on byte `200 + n`. Before it begins it asks whether anybody has the other byte. (QEMU `block/file-posix.c`:
//! `RAW_LOCK_PERM_BASE`, `RAW_LOCK_SHARED_BASE`; the numbers: `BLK_PERM_*` of `include/block/block-common.h`.)
//!
//! A reader of a qcow2 file reads, and suffers neither writes nor another length; the same that a QEMU has on the layers
//! below its active one.

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc::{F_RDLCK, F_UNLCK, F_WRLCK, SEEK_SET, c_int, c_short, flock, off_t},
};
use std::{fs::File, io};

const DOES: off_t = 100;
const SUFFERS_NOT: off_t = 200;
const READ: off_t = 0;
const WRITE: off_t = 1;
const RESIZE: off_t = 3;

fn lock(kind: c_int, start: off_t, length: off_t) -> io::Result<flock> {
    let kind = c_short::try_from(kind).map_err(io::Error::other)?;
    let whence = c_short::try_from(SEEK_SET).map_err(io::Error::other)?;
    Ok(flock {
        l_type: kind,
        l_whence: whence,
        l_start: start,
        l_len: length,
        l_pid: 0,
    })
}

/// Takes the locks of a reader. `Ok(false)`: somebody writes to the file, or will not have it read.
///
/// # Errors
/// Those of `fcntl`. Where the file system has no such locks (`ENOLCK`, `EINVAL`) QEMU takes none either, and neither do
/// we.
pub(crate) fn take(file: &File) -> io::Result<bool> {
    for byte in [DOES + READ, SUFFERS_NOT + WRITE, SUFFERS_NOT + RESIZE] {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock(F_RDLCK, byte, 1)?)) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::ENOLCK | Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    // After ours are there, as QEMU does it: of two that come at once, one sees the other.
    for byte in [SUFFERS_NOT + READ, DOES + WRITE, DOES + RESIZE] {
        let mut asked = lock(F_WRLCK, byte, 1)?;
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
        if c_int::from(asked.l_type) != F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives them back. Not left to the closing of the file: a read may still have it open for a moment, and who merges next
/// must not be told that somebody reads.
pub(crate) fn release(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock(F_UNLCK, 0, 0)?))?;
    Ok(())
}
