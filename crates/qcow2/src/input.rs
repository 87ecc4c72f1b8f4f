//! One file of a chain: positioned reads within the length that it had when it was opened.

use crate::source::Source;
use rustix::{
    fs::{FileType, Mode, OFlags, SeekFrom, fstat, open, seek},
    io::{Errno, ReadWriteFlags, preadv2},
};
use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether a read may wait for the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Only what is in memory: else the read fails with [`io::ErrorKind::WouldBlock`], having done nothing that counts.
    /// For a thread that must not be kept.
    Now,
    /// As long as it takes.
    Wait,
}

/// Fills `buffer` with what the page cache has of a file.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: not all is there. [`io::ErrorKind::Unsupported`]: the file system knows no such reads.
/// Else the storage's.
pub fn read_now(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let (mut rest, mut at) = (buffer, at);
    while !rest.is_empty() {
        match preadv2(file, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                rest = rest.get_mut(count..).unwrap_or_default();
                at = at.saturating_add(count as u64);
            }
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Err(io::ErrorKind::Unsupported.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Input {
    file: File,
    length: u64,
    /// It has less space than bytes: there are holes.
    is_sparse: bool,
    /// Its file system knows reads that do not wait.
    knows_now: AtomicBool,
    /// What was looked up last. The end of data is found by a walk over all that the file system keeps about them, so who
    /// asks for many short ranges within long data must not ask the file system each time. Nobody writes to the file
    /// meanwhile (ADR 0013).
    last_run: Mutex<Option<FileRun>>,
}

/// A part of a file that has data, or has none.
#[derive(Debug, Clone, Copy)]
struct FileRun {
    begin: u64,
    end: u64,
    is_data: bool,
}

impl Input {
    /// Opens a file or a block device. Never through a link in the last place, and never waiting for a FIFO.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open(path, flags, Mode::empty())?);
        let status = fstat(&file)?;
        let (length, is_sparse) = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                let length = u64::try_from(status.st_size).map_err(io::Error::other)?;
                let occupied = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
                (length, occupied < length)
            }
            FileType::BlockDevice => (seek(&file, SeekFrom::End(0))?, false),
            _ => return Err(io::Error::other("it is no file and no block device")),
        };
        Ok(Self {
            file,
            length,
            is_sparse,
            knows_now: AtomicBool::new(true),
            last_run: Mutex::new(None),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn is_sparse(&self) -> bool {
        self.is_sparse
    }

    /// Fills `buffer` from `at` on. What lies behind the end reads as zeroes, as it does in QEMU; an end that has come
    /// nearer since the file was opened is an error.
    pub(crate) fn read(&self, buffer: &mut [u8], at: u64, patience: Patience) -> io::Result<()> {
        let there = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let (inside, outside) = buffer.split_at_mut(there.min(buffer.len()));
        outside.fill(0);
        match patience {
            Patience::Wait => self.file.read_exact_at(inside, at),
            Patience::Now => self.read_now(inside, at),
        }
    }

    fn read_now(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if !self.knows_now.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match read_now(&self.file, buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.knows_now.store(false, Ordering::Relaxed);
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other,
        }
    }

    /// How far, from `at` on and up to `end`, the file system has data, or has none. A file system that knows nothing of
    /// holes has data everywhere.
    pub(crate) fn run(&self, at: u64, end: u64) -> io::Result<(bool, u64)> {
        let stop = end.min(self.length);
        if at >= stop {
            return Ok((false, end));
        }
        let known = *self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        let run = match known.filter(|run| run.begin <= at && at < run.end) {
            Some(run) => run,
            None => {
                let run = self.look_up(at)?;
                *self.last_run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
                run
            }
        };
        Ok((run.is_data, run.end.min(if run.is_data { stop } else { end })))
    }

    /// The run that `at`, which is within the file, is in: from there on, however far it goes.
    fn look_up(&self, at: u64) -> io::Result<FileRun> {
        let run = |is_data, end| FileRun {
            begin: at,
            end,
            is_data,
        };
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) if data > at => return Ok(run(false, data)),
            Ok(_) => {}
            Err(Errno::NXIO) => return Ok(run(false, u64::MAX)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(run(true, self.length)),
            Err(error) => return Err(error.into()),
        }
        match seek(&self.file, SeekFrom::Hole(at)) {
            // A file that was cut meanwhile must not keep us here.
            Ok(hole) if hole > at => Ok(run(true, hole)),
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => Ok(run(true, self.length)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Source for Input {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}
