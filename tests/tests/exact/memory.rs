//! Snapshots with memory: disks and memory are one instant, and the way back leads to exactly there.

use std::fs;

use stillpoint_testkit::records::{Checker, Moment};
use stillpoint_testkit::{Daemon, MemoryLine};

use crate::rig::{LONG, Rig, Taken, Vm, memories};

/// One line on the console per record: the first one after a resume tells what was in memory.
const OPTIONS: &str = "sp.pause=5000 sp.every=1 sp.memory=32";

fn persists_memory(rig: &Rig, vm: &Vm, snapshot: &str) -> bool {
    let path = format!("vms/{}/snapshots/{snapshot}", vm.id);
    let xml = rig.api.get(&path).unwrap().expect(&[200]).unwrap().xml().unwrap();
    xml.text_at("persist_memorystate").unwrap() == "true"
}

/// Brings the VM, which runs, back to the snapshot with memory; proves that it goes on from exactly there.
fn back_to(rig: &Rig, vm: &Vm, taken: &Taken, moment: &Moment, before: &MemoryLine) {
    rig.api.stop(&vm.id).unwrap();
    rig.api.restore(&vm.id, &taken.id, true).unwrap();
    let path = format!("vms/{}", vm.id);
    rig.api.wait_status(&path, "status", "suspended", LONG).unwrap();
    assert_eq!(
        &Checker::new().check(&rig.active_files(vm)).unwrap(),
        moment,
        "the disks are not the snapshot's"
    );

    let mark = rig.console_mark(vm);
    rig.api.start(&vm.id).unwrap();
    // The guest checks the rest of its memory, too, and says so.
    let said = rig.wait_console(vm, mark, |said| {
        said.contains("LOAD ok pass") && memories(said).len() >= 60
    });
    assert!(!said.contains("GUEST UP"), "the guest was started anew: {said}");
    let seen = memories(&said);
    let first = &seen[0];
    assert_eq!(first.boot, before.boot);
    // The record in flight, or one that was written but not yet reported.
    let on_disk = moment.complete();
    assert!(
        (on_disk..=on_disk + 1).contains(&first.last),
        "the memory goes on with record {}, the disks end at {on_disk}",
        first.last
    );
    for (expected, line) in (first.last..).zip(&seen) {
        assert_eq!(line.last, expected, "a record is missing or double");
        assert_eq!(line.last - line.count, before.last - before.count, "not that memory");
    }
    vm.console.fail_on_trouble().unwrap();
}

/// The VM, which runs, has every record on its disks.
fn stop_and_check(rig: &Rig, vm: &Vm) {
    rig.api.stop(&vm.id).unwrap();
    let last = vm.console.memory().unwrap().last;
    Checker::new().at_least(last).check(&rig.active_files(vm)).unwrap();
}

#[test]
fn a_snapshot_with_memory_is_one_instant_with_its_disks_and_can_be_gone_back_to_again_and_again() {
    let rig = Rig::start();
    let vm = rig.make_vm("memory", 4, OPTIONS);
    rig.boot(&vm, 100);
    let (mut taken, mut moments) = (Vec::new(), Vec::new());
    for round in 1..=3 {
        let snapshot = rig.take(&vm, &format!("memory {round}"), true);
        assert!(persists_memory(&rig, &vm, &snapshot.id), "memory {round} has no memory");
        moments.push(rig.moment(&vm, &snapshot));
        taken.push(snapshot);
    }
    assert!(rig.events(&vm, 173).is_empty(), "a memory was lost");
    let boot = vm.console.memory().unwrap();
    assert_eq!(vm.console.starts(), 1);

    back_to(&rig, &vm, &taken[2], &moments[2], &boot);
    assert_eq!(rig.regular_snapshots(&vm).len(), 3);
    back_to(&rig, &vm, &taken[1], &moments[1], &boot);
    assert_eq!(
        rig.regular_snapshots(&vm),
        [taken[0].id.clone(), taken[1].id.clone()],
        "what came after it is gone"
    );
    assert!(persists_memory(&rig, &vm, &taken[1].id), "it keeps its memory");
    back_to(&rig, &vm, &taken[1], &moments[1], &boot);
    stop_and_check(&rig, &vm);

    // Without its memory the first one is a machine that lost power at that moment.
    rig.api.restore(&vm.id, &taken[0].id, false).unwrap();
    rig.api
        .wait_status(&format!("vms/{}", vm.id), "status", "down", LONG)
        .unwrap();
    assert_eq!(rig.regular_snapshots(&vm), [taken[0].id.clone()]);
    assert!(persists_memory(&rig, &vm, &taken[0].id));
    assert_eq!(Checker::new().check(&rig.active_files(&vm)).unwrap(), moments[0]);
    let mark = rig.console_mark(&vm);
    rig.api.start(&vm.id).unwrap();
    vm.console
        .wait_text(
            &format!("RECORDS go on after {} on 4 disks", moments[0].complete()),
            LONG,
        )
        .unwrap();
    let said = rig.wait_console(&vm, mark, |said| memories(said).len() >= 60);
    assert_ne!(memories(&said)[0].boot, boot.boot, "not a cold boot");
    stop_and_check(&rig, &vm);
    rig.daemon.scan_log(&[]).unwrap();
}

#[test]
fn where_the_host_cannot_save_memory_in_the_background_the_guest_stands_still_for_it_and_that_is_told() {
    let allowed = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    if allowed.trim() != "0" {
        eprintln!("not tested: this host lets everybody save memory in the background");
        return;
    }
    let rig = Rig::start_with(Daemon::builder().unprivileged());
    let vm = rig.make_vm("stopped", 2, OPTIONS);
    rig.boot(&vm, 100);
    let taken = rig.take(&vm, "stands still", true);
    assert!(persists_memory(&rig, &vm, &taken.id));
    let told = rig.events(&vm, 45);
    assert!(
        told.iter()
            .any(|text| text.contains("stands still until its memory is saved")),
        "{told:?}"
    );
    let moment = rig.moment(&vm, &taken);
    let boot = vm.console.memory().unwrap();
    back_to(&rig, &vm, &taken, &moment, &boot);
    stop_and_check(&rig, &vm);
    rig.daemon.scan_log(&[]).unwrap();
}
