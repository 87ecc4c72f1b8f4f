//! Deleting snapshots: nobody sees another content than before, whichever goes and whether the guest runs.

use stillpoint_testkit::eventually;
use stillpoint_testkit::records::{Checker, Moment};

use crate::rig::{LONG, Rig, Taken, Vm, check_image, hash, layers};

/// Number of snapshots to begin with: three go while the guest runs, three while it is down, one is left.
const SNAPSHOTS: usize = 7;

/// A snapshot and what it must remain.
#[derive(Debug)]
struct Kept {
    taken: Taken,
    moment: Moment,
    images: Vec<String>,
    hashes: Vec<String>,
}

fn hashes(rig: &Rig, images: &[String]) -> Vec<String> {
    images.iter().map(|image| hash(&rig.file_of(image))).collect()
}

fn keep(rig: &Rig, vm: &Vm, number: usize) -> Kept {
    let taken = rig.take(vm, &format!("number {number}"), false);
    let images = rig.held_images(vm, &taken.id);
    Kept {
        moment: rig.moment(vm, &taken),
        hashes: hashes(rig, &images),
        taken,
        images,
    }
}

/// Sends the request, waits for its end, and looks at what was told of it.
fn delete(rig: &Rig, vm: &Vm, snapshot: &str) {
    let path = format!("vms/{}/snapshots/{snapshot}", vm.id);
    let correlation = format!("delete-{}", &snapshot[..8]);
    let headers = [("Accept", "application/xml"), ("Correlation-Id", correlation.as_str())];
    rig.api
        .request("DELETE", &path, &headers, None)
        .unwrap()
        .expect(&[200])
        .unwrap();
    eventually(LONG, &format!("{path} to be gone"), || {
        Ok((rig.api.get(&path)?.status == 404).then_some(()))
    })
    .unwrap();
    let jobs = rig.api.jobs(&correlation).unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(jobs[0].text_at("status"), Some("finished"));
    let steps = rig.api.get(&format!("jobs/{}/steps", jobs[0].id().unwrap())).unwrap();
    let steps = steps.expect(&[200]).unwrap().xml().unwrap();
    assert_eq!(steps.children.len(), vm.disks.len(), "a step for each disk: {steps:?}");
    for step in &steps.children {
        assert_eq!(
            (step.text_at("status"), step.text_at("progress")),
            (Some("finished"), Some("100")),
            "{step:?}"
        );
        assert!(step.text_at("end_time").is_some());
    }
    let events = rig
        .api
        .get(&format!("events?search=correlation_id%3D{correlation}"))
        .unwrap();
    let events = events.expect(&[200]).unwrap().xml().unwrap();
    let codes: Vec<_> = events.children.iter().filter_map(|e| e.text_at("code")).collect();
    assert_eq!(codes, ["356", "342"], "done and begun, the newest first");
}

/// Deletes the snapshot at `index` and compares everything that is left.
fn delete_and_compare(rig: &Rig, vm: &Vm, kept: &mut Vec<Kept>, index: usize) {
    let active = rig.active_images(vm);
    let depth = layers(&rig.file_of(&active[0])).len();
    let gone = kept.remove(index);
    delete(rig, vm, &gone.taken.id);

    // What stood on the deleted one's images was merged into them: these stay, under their own ids.
    let merged = match kept.get_mut(index) {
        Some(above) => std::mem::replace(&mut above.images, gone.images.clone()),
        None => active.clone(),
    };
    let now = rig.active_images(vm);
    assert_eq!(
        now,
        if index == kept.len() {
            gone.images.clone()
        } else {
            active
        }
    );
    merged.iter().for_each(|image| rig.wait_no_file(image));
    let wanted: Vec<_> = kept.iter().map(|one| one.taken.id.clone()).collect();
    assert_eq!(rig.regular_snapshots(vm), wanted);
    for image in &now {
        assert_eq!(layers(&rig.file_of(image)).len(), depth - 1, "the chain is not shorter");
    }
    for one in kept {
        assert_eq!(rig.held_images(vm, &one.taken.id), one.images);
        assert_eq!(hashes(rig, &one.images), one.hashes, "{one:?} is another content now");
    }
}

#[test]
fn deleting_the_oldest_a_middle_and_the_newest_snapshot_changes_no_content_live_and_at_rest() {
    let rig = Rig::start();
    let vm = rig.make_vm("deleting", 4, "sp.pause=1000 sp.every=10");
    rig.boot(&vm, 100);
    let mut kept: Vec<Kept> = (1..=SNAPSHOTS).map(|number| keep(&rig, &vm, number)).collect();

    for (index, left) in [(0, 6), (3, 5), (4, 4)] {
        rig.writes_on(&vm);
        delete_and_compare(&rig, &vm, &mut kept, index);
        assert_eq!(kept.len(), left);
        rig.writes_on(&vm);
        vm.console.fail_on_trouble().unwrap();
    }
    assert_eq!(vm.console.starts(), 1, "the guest was started anew");
    rig.api.stop(&vm.id).unwrap();
    let last = vm.console.last_record();
    let moment = Checker::new().at_least(last).check(&rig.active_files(&vm)).unwrap();

    let content = hashes(&rig, &rig.active_images(&vm));
    for (index, left) in [(0, 3), (1, 2), (1, 1)] {
        delete_and_compare(&rig, &vm, &mut kept, index);
        assert_eq!(kept.len(), left);
        assert_eq!(
            hashes(&rig, &rig.active_images(&vm)),
            content,
            "the disks themselves changed"
        );
    }
    rig.active_files(&vm).iter().for_each(|file| check_image(file));
    let files = rig.held_files(&vm, &kept[0].taken.id);
    files.iter().for_each(|file| check_image(file));
    assert_eq!(Checker::new().check(&files).unwrap(), kept[0].moment);

    // The guest goes on from where it was.
    rig.api.start(&vm.id).unwrap();
    vm.console
        .wait_text(&format!("RECORDS go on after {} on 4 disks", moment.complete()), LONG)
        .unwrap();
    rig.api.stop(&vm.id).unwrap();
    rig.daemon.scan_log(&[]).unwrap();
}
