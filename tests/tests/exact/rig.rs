//! A daemon with demo guests, and looks at what lies on its disks, for the tests of this folder.
//!
//! Image files are looked at by `qemu-img` with `-U` (no lock): only frozen layers of a running guest may be, and no
//! image is ever written to here.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use stillpoint_testkit::records::{Checker, Moment};
use stillpoint_testkit::{Api, Builder, Console, Daemon, Guest, MemoryLine, VmSpec, eventually};

/// A guest boots, or goes on writing, within this time even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(180);
/// Small, as whole disks are read and hashed; the records need 8 MiB.
pub(crate) const DISK_BYTES: u64 = 32 << 20;

/// A daemon, a client of it, and the guest's files in place.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) api: Api,
    pub(crate) daemon: Daemon,
    guest: Guest,
}

/// A VM of the demo guest, its disks in the guest's order.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) id: String,
    pub(crate) disks: Vec<String>,
    pub(crate) console: Console,
}

/// One snapshot of a running guest, between two records.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: String,
    /// Reported as durable before the snapshot was asked for.
    pub(crate) before: u64,
    /// Reported after it was ok.
    pub(crate) after: u64,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(Daemon::builder())
    }

    pub(crate) fn start_with(builder: Builder) -> Self {
        let daemon = builder.start().unwrap();
        let guest = Guest::build().unwrap();
        guest.install(daemon.data_dir()).unwrap();
        let api = daemon.api("admin").unwrap();
        Self { api, daemon, guest }
    }

    /// Makes a VM that is down, with that many blank disks.
    pub(crate) fn make_vm(&self, name: &str, disks: usize, options: &str) -> Vm {
        let cmdline = self.guest.cmdline(&format!("sp.disks={disks} {options}")).unwrap();
        let id = self.api.create_vm(&VmSpec::new(name).cmdline(&cmdline)).unwrap();
        let attach = |number| {
            let disk = self.api.create_disk(&format!("{name}_{number}"), DISK_BYTES).unwrap();
            self.api.attach(&id, &disk, "virtio", number == 0).unwrap();
            disk
        };
        Vm {
            disks: (0..disks).map(attach).collect(),
            console: self.daemon.console(&id),
            id,
        }
    }

    /// Starts a VM and waits until its guest has written `records` more.
    pub(crate) fn boot(&self, vm: &Vm, records: u64) {
        let last = vm.console.last_record();
        self.api.start(&vm.id).unwrap();
        vm.console.wait_record(last + records, LONG).unwrap();
    }

    /// A snapshot of all disks while the guest writes, which must go on afterwards.
    pub(crate) fn take(&self, vm: &Vm, description: &str, memory: bool) -> Taken {
        let before = vm.console.last_record();
        let id = self.api.snapshot(&vm.id, description, memory, None).unwrap();
        Taken {
            id,
            before,
            after: self.writes_on(vm),
        }
    }

    /// Waits until the guest has written some more, and returns the newest record.
    #[expect(clippy::unused_self, reason = "reads as what the rig sees")]
    pub(crate) fn writes_on(&self, vm: &Vm) -> u64 {
        let last = vm.console.last_record();
        vm.console.wait_record(last + 40, LONG).unwrap()
    }

    /// The file of an image: the only one whose name holds the id.
    pub(crate) fn file_of(&self, image: &str) -> PathBuf {
        let found = self.files_of(image);
        assert_eq!(found.len(), 1, "image {image}: {found:?}");
        found[0].clone()
    }

    fn files_of(&self, image: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.daemon.data_dir().join("images")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().contains(image) {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Waits until nothing is left of an image's file; that work goes on after a delete is told as done.
    pub(crate) fn wait_no_file(&self, image: &str) {
        eventually(LONG, &format!("the file of image {image} to be gone"), || {
            Ok(self.files_of(image).is_empty().then_some(()))
        })
        .unwrap();
    }

    /// Ids of the active images, in the guest's disk order.
    pub(crate) fn active_images(&self, vm: &Vm) -> Vec<String> {
        let image = |disk: &String| {
            let xml = self.api.get(&format!("disks/{disk}")).unwrap().xml().unwrap();
            xml.text_at("image_id").unwrap().to_owned()
        };
        vm.disks.iter().map(image).collect()
    }

    /// Files of the active images, in the guest's disk order.
    pub(crate) fn active_files(&self, vm: &Vm) -> Vec<PathBuf> {
        self.active_images(vm).iter().map(|image| self.file_of(image)).collect()
    }

    /// Ids of the images that a snapshot holds, in the guest's disk order.
    pub(crate) fn held_images(&self, vm: &Vm, snapshot: &str) -> Vec<String> {
        let path = format!("vms/{}/snapshots/{snapshot}/disks", vm.id);
        let list = self.api.get(&path).unwrap().expect(&[200]).unwrap().xml().unwrap();
        let held = |disk: &String| {
            let found = list.children.iter().find(|item| item.id().unwrap() == disk)?;
            Some(found.text_at("image_id").unwrap().to_owned())
        };
        let images: Vec<String> = vm.disks.iter().filter_map(held).collect();
        assert_eq!(images.len(), list.children.len(), "disks of others in {list:?}");
        images
    }

    /// Files of the images that a snapshot holds, in the guest's disk order.
    pub(crate) fn held_files(&self, vm: &Vm, snapshot: &str) -> Vec<PathBuf> {
        let images = self.held_images(vm, snapshot);
        images.iter().map(|image| self.file_of(image)).collect()
    }

    /// The moment that a snapshot is; it must be one, and between the records that the console knows.
    pub(crate) fn moment(&self, vm: &Vm, taken: &Taken) -> Moment {
        let files = self.held_files(vm, &taken.id);
        assert_eq!(files.len(), vm.disks.len(), "not all disks are in it");
        let moment = Checker::new().at_least(taken.before).check(&files).unwrap();
        assert!(moment.complete() <= taken.after, "{moment:?} is after {taken:?}");
        moment
    }

    /// (id, type) of a VM's snapshots, oldest first, the active one last.
    pub(crate) fn snapshots(&self, vm: &Vm) -> Vec<(String, String)> {
        let path = format!("vms/{}/snapshots", vm.id);
        let list = self.api.get(&path).unwrap().expect(&[200]).unwrap().xml().unwrap();
        let mut found: Vec<(String, String)> = list
            .children
            .iter()
            .map(|item| {
                (
                    item.id().unwrap().to_owned(),
                    item.text_at("snapshot_type").unwrap().to_owned(),
                )
            })
            .collect();
        found.sort_by_key(|(_, kind)| kind == "active");
        found
    }

    /// Id of the active snapshot, of which there must be exactly one.
    pub(crate) fn active_snapshot(&self, vm: &Vm) -> String {
        let all = self.snapshots(vm);
        let active: Vec<_> = all.iter().filter(|(_, kind)| kind == "active").collect();
        assert_eq!(active.len(), 1, "{all:?}");
        active[0].0.clone()
    }

    /// Ids of the regular snapshots, oldest first.
    pub(crate) fn regular_snapshots(&self, vm: &Vm) -> Vec<String> {
        let all = self.snapshots(vm).into_iter();
        all.filter(|(_, kind)| kind == "regular").map(|(id, _)| id).collect()
    }

    /// Texts of the events with that code about that VM, oldest first.
    pub(crate) fn events(&self, vm: &Vm, code: u32) -> Vec<String> {
        let events = self.api.events(0).unwrap();
        let about = |event: &&stillpoint_testkit::Xml| {
            event.text_at("code") == Some(&code.to_string())
                && event
                    .find("vm")
                    .is_some_and(|found| found.attribute("id") == Some(&vm.id))
        };
        let text = |event: &stillpoint_testkit::Xml| event.text_at("description").unwrap().to_owned();
        events.iter().filter(about).map(text).collect()
    }

    /// A client of the VM's second monitor, which is there for people with rescue tools.
    pub(crate) fn monitor(&self, vm: &Vm) -> Monitor {
        Monitor::connect(&self.daemon.data_dir().join("run/vm").join(&vm.id).join("qmp2"))
    }

    fn console_file(&self, vm: &Vm) -> PathBuf {
        self.daemon.data_dir().join("run/vm").join(&vm.id).join("console.log")
    }

    /// How long the console is now; see [`Self::wait_console`].
    pub(crate) fn console_mark(&self, vm: &Vm) -> usize {
        usize::try_from(fs::metadata(self.console_file(vm)).unwrap().len()).unwrap()
    }

    /// Waits until what the console said since the mark is enough, and returns it.
    pub(crate) fn wait_console(&self, vm: &Vm, mark: usize, enough: impl Fn(&str) -> bool) -> String {
        eventually(LONG, "enough on the console", || {
            vm.console.fail_on_trouble()?;
            let bytes = fs::read(self.console_file(vm))?;
            let since = bytes.get(mark..).context("the console was truncated")?;
            let said = String::from_utf8_lossy(since).replace('\r', "");
            Ok(enough(&said).then_some(said))
        })
        .unwrap()
    }
}

/// All complete `MEMORY` lines of a console's text.
pub(crate) fn memories(text: &str) -> Vec<MemoryLine> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let read = |line: &str| {
        let fields: Vec<&str> = line.strip_prefix("MEMORY ")?.split(' ').collect();
        let [boot, count, last] = fields[..] else { return None };
        Some(MemoryLine {
            boot: boot.to_owned(),
            count: count.parse().ok()?,
            last: last.parse().ok()?,
        })
    };
    complete.lines().filter_map(read).collect()
}

/// Runs a tool to its good end and returns what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {said}{errors}");
    said
}

/// The layers of a chain, the active one first, as its headers say.
pub(crate) fn layers(file: &Path) -> Vec<Value> {
    let text = tool(
        "qemu-img",
        &["info", "-U", "--backing-chain", "--output=json", file.to_str().unwrap()],
    );
    serde_json::from_str(&text).unwrap()
}

/// A raw copy of a disk's whole content.
pub(crate) fn raw_copy(file: &Path) -> tempfile::NamedTempFile {
    let copy = tempfile::NamedTempFile::new().unwrap();
    let names = [file.to_str().unwrap(), copy.path().to_str().unwrap()];
    tool(
        "qemu-img",
        &["convert", "-U", "-f", "qcow2", "-O", "raw", names[0], names[1]],
    );
    copy
}

/// SHA-256 of a disk's whole content.
pub(crate) fn hash(file: &Path) -> String {
    let copy = raw_copy(file);
    let said = tool("sha256sum", &[copy.path().to_str().unwrap()]);
    said.split(' ').next().unwrap().to_owned()
}

/// No image may be used twice, and none may have lost a cluster.
pub(crate) fn check_image(file: &Path) {
    tool("qemu-img", &["check", "-q", "-f", "qcow2", file.to_str().unwrap()]);
}

/// Whether all names are different.
pub(crate) fn all_different(names: &[String]) -> bool {
    names.iter().collect::<HashSet<_>>().len() == names.len()
}

/// A client of a QEMU monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Monitor {
    fn connect(socket: &Path) -> Self {
        let output = UnixStream::connect(socket).unwrap();
        output.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut monitor = Self {
            input: BufReader::new(output.try_clone().unwrap()),
            output,
        };
        assert!(monitor.line().get("QMP").is_some());
        monitor.run("qmp_capabilities", &json!({}));
        monitor
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.input.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Runs a command; QEMU must not refuse it.
    pub(crate) fn run(&mut self, command: &str, arguments: &Value) -> Value {
        let text = json!({"execute": command, "arguments": arguments}).to_string();
        self.output.write_all(format!("{text}\n").as_bytes()).unwrap();
        loop {
            let mut answer = self.line();
            assert!(answer.get("error").is_none(), "{text}: {answer}");
            if answer.get("return").is_some() {
                return answer["return"].take();
            }
        }
    }
}
