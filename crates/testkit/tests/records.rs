//! The judge itself is judged: it must see one wrong byte, a lost record and a mixed set, on real images.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint_testkit::records::{Checker, Moment, NotOneMoment, RECORD, SLOTS, make_record};

/// What the writer leaves behind after record `last`.
fn ring(first: u64, last: u64, disk: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in first..=last {
        let at = usize::try_from((number - 1) % SLOTS).unwrap() * RECORD;
        if bytes.len() < at + RECORD {
            bytes.resize(at + RECORD, 0);
        }
        bytes[at..at + RECORD].copy_from_slice(&make_record(number, first, disk));
    }
    bytes
}

fn tool(program: &str, arguments: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Disk 0 (ext4) as qcow2 and one raw image per further ring.
fn images(directory: &Path, file: &[u8], rings: &[Vec<u8>]) -> Vec<PathBuf> {
    let content = directory.join("content");
    fs::create_dir_all(&content).unwrap();
    fs::write(content.join("records"), file).unwrap();
    let (raw, first) = (directory.join("0.raw"), directory.join("0.qcow2"));
    drop(fs::remove_file(&raw)); // of an earlier call; it need not be there
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-d",
            content.to_str().unwrap(),
            raw.to_str().unwrap(),
            "32M",
        ],
    );
    tool(
        "qemu-img",
        &["convert", "-O", "qcow2", raw.to_str().unwrap(), first.to_str().unwrap()],
    );
    let mut paths = vec![first];
    for (index, bytes) in rings.iter().enumerate() {
        let path = directory.join(format!("{}.raw", index + 1));
        fs::write(&path, bytes).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        paths.push(path);
    }
    paths
}

#[test]
fn one_moment_is_accepted_also_in_the_middle_of_a_record_and_after_the_ring_wrapped() {
    let directory = tempfile::tempdir().unwrap();
    for (numbers, complete) in [
        ([0, 0, 0], 0),
        ([1, 0, 0], 0),
        ([70, 70, 69], 69),
        ([20000, 20000, 20000], 20000),
    ] {
        let rings = [ring(1, numbers[1], 1), ring(1, numbers[2], 2)];
        let set = images(directory.path(), &ring(1, numbers[0], 0), &rings);
        let moment = Checker::new().check(&set).unwrap();
        assert_eq!(moment, Moment { last: numbers.to_vec() });
        assert_eq!(moment.complete(), complete);
    }
}

#[test]
fn one_damaged_byte_is_seen_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for at in [0, 9, 17, 25, 29, 300, 511] {
        let mut bad = ring(1, 50, 1);
        bad[20 * RECORD + at] ^= 1;
        let set = images(directory.path(), &ring(1, 50, 0), &[bad]);
        assert!(
            matches!(Checker::new().check(&set), Err(NotOneMoment::Damaged { disk: 1, .. })),
            "byte {at}"
        );
    }
    let mut bad = ring(1, 50, 0);
    bad[30 * RECORD + 100] ^= 0x80;
    let set = images(directory.path(), &bad, &[ring(1, 50, 1)]);
    assert!(matches!(
        Checker::new().check(&set),
        Err(NotOneMoment::Damaged { disk: 0, .. })
    ));
}

#[test]
fn a_lost_record_is_seen_in_the_middle_in_an_old_lap_and_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut hole = ring(1, 50, 1);
    hole[20 * RECORD..21 * RECORD].fill(0);
    let set = images(directory.path(), &ring(1, 50, 0), &[hole]);
    assert!(matches!(
        Checker::new().check(&set),
        Err(NotOneMoment::Hole {
            disk: 1,
            missing: 21,
            last: 50
        })
    ));

    let mut stale = ring(1, SLOTS + 50, 1);
    stale[20 * RECORD..21 * RECORD].copy_from_slice(&make_record(21, 1, 1)); // what lay there one lap earlier
    let set = images(directory.path(), &ring(1, SLOTS + 50, 0), &[stale]);
    assert!(matches!(
        Checker::new().check(&set),
        Err(NotOneMoment::Hole { disk: 1, .. })
    ));

    let set = images(directory.path(), &ring(1, 50, 0), &[ring(1, 50, 1)]);
    assert!(Checker::new().at_least(50).check(&set).is_ok());
    assert!(matches!(
        Checker::new().at_least(51).check(&set),
        Err(NotOneMoment::Lost { wanted: 51, .. })
    ));
}

#[test]
fn disks_of_different_moments_and_in_a_wrong_order_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    for (first, second) in [(50, 48), (48, 50), (49, 50), (50, 0)] {
        let set = images(directory.path(), &ring(1, first, 0), &[ring(1, second, 1)]);
        assert!(
            matches!(Checker::new().check(&set), Err(NotOneMoment::Mixed { .. })),
            "{first} and {second}"
        );
    }
    let mut set = images(directory.path(), &ring(1, 50, 0), &[ring(1, 50, 1), ring(1, 50, 2)]);
    set.swap(1, 2);
    assert!(matches!(
        Checker::new().check(&set),
        Err(NotOneMoment::Damaged { disk: 1, .. })
    ));
}

#[test]
fn a_disk_that_joined_late_is_accepted_only_when_the_test_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let set = images(directory.path(), &ring(1, 50, 0), &[ring(31, 50, 1)]);
    assert!(matches!(
        Checker::new().check(&set),
        Err(NotOneMoment::Hole {
            disk: 1,
            missing: 30,
            ..
        })
    ));
    assert_eq!(Checker::new().late_disks().check(&set).unwrap().complete(), 50);
}

#[test]
fn a_damaged_file_system_is_not_repaired_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let set = images(directory.path(), &ring(1, 5000, 0), &[]);
    let raw = directory.path().join("0.raw");
    let mut bytes = fs::read(&raw).unwrap();
    let inode_table = bytes.windows(8).position(|window| window == b"records\0").unwrap(); // its directory entry
    bytes[inode_table - 8] ^= 0xff;
    fs::write(&raw, bytes).unwrap();
    assert!(Checker::new().check(&set).is_ok());
    assert!(matches!(
        Checker::new().check(&[raw]),
        Err(NotOneMoment::Damaged { disk: 0, .. })
    ));
}
