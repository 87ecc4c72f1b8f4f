//! A raw file as the source of a ticket: read and written in this process.
//!
//! No lock is taken: the core hands out a file only while nothing else writes to it. What is in memory is
//! read at once; all other calls block, so they run on threads of their own. Space that is zeroed is freed, unless the file had all its space allocated when it was opened.

use super::{Extent, Unflushed, pool::Pool};
use bytes::Bytes;
use rustix::{
    fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fstat, open, seek},
    io::{Errno, pwritev},
};
use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use stillpoint_qcow2::read_now;

use super::unflushed::Flush;

const READ: &str = "read raw image";
/// Extents of one answer.
const EXTENTS_MAX: usize = 4096;
/// Zeroes that are written at once where the file system cannot make them.
const ZEROES: usize = 1024 * 1024;

/// The file of a ticket.
#[derive(Debug)]
pub(crate) struct RawFile {
    file: Arc<File>,
    /// All space was there at the beginning, and stays.
    is_preallocated: bool,
    unflushed: Unflushed,
    pool: Pool,
    /// Its file system knows reads that do not wait.
    knows_now: AtomicBool,
}

fn failed(op: &'static str, error: io::Error) -> DriverError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DriverErrorKind::NoSpace,
        io::ErrorKind::NotFound => DriverErrorKind::NotFound,
        _ => DriverErrorKind::Io,
    };
    DriverError::new(kind, op, error.to_string()).caused_by(error)
}

impl RawFile {
    pub(crate) async fn open(path: PathBuf, size_bytes: u64, write: bool) -> Driven<Self> {
        let op = "open raw image";
        blocking(op, move || {
            let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
            // Never through a link in the last place, and never blocking on a FIFO.
            let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = File::from(open(&path, flags, Mode::empty())?);
            let status = fstat(&file)?;
            let kind = FileType::from_raw_mode(status.st_mode);
            if !matches!(kind, FileType::RegularFile | FileType::BlockDevice) {
                return Err(io::Error::other(format!(
                    "{} is no file and no block device",
                    path.display()
                )));
            }
            let length = length(&file)?;
            if !write && length < size_bytes {
                let text = format!("{} has {length} bytes, the ticket {size_bytes}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let allocated = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
            Ok(Self {
                file: Arc::new(file),
                is_preallocated: length > 0 && allocated >= length,
                unflushed: Unflushed::default(),
                pool: Pool::default(),
                knows_now: AtomicBool::new(true),
            })
        })
        .await
    }

    pub(crate) async fn size_bytes(&self) -> Driven<u64> {
        let file = Arc::clone(&self.file);
        blocking("look at raw image", move || length(&file)).await
    }

    /// `None`: the storage must be waited for.
    pub(crate) fn read_now(&self, offset: u64, length: u32) -> Option<Driven<Bytes>> {
        if !self.knows_now.load(Ordering::Relaxed) {
            return None;
        }
        let read = self.pool.filled(length, |buffer| read_now(&self.file, buffer, offset));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.knows_now.store(false, Ordering::Relaxed);
                None
            }
            other => Some(other.map_err(|error| failed(READ, error))),
        }
    }

    pub(crate) async fn read(&self, offset: u64, length: u32) -> Driven<Bytes> {
        let (file, pool) = (Arc::clone(&self.file), self.pool.clone());
        blocking(READ, move || {
            pool.filled(length, |buffer| file.read_exact_at(buffer, offset))
        })
        .await
    }

    pub(crate) async fn write(&self, offset: u64, data: Vec<Bytes>) -> Driven<()> {
        let file = Arc::clone(&self.file);
        blocking("write raw image", move || write(&file, offset, &data)).await?;
        self.unflushed.wrote();
        Ok(())
    }

    pub(crate) async fn zero(&self, offset: u64, length: u64) -> Driven<()> {
        let (file, keep) = (Arc::clone(&self.file), self.is_preallocated);
        blocking("zero in raw image", move || zero(&file, offset, length, keep)).await?;
        self.unflushed.wrote();
        Ok(())
    }

    pub(crate) async fn flush(&self) -> Driven<()> {
        let flush: Flush = self.unflushed.begin()?;
        let file = Arc::clone(&self.file);
        // With its length: a file that grew is not whole without.
        let flushed = blocking("flush raw image", move || file.sync_all()).await;
        self.unflushed.end(flush, flushed)
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.unflushed.is_none()
    }

    /// What the file system has no data for reads as zeroes. imageio calls nothing a hole in a raw image.
    pub(crate) async fn extents(&self, offset: u64, end: u64) -> Driven<Vec<Extent>> {
        let file = Arc::clone(&self.file);
        blocking("look for holes in raw image", move || extents(&file, offset, end)).await
    }
}

async fn blocking<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Driven<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DriverError::new(DriverErrorKind::Io, op, "the thread ended").caused_by(error))?
        .map_err(|error| failed(op, error))
}

fn length(file: &File) -> io::Result<u64> {
    let status = fstat(file)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::BlockDevice {
        return Ok(seek(file, SeekFrom::End(0))?);
    }
    u64::try_from(status.st_size).map_err(io::Error::other)
}

fn write(file: &File, offset: u64, data: &[Bytes]) -> io::Result<()> {
    let mut parts: Vec<_> = data.iter().map(|piece| IoSlice::new(piece)).collect();
    let (mut rest, mut at) = (parts.as_mut_slice(), offset);
    while !rest.is_empty() {
        match pwritev(file, rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                at += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn zero(file: &File, offset: u64, bytes: u64, keep: bool) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let way = if keep {
        FallocateFlags::ZERO_RANGE
    } else {
        FallocateFlags::PUNCH_HOLE
    };
    let end = offset.checked_add(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    match fallocate(file, way | FallocateFlags::KEEP_SIZE, offset, bytes) {
        Ok(()) => {
            if FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile && length(file)? < end {
                // Grows by allocating its last byte: setting the length would cut off a write beside us that reaches
                // further.
                fallocate(file, FallocateFlags::empty(), end - 1, 1)?;
            }
            Ok(())
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            let zeroes = vec![0; ZEROES];
            let mut at = offset;
            while at < end {
                let step = usize::try_from(end - at).unwrap_or(ZEROES).min(ZEROES);
                let part = zeroes.get(..step).ok_or(io::ErrorKind::InvalidInput)?;
                file.write_all_at(part, at)?;
                at += step as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn extents(file: &File, offset: u64, end: u64) -> io::Result<Vec<Extent>> {
    let mut found = Vec::new();
    let mut at = offset;
    while at < end && found.len() < EXTENTS_MAX {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.clamp(at, end),
            // No data up to the end of the file.
            Err(Errno::NXIO) => end,
            // A file system or device that knows nothing of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        if data > at {
            found.push(Extent {
                zero: true,
                ..Extent::data(data - at)
            });
        }
        if data == end {
            break;
        }
        let hole = match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(end),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => end,
            Err(error) => return Err(error.into()),
        };
        // A file that was cut meanwhile must not keep us here.
        let hole = if hole > data { hole } else { end };
        found.push(Extent::data(hole - data));
        at = hole;
    }
    Ok(found)
}
