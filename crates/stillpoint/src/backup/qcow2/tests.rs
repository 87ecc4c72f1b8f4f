//! What the writer writes is what QEMU's own tools read; what was damaged is found.

#![expect(
    clippy::cast_possible_truncation,
    reason = "the disks here are small, and fill bytes may wrap"
)]

use super::{digest::Digests, direct::Direct, *};
use proptest::prelude::*;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use std::{fs::File, os::unix::fs::FileExt as _, path::Path, process::Command};
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

/// The data that a map takes of a disk, area by area, in whole clusters.
fn data_of(map: &Map, content: &[u8]) -> Vec<(u64, Vec<Run>, Buffer)> {
    let mut buffers = Vec::new();
    for (area, parts) in areas(map) {
        let mut data = Buffer::new(AREA_BYTES);
        for part in parts.iter().filter(|part| part.kind == Kind::Data) {
            data.extend(&content[part.first as usize * C..(part.end() as usize * C).min(content.len())]);
        }
        data.pad(C);
        buffers.push((area, parts, data));
    }
    buffers
}

/// The content's digest, as the guide describes it.
fn content_digest(map: &Map, content: &[u8]) -> String {
    let mut all = Sha256::new();
    for (area, parts, data) in data_of(map, content) {
        let (mut hash, mut clusters) = (Sha256::new(), data.bytes().chunks(C));
        for part in &parts {
            for cluster in part.first..part.end() {
                hash.update(cluster.to_le_bytes());
                hash.update([u8::from(part.kind == Kind::Data)]);
                if part.kind == Kind::Data {
                    hash.update(clusters.next().unwrap());
                }
            }
        }
        all.update(area.to_le_bytes());
        all.update(hash.finalize());
    }
    hex(&all.finalize())
}

/// Writes the file that a backup of a disk with this content would write, data out of order; what came.
fn write_only(path: &Path, map: Map, content: &[u8], backing: Option<&str>, way: Way) -> Checks {
    let writer = Writer::create(path, map, backing, way).unwrap();
    let mut came = Checks::default();
    for (area, parts, data) in data_of(writer.map(), content).into_iter().rev() {
        if let Some(first) = parts.iter().find(|part| part.kind == Kind::Data) {
            writer.write_data(first.data_index, data.bytes()).unwrap();
        }
        came.insert(area, check(&parts, data.bytes()));
    }
    let (map, layout) = writer.finish().unwrap();
    let image = Image::open(path).unwrap();
    assert_eq!((image.map(), image.layout(), image.backing()), (&map, &layout, backing));
    came
}

fn write_file(path: &Path, map: Map, content: &[u8], backing: Option<&str>) -> Digests {
    let came = write_only(path, map, content, backing, Way::Direct);
    let (image, mut read) = (Image::open(path).unwrap(), 0);
    let digests = digest(&image, Some(&came), Way::Direct, |bytes| read += bytes).unwrap();
    assert_eq!(read, image.layout().file_bytes(), "every byte was read again");
    assert_eq!(digests.content, content_digest(image.map(), content));
    assert_eq!(digests.file, hex(&Sha256::digest(std::fs::read(path).unwrap())));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn with_and_without_the_page_cache_files_and_digests_are_the_same(
        (size, extents, mode) in (1_u64..20_000, any::<bool>()).prop_flat_map(|(steps, is_full)| {
            let mode = if is_full { Mode::Full } else { Mode::Incremental };
            (Just(steps * 512), extents(steps * 512), Just(mode))
        })
    ) {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..size).map(|at| (at / 700 + at) as u8).collect();
        let mut all = Vec::new();
        for way in [Way::Direct, Way::Cached] {
            let file = folder.path().join(format!("{way:?}"));
            let came = write_only(&file, map_of(size, &extents, mode), &content, None, way);
            let image = Image::open(&file).unwrap();
            for way in [Way::Direct, Way::Cached] {
                all.push((std::fs::read(&file).unwrap(), digest(&image, Some(&came), way, |_| ()).unwrap()));
            }
        }
        prop_assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn what_the_disk_does_not_hold_as_it_came_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lying.qcow2");
    // Two areas and the begin of a third: data in all, zeroes in the second.
    let size = 140 * CLUSTER_BYTES;
    let mut map = Map::new(size).unwrap();
    map.push(3, 70, Kind::Data).unwrap();
    map.push(80, 9, Kind::Zero).unwrap();
    map.push(100, 40, Kind::Data).unwrap();
    let content: Vec<u8> = (0..size as usize).map(|at| (at / C + at) as u8 | 1).collect();
    let mut came = write_only(&path, map, &content, None, Way::Direct);
    let at = Image::open(&path).unwrap().layout().data_offset();
    let differs = |came: &Checks| {
        let image = Image::open(&path).unwrap();
        let ways = [Way::Direct, Way::Cached].map(|way| match digest(&image, Some(came), way, |_| ()) {
            Ok(_) => false,
            Err(Qcow2Error::Differs) => true,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(ways[0], ways[1], "both ways of reading agree");
        ways[0]
    };
    assert!(!differs(&came));
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut good = vec![0; 110 * C];
    file.read_exact_at(&mut good, at).unwrap();
    let put = |bytes: &[u8], cluster: usize| {
        file.write_all_at(bytes, at + (cluster * C) as u64).unwrap();
        file.sync_all().unwrap();
    };
    let cluster = |index: usize| &good[index * C..(index + 1) * C];
    // One bit, of the first and of the last byte; a block that was never written; two clusters in each other's place; a
    // cluster that was written once more elsewhere.
    let mut bit = cluster(0).to_vec();
    bit[0] ^= 0x10;
    let mut last = cluster(109).to_vec();
    last[C - 1] ^= 1;
    let mut lost = cluster(65).to_vec();
    lost[4096..8192].fill(0);
    let swapped = [cluster(11), cluster(10)].concat();
    for (bytes, place) in [
        (&bit[..], 0),
        (&last, 109),
        (&lost, 65),
        (&swapped, 10),
        (cluster(20), 90),
    ] {
        put(bytes, place);
        assert!(differs(&came), "from cluster {place} on");
        put(&good[place * C..place * C + bytes.len()], place);
        assert!(!differs(&came));
    }
    // An area that came and is not in the file.
    came.insert(7, 0);
    assert!(differs(&came));
}

#[test]
fn a_file_that_ends_too_early_is_an_error_and_not_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.qcow2");
    let mut map = Map::new(130 * CLUSTER_BYTES).unwrap();
    map.push(0, 130, Kind::Data).unwrap();
    let came = write_only(&path, map, &vec![9; 130 * C], None, Way::Direct);
    let image = Image::open(&path).unwrap();
    for left in [130 * C, 100 * C + 700, 3 * C] {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(left as u64)
            .unwrap();
        for (way, came) in [(Way::Direct, Some(&came)), (Way::Cached, None)] {
            let error = digest(&image, came, way, |_| ()).unwrap_err();
            let is_end = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
            assert!(
                matches!(&error, Qcow2Error::Io { source, .. } if is_end(source)),
                "{error:?}"
            );
        }
    }
}

#[test]
fn what_the_system_refuses_to_transfer_directly_is_left_to_the_page_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, [5; C]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // Memory at an odd place is what file systems with direct I/O refuse, as others refuse all of it. Where one takes it,
    // it has to be right.
    let mut memory = Buffer::new(2 * C);
    memory.pad(1);
    memory.extend(&[7; C + 1]);
    let odd = &memory.bytes()[1..];
    let direct = Direct::open(&path, &file, OFlags::WRONLY, Way::Direct);
    let is_written = direct.write(0, odd).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [if is_written { 7 } else { 5 }; C]);
    if !is_written {
        let whole = &memory.bytes()[..C];
        assert!(!direct.write(0, whole).unwrap(), "refused once, it is not tried again");
    }
    let direct = Direct::open(&path, &file, OFlags::RDONLY, Way::Direct);
    let mut read = vec![1; C + 1];
    let is_read = direct.read(0, &mut read[1..]).unwrap();
    assert!(!is_read || read[1..] == [if is_written { 7 } else { 5 }; C]);
    // Another file of the same name is not taken for it.
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::write(&path, [1; C]).unwrap();
    let direct = Direct::open(&path, &file, OFlags::WRONLY, Way::Direct);
    assert!(!direct.write(0, &memory.bytes()[..C]).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), [1; C]);
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
    let writer = Writer::create(&path, map, None, Way::Direct).unwrap();
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("areas.qcow2");
    // A whole area, areas of few and of some clusters, and one that is half data and half zeroes.
    let runs = [(0, 64), (70, 1), (130, 7), (192, 8), (260, 32)];
    let mut map = Map::new(400 * C as u64).unwrap();
    for (first, count) in runs {
        map.push(first, count, Kind::Data).unwrap();
    }
    map.push(292, 28, Kind::Zero).unwrap();
    let content: Vec<u8> = (0..400 * C).map(|at| (at / 1000) as u8).collect();
    // Compares both digests with those computed from the disk and the whole file.
    write_file(&path, map, &content, None);
    // And of a file without any data.
    for runs in [&[][..], &[(5, 90)]] {
        let path = folder.path().join(format!("{}.qcow2", runs.len()));
        let mut map = Map::new(400 * C as u64).unwrap();
        for (first, count) in runs {
            map.push(*first, *count, Kind::Zero).unwrap();
        }
        write_file(&path, map, &content, None);
    }
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
        // Its data is never written, so its space is not to be reserved.
        Writer::create(&path, map, None, Way::Cached).unwrap().finish().unwrap();
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
    let now = digest(&image, None, Way::Direct, |_| ()).unwrap();
    assert!(now.file != digests.file && now.content != digests.content);
}

#[test]
fn an_unfinished_file_is_no_image_for_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unfinished.qcow2");
    let mut map = Map::new(8 * CLUSTER_BYTES).unwrap();
    map.push(0, 8, Kind::Data).unwrap();
    let writer = Writer::create(&path, map, None, Way::Direct).unwrap();
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
