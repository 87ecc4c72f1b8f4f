//! What an overlay's tables say is changed, against the real difference of content as `qemu-img` and `qemu-io` make it.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use proptest::{prelude::*, test_runner::TestRunner};
use std::{fs, path::Path, process::Command};
use stillpoint_engine::ports::{DirtyMap, DriverErrorKind, GRANULE_BYTES, ImageRef, Images};
use stillpoint_qemu::{
    images::LocalImages,
    qcow2::{Damage, Header, ReadError, allocated},
};
use stillpoint_types::{ImageFormat, ImageId};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB + 512;

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        done.status.success() && !said.contains("failed"),
        "{program} {arguments:?}: {said}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn allocated_of(path: &Path) -> DirtyMap {
    let image = ImageRef {
        id: ImageId::fresh(),
        format: ImageFormat::Cow,
        path: path.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let images = LocalImages::new("qemu-img");
    runtime
        .block_on(images.mark_allocated(&image, DirtyMap::empty(SIZE)))
        .unwrap()
}

/// A base full of data, and an overlay made with these options, over which the commands are run.
fn layers(temp: &TempDir, options: &str, commands: &[String]) -> (std::path::PathBuf, std::path::PathBuf) {
    let (base, top) = (temp.path().join("base.raw"), temp.path().join("top.qcow2"));
    fs::write(&base, vec![0x11; usize::try_from(SIZE).unwrap()]).unwrap();
    let create = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        options,
        "-b",
        text(&base),
        "-F",
        "raw",
        text(&top),
    ];
    run("qemu-img", &create);
    for command in commands {
        run("qemu-io", &["-d", "unmap", "-f", "qcow2", "-c", command, text(&top)]);
    }
    (base, top)
}

#[test]
fn a_change_is_never_missed_whatever_the_cluster_size() {
    let sector = 512_u64;
    let command = (0..4_u8, 0..SIZE / sector, 1..6_000_u64).prop_map(move |(kind, at, count)| {
        let count = count.min(SIZE / sector - at).max(1);
        let (at, length) = (at.min(SIZE / sector - count) * sector, count * sector);
        match kind {
            0 => format!("write -P 0x22 {at} {length}"),
            1 => format!("write -z {at} {length}"),
            2 => format!("write -z -u {at} {length}"),
            _ => format!("discard {at} {length}"),
        }
    });
    let options = prop::sample::select(vec![
        "cluster_size=64k",
        "cluster_size=4k",
        "cluster_size=2M",
        "cluster_size=128k,extended_l2=on",
        "cluster_size=16k,extended_l2=on",
    ]);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    runner
        .run(
            &(options, prop::collection::vec(command, 0..6)),
            |(options, commands)| {
                let temp = TempDir::new().unwrap();
                let (base, top) = layers(&temp, options, &commands);
                let map = allocated_of(&top);
                let now = temp.path().join("now.raw");
                run(
                    "qemu-img",
                    &["convert", "-f", "qcow2", "-O", "raw", text(&top), text(&now)],
                );
                let (before, now) = (fs::read(base).unwrap(), fs::read(now).unwrap());
                prop_assert_eq!(before.len(), now.len());
                let granule = usize::try_from(GRANULE_BYTES).unwrap();
                for (k, (a, b)) in (0_u64..).zip(before.chunks(granule).zip(now.chunks(granule))) {
                    prop_assert!(
                        a == b || map.has(k * GRANULE_BYTES),
                        "{}: {:?}: granule {} was missed",
                        options,
                        commands,
                        k
                    );
                }
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn with_our_own_clusters_nothing_else_is_marked_than_what_was_touched() {
    let temp = TempDir::new().unwrap();
    let commands = [(3, 70_000, "write"), (200, 10, "write -z"), (400, 65_536, "discard")];
    let lines: Vec<_> = commands
        .iter()
        .map(|(granule, length, verb)| {
            let length = if *verb == "write -z" { 65_536 } else { *length };
            format!("{verb} {} {length}", granule * GRANULE_BYTES)
        })
        .collect();
    let (_, top) = layers(&temp, "cluster_size=64k", &lines);
    let map = allocated_of(&top);
    let marked: Vec<_> = (0..SIZE.div_ceil(GRANULE_BYTES))
        .filter(|k| map.has(k * GRANULE_BYTES))
        .collect();
    assert_eq!(marked, [3, 4, 200, 400]);
    assert_eq!(map.marked_bytes(), 4 * GRANULE_BYTES);
}

#[test]
fn of_a_raw_file_nothing_is_known() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("base.raw");
    fs::write(&path, [0; 512]).unwrap();
    let id = ImageId::fresh();
    let image = ImageRef {
        id,
        format: ImageFormat::Raw,
        path,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let images = LocalImages::new("qemu-img");
    let told = runtime.block_on(images.mark_allocated(&image, DirtyMap::empty(512)));
    assert_eq!(told.unwrap_err().kind, DriverErrorKind::InvalidImage);
}

/// A file with a gigabyte of disk in which every second L1 entry names the same table.
fn hostile() -> Vec<u8> {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("hostile.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&path), "16T"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write 0 64k", text(&path)]);
    let mut bytes = fs::read(&path).unwrap();
    let header = Header::read(&bytes).unwrap();
    let l1 = usize::try_from(header.l1_offset).unwrap();
    let entry: [u8; 8] = bytes[l1..l1 + 8].try_into().unwrap();
    for k in 0..usize::try_from(header.l1_entries).unwrap() {
        bytes[l1 + 8 * k..l1 + 8 * k + 8].copy_from_slice(&entry);
    }
    bytes
}

#[test]
fn a_table_that_is_named_again_and_again_is_not_read_for_hours() {
    let bytes = hostile();
    let header = Header::read(&bytes).unwrap();
    let told = allocated::mark(&bytes, &header, &mut DirtyMap::empty(header.size_bytes));
    assert!(matches!(told, Err(ReadError::Damage(Damage::L2Tables))), "{told:?}");
}

#[test]
fn no_damage_in_the_tables_makes_the_reader_panic() {
    let bytes = hostile();
    let header = Header::read(&bytes).unwrap();
    let l1 = usize::try_from(header.l1_offset).unwrap();
    for byte in 0..8 {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[l1 + byte] ^= 1 << bit;
            // Whatever it answers: it ends.
            let _told = allocated::mark(&bytes, &header, &mut DirtyMap::empty(header.size_bytes)).is_ok();
        }
    }
}
