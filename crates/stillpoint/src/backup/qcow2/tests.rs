//! What the writer writes is what QEMU's own tools read; what was damaged is found.

#![expect(
    clippy::cast_possible_truncation,
    reason = "the disks here are small, and fill bytes may wrap"
)]

use super::{digest::Digests, *};
use proptest::prelude::*;
use std::{path::Path, process::Command};
use stillpoint_sdk::Extent;

const C: usize = CLUSTER_BYTES as usize;

fn qemu_img(arguments: &[&str]) -> String {
    let done = Command::new("qemu-img").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "qemu-img {arguments:?}: {said}");
    said
}

/// Extents of 512-byte steps: what each is, and how long.
fn extents(size: u64) -> impl Strategy<Value = Vec<Extent>> {
    let steps = prop_oneof![4 => 1_u64..40, 3 => 100_u64..600, 1 => Just(128_u64)];
    prop::collection::vec((any::<bool>(), any::<bool>(), steps), 1..60).prop_map(move |pieces| {
        let (mut found, mut start) = (Vec::new(), 0);
        for (is_zero, is_dirty, steps) in pieces {
            let length = (steps * 512).min(size - start);
            if length == 0 {
                break;
            }
            found.push(Extent {
                start,
                length,
                is_zero,
                is_dirty,
            });
            start += length;
        }
        if start < size {
            found.push(Extent {
                start,
                length: size - start,
                is_zero: true,
                is_dirty: false,
            });
        }
        found
    })
}

/// What the disk held before, and what the extents say that it holds now.
fn after(before: &[u8], extents: &[Extent], mode: Mode, seed: u8) -> Vec<u8> {
    let mut now = before.to_vec();
    for (number, extent) in extents.iter().enumerate() {
        let range = extent.start as usize..extent.end() as usize;
        let fill = (number as u8).wrapping_mul(31).wrapping_add(seed) | 1;
        match (mode, extent.is_dirty, extent.is_zero) {
            (Mode::Incremental, false, _) => {}
            (_, _, true) => now[range].fill(0),
            (_, _, false) => now[range].fill(fill),
        }
    }
    now
}

fn map_of(size: u64, extents: &[Extent], mode: Mode) -> Map {
    let mut builder = MapBuilder::new(size, mode).unwrap();
    for extent in extents {
        builder.push(extent).unwrap();
    }
    builder.finish().unwrap()
}

/// Writes the file that a backup of a disk with this content would write, data out of order.
fn write_file(path: &Path, map: Map, content: &[u8], backing: Option<&str>) -> Digests {
    let writer = Writer::create(path, map, backing).unwrap();
    let mut came = Areas::default();
    let all: Vec<_> = areas(writer.map()).collect();
    for (area, parts) in all.into_iter().rev() {
        let mut data = Vec::new();
        for part in parts.iter().filter(|part| part.kind == Kind::Data) {
            let (begin, end) = (part.first as usize * C, (part.end() as usize * C).min(content.len()));
            writer.write_data(part.data_index, &content[begin..end]).unwrap();
            data.extend_from_slice(&content[begin..end]);
            data.resize(data.len().next_multiple_of(C), 0);
        }
        came.insert(area, of_area(&parts, &data));
    }
    let (map, layout) = writer.finish().unwrap();
    let image = Image::open(path).unwrap();
    assert_eq!((image.map(), image.layout(), image.backing()), (&map, &layout, backing));
    let digests = digest(path, image.file(), &map, &layout, |_| ()).unwrap();
    assert_eq!(digests.content, came.finish(), "what was read again is what came");
    digests
}

/// The disk as this module reads it from a chain, newest first.
fn read_chain(paths: &[&Path], size: usize) -> Vec<u8> {
    let images: Vec<_> = paths.iter().map(|path| Image::open(path).unwrap()).collect();
    let maps: Vec<_> = images.iter().map(Image::map).collect();
    let mut disk = vec![0; size.next_multiple_of(C)];
    for Resolved {
        first,
        count,
        layer,
        data_index,
    } in resolve(&maps)
    {
        let range = first as usize * C..(first + count) as usize * C;
        images[layer].read_data(data_index, &mut disk[range]).unwrap();
    }
    disk.truncate(size);
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn qemu_reads_from_a_chain_exactly_what_the_disk_held_at_each_point(
        (size, full, first, second) in (1_u64..6_000).prop_flat_map(|steps| {
            let size = steps * 512;
            (Just(size), extents(size), extents(size), extents(size))
        })
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut disk = vec![0; size as usize];
        let mut chain: Vec<std::path::PathBuf> = Vec::new();
        for (number, (extents, mode)) in
            [(full, Mode::Full), (first, Mode::Incremental), (second, Mode::Incremental)].into_iter().enumerate()
        {
            disk = after(&disk, &extents, mode, number as u8);
            let backing = (number > 0).then(|| format!("{}.qcow2", number - 1));
            let file = path(&format!("{number}.qcow2"));
            write_file(&file, map_of(size, &extents, mode), &disk, backing.as_deref());
            chain.insert(0, file.clone());

            let name = file.to_str().unwrap();
            qemu_img(&["check", "-q", name]);
            let raw = path("raw");
            qemu_img(&["convert", "-f", "qcow2", "-O", "raw", name, raw.to_str().unwrap()]);
            prop_assert!(std::fs::read(&raw).unwrap() == disk, "point {number}, as qemu-img reads it");
            let paths: Vec<_> = chain.iter().map(|path| path.as_path()).collect();
            prop_assert!(read_chain(&paths, disk.len()) == disk, "point {number}, as we read it");
        }
    }
}

#[test]
fn a_large_sparse_disk_costs_what_it_holds_and_qemu_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.qcow2");
    // 3 TiB and a half cluster; data at both ends of tables, and in the last half cluster.
    let size = (3_u64 << 40) + 32_768;
    let mut map = Map::new(size).unwrap();
    for first in [0, L2_ENTRIES - 1, L2_ENTRIES, 40_000_000] {
        map.push(first, 1, Kind::Data).unwrap();
    }
    map.push(40_000_001, 20_000, Kind::Zero).unwrap();
    map.push(map.clusters() - 1, 1, Kind::Data).unwrap();
    let writer = Writer::create(&path, map, None).unwrap();
    for index in 0..5 {
        let length = if index == 4 { 32_768 } else { C };
        writer
            .write_data(index, &vec![u8::try_from(index).unwrap() + 1; length])
            .unwrap();
    }
    writer.finish().unwrap();
    assert!(path.metadata().unwrap().len() < 4 << 20);
    let name = path.to_str().unwrap();
    qemu_img(&["check", "-q", name]);
    let shown = qemu_img(&["map", "--output=json", name]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let data = shown.as_array().unwrap().iter().filter(|range| range["data"] == true);
    let data: Vec<_> = data
        .map(|range| (range["start"].as_u64().unwrap(), range["length"].as_u64().unwrap()))
        .collect();
    let c = CLUSTER_BYTES;
    let pair = (L2_ENTRIES - 1) * c;
    assert_eq!(
        data,
        [(0, c), (pair, 2 * c), (40_000_000 * c, c), (size - 32_768, 32_768)]
    );
    Image::open(&path).unwrap();
}

#[test]
fn digests_do_not_depend_on_how_much_data_an_area_has() {
    use sha2::{Digest as _, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("areas.qcow2");
    // A whole area, areas of few and of some clusters, and one that is half data and half zeroes.
    let runs = [(0, 64), (70, 1), (130, 7), (192, 8), (260, 32)];
    let mut map = Map::new(400 * C as u64).unwrap();
    for (first, count) in runs {
        map.push(first, count, Kind::Data).unwrap();
    }
    map.push(292, 28, Kind::Zero).unwrap();
    let clusters: u64 = runs.iter().map(|(_, count)| count).sum();
    let content: Vec<u8> = (0..clusters as usize * C).map(|at| (at / 1000) as u8).collect();
    let writer = Writer::create(&path, map, None).unwrap();
    writer.write_data(0, &content).unwrap();
    let (map, layout) = writer.finish().unwrap();
    let (mut rest, mut expected) = (content.as_slice(), Areas::default());
    for (area, parts) in areas(&map) {
        let data = parts.iter().filter(|part| part.kind == Kind::Data);
        let (of_area_here, after) = rest.split_at(data.map(|part| part.count as usize).sum::<usize>() * C);
        expected.insert(area, of_area(&parts, of_area_here));
        rest = after;
    }
    let digests = digest(&path, &std::fs::File::open(&path).unwrap(), &map, &layout, |_| ()).unwrap();
    assert_eq!(digests.content, expected.finish());
    assert_eq!(digests.file, hex(&Sha256::digest(std::fs::read(&path).unwrap())));
}

#[test]
fn refcounts_are_right_when_they_need_more_than_one_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.qcow2");
    // 32,768 clusters fit into one block with all else of the file; sizes on both sides of it. Nothing is written: the
    // file is sparse.
    for clusters in [32_755, 32_760, 32_768, 40_000] {
        let mut map = Map::new(clusters * CLUSTER_BYTES).unwrap();
        map.push(0, clusters, Kind::Data).unwrap();
        Writer::create(&path, map, None).unwrap().finish().unwrap();
        qemu_img(&["check", "-q", path.to_str().unwrap()]);
        Image::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn every_changed_byte_of_metadata_and_every_other_length_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.qcow2");
    let size = 40 * CLUSTER_BYTES;
    let mut map = Map::new(size).unwrap();
    map.push(1, 3, Kind::Data).unwrap();
    map.push(9, 2, Kind::Zero).unwrap();
    map.push(20, 1, Kind::Data).unwrap();
    let content = vec![7; 40 * C];
    let digests = write_file(&path, map, &content, Some("../before/a.qcow2"));
    let good = std::fs::read(&path).unwrap();
    let bad = folder.path().join("bad.qcow2");
    // Header, L1, an L2 table, refcount table, refcount block: their first and some other bytes.
    for cluster in 0..5 {
        for byte in [0, 1, 7, 8, 15, 24, 35, 47, 79, 103, 120, 160, 169, 4096, C - 1] {
            let mut bytes = good.clone();
            bytes[cluster * C + byte] ^= 0x41;
            std::fs::write(&bad, bytes).unwrap();
            assert!(Image::open(&bad).is_err(), "byte {byte} of cluster {cluster}");
        }
    }
    for length in [0, 3, 104, C, 5 * C, good.len() - 1] {
        std::fs::write(&bad, &good[..length]).unwrap();
        assert!(Image::open(&bad).is_err(), "cut to {length}");
    }
    std::fs::write(&bad, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(Image::open(&bad).is_err(), "one byte more");
    // Data is not metadata: its digests tell.
    let mut bytes = good.clone();
    bytes[7 * C + 9] ^= 1;
    std::fs::write(&bad, bytes).unwrap();
    let image = Image::open(&bad).unwrap();
    let now = digest(&bad, image.file(), image.map(), image.layout(), |_| ()).unwrap();
    assert!(now.file != digests.file && now.content != digests.content);
}

#[test]
fn an_unfinished_file_is_no_image_for_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unfinished.qcow2");
    let mut map = Map::new(8 * CLUSTER_BYTES).unwrap();
    map.push(0, 8, Kind::Data).unwrap();
    let writer = Writer::create(&path, map, None).unwrap();
    writer.write_data(0, &vec![1; 8 * C]).unwrap();
    assert!(Image::open(&path).is_err());
    let info = qemu_img(&["info", "--output=json", path.to_str().unwrap()]);
    assert!(info.contains("\"format\": \"raw\""), "{info}");
}

#[test]
fn extents_that_do_not_cover_the_disk_are_refused() {
    let extent = |start, length| Extent {
        start,
        length,
        is_zero: false,
        is_dirty: true,
    };
    for extents in [
        vec![],
        vec![extent(0, 512)],
        vec![extent(512, 512)],
        vec![extent(0, 2048)],
        vec![extent(0, 512), extent(0, 512)],
    ] {
        let mut builder = MapBuilder::new(1024, Mode::Full).unwrap();
        let result = extents.iter().try_for_each(|extent| builder.push(extent));
        assert!(result.and_then(|()| builder.finish()).is_err(), "{extents:?}");
    }
    for size in [0, 511, 513, u64::MAX] {
        assert!(MapBuilder::new(size, Mode::Full).is_err(), "{size}");
    }
}
