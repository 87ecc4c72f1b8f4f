//! Live snapshots under load: one moment of all disks, with the guest's help and without it.

use std::path::{Path, PathBuf};

use stillpoint_testkit::records::Checker;

use crate::rig::{LONG, Rig, Vm, all_different, check_image, layers, raw_copy, tool};

/// Keeps the guest agent's port from being found: the guest has no agent then.
const NO_AGENT: &str = "module_blacklist=virtio_console";

/// Whether the file system was left as by a power cut, so that its journal must be replayed.
fn needs_recovery(file: &Path) -> bool {
    let copy = raw_copy(file);
    tool("dumpe2fs", &["-h", copy.path().to_str().unwrap()]).contains("needs_recovery")
}

/// The guest ends with every record on every disk.
fn end_without_a_hole(rig: &Rig, vm: &Vm) {
    vm.console.fail_on_trouble().unwrap();
    assert_eq!(vm.console.starts(), 1, "the guest was started anew");
    rig.api.stop(&vm.id).unwrap();
    let files = rig.active_files(vm);
    Checker::new().at_least(vm.console.last_record()).check(&files).unwrap();
    files.iter().for_each(|file| check_image(file));
}

fn five_in_a_row(rig: &Rig, vm: &Vm) -> Vec<Vec<PathBuf>> {
    let mut sets = Vec::new();
    let mut former = 0;
    for round in 1..=5 {
        let active = rig.active_snapshot(vm);
        let taken = rig.take(vm, &format!("round {round}"), false);
        assert_eq!(taken.id, active, "the new snapshot takes over the active one's id");
        assert!(!rig.regular_snapshots(vm).contains(&rig.active_snapshot(vm)));
        let moment = rig.moment(vm, &taken);
        assert!(moment.complete() > former, "{moment:?}: not later than the one before");
        former = moment.complete();
        assert_eq!(rig.regular_snapshots(vm).len(), round);
        sets.push(rig.held_files(vm, &taken.id));
        assert_eq!(layers(&rig.active_files(vm)[0]).len(), round + 1);
    }
    sets
}

#[test]
fn a_live_snapshot_is_one_moment_of_all_disks_with_file_systems_frozen_by_the_agent() {
    let rig = Rig::start();
    let vm = rig.make_vm("frozen", 4, "sp.pause=500 sp.every=10");
    rig.boot(&vm, 100);
    let sets = five_in_a_row(&rig, &vm);
    for set in &sets {
        assert!(
            !needs_recovery(&set[0]),
            "the file system was not frozen at that moment"
        );
    }
    assert_eq!(rig.events(&vm, 10767).len(), 5, "frozen, told each time");
    assert_eq!(rig.events(&vm, 10768).len(), 5, "thawed, told each time");
    assert!(rig.events(&vm, 10764).is_empty());
    end_without_a_hole(&rig, &vm);
    rig.daemon.scan_log(&[]).unwrap();
}

#[test]
fn a_live_snapshot_is_one_moment_of_all_disks_also_without_a_guest_agent_and_says_so() {
    let rig = Rig::start();
    let vm = rig.make_vm("power-cut", 4, &format!("sp.pause=500 sp.every=10 {NO_AGENT}"));
    rig.boot(&vm, 100);
    let sets = five_in_a_row(&rig, &vm);
    assert!(
        sets.iter().all(|set| needs_recovery(&set[0])),
        "this test's guest was frozen: it proves nothing"
    );
    let told = rig.events(&vm, 10764);
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(
        told.iter()
            .all(|text| text.contains("no guest agent") && text.contains("as after a power cut")),
        "{told:?}"
    );
    assert!(rig.events(&vm, 10767).is_empty());
    end_without_a_hole(&rig, &vm);
    rig.daemon.scan_log(&[]).unwrap();
}

/// A snapshot of chosen disks, each with the id that its new active image shall have.
fn snapshot_with_ids(rig: &Rig, vm: &Vm, chosen: &[(usize, &str)]) -> String {
    let items = chosen.iter().map(|(disk, image)| {
        let image = format!("<image_id>{image}</image_id>");
        format!(
            "<disk_attachment><disk id=\"{}\">{image}</disk></disk_attachment>",
            vm.disks[*disk]
        )
    });
    let body = format!(
        "<snapshot><description>ids</description><persist_memorystate>false</persist_memorystate>\
         <disk_attachments>{}</disk_attachments></snapshot>",
        items.collect::<String>()
    );
    let path = format!("vms/{}/snapshots", vm.id);
    let answer = rig.api.post(&path, &body).unwrap().expect(&[201, 202]).unwrap();
    let id = answer.xml().unwrap().id().unwrap().to_owned();
    rig.api
        .wait_status(&format!("{path}/{id}"), "snapshot_status", "ok", LONG)
        .unwrap();
    id
}

#[test]
fn a_snapshot_holds_exactly_the_chosen_disks_and_new_images_have_the_chosen_ids() {
    let rig = Rig::start();
    let vm = rig.make_vm("chosen", 4, "sp.pause=1000 sp.every=10");
    rig.boot(&vm, 100);
    let all = rig.active_images(&vm);
    assert!(all_different(&all));

    // A part of the disks: the others go on as they were, and what is held is one moment.
    let ids = [
        "5eed0000-0000-4000-8000-000000000001",
        "5eed0000-0000-4000-8000-000000000002",
    ];
    let before = vm.console.last_record();
    let part = snapshot_with_ids(&rig, &vm, &[(1, ids[1]), (0, ids[0])]);
    assert_eq!(rig.held_images(&vm, &part), all[..2]);
    let now = rig.active_images(&vm);
    assert_eq!(now, [ids[0], ids[1], &all[2], &all[3]]);
    for (disk, file) in rig.active_files(&vm).iter().enumerate() {
        let layers = layers(file);
        assert_eq!(layers[0]["format"], "qcow2");
        assert_eq!(layers.len(), if disk < 2 { 2 } else { 1 });
    }
    rig.writes_on(&vm);
    Checker::new()
        .at_least(before)
        .check(&rig.held_files(&vm, &part))
        .unwrap();

    // No disk at all: the configuration only.
    let active = rig.active_snapshot(&vm);
    let bare = rig.api.snapshot(&vm.id, "configuration", false, Some(&[])).unwrap();
    assert_eq!(bare, active);
    assert!(rig.held_images(&vm, &bare).is_empty());
    assert_eq!(rig.active_images(&vm), now, "no disk was touched");
    rig.writes_on(&vm);

    // An id that is taken is refused, and nothing has changed.
    let body = format!(
        "<snapshot><description>taken</description><disk_attachments><disk_attachment><disk id=\"{}\">\
         <image_id>{}</image_id></disk></disk_attachment></disk_attachments></snapshot>",
        vm.disks[2], all[3]
    );
    let path = format!("vms/{}/snapshots", vm.id);
    rig.api.post(&path, &body).unwrap().expect(&[409]).unwrap();
    assert_eq!(rig.active_images(&vm), now);
    assert_eq!(rig.regular_snapshots(&vm), [part, bare]);
    end_without_a_hole(&rig, &vm);
    rig.daemon.scan_log(&[]).unwrap();
}
