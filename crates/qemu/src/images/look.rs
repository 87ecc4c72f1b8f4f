//! Looking at image files: facts from the file itself, nothing followed, nothing written.

use super::{
    directory::{Directory, split},
    fail::{fault, io, unreadable},
};
use crate::qcow2::{self, Damage, ReadError};
use rustix::fs::Stat;
use std::{fs::File, path::Path};
use stillpoint_engine::ports::{Driven, DriverErrorKind, ImageFacts};
use stillpoint_types::ImageFormat;

const OP: &str = "inspect image";

/// Tries at a file whose header changes while it is read.
const TRIES: u32 = 3;

/// Bytes that a file occupies. `st_blocks` counts 512 bytes whatever the file system's block.
pub(super) fn occupied_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// See [`stillpoint_engine::ports::Images::inspect`].
pub(crate) fn inspect(path: &Path, hint: Option<ImageFormat>) -> Driven<ImageFacts> {
    let (parent, name) = split(OP, path)?;
    let (file, stat) = Directory::open(OP, parent)?.present(OP, name)?;
    match facts(&file, &stat, hint) {
        Ok((facts, _)) => Ok(facts),
        Err(ReadError::Damage(Damage::NoMagic)) => Err(fault(
            DriverErrorKind::InvalidImage,
            OP,
            format_args!("{} is recorded as qcow2 but has no qcow2 header", path.display()),
        )
        .caused_by(Damage::NoMagic)),
        Err(error) => Err(unreadable(OP, path, error)),
    }
}

/// The facts of an open file, and its header if it is qcow2.
pub(crate) fn facts(
    file: &File,
    stat: &Stat,
    hint: Option<ImageFormat>,
) -> Result<(ImageFacts, Option<qcow2::Header>), ReadError> {
    let read = match hint {
        Some(ImageFormat::Raw) => Err(Damage::NoMagic.into()),
        _ => read_steady(file),
    };
    match read {
        Ok(contents) => Ok((
            ImageFacts {
                format: ImageFormat::Cow,
                size_bytes: contents.header.size_bytes,
                actual_bytes: occupied_bytes(stat),
                backing_name: contents.header.backing_name.clone(),
                has_data: contents.has_data,
                bitmaps: contents.bitmaps,
            },
            Some(contents.header),
        )),
        Err(ReadError::Damage(Damage::NoMagic)) if hint != Some(ImageFormat::Cow) => Ok((
            ImageFacts {
                format: ImageFormat::Raw,
                // QEMU shows a guest whole sectors, the last one padded with zeros.
                size_bytes: u64::try_from(stat.st_size).unwrap_or(0).next_multiple_of(512),
                actual_bytes: occupied_bytes(stat),
                backing_name: None,
                has_data: true,
                bitmaps: Vec::new(),
            },
            None,
        )),
        Err(error) => Err(error),
    }
}

/// Reads again when something looked damaged but the header has changed since: QEMU was storing bitmaps meanwhile.
fn read_steady(file: &File) -> Result<qcow2::Contents, ReadError> {
    let mut tries = TRIES;
    loop {
        let before = qcow2::Header::read(file)?;
        match qcow2::read(file) {
            Err(ReadError::Damage(damage)) => {
                tries -= 1;
                if tries == 0 || qcow2::Header::read(file)? == before {
                    return Err(damage.into());
                }
            }
            other => return other,
        }
    }
}

/// Whether a backing name means `base`, for a file in the same directory: by plain name, `./` name or full path.
pub(crate) fn backing_is(backing: &str, base: &Path) -> bool {
    let backing = Path::new(backing);
    let is_same_place = backing.parent().is_some_and(|parent| {
        parent.as_os_str().is_empty() || parent == Path::new(".") || Some(parent) == base.parent()
    });
    is_same_place && backing.file_name().is_some() && backing.file_name() == base.file_name()
}

/// Whether a raw file holds no data at all: a hole, or space that was taken but never written.
pub(super) fn is_blank(op: &'static str, path: &Path, file: &File) -> Driven<bool> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(_) => Ok(false),
        Err(rustix::io::Errno::NXIO) => Ok(true),
        Err(error) => Err(io(op, path, error.into())),
    }
}
