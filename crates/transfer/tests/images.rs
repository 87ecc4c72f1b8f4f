//! Bytes in and out over HTTP, on real images: what a client gets is what is on the disk, and what it was told is written
//! is written.
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod common;

use common::*;
use std::time::Duration;
use stillpoint_engine::ports::{DataPlane as _, DirtyMap, DriverErrorKind, Source};

const SIZE: u64 = 64 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_download_over_nbd_equals_the_disk_and_its_extents_tell_what_is_zero() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, SIZE);
    qemu_io(
        &image,
        &["write -P 0x5a 1M 3M", "write -P 0xa5 10M 65537", "write -z 20M 1M"],
    );
    let nbd = Nbd::start(directory.path(), &image, &["--read-only", "--allocation-depth"]).await;
    let plane = Plane::start().await;
    let id = plane.add(nbd.source(None), SIZE, READ).await;

    let mut wanted = vec![0_u8; usize::try_from(SIZE).unwrap()];
    wanted[1 << 20..4 << 20].fill(0x5a);
    wanted[10 << 20..(10 << 20) + 65537].fill(0xa5);
    let whole = plane.ask("GET", &path(&id), &[], b"").await;
    assert_eq!((whole.status, whole.is_whole), (200, true));
    assert!(whole.body == wanted, "the bytes differ");
    assert_eq!(
        whole.headers["content-disposition"],
        "attachment; filename=disk_1.raw; filename*=UTF-8''disk%201.raw"
    );
    assert_eq!(plane.transferred(&id).await, SIZE);

    // Odd ranges, across requests to the server.
    for (first, length) in [
        (0, 1),
        (SIZE - 1, 1),
        (1048575, 2),
        (123, 5 * MIB + 1),
        (10 * MIB + 65536, 3),
    ] {
        let part = plane.get_range(&id, first, length).await;
        assert_eq!((part.status, part.is_whole), (206, true));
        let last = first + length - 1;
        assert_eq!(part.headers["content-range"], format!("bytes {first}-{last}/{SIZE}"));
        let (first, last) = (usize::try_from(first).unwrap(), usize::try_from(last).unwrap());
        assert!(part.body == wanted[first..=last], "{first}-{last} differs");
    }
    assert_eq!(plane.transferred(&id).await, SIZE, "reading again does not count");

    let extents = plane.extents(&id, "zero").await;
    let mut at = 0;
    for extent in &extents {
        assert_eq!(extent["start"], at);
        let (start, length) = (at, extent["length"].as_u64().unwrap());
        at += length;
        if extent["zero"] == true {
            let range = usize::try_from(start).unwrap()..usize::try_from(at).unwrap();
            assert!(wanted[range].iter().all(|byte| *byte == 0), "{extent}");
        }
    }
    assert_eq!(at, SIZE);
    assert!(
        extents
            .windows(2)
            .all(|two| (&two[0]["zero"], &two[0]["hole"]) != (&two[1]["zero"], &two[1]["hole"]))
    );
    let data: u64 = extents
        .iter()
        .filter(|e| e["zero"] == false)
        .map(|e| e["length"].as_u64().unwrap())
        .sum();
    assert!(data < 5 * MIB, "{data} bytes of data");
    let written_zeroes = extents.iter().find(|e| e["start"] == 20 * MIB).unwrap();
    assert_eq!(
        (&written_zeroes["zero"], &written_zeroes["hole"]),
        (&true.into(), &false.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dirty_extents_are_those_of_the_map_and_say_what_of_them_is_zero() {
    let directory = tempfile::tempdir().unwrap();
    let (image, raw) = (directory.path().join("disk.qcow2"), directory.path().join("disk.raw"));
    make_qcow2(&image, SIZE);
    qemu_io(&image, &["write -P 1 0 8M", "write -z 6M 64k"]);
    run("qemu-img", &["convert", "-O", "raw", text(&image), text(&raw)]);
    let file = directory.path().join("disk.map");
    let mut map = DirtyMap::empty(SIZE);
    map.mark(4 * MIB, 128 * 1024);
    map.mark(6 * MIB - 64 * 1024, 128 * 1024);
    map.mark(SIZE - 1, 1);
    std::fs::write(&file, map.encode()).unwrap();
    let nbd = Nbd::start(directory.path(), &image, &["--read-only"]).await;
    let plane = Plane::start().await;
    for source in [nbd.source(None), Source::Raw(raw)] {
        let mut wanted = ticket(source.clone(), SIZE, READ, Duration::from_secs(60));
        wanted.dirty = Some(file.clone());
        plane.transfer.add(wanted.clone()).await.unwrap();
        let extents = plane.extents(&wanted.id, "dirty").await;
        let (mut at, mut dirty) = (0, Vec::new());
        for extent in &extents {
            let (start, length) = (extent["start"].as_u64().unwrap(), extent["length"].as_u64().unwrap());
            assert_eq!(start, at);
            at += length;
            if extent["dirty"] == true {
                dirty.push((start, length, extent["zero"] == true));
            }
        }
        assert_eq!(at, SIZE);
        let kib = 1024;
        let all = [
            (4 * MIB, 128 * kib, false),
            (6 * MIB - 64 * kib, 64 * kib, false),
            (6 * MIB, 64 * kib, true),
            (SIZE - 64 * kib, 64 * kib, true),
        ];
        assert_eq!(dirty, all);
        let zero = plane.extents(&wanted.id, "zero").await;
        assert!(
            zero.iter().all(|extent| extent["dirty"].is_null()),
            "the whole disk can be taken too"
        );
    }

    // A map that is cut, or of another disk, would leave out changes: no ticket comes of it.
    for (bytes, size) in [(map.encode()[..100].to_vec(), SIZE), (map.encode(), SIZE - MIB)] {
        std::fs::write(&file, bytes).unwrap();
        let mut wrong = ticket(nbd.source(None), size, READ, Duration::from_secs(60));
        wrong.dirty = Some(file.clone());
        let told = plane.transfer.add(wrong).await.unwrap_err();
        assert_eq!(told.kind, DriverErrorKind::InvalidImage);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dirty_extents_are_those_of_the_bitmap() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, SIZE);
    qemu_io(&image, &["write -P 1 0 8M"]);
    run("qemu-img", &["bitmap", "--add", text(&image), "cp1"]);
    qemu_io(&image, &["write -P 2 4M 128k", "write -z 6M 64k"]);
    let nbd = Nbd::start(directory.path(), &image, &["--read-only", "--bitmap=cp1"]).await;
    let plane = Plane::start().await;
    let id = plane.add(nbd.source(Some("cp1")), SIZE, READ).await;
    let dirty: Vec<_> = plane
        .extents(&id, "dirty")
        .await
        .into_iter()
        .filter(|extent| extent["dirty"] == true)
        .map(|extent| {
            (
                extent["start"].as_u64().unwrap(),
                extent["length"].as_u64().unwrap(),
                extent["zero"] == true,
            )
        })
        .collect();
    assert_eq!(dirty, [(4 * MIB, 128 * 1024, false), (6 * MIB, 64 * 1024, true)]);

    let without = plane.add(nbd.source(None), SIZE, READ).await;
    let refused = plane
        .ask("GET", &format!("{}/extents?context=dirty", path(&without)), &[], b"")
        .await;
    assert_eq!(refused.status, 404, "clients take all when they are told so");
    let wrong = ticket(nbd.source(Some("cp2")), SIZE, READ, Duration::from_secs(60));
    assert_eq!(
        plane.transfer.add(wrong).await.unwrap_err().kind,
        DriverErrorKind::NotFound
    );
}

async fn upload(plane: &Plane, source: Source) -> Vec<u8> {
    let id = plane.add(source, SIZE, WRITE).await;
    let mut wanted = vec![0_u8; usize::try_from(SIZE).unwrap()];
    let data = noise(7, 9 * 1024 * 1024 + 13);
    let at = 3 * MIB + 5;
    assert_eq!(plane.put_range(&id, at, &data).await.status, 200);
    let start = usize::try_from(at).unwrap();
    wanted[start..start + data.len()].copy_from_slice(&data);
    // Without flush, as the client sends them, from several connections at once.
    let url = format!("{}?flush=n", path(&id));
    let parts: Vec<_> = (0..8).map(|n| (20 * MIB + n * MIB, noise(n + 1, 1 << 20))).collect();
    let sent = parts.iter().map(|(at, data)| {
        let range = format!("bytes {at}-{}/*", at + MIB - 1);
        let (plane, url) = (&plane, &url);
        async move { plane.ask("PUT", url, &[("Content-Range", &range)], data).await.status }
    });
    assert_eq!(futures_util::future::join_all(sent).await, [200; 8]);
    for (at, data) in &parts {
        let at = usize::try_from(*at).unwrap();
        wanted[at..at + data.len()].copy_from_slice(data);
    }
    let zero = format!(
        r#"{{"op": "zero", "offset": {}, "size": {}, "flush": false}}"#,
        21 * MIB,
        SIZE - 21 * MIB
    );
    assert_eq!(plane.ask("PATCH", &path(&id), &[], zero.as_bytes()).await.status, 200);
    wanted[21 << 20..].fill(0);
    assert_eq!(
        plane.ask("PATCH", &path(&id), &[], br#"{"op":"flush"}"#).await.status,
        200
    );
    let counted = plane.transferred(&id).await;
    assert_eq!(counted, data.len() as u64 + SIZE - 20 * MIB);
    plane.transfer.remove(&id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(plane.transfer.status(&id).await.unwrap(), None);
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_upload_is_flushed_on_its_way_and_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (image, file) = (directory.path().join("disk.qcow2"), directory.path().join("disk.raw"));
    make_qcow2(&image, SIZE);
    std::fs::write(&file, b"").unwrap();
    let mut nbd = Nbd::start(directory.path(), &image, &[]).await;
    let plane = Plane::start().await;
    let (at, data) = (MIB + 7, noise(5, (36 << 20) + 1));
    for source in [nbd.source(None), Source::Raw(file.clone())] {
        let id = plane.add(source, SIZE, WRITE).await;
        assert_eq!(plane.put_range(&id, at, &data).await.status, 200);
        plane.transfer.remove(&id, Duration::from_secs(5)).await.unwrap();
    }
    // Killed, not ended: what was answered is there.
    nbd.kill();
    let raw = directory.path().join("copy.raw");
    run("qemu-img", &["convert", "-O", "raw", text(&image), text(&raw)]);
    let at = usize::try_from(at).unwrap();
    for written in [raw, file] {
        let written = std::fs::read(written).unwrap();
        assert!(written[at..at + data.len()] == data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_nbd_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, SIZE);
    qemu_io(&image, &["write -P 9 0 64M"]);
    let mut nbd = Nbd::start(directory.path(), &image, &["--discard=unmap"]).await;
    let mut wanted = upload(&Plane::start().await, nbd.source(None)).await;
    for byte in wanted[..(3 << 20) + 5].iter_mut() {
        *byte = 9;
    }
    wanted[(12 << 20) + 18..20 << 20].fill(9);
    // Killed, not ended: what was flushed is there.
    nbd.kill();
    let raw = directory.path().join("disk.raw");
    run("qemu-img", &["convert", "-O", "raw", text(&image), text(&raw)]);
    assert!(std::fs::read(&raw).unwrap() == wanted, "the disk differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_raw_file_is_in_the_file_and_stays_sparse() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk.raw");
    std::fs::write(&file, b"").unwrap();
    let plane = Plane::start().await;
    let wanted = upload(&plane, Source::Raw(file.clone())).await;
    assert!(std::fs::read(&file).unwrap() == wanted, "the file differs");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&file).unwrap()) * 512;
    assert!(blocks < 20 * MIB, "{blocks} bytes are allocated");

    let id = plane.add(Source::Raw(file.clone()), SIZE, READ).await;
    assert!(plane.ask("GET", &path(&id), &[], b"").await.body == wanted);
    let extents = plane.extents(&id, "zero").await;
    assert!(extents.len() > 1, "{extents:?}");
    assert_eq!(
        extents
            .iter()
            .map(|extent| extent["length"].as_u64().unwrap())
            .sum::<u64>(),
        SIZE
    );
    assert!(
        extents.iter().all(|extent| extent["hole"] == false),
        "nothing is below a raw file"
    );
    let zero = extents.iter().filter(|extent| extent["zero"] == true);
    let zero: u64 = zero.map(|extent| extent["length"].as_u64().unwrap()).sum();
    // The file system tells pages in the cache from holes only in part: less zeroes, never more.
    assert!((50 * MIB..=SIZE - 10 * MIB).contains(&zero), "{extents:?}");

    let too_long = ticket(Source::Raw(file), SIZE + 1, READ, Duration::from_secs(60));
    assert_eq!(
        plane.transfer.add(too_long).await.unwrap_err().kind,
        DriverErrorKind::Io
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ranges_come_in_one_answer_and_count_as_read() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, SIZE);
    let data = noise(5, usize::try_from(16 * MIB).unwrap());
    let raw = directory.path().join("disk.raw");
    let mut whole = data.clone();
    whole.resize(usize::try_from(SIZE).unwrap(), 0);
    std::fs::write(&raw, &whole).unwrap();
    run(
        "qemu-img",
        &[
            "convert",
            "-n",
            "-f",
            "raw",
            "-O",
            "qcow2",
            raw.to_str().unwrap(),
            image.to_str().unwrap(),
        ],
    );
    let nbd = Nbd::start(directory.path(), &image, &["--read-only"]).await;
    let plane = Plane::start().await;
    // Small ones, neighbours, one over several requests to the source, zeroes, and the last byte.
    let mut ranges: Vec<(u64, u64)> = (0..4000).map(|n| (n * 1536, 512)).collect();
    ranges.extend([
        (8 * MIB, 100),
        (8 * MIB + 100, 100),
        (9 * MIB + 7, 5 * MIB + 1),
        (20 * MIB, MIB),
        (SIZE - 1, 1),
    ]);
    let bytes = |offset: u64, length: u64| {
        let (begin, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        &whole[begin..begin + length]
    };
    let wanted: Vec<u8> = ranges
        .iter()
        .flat_map(|(offset, length)| bytes(*offset, *length))
        .copied()
        .collect();
    for source in [nbd.source(None), Source::Raw(raw.clone())] {
        let id = plane.add(source, SIZE, READ).await;
        let message = serde_json::json!({ "ranges": ranges }).to_string();
        let answer = plane.ask("POST", &many(&id), &[], message.as_bytes()).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.text());
        assert!(answer.body == wanted, "the bytes differ");
        assert_eq!(plane.transferred(&id).await, wanted.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_tell_what_a_ticket_may() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk.raw");
    std::fs::write(&file, vec![0; 4096]).unwrap();
    let plane = Plane::start().await;
    let read = plane.add(Source::Raw(file.clone()), 4096, READ).await;
    let write = plane.add(Source::Raw(file), 4096, WRITE).await;
    let answer = plane.ask("OPTIONS", &path(&read), &[], b"").await;
    assert_eq!(answer.headers["allow"], "OPTIONS,GET");
    let options: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(options["features"], serde_json::json!(["checksum", "extents"]));
    assert_eq!(
        (&options["max_readers"], &options["many_ranges"]),
        (&8.into(), &4096.into())
    );
    assert_eq!(options["unix_socket"], DEAD_SOCKET);
    let answer = plane
        .ask("OPTIONS", &path(&write), &[("Origin", "https://example.com")], b"")
        .await;
    assert_eq!(answer.headers["allow"], "OPTIONS,GET,PUT,PATCH");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let answer = plane.ask("OPTIONS", "/images/*", &[], b"").await;
    let options: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &options["unix_socket"]), (200, &DEAD_SOCKET.into()));
    assert_eq!(plane.ask("HEAD", &path(&read), &[], b"").await.status, 405);
    assert_eq!(plane.ask("POST", &path(&read), &[], b"").await.status, 405);
}
