//! The directory of a VM's points.
//!
//! ```text
//! DIR/lock                             held while a run works
//! DIR/open-backup                      what a run has open on the server; a run that was killed leaves it to the next
//! DIR/.partial-000003-...              a point that is being made; swept away by the next run
//! DIR/000002-20261125T161500Z/         a point: manifest.json, disk1.qcow2, ..., vm.ovf, SHA256SUMS
//! ```
//!
//! *Crash consistency.* All files of a point, then its directory, are made durable before the directory gets its name,
//! and the name is made durable before a run says that it succeeded. So what has a point's name is whole, whenever the
//! run or the machine died; what has not is swept.

use super::{
    Trouble,
    point::{MANIFEST, Manifest, is_plain},
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

const PARTIAL: &str = ".partial-";
const OPEN_BACKUP: &str = "open-backup";
/// A note is not longer: two ids.
const NOTE_MAX_BYTES: u64 = 256;
/// A manifest is not longer.
const MANIFEST_MAX_BYTES: u64 = 16 << 20;

/// A directory of points.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// While it is open, no other run works here.
    _lock: Option<File>,
}

fn trouble(path: &Path, doing: &str) -> impl FnOnce(io::Error) -> Trouble {
    let what = format!("{doing} {} failed", path.display());
    move |error| Trouble::of(what, error)
}

impl Folder {
    /// Opens a directory for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, Trouble> {
        if !path.is_dir() {
            return Err(Trouble::new(format!("{} is no directory", path.display()))
                .hint("name the directory that was given to `stillpoint backup run --to`"));
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: None,
        })
    }

    /// Opens a directory for a run, makes it if need be, and sweeps away what an earlier run left unfinished.
    pub(crate) fn open_to_write(path: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(path).map_err(trouble(path, "making the directory"))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(&lock_path).map_err(trouble(&lock_path, "opening"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let text = format!("another run works in {}", path.display());
            Trouble::of(text, io::Error::from(error)).hint("wait until it has ended")
        })?;
        let folder = Self {
            path: path.to_owned(),
            _lock: Some(lock),
        };
        for name in folder.names()? {
            if name.starts_with(PARTIAL) {
                let left = folder.path.join(&name);
                fs::remove_dir_all(&left).map_err(trouble(&left, "sweeping away the unfinished point"))?;
            }
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes the backup that is about to be started; durable once it returns.
    pub(crate) fn note(&self, vm: &str, backup: &str) -> Result<(), Trouble> {
        let (path, fresh) = (self.path.join(OPEN_BACKUP), self.path.join(format!(".{OPEN_BACKUP}")));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(format!("{vm} {backup}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(trouble(&path, "noting the backup in"))
    }

    /// VM and backup that were noted and not crossed out. A note that cannot be read is none: the server ends what it was
    /// about by itself.
    pub(crate) fn noted(&self) -> Option<(String, String)> {
        let file = File::open(self.path.join(OPEN_BACKUP)).ok()?;
        let mut text = String::new();
        file.take(NOTE_MAX_BYTES).read_to_string(&mut text).ok()?;
        let (vm, backup) = text.trim().split_once(' ')?;
        let is_id = |word: &str| uuid::Uuid::try_parse(word).is_ok();
        (is_id(vm) && is_id(backup)).then(|| (vm.to_owned(), backup.to_owned()))
    }

    /// The noted backup has ended.
    pub(crate) fn cross_out(&self) -> Result<(), Trouble> {
        let path = self.path.join(OPEN_BACKUP);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(trouble(&path, "removing")(error)),
            _ => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>, Trouble> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(trouble(&self.path, "reading"))? {
            let entry = entry.map_err(trouble(&self.path, "reading"))?;
            // A name that is no text is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// All points, the oldest first.
    pub(crate) fn points(&self) -> Result<Vec<Manifest>, Trouble> {
        let mut points = Vec::new();
        for name in self.names()? {
            if is_plain(&name) && self.path.join(&name).join(MANIFEST).exists() {
                points.push(self.point(&name)?);
            }
        }
        points.sort_by_key(|point| point.number);
        Ok(points)
    }

    fn point(&self, name: &str) -> Result<Manifest, Trouble> {
        let path = self.path.join(name).join(MANIFEST);
        let size = fs::metadata(&path).map_err(trouble(&path, "looking at"))?.len();
        if size > MANIFEST_MAX_BYTES {
            return Err(Trouble::new(format!("{} is too long for a manifest", path.display())));
        }
        let text = fs::read(&path).map_err(trouble(&path, "reading"))?;
        Manifest::parse(name, &text)
    }

    /// The point that a user means: a number, a name, or the newest.
    pub(crate) fn choose(&self, at: Option<&str>) -> Result<Manifest, Trouble> {
        let mut points = self.points()?;
        let Some(at) = at else {
            return points.pop().ok_or_else(|| {
                Trouble::new(format!("there is no point in {}", self.path.display()))
                    .hint("make one: stillpoint backup run VM --to DIR")
            });
        };
        let number: Option<u64> = at.parse().ok();
        let found = points
            .iter()
            .position(|point| point.point == at || number.is_some_and(|number| point.number == number));
        match found {
            Some(index) => Ok(points.swap_remove(index)),
            None => {
                let known: Vec<_> = points.iter().map(|point| point.number.to_string()).collect();
                let text = format!("there is no point {at:?} in {}", self.path.display());
                Err(Trouble::new(text).hint(format!("there are: {}", known.join(", "))))
            }
        }
    }

    /// The place of a file of a point.
    pub(crate) fn file(&self, point: &str, file: &str) -> PathBuf {
        self.path.join(point).join(file)
    }

    /// Begins a point.
    pub(crate) fn begin(&self, point: &str) -> Result<Partial, Trouble> {
        let path = self.path.join(format!("{PARTIAL}{point}"));
        fs::create_dir(&path).map_err(trouble(&path, "making"))?;
        Ok(Partial {
            folder: self.path.clone(),
            path,
            point: point.to_owned(),
            is_published: false,
        })
    }
}

/// A point that is being made. Dropped before it is published, it is removed.
#[derive(Debug)]
pub(crate) struct Partial {
    folder: PathBuf,
    path: PathBuf,
    point: String,
    is_published: bool,
}

impl Partial {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a small file; it is durable once it returns.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let path = self.file(name);
        let mut file = File::create_new(&path).map_err(trouble(&path, "making"))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(trouble(&path, "writing"))
    }

    /// Gives the point its name; it is there for good once it returns.
    pub(crate) fn publish(mut self) -> Result<(), Trouble> {
        let sync = |path: &Path| {
            File::open(path)
                .and_then(|directory| directory.sync_all())
                .map_err(trouble(path, "making durable"))
        };
        sync(&self.path)?;
        let named = self.folder.join(&self.point);
        fs::rename(&self.path, &named).map_err(trouble(&named, "naming the point"))?;
        self.is_published = true;
        sync(&self.folder)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        // The next run tries again.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished point could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(number: u64, point: &str) -> String {
        serde_json::json!({
            "format": 1, "number": number, "point": point, "time": "2026-01-02T03:04:05Z", "description": "",
            "vm": { "id": "1", "name": "db1" }, "source": "backup", "disks": [], "has_ovf": false
        })
        .to_string()
    }

    #[test]
    fn a_point_is_there_after_it_was_published_and_never_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open_to_write(&dir.path().join("new")).unwrap();
        let partial = folder.begin("000001-a").unwrap();
        partial.write(MANIFEST, manifest(1, "000001-a").as_bytes()).unwrap();
        assert_eq!(folder.points().unwrap(), []);
        partial.publish().unwrap();
        assert_eq!(folder.choose(None).unwrap().number, 1);
        let given_up = folder.begin("000002-b").unwrap();
        given_up.write(MANIFEST, manifest(2, "000002-b").as_bytes()).unwrap();
        drop(given_up);
        assert_eq!(folder.names().unwrap().len(), 2, "the lock and one point");
    }

    #[test]
    fn what_a_killed_run_left_is_swept_by_the_next_and_two_runs_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".partial-000001-a")).unwrap();
        fs::write(dir.path().join(".partial-000001-a/manifest.json"), "{").unwrap();
        let folder = Folder::open_to_write(dir.path()).unwrap();
        assert_eq!(folder.names().unwrap(), ["lock"]);
        assert!(Folder::open_to_write(dir.path()).is_err());
        drop(folder);
        Folder::open_to_write(dir.path()).unwrap();
    }

    #[test]
    fn what_a_run_has_open_is_told_to_the_next_one_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open_to_write(dir.path()).unwrap();
        assert_eq!(folder.noted(), None);
        let (vm, backup) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        folder.note(&vm, "replaced").unwrap();
        folder.note(&vm, &backup).unwrap();
        assert_eq!(folder.noted(), Some((vm, backup)));
        for text in ["", "x", "../a ../b", &"9".repeat(10_000)] {
            fs::write(dir.path().join(OPEN_BACKUP), text).unwrap();
            assert_eq!(folder.noted(), None, "{text}");
        }
        folder.cross_out().unwrap();
        folder.cross_out().unwrap();
        assert_eq!(folder.names().unwrap(), ["lock"]);
    }

    #[test]
    fn a_manifest_that_leads_elsewhere_or_is_of_another_format_is_refused() {
        let good = manifest(1, "p");
        Manifest::parse("p", good.as_bytes()).unwrap();
        assert!(Manifest::parse("q", good.as_bytes()).is_err());
        let newer = good.replace("\"format\":1", "\"format\":2");
        let told = Manifest::parse("p", newer.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("format 2"), "{told}");
        let disk = |file: &str, mode: &str, backing: serde_json::Value| {
            let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
            value["disks"] = serde_json::json!([{
                "id": "d", "alias": "a", "bootable": true, "mode": mode, "size_bytes": 512, "file": file,
                "file_bytes": 1, "backing": backing, "sha256": "", "content_sha256": "", "data_bytes": 0,
                "zero_bytes": 0, "milliseconds": 0
            }]);
            Manifest::parse("p", value.to_string().as_bytes())
        };
        let none = serde_json::Value::Null;
        disk("disk1.qcow2", "full", none.clone()).unwrap();
        for file in ["../x", "/etc/passwd", "", ".", "..", "a/b", ".hidden", "a\\b"] {
            assert!(disk(file, "full", none.clone()).is_err(), "{file}");
            let backing = serde_json::json!({ "point": file, "file": "disk1.qcow2" });
            assert!(disk("disk1.qcow2", "incremental", backing).is_err(), "{file}");
        }
        assert!(disk("disk1.qcow2", "incremental", none).is_err());
    }
}
