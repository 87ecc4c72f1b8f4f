//! The daemon may be stopped and started while guests run: they do not notice, and it goes on with them.

use stillpoint_testkit::records::Checker;

use crate::rig::Rig;

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
        rig.api.wait_status(&path, "status", "up", crate::rig::LONG).unwrap();
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
        rig.api.stop(&vm.id).unwrap();
        let files = rig.active_files(vm);
        Checker::new().at_least(vm.console.last_record()).check(&files).unwrap();
    }
    rig.daemon.scan_log(&[]).unwrap();
}
