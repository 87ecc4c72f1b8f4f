//! The guides' commands work as they are written: each block that begins with ```` ```sh ````, on a real daemon, and where the guide
//! speaks of a guest, on a real one.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use std::{fs, path::Path, process::Command, time::Duration};
use stillpoint_system_tests::tour::Tour;
use stillpoint_testkit::{Api, Daemon, Guest, Turn, VmSpec, binary, eventually};

const LONG: Duration = Duration::from_secs(180);

/// `docs/guide/first-hour.md`, by the script that measures it.
#[test]
fn the_first_hour_ends_with_data_that_was_damaged_and_is_back() {
    let turn = Turn::take();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut script = Command::new(root.join("scripts/ten-minutes"));
    let done = script
        .arg("--here")
        .env("STILLPOINT_BIN", binary().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    // The file system was not readable, and then was; the guest itself went on where it had been.
    for part in [
        "FAILED disk 0",
        "VM db1 is at the snapshot",
        "RECORDS go on after",
        "VM db1-copy",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let report = String::from_utf8_lossy(&done.stdout);
    assert!(
        report.contains("| Restore | ") && report.contains("| **all** | "),
        "{report}"
    );
    drop(turn);
}

#[test]
fn the_guides_for_people_from_elsewhere_work() {
    let daemon = Daemon::start().unwrap();
    let tour = Tour::of("from-ovirt.md").unwrap().at(&daemon).unwrap();
    fs::write(tour.folder().join("web1.raw"), vec![7; 1 << 20]).unwrap();
    let told = tour.run().unwrap();
    assert!(told.contains("web1_disk1") && told.contains("moved in"), "{told}");
    let openstack = Tour::of("from-openstack.md").unwrap().at(&daemon).unwrap();
    let told = openstack.with("PROJECT", "demo").run().unwrap();
    assert!(told.contains("data1") && told.contains("monday"), "{told}");
    daemon.scan_log(&[]).unwrap();
}

#[test]
fn the_guide_of_security_works_over_tls() {
    let daemon = Daemon::builder().args(["--tls", "auto"]).start().unwrap();
    let told = Tour::of("security.md").unwrap().at(&daemon).unwrap().run().unwrap();
    assert!(told.contains("sha256 Fingerprint=") && told.contains("NAME"), "{told}");
    daemon.scan_log(&[]).unwrap();
}

/// A VM with a guest that writes: its id, and its disk's.
fn writing_vm(daemon: &Daemon, api: &Api) -> (String, String) {
    let guest = Guest::build().unwrap();
    guest.install(daemon.data_dir()).unwrap();
    let vm = api
        .create_vm(&VmSpec::new("db1").cmdline(&guest.cmdline("").unwrap()))
        .unwrap();
    let disk = api.create_disk("db1_1", 64 << 20).unwrap();
    api.attach(&vm, &disk, "virtio", true).unwrap();
    api.start(&vm).unwrap();
    daemon.console(&vm).wait_record(50, LONG).unwrap();
    (vm, disk)
}

/// After a VM that runs was backed up twice, and read in part once.
fn numbers_tell_what_happened(api: &Api) {
    let told = api.get("/metrics").unwrap().expect(&[200]).unwrap().text();
    let value = |series: &str| {
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        assert!(line.is_some(), "no {series} in {told}");
        line.unwrap().parse::<f64>().unwrap()
    };
    for (series, least) in [
        ("stillpoint_vms_by_status{status=\"up\"}", 1.0),
        ("stillpoint_switch_stall_seconds_count", 2.0),
        ("stillpoint_jobs_ended_total{kind=\"backup\",outcome=\"done\"}", 2.0),
        ("stillpoint_job_seconds_count{kind=\"vm_start\"}", 1.0),
        ("stillpoint_transfer_bytes_total{direction=\"read\"}", 1_048_576.0),
        ("stillpoint_events_total{severity=\"normal\"}", 5.0),
        ("stillpoint_http_requests_total{family=\"ovirt\",status=\"200\"}", 5.0),
        ("stillpoint_http_request_seconds_count{family=\"data\"}", 3.0),
        ("stillpoint_storage_free_bytes", 1.0),
        ("stillpoint_store_commit_seconds_total", 0.000_1),
    ] {
        assert!(value(series) >= least, "{series}: {}", value(series));
    }
}

#[test]
fn the_guides_of_operation_and_for_backup_tools_work_on_a_guest_that_writes() {
    let mut daemon = Daemon::start().unwrap();
    let api = daemon.api("admin").unwrap();
    let (vm, disk) = writing_vm(&daemon, &api);
    let authors = Tour::of("backup-authors.md").unwrap().at(&daemon).unwrap();
    let told = authors.with("VM", &vm).with("DISK", &disk).run().unwrap();
    assert!(told.contains("bytes have changed"), "{told}");
    let path = format!("vms/{vm}/backups");
    eventually(LONG, "the end of the last backup", || {
        let list = api.get(&path)?.expect(&[200])?.xml()?;
        let ended = |one: &stillpoint_testkit::Xml| one.text_at("phase") == Some("succeeded");
        Ok(list.children.iter().all(ended).then_some(()))
    })
    .unwrap();

    numbers_tell_what_happened(&api);
    let operation = Tour::of("operation.md").unwrap().at(&daemon).unwrap();
    // Looking at it, a copy of the catalogue; then the disaster, with the daemon stopped; then what goes on.
    operation.run_blocks(0..2).unwrap();
    let machines = daemon.machines();
    daemon.stop().unwrap();
    fs::write(daemon.data_dir().join("stillpoint.db"), "rubbish").unwrap();
    operation.run_blocks(2..3).unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.machines(), machines, "the guest ran on");
    let console = daemon.console(&vm);
    console.wait_record(console.last_record() + 20, LONG).unwrap();
    let again = Tour::of("operation.md").unwrap().at(&daemon).unwrap();
    let told = again.run_blocks(3..again.count()).unwrap();
    assert!(told.contains("VM db1"), "{told}");
    console.fail_on_trouble().unwrap();
    daemon.scan_log(&[]).unwrap();
}
