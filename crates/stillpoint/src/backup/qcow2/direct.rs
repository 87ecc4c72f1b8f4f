//! Past the page cache: data of a backup is written once and read again once, so keeping it in memory helps nobody, and
//! costs a copy and fresh pages on the way in and on the way out.
//!
//! Direct I/O (`O_DIRECT`, open(2)) wants memory, place and length aligned. A [`Buffer`] is, and so are clusters. Not
//! every file system knows it: some refuse it when a file is opened, others at the first read or write. Then, and from
//! then on, [`Direct`] does nothing, and says so: the caller goes the usual way through the page cache.

use rustix::{
    fs::{Advice, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// What memory, places and lengths are multiples of: enough for all disks with blocks of up to 4 KiB.
const ALIGN_BYTES: usize = 4096;

/// Aligned memory that is used again and again. It never grows.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
    capacity: usize,
    length: usize,
}

impl Buffer {
    /// An empty one. Memory that is never touched costs nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + ALIGN_BYTES];
        // A place that is not aligned would be right as well: the system refuses it, and the page cache is used.
        let begin = memory.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        Self {
            memory,
            begin,
            capacity,
            length: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.length]
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Makes it `length` bytes long, for the caller to fill: they are what was there before.
    pub(super) fn space(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.capacity, "whoever fills a buffer knows its capacity");
        self.length = length;
        &mut self.memory[self.begin..self.begin + length]
    }

    /// Appends bytes, which must fit in.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let begin = self.length;
        self.space(begin + bytes.len())[begin..].copy_from_slice(bytes);
    }

    /// Appends zeroes until the length is a multiple of `unit`.
    pub(crate) fn pad(&mut self, unit: usize) {
        let begin = self.length;
        self.space(begin.next_multiple_of(unit))[begin..].fill(0);
    }
}

/// Whether direct I/O is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Where the file system can.
    Direct,
    /// Not at all, as on a file system that cannot.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare the two ways"))]
    Cached,
}

/// A second descriptor of a file, for direct I/O.
#[derive(Debug)]
pub(super) struct Direct {
    file: Option<File>,
    is_refused: AtomicBool,
}

impl Direct {
    /// Opens the file at `path`, which is `file`, once more: with `OFlags::RDONLY` or `OFlags::WRONLY`.
    pub(super) fn open(path: &Path, file: &File, access: OFlags, way: Way) -> Self {
        let file = match way {
            Way::Cached => None,
            Way::Direct => match again(path, file, access) {
                Ok(file) => file,
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "no direct I/O: the page cache is used");
                    None
                }
            },
        };
        Self {
            file,
            is_refused: AtomicBool::new(false),
        }
    }

    /// Writes all of the bytes; `false`: nothing is certain to be written, write them through the page cache.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<bool> {
        self.with(bytes.len(), |file| file.write_all_at(bytes, at))
    }

    /// Fills the bytes; `false`: they are not filled, read them through the page cache.
    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<bool> {
        self.with(bytes.len(), |file| file.read_exact_at(bytes, at))
    }

    fn with(&self, length: usize, transfer: impl FnOnce(&File) -> io::Result<()>) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        if !length.is_multiple_of(ALIGN_BYTES) || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match transfer(file) {
            Ok(()) => Ok(true),
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                tracing::debug!(%error, "direct I/O is refused: the page cache is used");
                self.is_refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// The file once more; `None` if the name is of another one meanwhile.
fn again(path: &Path, file: &File, access: OFlags) -> io::Result<Option<File>> {
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let second = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let (one, other) = (file.metadata()?, second.metadata()?);
    Ok(((one.dev(), one.ino()) == (other.dev(), other.ino())).then_some(second))
}

/// Asks the page cache to forget a file: what is in it proves nothing about the disk. A file system may not know the
/// advice.
pub(super) fn forget(file: &File) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "the page cache cannot be asked to forget a file");
    }
}
