//! A running VM is backed up, in full and by what changed, by the unmodified oVirt SDK and the unmodified imageio client.
//!
//! The steps are in `tests/clients/backup.py`, which compares each file with the whole disk of its moment. Here the guest's
//! own records tell that each moment is one, over all disks, and holds what the guest knew to be durable.

use std::time::Duration;
use stillpoint_system_tests::sdk;
use stillpoint_testkit::{Daemon, Guest, VmSpec, records::Checker};

const LONG: Duration = Duration::from_secs(180);

#[test]
fn a_writing_guest_is_backed_up_in_full_and_by_changes_by_the_unmodified_clients() {
    let daemon = Daemon::builder().start().unwrap();
    let api = daemon.api("admin").unwrap();
    let guest = Guest::build().unwrap();
    guest.install(daemon.data_dir()).unwrap();
    let spec = VmSpec::new("db1").cmdline(&guest.cmdline("sp.pause=500").unwrap());
    let vm = api.create_vm(&spec).unwrap();
    for number in 0..2 {
        let disk = api.create_disk(&format!("db1_{number}"), 32 << 20).unwrap();
        api.attach(&vm, &disk, "virtio", number == 0).unwrap();
    }
    api.start(&vm).unwrap();
    let console = daemon.console(&vm);
    console.wait_record(200, LONG).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = sdk::script(&daemon, "backup.py").unwrap();
    let done = command.arg(folder.path()).arg(&vm).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    console.fail_on_trouble().unwrap();
    let points: Vec<Vec<std::path::PathBuf>> = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(points.len(), 4);
    let mut last = 199;
    for files in points {
        let moment = Checker::new().at_least(last + 1).check(&files).unwrap();
        last = moment.complete();
    }
    assert!(last <= console.last_record() + 1);
    daemon.scan_log(&[]).unwrap();
}
