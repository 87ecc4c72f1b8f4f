//! What the disk says about a merge, for the time when QEMU is dead.
//!
//! Active layer: its header names the base before and after, so the disk could not tell. While the job is PENDING
//! contents are equal and the guest's writes are held: then the top's file is renamed to `FILE.merged` and the
//! directory synchronised. With the mark the base is the truth, without it the top.
//! Middle layer: the header of the layer above names the top before and the base after.
//!
//! Crash consistency: rename is atomic and the directory is synchronised before anyone relies on it. QEMU keeps the
//! renamed file open; that is harmless.

use crate::{failure::io_failed, qcow2::Header};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, ImageRef};
use tokio::task::spawn_blocking;

const OP: &str = "mark merged image";

fn mark_path(image: &ImageRef) -> PathBuf {
    let mut name = OsString::from(image.path.as_os_str());
    name.push(".merged");
    PathBuf::from(name)
}

fn is_there(path: &Path) -> Driven<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_failed(OP, path, e)),
    }
}

fn sync_directory(path: &Path) -> Driven<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| io_failed(OP, directory, e))
}

fn rename(from: &Path, to: &Path) -> Driven<()> {
    if is_there(to)? {
        let text = format!("{} is there beside {}", to.display(), from.display());
        return Err(DriverError::new(DriverErrorKind::AlreadyExists, OP, text));
    }
    fs::rename(from, to).map_err(|e| io_failed(OP, from, e))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Driven<T> + Send + 'static) -> Driven<T> {
    crate::switch::joined(spawn_blocking(work).await)?
}

/// Whether the mark is there.
pub(super) async fn is_marked(top: &ImageRef) -> Driven<bool> {
    let mark = mark_path(top);
    blocking(move || is_there(&mark)).await
}

/// Makes the mark where it is missing, durably. Neither file nor mark being there is success: the caller has unlinked
/// the merged image already.
pub(super) async fn ensure(top: &ImageRef) -> Driven<()> {
    let (path, mark) = (top.path.clone(), mark_path(top));
    blocking(move || {
        if !is_there(&mark)? && is_there(&path)? {
            rename(&path, &mark)?;
        }
        sync_directory(&mark)
    })
    .await
}

/// Makes the mark, durably, or gives up if it could not *begin* within `limit` (the guest's writes are held meanwhile).
///
/// Once the rename has begun its end is waited for, however long: a mark that appeared after we gave up would send a
/// later start to the wrong image. `Err`: there is no mark.
pub(super) async fn make_within(top: &ImageRef, limit: Duration) -> Driven<()> {
    const IDLE: u8 = 0;
    const BEGUN: u8 = 1;
    const GIVEN_UP: u8 = 2;
    let (path, mark) = (top.path.clone(), mark_path(top));
    let state = Arc::new(AtomicU8::new(IDLE));
    let worker = Arc::clone(&state);
    let step = move |state: &AtomicU8, to| {
        state
            .compare_exchange(IDLE, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    };
    let mut work = spawn_blocking(move || {
        if !step(&worker, BEGUN) {
            return Ok(());
        }
        if !is_there(&mark)? {
            rename(&path, &mark)?;
        }
        sync_directory(&mark).inspect_err(|_not_durable| {
            if let Err(error) = fs::rename(&mark, &path) {
                tracing::error!(mark = %mark.display(), %error, "a mark that is not durable could not be taken back");
            }
        })
    });
    let late = || DriverError::new(DriverErrorKind::Timeout, OP, "storage does not answer");
    match tokio::time::timeout(limit, &mut work).await {
        Ok(done) => crate::switch::joined(done)?,
        Err(_elapsed) if step(&state, GIVEN_UP) => Err(late()),
        Err(_elapsed) => crate::switch::joined(work.await)?,
    }
}

/// Takes the mark away, durably: the top is the truth again.
pub(super) async fn unmake(top: &ImageRef) -> Driven<()> {
    let (path, mark) = (top.path.clone(), mark_path(top));
    blocking(move || {
        if is_there(&mark)? {
            rename(&mark, &path)?;
            sync_directory(&path)?;
        }
        Ok(())
    })
    .await
}

/// The backing file's name in a qcow2 header.
pub(super) async fn backing_name(image: &ImageRef) -> Driven<Option<String>> {
    const OP: &str = "read backing name";
    let path = image.path.clone();
    blocking(move || {
        let file = File::open(&path).map_err(|error| io_failed(OP, &path, error))?;
        let header = Header::read(&file)
            .map_err(|error| DriverError::new(DriverErrorKind::InvalidImage, OP, path.display()).caused_by(error))?;
        Ok(header.backing_name)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillpoint_types::{ImageFormat, ImageId};

    const SOON: Duration = Duration::from_secs(5);

    fn image(dir: &tempfile::TempDir) -> ImageRef {
        let image = ImageRef {
            id: ImageId::fresh(),
            format: ImageFormat::Cow,
            path: dir.path().join("top.qcow2"),
        };
        fs::write(&image.path, "top").unwrap();
        image
    }

    #[tokio::test]
    async fn a_mark_is_made_and_taken_away_as_often_as_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let top = image(&dir);
        for _ in 0..2 {
            make_within(&top, SOON).await.unwrap();
            ensure(&top).await.unwrap();
            assert!(is_marked(&top).await.unwrap() && !top.path.exists());
        }
        for _ in 0..2 {
            unmake(&top).await.unwrap();
            assert!(!is_marked(&top).await.unwrap() && top.path.exists());
        }
        fs::remove_file(&top.path).unwrap();
        ensure(&top).await.unwrap(); // unlinked after the merge
        assert!(!is_marked(&top).await.unwrap());
    }

    #[tokio::test]
    async fn a_mark_that_failed_is_not_there_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let top = image(&dir);
        fs::remove_file(&top.path).unwrap();
        assert!(make_within(&top, SOON).await.is_err());
        assert!(!is_marked(&top).await.unwrap());
        fs::write(&top.path, "newer").unwrap();
        fs::write(mark_path(&top), "older").unwrap();
        let error = unmake(&top).await.unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::AlreadyExists);
        assert_eq!(fs::read(&top.path).unwrap(), b"newer");
    }

    #[tokio::test]
    async fn a_hostile_header_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let top = image(&dir);
        let header = |offset: u64, length: u32| {
            let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(b"base.qcow2");
            bytes
        };
        // A whole header is read in `qcow2`'s own tests; here it matters that a bad one is no name.
        for bytes in [
            header(20, 10),
            header(u64::MAX, 10),
            header(20, u32::MAX),
            b"QFI".to_vec(),
            vec![0; 4096],
        ] {
            fs::write(&top.path, bytes).unwrap();
            let error = backing_name(&top).await.unwrap_err();
            assert_eq!(error.kind, DriverErrorKind::InvalidImage);
        }
    }
}
