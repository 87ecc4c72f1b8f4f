//! A VM is backed up, in full and by what changed, by the unmodified oVirt SDK and the unmodified imageio client: across a
//! snapshot, its live removal, a stop, a restore, a disk that grows and one that is added.
//!
//! The steps are in `tests/clients/backup.py`, which compares each file with the whole disk of its moment. Here the guest's
//! own records tell that each moment is one, over all disks, and holds what the guest knew to be durable.

use std::{path::PathBuf, time::Duration};
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
    command.env("STILLPOINT_CONSOLES", daemon.data_dir().join("run/vm"));
    command.arg(folder.path()).arg(&vm).arg(daemon.images_dir());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    console.fail_on_trouble().unwrap();
    let points: Vec<Vec<PathBuf>> = serde_json::from_slice(&done.stdout).unwrap();
    // The guest writes records to the first two disks only.
    let moments: Vec<u64> = points
        .iter()
        .map(|files| Checker::new().check(&files[..2]).unwrap().complete())
        .collect();
    let &[full, frozen, live, merged, newest, stopped, restored, larger, added] = moments.as_slice() else {
        panic!("{moments:?}");
    };
    assert!(
        (200..=frozen).contains(&full) && frozen <= live && live <= merged,
        "{moments:?}"
    );
    assert!(
        merged <= restored && restored < newest && newest <= stopped,
        "{moments:?}"
    );
    assert!(restored < larger && larger < added, "{moments:?}");
    assert_eq!(points.last().map(Vec::len), Some(3));
    daemon.scan_log(&[]).unwrap();
}
