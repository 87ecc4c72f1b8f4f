//! The disk that a chain of files makes: bytes, and extents.

use crate::{
    Damage, Patience, ReadError,
    entry::{Kind, Packed},
    layer::Layer,
    lock,
    tables::Tables,
};
use std::{io, path::PathBuf};

/// Extents of one answer.
const EXTENTS_MAX: usize = 4096;
/// Steps through tables for one answer: a bound on its time.
const STEPS_MAX: u32 = 65_536;
/// The same for a thread that must not be kept.
const STEPS_NOW_MAX: u32 = 256;

/// A file of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes are the disk's; else it is qcow2.
    pub is_raw: bool,
}

/// Why a file cannot be read here.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another program writes to it, or will not have it read.
    #[error("another program writes to it")]
    Busy,
    /// It may be well, but not for us.
    #[error("{0}")]
    Unsupported(&'static str),
    /// What it says of itself cannot be.
    #[error(transparent)]
    Damage(Damage),
    /// The storage failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub length: u64,
    /// They read as zeroes, without a look at them.
    pub is_zero: bool,
    /// No layer has them.
    pub is_hole: bool,
}

/// What is read for a range of the disk.
#[derive(Debug, Clone, Copy)]
enum Run<'a> {
    /// No layer has it.
    Hole,
    Zero,
    Data(&'a Layer, u64),
    /// Compressed, and where in the cluster the range begins.
    Packed(&'a Layer, Packed, u64),
}

/// A chain of files that nobody writes to.
#[derive(Debug)]
pub struct Chain {
    /// Base first.
    layers: Vec<Layer>,
    size_bytes: u64,
    tables: Tables,
}

impl Chain {
    /// Opens the files, base first, with QEMU's locks of a reader.
    ///
    /// # Errors
    /// Which file, and why.
    pub fn open(places: &[Place]) -> Result<Self, (PathBuf, OpenError)> {
        let mut layers = Vec::with_capacity(places.len());
        for (number, place) in places.iter().enumerate() {
            let layer = Layer::open(number, place).map_err(|error| (place.path.clone(), error))?;
            layers.push(layer);
        }
        let size_bytes = layers.last().map_or(0, |top: &Layer| top.size_bytes);
        Ok(Self {
            layers,
            size_bytes,
            tables: Tables::default(),
        })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Gives the locks back. What is read afterwards may have changed.
    ///
    /// # Errors
    /// Those of `fcntl`; the others are given back all the same.
    pub fn unlock(&self) -> io::Result<()> {
        let done = self.layers.iter().map(|layer| lock::release(layer.input.file()));
        done.fold(Ok(()), Result::and)
    }

    /// What stands at `at`, which is before `end`, which is within the disk.
    fn run(&self, at: u64, end: u64, patience: Patience) -> Result<(Run<'_>, u64), ReadError> {
        let mut length = end - at;
        for (depth, layer) in self.layers.iter().rev().enumerate() {
            if at >= layer.size_bytes {
                // A layer that is shorter than those above it: QEMU reads zeroes behind its end, and calls them its own.
                return Ok((if depth == 0 { Run::Hole } else { Run::Zero }, length));
            }
            let stop = (at + length).min(layer.size_bytes);
            let (kind, found) = layer.run(at, stop, &self.tables, patience)?;
            let run = match kind {
                Kind::Unallocated => {
                    length = found;
                    continue;
                }
                Kind::Zero => Run::Zero,
                Kind::Data(from) => Run::Data(layer, from),
                Kind::Compressed(packed) => Run::Packed(layer, packed, at % layer.cluster_bytes()),
            };
            return Ok((run, found));
        }
        Ok((Run::Hole, length))
    }

    fn expect_within(&self, at: u64, bytes: u64) -> io::Result<u64> {
        at.checked_add(bytes)
            .filter(|end| *end <= self.size_bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "behind the end of the disk"))
    }

    /// Fills `buffer` with the disk's bytes from `at` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] with [`Patience::Now`], if not all of it is in memory; [`ReadError::Damage`] for what
    /// a file says; else the storage's. What is in `buffer` then is of no use.
    pub fn read(&self, buffer: &mut [u8], at: u64, patience: Patience) -> Result<(), ReadError> {
        let end = self.expect_within(at, buffer.len() as u64)?;
        let (mut rest, mut at) = (buffer, at);
        // Data that were found and not read yet, from `from` on, where `rest` begins: what follows on the disk may follow
        // in the same file, too.
        let (mut pending, mut from) = (None::<(&Layer, u64)>, at);
        while at < end {
            let (run, length) = self.run(at, end, patience)?;
            let begin = at;
            at += length;
            if let (Some((layer, place)), Run::Data(next, here)) = (pending, run)
                && std::ptr::eq(layer, next)
                && place.checked_add(begin - from) == Some(here)
            {
                continue;
            }
            if let Some((layer, place)) = pending.take() {
                layer.input.read(cut(&mut rest, begin - from)?, place, patience)?;
            }
            from = begin;
            match run {
                Run::Data(layer, place) => {
                    pending = Some((layer, place));
                    continue;
                }
                Run::Hole | Run::Zero => cut(&mut rest, length)?.fill(0),
                Run::Packed(layer, packed, skip) => {
                    let here = cut(&mut rest, length)?;
                    let cluster = layer.unpacked(packed, &self.tables, patience)?;
                    let skip = usize::try_from(skip).map_err(io::Error::other)?;
                    let part = cluster.get(skip..).and_then(|part| part.get(..here.len()));
                    here.copy_from_slice(part.ok_or(Damage::Compressed(packed.at))?);
                }
            }
        }
        match pending {
            Some((layer, place)) => Ok(layer.input.read(rest, place, patience)?),
            None => Ok(()),
        }
    }

    /// The extents from `at` on, not beyond `end`: at least one, equal neighbours made one, perhaps not all.
    ///
    /// Zeroes are what a table says, and holes of the file that has the data. A hole of the disk is what no layer has.
    ///
    /// # Errors
    /// As those of [`Chain::read`].
    pub fn extents(&self, at: u64, end: u64, patience: Patience) -> Result<Vec<Extent>, ReadError> {
        self.expect_within(at, end.saturating_sub(at))?;
        let mut steps_left = match patience {
            Patience::Now => STEPS_NOW_MAX,
            Patience::Wait => STEPS_MAX,
        };
        let (mut found, mut at): (Vec<Extent>, _) = (Vec::new(), at);
        while at < end && found.len() < EXTENTS_MAX && steps_left > 0 {
            steps_left -= 1;
            let (run, mut length) = self.run(at, end, patience)?;
            let (is_zero, is_hole) = match run {
                Run::Hole => (true, true),
                Run::Zero => (true, false),
                Run::Packed(..) => (false, false),
                Run::Data(layer, place) if layer.input.is_sparse() || layer.is_raw() => {
                    if patience == Patience::Now {
                        // What the file system has is not known without asking it, which may take long.
                        return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
                    }
                    let stop = place.checked_add(length).ok_or(io::ErrorKind::InvalidInput);
                    let (is_data, stop) = layer.input.run(place, stop.map_err(io::Error::from)?)?;
                    length = stop - place;
                    (!is_data, false)
                }
                Run::Data(..) => (false, false),
            };
            at += length;
            match found.last_mut() {
                Some(last) if (last.is_zero, last.is_hole) == (is_zero, is_hole) => last.length += length,
                _ => found.push(Extent {
                    length,
                    is_zero,
                    is_hole,
                }),
            }
        }
        Ok(found)
    }
}

/// Takes the first `bytes` off.
fn cut<'a>(rest: &mut &'a mut [u8], bytes: u64) -> io::Result<&'a mut [u8]> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    rest.split_off_mut(..bytes)
        .ok_or_else(|| io::Error::other("a run that is longer than what was asked for"))
}
