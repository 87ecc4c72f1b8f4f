//! Where the driver keeps the run-time files of processes, below the daemon's data directory.
//!
//! ```text
//! DATA_DIR/run/vm/VM-ID/      qmp  qmp2  agent  (sockets)   console.log  qemu.log  pid
//! DATA_DIR/run/rest/JOB-ID/   qmp  nbd  (sockets)           qemu.log  pid
//! ```
//!
//! Nothing here is the truth of anything: all of it may be lost with the processes. Directories are for the daemon's
//! own account only (mode 0700): whoever can open a monitor socket owns the guest.

use crate::failure::io_failed;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind};
use stillpoint_types::{JobId, VmId};

/// `sizeof(sun_path)` less the closing zero byte (`unix(7)`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The run directories of a data directory.
#[derive(Debug, Clone)]
pub struct Layout {
    run: PathBuf,
}

impl Layout {
    /// Makes the directories where missing.
    ///
    /// # Errors
    /// `Unsupported` if the data directory's name is too long for unix sockets, or is not UTF-8 (QEMU's JSON options
    /// cannot carry it); `Io` and the like if it cannot be made.
    pub fn new(data_dir: &Path) -> Driven<Self> {
        const OP: &str = "prepare run directory";
        private_directory(OP, data_dir, false)?;
        let data_dir = data_dir.canonicalize().map_err(|e| io_failed(OP, data_dir, e))?;
        let layout = Self {
            run: data_dir.join("run"),
        };
        let longest = layout.vm(VmId::fresh()).agent().as_os_str().len();
        if longest > SOCKET_PATH_BYTES_MAX {
            let room = data_dir.as_os_str().len() - (longest - SOCKET_PATH_BYTES_MAX);
            let text = format!(
                "the data directory's name {} is too long for unix sockets: {room} bytes at most",
                data_dir.display()
            );
            return Err(DriverError::new(DriverErrorKind::Unsupported, OP, text));
        }
        utf8(OP, &layout.run)?;
        for directory in [layout.run.clone(), layout.run.join("vm"), layout.run.join("rest")] {
            private_directory(OP, &directory, true)?;
        }
        Ok(layout)
    }

    pub(crate) fn vm(&self, vm: VmId) -> RunDir {
        RunDir(self.run.join("vm").join(vm.to_string()))
    }

    pub(crate) fn rest(&self, owner: JobId) -> RunDir {
        RunDir(self.run.join("rest").join(owner.to_string()))
    }

    /// Owners that have a run directory, from the directory names; other names are passed over.
    pub(crate) fn rest_owners(&self) -> Driven<Vec<JobId>> {
        const OP: &str = "list storage daemons";
        let directory = self.run.join("rest");
        let mut owners = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|e| io_failed(OP, &directory, e))? {
            let entry = entry.map_err(|e| io_failed(OP, &directory, e))?;
            if let Some(owner) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                owners.push(owner);
            }
        }
        Ok(owners)
    }
}

/// One process's run directory.
#[derive(Debug, Clone)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// The driver's monitor.
    pub(crate) fn qmp(&self) -> PathBuf {
        self.0.join("qmp")
    }

    /// A second monitor, for people with rescue tools: QEMU serves one client a socket.
    pub(crate) fn qmp2(&self) -> PathBuf {
        self.0.join("qmp2")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// NBD server of a storage daemon that exports.
    pub(crate) fn nbd(&self) -> PathBuf {
        self.0.join("nbd")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    /// Written by QEMU itself (`-pidfile`), so that a process is findable that a crash left unrecorded.
    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// Makes it, without the sockets and the log of an earlier process. The caller knows that none runs.
    pub(crate) fn prepare(&self) -> Driven<()> {
        const OP: &str = "prepare run directory";
        private_directory(OP, &self.0, true)?;
        for stale in [
            self.qmp(),
            self.qmp2(),
            self.agent(),
            self.nbd(),
            self.pid(),
            self.log(),
        ] {
            match fs::remove_file(&stale) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_failed(OP, &stale, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes it with all that is in it; absent is success.
    pub(crate) fn remove(&self) -> Driven<()> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_failed("remove run directory", &self.0, e)),
            _ => Ok(()),
        }
    }

    /// The last lines of the process's log, for errors.
    pub(crate) fn log_tail(&self) -> String {
        const TAIL_CHARS: usize = 600;
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let skip = text.chars().count().saturating_sub(TAIL_CHARS);
        text.chars().skip(skip).collect::<String>().trim().replace('\n', "; ")
    }
}

fn private_directory(op: &'static str, path: &Path, ours: bool) -> Driven<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|e| io_failed(op, path, e))?;
    if ours {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| io_failed(op, path, e))?;
    }
    Ok(())
}

/// A path as text: QEMU takes file names in JSON.
pub(crate) fn utf8<'a>(op: &'static str, path: &'a Path) -> Driven<&'a str> {
    path.to_str().ok_or_else(|| {
        DriverError::new(
            DriverErrorKind::Unsupported,
            op,
            format!("{} is not UTF-8", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_too_long_for_sockets_is_refused_with_the_limit() {
        let parent = tempfile::tempdir().unwrap();
        let error = Layout::new(&parent.path().join("x".repeat(100))).unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::Unsupported);
        assert!(error.context.contains("bytes at most"), "{error}");
        let layout = Layout::new(&parent.path().join("data")).unwrap();
        let mode = fs::metadata(&layout.run).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
