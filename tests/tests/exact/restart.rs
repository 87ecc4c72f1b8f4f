//! The daemon may be stopped and started while guests run, and a QEMU may hang: no guest is harmed, none is lost.

use stillpoint_testkit::records::Checker;

use crate::rig::{LONG, Rig, Vm, tool};

#[test]
fn the_daemon_restarts_under_running_guests_which_do_not_notice_and_goes_on_with_them() {
    let mut rig = Rig::start();
    let vms = ["first", "second"].map(|name| rig.make_vm(name, 2, "sp.pause=2000 sp.every=10"));
    vms.iter().for_each(|vm| rig.boot(vm, 50));
    let old = rig.take(&vms[0], "before the restart", false);
    let boots = [0, 1].map(|index: usize| vms[index].console.memory().unwrap().boot);
    let guests = rig.daemon.children();
    assert_eq!(guests.len(), 2);

    rig.daemon.stop().unwrap();
    for vm in &vms {
        rig.writes_on(vm);
    }
    assert_eq!(rig.daemon.children(), guests, "the guests went with the daemon");
    rig.daemon.restart().unwrap();
    assert_eq!(rig.daemon.children(), guests);

    for vm in &vms {
        let path = format!("vms/{}", vm.id);
        rig.api.wait_status(&path, "status", "up", LONG).unwrap();
        let taken = rig.take(vm, "after the restart", false);
        rig.moment(vm, &taken);
        let with_memory = rig.take(vm, "with memory", true);
        rig.moment(vm, &with_memory);
        assert!(rig.events(vm, 173).is_empty());
        rig.api.delete_snapshot(&vm.id, &taken.id).unwrap();
    }
    rig.api.delete_snapshot(&vms[0].id, &old.id).unwrap();
    assert_eq!(rig.daemon.children(), guests);
    for (vm, boot) in vms.iter().zip(&boots) {
        rig.writes_on(vm);
        vm.console.fail_on_trouble().unwrap();
        assert_eq!(&vm.console.memory().unwrap().boot, boot, "the guest was started anew");
        assert_eq!(vm.console.starts(), 1);
        rig.stop(vm);
        let files = rig.active_files(vm);
        Checker::new().at_least(vm.console.last_record()).check(&files).unwrap();
    }
    rig.daemon.scan_log(&[]).unwrap();
}

fn tell_qemu(rig: &Rig, vm: &Vm, signal: &str) {
    let is_it = |pid: &&u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&vm.id)
    };
    let guests = rig.daemon.children();
    let pid = guests.iter().find(is_it).unwrap();
    tool("kill", &[signal, &pid.to_string()]);
}

#[test]
fn a_qemu_that_hangs_is_told_disturbs_no_other_vm_and_is_found_again() {
    let rig = Rig::start();
    let [hangs, other] = ["hangs", "other"].map(|name| rig.make_vm(name, 1, "sp.every=10"));
    rig.boot(&hangs, 20);
    rig.boot(&other, 20);
    tell_qemu(&rig, &hangs, "-STOP");
    let path = format!("vms/{}", hangs.id);
    rig.api.wait_status(&path, "status", "not_responding", LONG).unwrap();
    // Looks at all machines take long now: none may be taken for what it was before the look.
    for _ in 0..4 {
        rig.stop(&other);
        rig.api.start(&other.id).unwrap();
    }
    rig.writes_on(&other);
    tell_qemu(&rig, &hangs, "-CONT");
    rig.api.wait_status(&path, "status", "up", LONG).unwrap();
    assert_eq!(rig.events(&hangs, 126).len(), 1, "told once");
    assert_eq!(rig.events(&hangs, 127).len(), 1, "told once");
    let taken = rig.take(&hangs, "after all", false);
    rig.moment(&hangs, &taken);
    for vm in [&hangs, &other] {
        rig.api
            .wait_status(&format!("vms/{}", vm.id), "status", "up", LONG)
            .unwrap();
        vm.console.fail_on_trouble().unwrap();
        rig.stop(vm);
    }
}
