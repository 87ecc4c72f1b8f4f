//! Making bases and overlays. Each function looks for its own earlier work first.

use super::{
    LocalImages, blocking,
    directory::{DRAFT_SUFFIX, Directory, Found, split},
    draft::{Claim, Draft},
    fail::{errno, fault, io, unreadable},
    look, space,
};
use crate::qcow2::{self, Fresh};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};
use stillpoint_engine::ports::{Allocation, Driven, DriverErrorKind, ImageRef, StoredBitmap};
use stillpoint_types::ImageFormat;

const BASE: &str = "create base image";
const OVERLAY: &str = "create overlay";
const BITMAP_LIMIT: Duration = Duration::from_secs(30);

/// Checks that the path is `IMAGE-ID.EXTENSION`, and splits it.
fn own_name<'a>(op: &'static str, image: &'a ImageRef) -> Driven<(&'a Path, &'a str)> {
    let (parent, name) = split(op, &image.path)?;
    let extension = match image.format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    };
    if name == format!("{}.{extension}", image.id) {
        return Ok((parent, name));
    }
    let text = format!("{} is not named {}.{extension}", image.path.display(), image.id);
    Err(fault(DriverErrorKind::InvalidImage, op, text))
}

fn in_the_way<T>(op: &'static str, path: &Path, why: &str) -> Driven<T> {
    let text = format!("{} is there already and {why}: it was left as it is", path.display());
    Err(fault(DriverErrorKind::AlreadyExists, op, text))
}

fn lay_out(op: &'static str, path: &Path, fresh: Fresh<'_>) -> Driven<qcow2::fresh::Layout> {
    fresh
        .layout()
        .map_err(|error| fault(DriverErrorKind::Unsupported, op, format_args!("{}", path.display())).caused_by(error))
}

/// What a base that is there already may hold, to be taken for earlier work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing.
    Nothing,
    /// Whatever it be: nobody else knows the name.
    Anything,
}

/// See [`stillpoint_engine::ports::Images::create_base`].
pub(super) async fn base(images: &LocalImages, image: ImageRef, size: u64, allocation: Allocation) -> Driven<()> {
    match blank(images, image, (size, allocation), Holds::Nothing).await? {
        Some(draft) => blocking(BASE, move || draft.publish()).await,
        None => Ok(()),
    }
}

/// A base that shows zeros, not yet under its name; `None` when the base is there.
pub(super) async fn blank(
    images: &LocalImages,
    image: ImageRef,
    (size, allocation): (u64, Allocation),
    holds: Holds,
) -> Driven<Option<Draft>> {
    let claim = Claim::take(BASE, &images.in_work, image.path.clone())?;
    let path = image.path.clone();
    let begun = blocking(BASE, move || begin_base(&image, (size, allocation), holds, claim)).await?;
    let Some((draft, by_tool)) = begun else {
        return Ok(None);
    };
    if by_tool {
        let temporary = utf8(BASE, &draft.path())?;
        // A second a GiB: preallocation writes an L2 entry per cluster, and some file systems write zeros.
        let limit = Duration::from_secs(60 + (size >> 30));
        let size = size.to_string();
        let options = ["create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", "--"];
        let arguments: Vec<&str> = options.into_iter().chain([temporary.as_str(), &size]).collect();
        images.tool.run(BASE, &arguments, limit).await?;
    }
    blocking(BASE, move || {
        if by_tool {
            let made = qcow2::Header::read(&draft.file).map_err(|error| unreadable(BASE, &path, error))?;
            if made.size_bytes != size || made.backing_name.is_some() {
                return Err(fault(
                    DriverErrorKind::Protocol,
                    BASE,
                    "qemu-img made something else than was asked",
                ));
            }
        }
        Ok(Some(draft))
    })
    .await
}

/// Begins a base; `None` when it is there. The flag: `qemu-img` has to fill it.
fn begin_base(
    image: &ImageRef,
    (size, allocation): (u64, Allocation),
    holds: Holds,
    claim: Claim,
) -> Driven<Option<(Draft, bool)>> {
    let (parent, name) = own_name(BASE, image)?;
    let fresh = Fresh {
        size_bytes: size,
        backing: None,
    };
    let layout = lay_out(BASE, &image.path, fresh)?;
    let directory = Directory::open(BASE, parent)?;
    if let Some((file, stat)) = directory.regular(BASE, name)? {
        match holds {
            Holds::Nothing => judge_base(image, size, allocation, &file, &stat)?,
            Holds::Anything => judge_size(image, size, &file, &stat)?,
        }
        file.sync_all().map_err(|error| io(BASE, &image.path, error))?;
        directory.sync(BASE)?;
        return Ok(None);
    }
    if allocation == Allocation::Preallocated {
        let available = space(parent)?.available_bytes;
        // Asked first, so that a hopeless try does not take the last block from running guests.
        if available < size.saturating_add(size / 8_192) {
            let text = format!(
                "{}: {size} bytes wanted, {available} available; free space or use a sparse disk",
                parent.display()
            );
            return Err(fault(DriverErrorKind::NoSpace, BASE, text));
        }
    }
    let draft = Draft::begin(BASE, directory, name, claim)?;
    match (image.format, allocation) {
        (ImageFormat::Cow, Allocation::Preallocated) => return Ok(Some((draft, true))),
        (ImageFormat::Cow, Allocation::Sparse) => {
            layout
                .write(&draft.file)
                .map_err(|error| io(BASE, &image.path, error))?;
        }
        (ImageFormat::Raw, Allocation::Sparse) => {
            draft.file.set_len(size).map_err(|error| io(BASE, &image.path, error))?;
        }
        (ImageFormat::Raw, Allocation::Preallocated) => {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&draft.file, flags, 0, size))
                .map_err(|error| errno(BASE, &image.path, error))?;
        }
    }
    Ok(Some((draft, false)))
}

/// Whether a file that is there is a base of that size.
fn judge_size(image: &ImageRef, size: u64, file: &File, stat: &rustix::fs::Stat) -> Driven<()> {
    let path = &image.path;
    let fits = match image.format {
        ImageFormat::Raw => u64::try_from(stat.st_size).ok() == Some(size),
        ImageFormat::Cow => {
            let header = qcow2::Header::read(file).map_err(|error| unreadable(BASE, path, error))?;
            header.size_bytes == size && header.backing_name.is_none()
        }
    };
    if fits {
        return Ok(());
    }
    in_the_way(BASE, path, "has another size or a backing file")
}

/// Whether a file that is there is what this call would have made.
fn judge_base(image: &ImageRef, size: u64, allocation: Allocation, file: &File, stat: &rustix::fs::Stat) -> Driven<()> {
    let path = &image.path;
    if image.format == ImageFormat::Raw {
        if u64::try_from(stat.st_size).ok() != Some(size) {
            return in_the_way(BASE, path, "has another size");
        }
        if !look::is_blank(BASE, path, file)? {
            return in_the_way(BASE, path, "holds data");
        }
        if allocation == Allocation::Preallocated && look::occupied_bytes(stat) < size {
            return in_the_way(BASE, path, "is sparse");
        }
        return Ok(());
    }
    let found = qcow2::read(file).map_err(|error| unreadable(BASE, path, error));
    let Ok(found) = found else {
        return in_the_way(BASE, path, "is no qcow2 file that could be read");
    };
    if found.header.size_bytes != size || found.header.backing_name.is_some() || !found.bitmaps.is_empty() {
        return in_the_way(BASE, path, "has another size, a backing file or bitmaps");
    }
    // Preallocated: every cluster has its place already, so "empty" cannot be told from the tables.
    if found.has_data != (allocation == Allocation::Preallocated) {
        return in_the_way(BASE, path, "is not as empty as a new one");
    }
    Ok(())
}

/// See [`stillpoint_engine::ports::Images::create_overlay`].
pub(super) async fn overlay(
    images: &LocalImages,
    overlay: ImageRef,
    base: ImageRef,
    size: u64,
    carry_bitmaps: bool,
) -> Driven<()> {
    let claim = Claim::take(OVERLAY, &images.in_work, overlay.path.clone())?;
    let begun = blocking(OVERLAY, move || {
        begin_overlay(&overlay, &base, size, carry_bitmaps, claim)
    })
    .await?;
    for bitmap in &begun.missing {
        add_bitmap(images, &begun.path, bitmap).await?;
    }
    blocking(OVERLAY, move || begun.finish()).await
}

/// An overlay to which `missing` has to be added before it is done.
struct Begun {
    path: PathBuf,
    missing: Vec<StoredBitmap>,
    state: State,
}

enum State {
    New(Draft),
    Kept(Directory, File, Claim),
}

impl Begun {
    fn finish(self) -> Driven<()> {
        let file = match &self.state {
            State::New(draft) => &draft.file,
            State::Kept(_, file, _) => file,
        };
        if !self.missing.is_empty() {
            let found = qcow2::read(file).map_err(|error| unreadable(OVERLAY, &self.path, error))?;
            if self.missing.iter().any(|bitmap| !found.bitmaps.contains(bitmap)) {
                return Err(fault(
                    DriverErrorKind::Protocol,
                    OVERLAY,
                    "qemu-img did not store a bitmap it was given",
                ));
            }
        }
        match self.state {
            State::New(draft) => draft.publish(),
            State::Kept(directory, file, _claim) => {
                file.sync_all().map_err(|error| io(OVERLAY, &self.path, error))?;
                directory.sync(OVERLAY)
            }
        }
    }
}

fn begin_overlay(overlay: &ImageRef, base: &ImageRef, size: u64, carry: bool, claim: Claim) -> Driven<Begun> {
    let (parent, name) = own_name(OVERLAY, overlay)?;
    let (base_parent, base_name) = split(OVERLAY, &base.path)?;
    if overlay.format != ImageFormat::Cow || base_parent != parent || base_name == name {
        let text = format!(
            "{} cannot lie over {}: an overlay is qcow2, in the same directory as its base, and another file",
            overlay.path.display(),
            base.path.display()
        );
        return Err(fault(DriverErrorKind::Unsupported, OVERLAY, text));
    }
    let directory = Directory::open(OVERLAY, parent)?;
    let wanted = look_at_base(&directory, base, base_name, size, carry)?;
    if let Some((file, _)) = directory.regular(OVERLAY, name)? {
        let missing = judge_overlay(overlay, base, size, &file, wanted)?;
        return Ok(Begun {
            path: overlay.path.clone(),
            missing,
            state: State::Kept(directory, file, claim),
        });
    }
    let backing = Some((base_name, base.format));
    let fresh = Fresh {
        size_bytes: size,
        backing,
    };
    let layout = lay_out(OVERLAY, &overlay.path, fresh)?;
    let draft = Draft::begin(OVERLAY, directory, name, claim)?;
    layout
        .write(&draft.file)
        .map_err(|error| io(OVERLAY, &overlay.path, error))?;
    Ok(Begun {
        path: draft.path(),
        missing: wanted,
        state: State::New(draft),
    })
}

/// Checks that the base can be one, and lists the bitmaps to carry from it.
fn look_at_base(
    directory: &Directory,
    base: &ImageRef,
    name: &str,
    size: u64,
    carry: bool,
) -> Driven<Vec<StoredBitmap>> {
    let (file, stat) = directory.present(OVERLAY, name)?;
    let (base_size, bitmaps) = match base.format {
        ImageFormat::Raw => (u64::try_from(stat.st_size).unwrap_or(0), Vec::new()),
        ImageFormat::Cow => {
            let bad = |error| unreadable(OVERLAY, &base.path, error);
            let header = qcow2::Header::read(&file).map_err(bad)?;
            let bitmaps = match carry {
                true => qcow2::bitmaps::read(&file, &header).map_err(bad)?,
                false => Vec::new(),
            };
            (header.size_bytes, bitmaps)
        }
    };
    if base_size > size {
        let text = format!(
            "{} has {base_size} bytes: an overlay of {size} bytes would hide its end",
            base.path.display()
        );
        return Err(fault(DriverErrorKind::InvalidImage, OVERLAY, text));
    }
    let usable = bitmaps.into_iter().filter(|bitmap| bitmap.recording && !bitmap.in_use);
    Ok(usable.collect())
}

/// Whether an overlay that is there is what this call would have made; answers the bitmaps that it lacks.
fn judge_overlay(
    overlay: &ImageRef,
    base: &ImageRef,
    size: u64,
    file: &File,
    wanted: Vec<StoredBitmap>,
) -> Driven<Vec<StoredBitmap>> {
    let path = &overlay.path;
    let Ok(found) = qcow2::read(file) else {
        return in_the_way(OVERLAY, path, "is no qcow2 file that could be read");
    };
    let format = match base.format {
        ImageFormat::Cow => "qcow2",
        ImageFormat::Raw => "raw",
    };
    let names_base = found
        .header
        .backing_name
        .as_deref()
        .is_some_and(|name| look::backing_is(name, &base.path))
        && found.header.backing_format.as_deref() == Some(format);
    if found.header.size_bytes != size || !names_base {
        return in_the_way(OVERLAY, path, "has another size or base");
    }
    if found.has_data {
        return in_the_way(OVERLAY, path, "holds data");
    }
    let lacks = |bitmap: &StoredBitmap| !found.bitmaps.contains(bitmap);
    Ok(wanted.into_iter().filter(lacks).collect())
}

/// See [`stillpoint_engine::ports::Images::withdraw_overlay`].
pub(super) fn withdraw_overlay(overlay: &ImageRef, base: &ImageRef, size: u64) -> Driven<()> {
    const OP: &str = "withdraw overlay";
    withdraw_draft(OP, &overlay.path)?;
    let (parent, name) = split(OP, &overlay.path)?;
    let directory = Directory::open(OP, parent)?;
    let found = directory.find(name).map_err(|error| errno(OP, &overlay.path, error))?;
    let ours = match &found {
        Found::File(file, _) => judge_overlay(overlay, base, size, file, Vec::new()).is_ok(),
        Found::Absent => return Ok(()),
        Found::Link | Found::Special => false,
    };
    if !ours {
        // Told, not failed: it was there before us, and whoever put it there may need it.
        tracing::info!(file = %overlay.path.display(), "a file that is not ours stands in an overlay's place and stays");
        return Ok(());
    }
    directory.unlink(OP, name)?;
    directory.sync(OP)
}

/// Removes the unfinished file of an image; what cannot be one of ours stays.
pub(super) fn withdraw_draft(op: &'static str, path: &Path) -> Driven<()> {
    let (parent, name) = split(op, path)?;
    let (directory, draft) = (Directory::open(op, parent)?, format!("{name}{DRAFT_SUFFIX}"));
    // Looked for first: where nothing is, storage that cannot be written to must not keep a job from ending.
    match directory.find(&draft).map_err(|error| errno(op, path, error))? {
        Found::File(..) => {
            directory.unlink(op, &draft)?;
            directory.sync(op)
        }
        Found::Absent | Found::Link | Found::Special => Ok(()),
    }
}

/// Adds an empty recording bitmap. The backing chain is left closed: `backing: null` overrides the header's name.
async fn add_bitmap(images: &LocalImages, path: &Path, bitmap: &StoredBitmap) -> Driven<()> {
    let file = serde_json::json!({
        "driver": "qcow2",
        "backing": null,
        "file": { "driver": "file", "filename": utf8(OVERLAY, path)? },
    });
    let file = format!("json:{file}");
    let granularity = bitmap.granularity_bytes.to_string();
    let arguments = ["bitmap", "--add", "-g", &granularity, "--", &file, &bitmap.name];
    images.tool.run(OVERLAY, &arguments, BITMAP_LIMIT).await
}

pub(super) fn utf8(op: &'static str, path: &Path) -> Driven<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let text = format!("{} is not UTF-8: rename the storage domain's directory", path.display());
        fault(DriverErrorKind::Unsupported, op, text)
    })
}
