//! A directory with images and a driver on a real QEMU: what the tests of this crate share.
//!
//! A machine here has no guest system: it sits in its firmware, and tests write to its disks through the second
//! monitor, as a guest would, on the node that the device uses. Everything a rig started is killed when it is dropped.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it, through one `use rig::*`"
)]

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use stillpoint_engine::ports::*;
use stillpoint_qemu::{Accel, Config, Qemu, qmp::Qmp};
use stillpoint_types::{DiskId, DiskInterface, ImageFormat, ImageId, JobId, VmId};

pub const MIB: u64 = 1 << 20;
pub const SIZE: u64 = 64 * MIB;

pub struct Rig {
    pub qemu: Qemu,
    dir: tempfile::TempDir,
    started: Mutex<Vec<ProcessRecord>>,
    owners: Mutex<Vec<JobId>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for record in self.started.lock().unwrap().iter() {
            signal(record.pid, "CONT");
            signal(record.pid, "KILL");
        }
        for owner in self.owners.lock().unwrap().iter() {
            let file = self.dir.path().join(format!("run/rest/{owner}/pid"));
            if let Ok(pid) = std::fs::read_to_string(file) {
                signal(pid.trim().parse().unwrap(), "KILL");
            }
        }
    }
}

pub fn signal(pid: u32, name: &str) -> bool {
    let done = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .output();
    done.unwrap().status.success()
}

/// Runs a program and gives its output; fails the test if it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

pub async fn driver(data_dir: &Path, command_limit: Duration) -> Qemu {
    let mut config = Config::new(data_dir.to_owned(), Accel::Tcg);
    config.command_limit = command_limit;
    Qemu::new(config).await.unwrap().0
}

impl Rig {
    pub async fn new() -> Self {
        Self::with_limit(Duration::from_secs(20)).await
    }

    pub async fn with_limit(command_limit: Duration) -> Self {
        let dir = tempfile::Builder::new().prefix("sp").tempdir_in("/tmp").unwrap();
        Self {
            qemu: driver(dir.path(), command_limit).await,
            dir,
            started: Mutex::default(),
            owners: Mutex::default(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon dies and starts again: nothing is left in memory.
    pub async fn restart_daemon(&mut self) {
        self.qemu = driver(self.dir.path(), Duration::from_secs(20)).await;
    }

    pub fn owner(&self) -> JobId {
        let owner = JobId::fresh();
        self.owners.lock().unwrap().push(owner);
        owner
    }

    fn image(&self, format: ImageFormat) -> ImageRef {
        let id = ImageId::fresh();
        let end = if format == ImageFormat::Cow { "qcow2" } else { "raw" };
        let path = self.dir.path().join(format!("{id}.{end}"));
        ImageRef { id, format, path }
    }

    pub fn base(&self) -> ImageRef {
        self.base_of_size(SIZE)
    }

    pub fn base_of_size(&self, size: u64) -> ImageRef {
        let image = self.image(ImageFormat::Cow);
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", text(&image.path), &size.to_string()],
        );
        image
    }

    pub fn raw_base(&self) -> ImageRef {
        let image = self.image(ImageFormat::Raw);
        run(
            "qemu-img",
            &["create", "-q", "-f", "raw", text(&image.path), &SIZE.to_string()],
        );
        image
    }

    pub fn overlay(&self, base: &ImageRef) -> ImageRef {
        self.overlay_of_size(base, SIZE)
    }

    pub fn overlay_of_size(&self, base: &ImageRef, size: u64) -> ImageRef {
        let image = self.image(ImageFormat::Cow);
        let format = if base.format == ImageFormat::Cow {
            "qcow2"
        } else {
            "raw"
        };
        let name = base.path.file_name().unwrap().to_str().unwrap();
        let size = size.to_string();
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                name,
                "-F",
                format,
                text(&image.path),
                &size,
            ],
        );
        image
    }

    pub fn spec(&self, chains: &[Chain]) -> MachineSpec {
        let disks = (4..).zip(chains).map(|(slot, chain)| DiskSpec {
            chain: chain.clone(),
            interface: DiskInterface::Virtio,
            bootable: false,
            read_only: false,
            slot,
        });
        MachineSpec {
            vm: VmId::fresh(),
            name: "rig, with a comma".to_owned(),
            machine: self.qemu.default_machine(),
            memory_bytes: 64 * MIB,
            topology: (1, 1, 1),
            boot: Boot::Disk,
            disks: disks.collect(),
            nics: Vec::new(),
            resume: None,
        }
    }

    pub async fn start(&self, spec: &MachineSpec) -> (ProcessRecord, Arc<dyn Machine>) {
        let record = self.qemu.start(spec).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        self.started.lock().unwrap().push(record.clone());
        (record, self.qemu.machine(spec.vm).unwrap())
    }

    /// Takes a process that was started elsewhere into the cleaning up.
    pub fn note(&self, record: ProcessRecord) {
        self.started.lock().unwrap().push(record);
    }

    pub async fn monitor(&self, vm: VmId) -> Qmp {
        let path = self.dir.path().join(format!("run/vm/{vm}/qmp2"));
        Qmp::connect(&path, Duration::from_secs(20)).await.unwrap()
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn node(image: &ImageRef) -> String {
    format!("n{}", image.id.base32())
}

pub fn chain(images: &[&ImageRef]) -> Chain {
    Chain {
        disk: DiskId::fresh(),
        images: images.iter().map(|&image| image.clone()).collect(),
    }
}

/// Writes as the guest's device would: on the topmost node of the disk, whatever stands there now.
pub async fn guest_write(monitor: &Qmp, disk: DiskId, pattern: u8, offset: u64, length: u64) {
    let device = format!("/machine/peripheral/d{}/virtio-backend", disk.base32());
    // Flushed, so that a second reader of the file sees it: QEMU keeps tables of a qcow2 image in memory.
    for what in [format!("write -P {pattern} {offset} {length}"), "flush".to_owned()] {
        let command = format!("qemu-io -d {device} \"{what}\"");
        let said: String = monitor
            .call("human-monitor-command", json!({"command-line": command}))
            .await
            .unwrap();
        assert!(!said.contains("rror") && !said.contains("ailed"), "{command}: {said}");
    }
}

/// The image and all below it show that pattern there.
pub fn assert_content(image: &ImageRef, pattern: u8, offset: u64, length: u64) {
    let format = if image.format == ImageFormat::Cow {
        "qcow2"
    } else {
        "raw"
    };
    let read = format!("read -P {pattern} {offset} {length}");
    let said = run("qemu-io", &["-U", "-r", "-f", format, "-c", &read, text(&image.path)]);
    assert!(!said.contains("verification failed"), "{pattern} at {offset}: {said}");
}

pub fn info(image: &Path) -> Value {
    serde_json::from_str(&run("qemu-img", &["info", "-U", "--output=json", text(image)])).unwrap()
}

/// Dirty bytes of a node's bitmap.
pub async fn dirty(monitor: &Qmp, image: &ImageRef, name: &str) -> Option<u64> {
    let nodes: Value = monitor
        .call("query-named-block-nodes", json!({"flat": true}))
        .await
        .unwrap();
    let nodes = nodes.as_array().unwrap();
    let node = nodes.iter().find(|n| n["node-name"] == node(image).as_str())?;
    let bitmaps = node["dirty-bitmaps"].as_array()?;
    bitmaps.iter().find(|b| b["name"] == name)?["count"].as_u64()
}

pub async fn add_bitmap(monitor: &Qmp, image: &ImageRef, name: &str) {
    let bitmap = json!({"node": node(image), "name": name, "persistent": true});
    monitor.run("block-dirty-bitmap-add", bitmap).await.unwrap();
}

pub fn switch(disks: &[(DiskId, &ImageRef, &ImageRef)]) -> Switch {
    let disks = disks.iter().map(|(disk, base, overlay)| SwitchDisk {
        disk: *disk,
        base: (*base).clone(),
        overlay: (*overlay).clone(),
        size_bytes: SIZE,
    });
    Switch {
        disks: disks.collect(),
        freeze: true,
        freeze_limit: Duration::from_secs(5),
    }
}

pub fn merge_of(chain: &Chain, base: &ImageRef, top: &ImageRef) -> Merge {
    Merge {
        disk: chain.disk,
        chain: chain.images.clone(),
        base: base.clone(),
        top: top.clone(),
    }
}

pub fn mark(image: &ImageRef) -> PathBuf {
    PathBuf::from(format!("{}.merged", text(&image.path)))
}
