//! A file under a temporary name, which becomes an image at once and whole, or not at all.
//!
//! Crash consistency: content is flushed, then renamed (replacing nothing), then the directory is flushed. A crash
//! before leaves `<file>.new`, which the next try of the same image, or its removal, unlinks.
//! The temporary name derives from the image, so two makers of one image in this process would meet on it: the set of
//! names in work keeps the second out. Two daemons on one storage domain are kept apart elsewhere.

use super::{
    directory::{DRAFT_SUFFIX, Directory},
    fail::{fault, io},
};
use std::{
    collections::HashSet,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use stillpoint_engine::ports::{Driven, DriverErrorKind};

/// Paths that are being made by this process.
pub(super) type InWork = Arc<Mutex<HashSet<PathBuf>>>;

/// One path in the set; gone from it when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    in_work: InWork,
    path: PathBuf,
}

impl Claim {
    /// Takes the path, or `Busy`.
    pub(super) fn take(op: &'static str, in_work: &InWork, path: PathBuf) -> Driven<Self> {
        let mut set = in_work.lock().unwrap_or_else(PoisonError::into_inner);
        if !set.insert(path.clone()) {
            let text = format!("{} is being worked on by another call", path.display());
            return Err(fault(DriverErrorKind::Busy, op, text));
        }
        drop(set);
        Ok(Self {
            in_work: Arc::clone(in_work),
            path,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut set = self.in_work.lock().unwrap_or_else(PoisonError::into_inner);
        set.remove(&self.path);
    }
}

/// The unfinished file. Dropped unpublished, it is unlinked.
#[derive(Debug)]
pub(super) struct Draft {
    op: &'static str,
    directory: Directory,
    name: String,
    temporary: String,
    is_published: bool,
    /// The open file.
    pub(super) file: File,
    _claim: Claim,
}

impl Draft {
    /// Begins with an empty file; what an earlier try left is unlinked.
    pub(super) fn begin(op: &'static str, directory: Directory, name: &str, claim: Claim) -> Driven<Self> {
        let temporary = format!("{name}{DRAFT_SUFFIX}");
        directory.unlink(op, &temporary)?;
        let file = directory.create(op, &temporary)?;
        Ok(Self {
            op,
            directory,
            name: name.to_owned(),
            temporary,
            is_published: false,
            file,
            _claim: claim,
        })
    }

    /// Its temporary path, for `qemu-img`.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(&self.temporary)
    }

    /// Makes it durable under its final name. On failure no file is left.
    pub(super) fn publish(mut self) -> Driven<()> {
        self.file.sync_all().map_err(|error| io(self.op, &self.path(), error))?;
        self.directory.rename_new(self.op, &self.temporary, &self.name)?;
        self.is_published = true;
        if let Err(error) = self.directory.sync(self.op) {
            // It is ours, nobody has used it, and its name may not outlive a crash: better none than a doubtful one.
            self.directory.unlink(self.op, &self.name)?;
            return Err(error);
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if let Err(error) = self.directory.unlink(self.op, &self.temporary) {
            tracing::warn!(error = error.chain(), "an unfinished image file is left behind");
        }
    }
}
