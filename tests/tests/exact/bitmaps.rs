//! Dirty bitmaps that others keep in the images are carried through snapshots and deletes: no write is ever missing.
//!
//! Known writes go to the running guest's own device through QEMU's second monitor, beyond the place of the records;
//! the guest's records are known writes, too. What a bitmap says is read by a client of the NBD protocol.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};
use stillpoint_testkit::records::{Checker, RECORD};

use crate::rig::{LONG, Rig, Vm, check_image, tool};

const CLUSTER: u64 = 65536;
/// Where the records end.
const FREE: u64 = 8 << 20;
/// The disks that have bitmaps.
const DISKS: [usize; 2] = [1, 3];

/// Writes of one phase, each another pattern; some touch a cluster's edge, one crosses it.
fn writes(phase: u64) -> Vec<Range<u64>> {
    let start = FREE + phase * (3 << 20);
    vec![
        start + 512..start + 1024,
        start + 5 * CLUSTER - 512..start + 5 * CLUSTER + 512,
        start + 9 * CLUSTER..start + 10 * CLUSTER,
        start + 20 * CLUSTER + 4096..start + 24 * CLUSTER + 8192,
    ]
}

fn pattern(phase: u64) -> u64 {
    0xa0 + phase
}

fn command(verb: &str, phase: u64, range: &Range<u64>) -> String {
    format!(
        "{verb} -P {} {} {}",
        pattern(phase),
        range.start,
        range.end - range.start
    )
}

/// (device, node) of a disk in QEMU, found by the file of its active image.
fn device_of(monitor: &mut crate::rig::Monitor, image: &str) -> (String, String) {
    let blocks = monitor.run("query-block", &json!({}));
    let is_it = |block: &&Value| {
        block["inserted"]["file"]
            .as_str()
            .is_some_and(|file| file.contains(image))
    };
    let found = blocks.as_array().unwrap().iter().find(is_it).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&found["qdev"]), text(&found["inserted"]["node-name"]))
}

/// Writes as the guest does: through its device. QEMU prints the outcome elsewhere; see [`expect_content`].
fn write_live(rig: &Rig, vm: &Vm, phase: u64) {
    let images = rig.active_images(vm);
    let mut monitor = rig.monitor(vm);
    for disk in DISKS {
        let (device, _) = device_of(&mut monitor, &images[disk]);
        for range in writes(phase) {
            let line = format!("qemu-io -d {device} \"{}\"", command("write", phase, &range));
            let said = monitor.run("human-monitor-command", &json!({"command-line": line}));
            assert_eq!(said, "", "{line}");
        }
    }
}

fn write_at_rest(rig: &Rig, vm: &Vm, phase: u64) {
    for (disk, file) in rig.active_files(vm).iter().enumerate() {
        if DISKS.contains(&disk) {
            for range in writes(phase) {
                let arguments = [
                    "-f",
                    "qcow2",
                    "-c",
                    &command("write", phase, &range),
                    file.to_str().unwrap(),
                ];
                assert!(tool("qemu-io", &arguments).contains("wrote "));
            }
        }
    }
}

fn add_at_rest(rig: &Rig, vm: &Vm, name: &str, granularity: &str) {
    for (disk, file) in rig.active_files(vm).iter().enumerate() {
        if DISKS.contains(&disk) {
            let file = file.to_str().unwrap();
            tool(
                "qemu-img",
                &["bitmap", "--add", "-g", granularity, "-f", "qcow2", file, name],
            );
        }
    }
}

fn add_live(rig: &Rig, vm: &Vm, name: &str) {
    let images = rig.active_images(vm);
    let mut monitor = rig.monitor(vm);
    for disk in DISKS {
        let (_, node) = device_of(&mut monitor, &images[disk]);
        let arguments = json!({"node": node, "name": name, "persistent": true});
        monitor.run("block-dirty-bitmap-add", &arguments);
    }
}

/// What a bitmap says is dirty, in order, without neighbours that touch.
fn dirty(file: &Path, name: &str) -> Vec<Range<u64>> {
    let map = format!("--map=qemu:dirty-bitmap:{name}");
    let server = ["--", "[", "qemu-nbd", "-r", "-f", "qcow2", "-B", name];
    let arguments = [&["--json", &map][..], &server, &[file.to_str().unwrap(), "]"]].concat();
    let extents: Vec<Value> = serde_json::from_str(&tool("nbdinfo", &arguments)).unwrap();
    let mut found: Vec<Range<u64>> = Vec::new();
    for extent in extents.iter().filter(|extent| extent["type"] == 1) {
        let start = extent["offset"].as_u64().unwrap();
        let end = start + extent["length"].as_u64().unwrap();
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

/// Where records lie; the ring must not have gone round.
fn place(records: Range<u64>) -> Range<u64> {
    let record = u64::try_from(RECORD).unwrap();
    assert!(
        records.end * record <= FREE,
        "the guest wrote so much that the ring went round"
    );
    (records.start - 1) * record..(records.end - 1) * record
}

/// Every write must be in the bitmap, and nothing but the clusters of writes.
fn expect_exact(file: &Path, name: &str, wanted: &[Range<u64>], allowed: &[Range<u64>]) {
    let found = dirty(file, name);
    for range in wanted {
        assert!(
            found
                .iter()
                .any(|dirty| dirty.start <= range.start && range.end <= dirty.end),
            "bitmap {name}: the write {range:?} is missing in {found:?}"
        );
    }
    let written = |cluster: u64| {
        let within = |range: &Range<u64>| range.start < cluster + CLUSTER && cluster < range.end;
        wanted.iter().chain(allowed).any(within)
    };
    for range in &found {
        let mut cluster = range.start / CLUSTER * CLUSTER;
        while cluster < range.end {
            assert!(
                written(cluster),
                "bitmap {name}: nobody wrote to cluster {cluster} of {found:?}"
            );
            cluster += CLUSTER;
        }
    }
}

fn phases(all: Range<u64>) -> Vec<Range<u64>> {
    all.flat_map(writes).collect()
}

/// Every known write is on the disk, whatever was merged.
fn expect_content(file: &Path, all: Range<u64>) {
    for phase in all {
        for range in writes(phase) {
            let read = command("read", phase, &range);
            let said = tool("qemu-io", &["-r", "-f", "qcow2", "-c", &read, file.to_str().unwrap()]);
            assert!(!said.contains("Pattern verification failed"), "{read}: {said}");
        }
    }
}

#[test]
fn dirty_bitmaps_born_before_and_after_a_snapshot_miss_no_write_when_it_is_deleted_live_or_at_rest() {
    let rig = Rig::start();
    let vm = rig.make_vm("bitmaps", 4, "sp.pause=20000 sp.every=10");
    add_at_rest(&rig, &vm, "before", "65536");
    add_at_rest(&rig, &vm, "fine", "4096");
    rig.boot(&vm, 50);
    write_live(&rig, &vm, 0);
    let first = rig.take(&vm, "live", false);
    write_live(&rig, &vm, 1);
    let born_after = vm.console.last_record();
    add_live(&rig, &vm, "after");
    let known_after = rig.writes_on(&vm);
    write_live(&rig, &vm, 2);
    rig.writes_on(&vm);
    rig.api.delete_snapshot(&vm.id, &first.id).unwrap();
    write_live(&rig, &vm, 3);
    rig.writes_on(&vm);
    rig.api.stop(&vm.id).unwrap();

    let files = rig.active_files(&vm);
    let moment = Checker::new().at_least(vm.console.last_record()).check(&files).unwrap();
    let all = place(1..moment.last[0] + 1);
    let (surely_after, maybe_after) = (
        place(known_after + 1..moment.complete() + 1),
        place(born_after + 1..moment.last[0] + 1),
    );
    for disk in DISKS {
        let file = &files[disk];
        for name in ["before", "fine"] {
            let mut wanted = phases(0..4);
            wanted.push(place(1..moment.complete() + 1));
            expect_exact(file, name, &wanted, std::slice::from_ref(&all));
        }
        let mut wanted = phases(2..4);
        wanted.push(surely_after.clone());
        expect_exact(file, "after", &wanted, std::slice::from_ref(&maybe_after));
        expect_content(file, 0..4);
        check_image(file);
    }

    // The same with nobody at home.
    let second = rig.api.snapshot(&vm.id, "at rest", false, None).unwrap();
    write_at_rest(&rig, &vm, 4);
    add_at_rest(&rig, &vm, "later", "65536");
    write_at_rest(&rig, &vm, 5);
    rig.api.delete_snapshot(&vm.id, &second).unwrap();
    let files = rig.active_files(&vm);
    for disk in DISKS {
        let file = &files[disk];
        for name in ["before", "fine"] {
            expect_exact(file, name, &phases(0..6), std::slice::from_ref(&all));
        }
        let mut wanted = phases(2..6);
        wanted.push(surely_after.clone());
        expect_exact(file, "after", &wanted, std::slice::from_ref(&maybe_after));
        expect_exact(file, "later", &phases(5..6), &[]);
        expect_content(file, 0..6);
        check_image(file);
    }

    // The guest sees none of it.
    rig.api.start(&vm.id).unwrap();
    vm.console
        .wait_text(&format!("RECORDS go on after {} on 4 disks", moment.complete()), LONG)
        .unwrap();
    rig.api.stop(&vm.id).unwrap();
    rig.daemon.scan_log(&[]).unwrap();
}
