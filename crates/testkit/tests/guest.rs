//! The demo guest and the judge agree on real disks: QEMU is run here directly, without the product.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use stillpoint_testkit::records::Checker;
use stillpoint_testkit::{Console, Guest};

const BOOT_MAX: Duration = Duration::from_secs(120);

/// Kills the guest when a test fails, too.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn boot(guest: &Guest, directory: &Path, disks: &[PathBuf], interface: &str) -> Qemu {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-m",
        "256",
        "-machine",
        "q35,accel=tcg",
    ]);
    command.arg("-kernel").arg(guest.directory().join("vmlinuz"));
    command.arg("-initrd").arg(guest.directory().join("initramfs.img"));
    command.arg("-append").arg(
        guest
            .cmdline(&format!("sp.disks={} sp.pause=1000 sp.every=10", disks.len()))
            .unwrap(),
    );
    command
        .arg("-serial")
        .arg(format!("file:{}", directory.join("console.log").display()));
    command.args(["-device", "virtio-scsi-pci,id=scsi"]);
    for (index, disk) in disks.iter().enumerate() {
        command
            .arg("-drive")
            .arg(format!("if=none,format=qcow2,id=d{index},file={}", disk.display()));
        command.arg("-device").arg(match interface {
            "virtio" => format!("virtio-blk-pci,drive=d{index}"),
            _ => format!("scsi-hd,bus=scsi.0,lun={index},drive=d{index}"),
        });
    }
    Qemu(command.spawn().unwrap())
}

/// The meter must see that the whole guest stood still, which the guest's own clock need not show.
fn freeze_for_a_while(qemu: &Qemu, console: &Console) {
    let tell = |signal: &str| {
        let done = Command::new("kill")
            .args([signal, &qemu.0.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    };
    let still = Duration::from_millis(700);
    let meter = console.pause_meter();
    let seen = console.wait_record(console.last_record() + 10, BOOT_MAX).unwrap();
    let began = Instant::now();
    tell("-STOP");
    std::thread::sleep(still); // the pause to be measured
    tell("-CONT");
    let ended = Instant::now();
    console.wait_record(seen + 20, BOOT_MAX).unwrap();
    let measured = meter.longest_between(began, ended).unwrap();
    assert!(
        measured >= still.checked_sub(Duration::from_millis(5)).unwrap(),
        "{measured:?}"
    );
    assert!(measured < still + Duration::from_secs(5), "{measured:?}");
}

#[test]
fn the_guest_goes_on_after_a_kill_on_either_bus_and_no_durable_record_is_lost() {
    let guest = Guest::build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let disks: Vec<PathBuf> = (0..3)
        .map(|index| directory.path().join(format!("{index}.qcow2")))
        .collect();
    for disk in &disks {
        let done = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(disk)
            .arg("256M")
            .status()
            .unwrap();
        assert!(done.success());
    }
    let console = Console::new(directory.path().join("console.log"));
    let mut durable = 0;
    for interface in ["virtio", "virtio_scsi"] {
        fs::write(directory.path().join("console.log"), "").unwrap();
        let qemu = boot(&guest, directory.path(), &disks, interface);
        console.wait_record(durable + 100, BOOT_MAX).unwrap();
        freeze_for_a_while(&qemu, &console);
        drop(qemu);
        assert!(console.contains(&format!("RECORDS go on after {durable}")) || durable > 0);
        durable = console.last_record();
        let moment = Checker::new().at_least(durable).check(&disks).unwrap();
        assert!(
            moment.complete() < durable + 100,
            "{moment:?}: far more than the guest had reported"
        );
        durable = moment.complete();
    }
    let memory = console.memory().unwrap();
    assert!(
        memory.count < memory.last,
        "the second boot counts from its own first record: {memory:?}"
    );
}
