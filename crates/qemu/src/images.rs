//! Image files in directories: [`LocalImages`] implements the port [`Images`].
//!
//! Overlays and sparse bases are written by ourselves (a few hundred bytes, two flushes); `qemu-img` is run where QEMU's
//! own bookkeeping is needed: preallocated qcow2, and bitmaps in an overlay that is not yet in use.
//!
//! Crash consistency: a new file appears whole or not at all (see `images/draft.rs`); a removal unlinks the file,
//! flushes, and only then unlinks its `.merged` mark, so that a stale top never stands there without its mark.
//! Lost at a crash: nothing that was answered. Left behind: `<file>.new`, removed by the next try or by the removal.
//!
//! Locks: this room takes none on images. Reading is safe without: of layers below an active one and of images at rest
//! nothing changes; of a live active layer only facts are used that cannot tear (one read of the header cluster; an L2
//! table is written before the L1 entry that names it), and a bitmap directory that moved meanwhile is read again.
//! Writing happens to files under temporary names only, or through `qemu-img`, which takes QEMU's own locks.
//!
//! Must not touch: SQL, HTTP, running machines.

mod copy;
pub(crate) mod directory;
mod draft;
pub(crate) mod fail;
pub(crate) mod look;
mod make;
mod maps;
mod seal;
mod survey;
mod tool;

use crate::{
    gate::{Gate, Reason},
    qcow2,
};
use async_trait::async_trait;
use directory::{DRAFT_SUFFIX, Directory, MERGED_SUFFIX, split};
use draft::{Claim, InWork};
use fail::{errno, fault, unreadable};
use rustix::fs::FileType;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};
use stillpoint_engine::ports::{
    Adoptable, Allocation, DirtyMap, Driven, DriverErrorKind, FoundFile, ImageFacts, ImageRef, Images, MemoryRef,
    Merge, Progress, Seal, Space,
};
use stillpoint_qcow2::{Chain, Patience, Place};
use stillpoint_types::ImageFormat;

use look::backing_is;
pub(crate) use look::facts;

/// Image files in local (or mounted) directories.
#[derive(Debug, Clone)]
pub struct LocalImages {
    tool: tool::QemuImg,
    in_work: InWork,
}

impl LocalImages {
    /// `qemu_img`: the program, absolute, or a name that is looked for in `/usr/bin` and `/bin`.
    #[must_use]
    pub fn new(qemu_img: impl Into<PathBuf>) -> Self {
        Self {
            tool: tool::QemuImg::new(qemu_img.into()),
            in_work: InWork::default(),
        }
    }
}

/// Runs file work off the reactor.
async fn blocking<T: Send + 'static>(op: &'static str, work: impl FnOnce() -> Driven<T> + Send + 'static) -> Driven<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| {
        Err(fault(DriverErrorKind::Io, op, "the thread doing the file work ended early").caused_by(error))
    })
}

#[async_trait]
impl Images for LocalImages {
    async fn create_base(&self, image: &ImageRef, size_bytes: u64, allocation: Allocation) -> Driven<()> {
        make::base(self, image.clone(), size_bytes, allocation).await
    }

    async fn copy(
        &self,
        source: &[ImageRef],
        target: &ImageRef,
        size_bytes: u64,
        allocation: Allocation,
        progress: Progress<'_>,
    ) -> Driven<()> {
        copy::copy(self, source, target.clone(), (size_bytes, allocation), progress).await
    }

    async fn create_overlay(
        &self,
        overlay: &ImageRef,
        base: &ImageRef,
        size_bytes: u64,
        carry_bitmaps: bool,
    ) -> Driven<()> {
        make::overlay(self, overlay.clone(), base.clone(), size_bytes, carry_bitmaps).await
    }

    async fn withdraw_overlay(&self, overlay: &ImageRef, base: &ImageRef, size_bytes: u64) -> Driven<()> {
        let claim = Claim::take("withdraw overlay", &self.in_work, overlay.path.clone())?;
        let (overlay, base) = (overlay.clone(), base.clone());
        blocking("withdraw overlay", move || {
            let _held = claim;
            make::withdraw_overlay(&overlay, &base, size_bytes)
        })
        .await
    }

    async fn withdraw_base(&self, image: &ImageRef) -> Driven<()> {
        let claim = Claim::take("withdraw base image", &self.in_work, image.path.clone())?;
        let path = image.path.clone();
        blocking("withdraw base image", move || {
            let _held = claim;
            make::withdraw_draft("withdraw base image", &path)
        })
        .await
    }

    async fn list(&self, directory: &Path) -> Driven<Vec<FoundFile>> {
        let directory = directory.to_owned();
        blocking("list image files", move || survey::list(&directory)).await
    }

    async fn set_aside(&self, from: &Path, to: &Path) -> Driven<()> {
        const OP: &str = "set a file aside";
        let claim = Claim::take(OP, &self.in_work, from.to_owned())?;
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(OP, move || {
            let _held = claim;
            survey::set_aside(&from, &to)
        })
        .await
    }

    async fn contains(&self, below: &[ImageRef], top: &ImageRef) -> Driven<bool> {
        let (below, top) = (below.to_vec(), top.clone());
        blocking("compare images", move || survey::contains(&below, &top)).await
    }

    async fn is_taken(&self, image: &ImageRef) -> Driven<bool> {
        const OP: &str = "look whether an image's name is free";
        let path = image.path.clone();
        blocking(OP, move || {
            let (parent, name) = split(OP, &path)?;
            Ok(Directory::open(OP, parent)?.stat(OP, name)?.is_some())
        })
        .await
    }

    async fn inspect(&self, path: &Path, format_hint: Option<ImageFormat>) -> Driven<ImageFacts> {
        let path = path.to_owned();
        blocking("inspect image", move || look::inspect(&path, format_hint)).await
    }

    async fn rename(&self, from: &ImageRef, to: &ImageRef) -> Driven<()> {
        const OP: &str = "rename image";
        let claims = [from, to].map(|image| Claim::take(OP, &self.in_work, image.path.clone()));
        let (from, to) = (from.path.clone(), to.path.clone());
        blocking(OP, move || {
            let _held = claims.into_iter().collect::<Driven<Vec<_>>>()?;
            let ((parent, old), (same, new)) = (split(OP, &from)?, split(OP, &to)?);
            if parent != same {
                let text = format!("{} and {} are not in one directory", from.display(), to.display());
                return Err(fault(DriverErrorKind::InvalidImage, OP, text));
            }
            let directory = Directory::open(OP, parent)?;
            if directory.stat(OP, old)?.is_some() {
                directory.rename_new(OP, old, new)?;
            } else {
                directory.present(OP, new)?;
            }
            directory.sync(OP)
        })
        .await
    }

    async fn remove(&self, image: &ImageRef) -> Driven<()> {
        const OP: &str = "remove image";
        let claim = Claim::take(OP, &self.in_work, image.path.clone())?;
        let path = image.path.clone();
        blocking(OP, move || {
            let _held = claim;
            let (parent, name) = split(OP, &path)?;
            let directory = Directory::open(OP, parent)?;
            directory.unlink(OP, name)?;
            directory.unlink(OP, &format!("{name}{DRAFT_SUFFIX}"))?;
            directory.sync(OP)?;
            // Only now: without its mark, a merged top that came back would pass for the truth.
            directory.unlink(OP, &format!("{name}{MERGED_SUFFIX}"))?;
            directory.sync(OP)
        })
        .await
    }

    async fn is_merged(&self, merge: &Merge) -> Driven<bool> {
        let merge = merge.clone();
        blocking("look whether a merge happened", move || is_merged(&merge)).await
    }

    async fn gate(
        &self,
        directory: &Path,
        file_name: &str,
        format: ImageFormat,
        known: &[ImageRef],
    ) -> Driven<Adoptable> {
        const OP: &str = "judge an image file";
        let (directory, file_name, known) = (directory.to_owned(), file_name.to_owned(), known.to_vec());
        blocking(OP, move || {
            let find = |name: &str| {
                known
                    .iter()
                    .find(|image| image.path.file_name() == Some(name.as_ref()))
                    .cloned()
            };
            let hint = (format == ImageFormat::Raw).then_some(format);
            let adopted = Gate::check(&directory, &file_name, hint, &find).map_err(|refused| {
                let kind = match refused.reason {
                    Reason::InUse => DriverErrorKind::Busy,
                    _ => DriverErrorKind::InvalidImage,
                };
                fault(kind, OP, refused)
            })?;
            Ok(Adoptable {
                facts: adopted.facts,
                parent: adopted.parent.map(|image| image.id),
            })
        })
        .await
    }

    async fn mark_allocated(&self, image: &ImageRef, mut map: DirtyMap) -> Driven<DirtyMap> {
        const OP: &str = "read what an image holds";
        let image = image.clone();
        blocking(OP, move || {
            if image.format == ImageFormat::Raw {
                let text = format!("{} is raw: it holds all of its disk", image.path.display());
                return Err(fault(DriverErrorKind::InvalidImage, OP, text));
            }
            let (parent, name) = split(OP, &image.path)?;
            let (file, _) = Directory::open(OP, parent)?.present(OP, name)?;
            let failed = |error| unreadable(OP, &image.path, error);
            let header = qcow2::Header::read(&file).map_err(failed)?;
            qcow2::allocated::mark(&file, &header, &mut map).map_err(failed)?;
            Ok(map)
        })
        .await
    }

    async fn seal(&self, image: &ImageRef, durable: bool) -> Driven<Seal> {
        let path = image.path.clone();
        blocking("seal an image", move || seal::of(&path, durable)).await
    }

    async fn mark_data(&self, layers: &[ImageRef], mut map: DirtyMap) -> Driven<DirtyMap> {
        const OP: &str = "read what a disk holds";
        let layers = layers.to_vec();
        blocking(OP, move || {
            let place = |layer: &ImageRef| Place {
                path: layer.path.clone(),
                is_raw: layer.format == ImageFormat::Raw,
            };
            let places: Vec<Place> = layers.iter().map(place).collect();
            let chain = Chain::open(&places)
                .map_err(|(path, error)| fault(DriverErrorKind::Unsupported, OP, path.display()).caused_by(error))?;
            let (mut at, end) = (0, chain.size_bytes().min(map.size_bytes()));
            while at < end {
                let found = chain.extents(at, end, Patience::Wait);
                let found = found.map_err(|error| fault(DriverErrorKind::Io, OP, "its tables").caused_by(error))?;
                for extent in found {
                    if !extent.is_zero {
                        map.mark(at, extent.length);
                    }
                    at += extent.length;
                }
            }
            Ok(map)
        })
        .await
    }

    async fn load_map(&self, path: &Path) -> Driven<DirtyMap> {
        let path = path.to_owned();
        blocking("read a map of changes", move || maps::load(&path)).await
    }

    async fn store_map(&self, path: &Path, map: &DirtyMap) -> Driven<()> {
        let (path, map) = (path.to_owned(), map.clone());
        blocking("write a map of changes", move || maps::store(&path, &map.encode())).await
    }

    async fn sweep_maps(&self, root: &Path, keep: HashSet<String>) -> Driven<()> {
        let root = root.to_owned();
        blocking("remove old maps of changes", move || maps::sweep(&root, &keep)).await
    }

    async fn memory_bytes(&self, memory: &MemoryRef) -> Driven<u64> {
        const OP: &str = "measure a saved memory";
        let path = memory.path.clone();
        blocking(OP, move || {
            let stat = rustix::fs::lstat(&path).map_err(|error| errno(OP, &path, error))?;
            Ok(look::occupied_bytes(&stat))
        })
        .await
    }

    async fn remove_memory(&self, memory: &MemoryRef) -> Driven<()> {
        const OP: &str = "remove a saved memory";
        let path = memory.path.clone();
        blocking(OP, move || {
            let (parent, name) = split(OP, &path)?;
            let directory = Directory::open(OP, parent)?;
            directory.unlink(OP, name)?;
            // In this order: the writer outlives a killed QEMU, and without its part it has nothing to rename.
            for suffix in crate::machine::MEMORY_PARTS {
                directory.unlink(OP, &format!("{name}{suffix}"))?;
            }
            directory.sync(OP)
        })
        .await
    }

    async fn space(&self, directory: &Path) -> Driven<Space> {
        let directory = directory.to_owned();
        blocking("measure free space", move || space(&directory)).await
    }

    async fn actual_bytes(&self, images: &[ImageRef]) -> Driven<Vec<u64>> {
        const OP: &str = "measure images";
        let paths: Vec<_> = images.iter().map(|image| image.path.clone()).collect();
        blocking(OP, move || {
            let occupied = |path: &PathBuf| match rustix::fs::lstat(path) {
                Ok(stat) => Ok(look::occupied_bytes(&stat)),
                Err(rustix::io::Errno::NOENT) => Ok(0),
                Err(error) => Err(errno(OP, path, error)),
            };
            paths.iter().map(occupied).collect()
        })
        .await
    }
}

fn is_merged(merge: &Merge) -> Driven<bool> {
    const OP: &str = "look whether a merge happened";
    let unknown = |text: String| Err(fault(DriverErrorKind::InvalidImage, OP, text));
    if merge.is_active() {
        let (parent, name) = split(OP, &merge.top.path)?;
        let directory = Directory::open(OP, parent)?;
        let mark = format!("{name}{MERGED_SUFFIX}");
        return match directory.stat(OP, &mark)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(true),
            Some(_) => unknown(format!(
                "{} is not a regular file: it is no mark of ours; look who made it",
                directory.join(&mark).display()
            )),
            // Neither mark nor file: then nothing on disk tells, and guessing could lose writes.
            None => directory.present(OP, name).map(|_| false),
        };
    }
    let Some(above) = merge.above() else {
        return unknown(format!("image {} is not in the chain that was given", merge.top.id));
    };
    let (parent, name) = split(OP, &above.path)?;
    let (file, _) = Directory::open(OP, parent)?.present(OP, name)?;
    let header = qcow2::Header::read(&file).map_err(|error| unreadable(OP, &above.path, error))?;
    let backing = header.backing_name.unwrap_or_default();
    if backing_is(&backing, &merge.base.path) {
        Ok(true)
    } else if backing_is(&backing, &merge.top.path) {
        Ok(false)
    } else {
        unknown(format!(
            "{} names {backing:?} as its base, which is neither {} nor {}: compare the chain with the records",
            above.path.display(),
            merge.base.path.display(),
            merge.top.path.display()
        ))
    }
}

fn space(directory: &Path) -> Driven<Space> {
    let found = rustix::fs::statvfs(directory).map_err(|error| errno("measure free space", directory, error))?;
    Ok(Space {
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        used_bytes: found
            .f_blocks
            .saturating_sub(found.f_bfree)
            .saturating_mul(found.f_frsize),
    })
}
