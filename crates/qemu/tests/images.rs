//! Image files against real `qemu-img` and `qemu-io`: what is made, what is read, what is refused.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use proptest::prelude::*;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{Allocation, DriverErrorKind, ImageFacts, ImageRef, Images, Merge, StoredBitmap};
use stillpoint_qemu::{
    gate::{Adopted, Gate, Reason, Refused},
    images::LocalImages,
    qcow2::{self, Damage, Fresh},
};
use stillpoint_types::{DiskId, ImageFormat, ImageId};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8(done.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn info(path: &Path) -> Value {
    serde_json::from_str(&run("qemu-img", &["info", "--output=json", text(path)])).unwrap()
}

fn io(path: &Path, command: &str) {
    let out = run("qemu-io", &["-f", "qcow2", "-c", command, text(path)]);
    assert!(!out.contains("failed"), "{out}");
}

fn image(directory: &TempDir, format: ImageFormat) -> ImageRef {
    let id = ImageId::fresh();
    let extension = if format == ImageFormat::Cow { "qcow2" } else { "raw" };
    ImageRef {
        id,
        format,
        path: directory.path().join(format!("{id}.{extension}")),
    }
}

fn name(image: &ImageRef) -> &str {
    image.path.file_name().unwrap().to_str().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn images() -> LocalImages {
    LocalImages::new("qemu-img")
}

async fn facts(path: &Path) -> ImageFacts {
    images().inspect(path, None).await.unwrap()
}

async fn cow_base(directory: &TempDir, size: u64) -> ImageRef {
    let base = image(directory, ImageFormat::Cow);
    images().create_base(&base, size, Allocation::Sparse).await.unwrap();
    base
}

#[tokio::test]
async fn what_we_make_is_valid_and_means_the_same_to_qemu() {
    for size in [
        512,
        MIB,
        MIB + 512,
        GIB,
        8 * GIB + 1_536,
        TIB,
        50 * TIB + 512,
        2_048 * TIB,
    ] {
        let temp = TempDir::new().unwrap();
        let base = cow_base(&temp, size).await;
        let overlay = image(&temp, ImageFormat::Cow);
        images().create_overlay(&overlay, &base, size, false).await.unwrap();
        for (made, backing) in [(&base, None), (&overlay, Some(name(&base)))] {
            run("qemu-img", &["check", "-q", "-f", "qcow2", text(&made.path)]);
            let theirs = info(&made.path);
            assert_eq!(theirs["virtual-size"].as_u64(), Some(size));
            assert_eq!(theirs["cluster-size"].as_u64(), Some(65_536));
            assert_eq!(theirs["backing-filename"].as_str(), backing);
            assert_eq!(theirs["backing-filename-format"].as_str(), backing.map(|_| "qcow2"));
            let ours = facts(&made.path).await;
            assert_eq!(
                (ours.size_bytes, ours.backing_name.as_deref(), ours.has_data),
                (size, backing, false)
            );
            assert_eq!(Some(ours.actual_bytes), theirs["actual-size"].as_u64());
        }
        let mut both = [name(&base).to_owned(), name(&overlay).to_owned()];
        both.sort();
        assert_eq!(names(temp.path()), both, "nothing else is left");
    }
}

#[tokio::test]
async fn an_overlay_shows_its_base_and_takes_writes_at_both_ends() {
    for format in [ImageFormat::Cow, ImageFormat::Raw] {
        let temp = TempDir::new().unwrap();
        let base = image(&temp, format);
        let size = 3 * GIB + 512;
        images().create_base(&base, size, Allocation::Sparse).await.unwrap();
        let driver = if format == ImageFormat::Cow { "qcow2" } else { "raw" };
        run("qemu-io", &["-f", driver, "-c", "write -P 7 1M 3M", text(&base.path)]);
        let overlay = image(&temp, ImageFormat::Cow);
        images().create_overlay(&overlay, &base, size, false).await.unwrap();
        let (over, under) = (text(&overlay.path), text(&base.path));
        run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", driver, over, under]);
        io(&overlay.path, "read -P 7 1M 3M");
        assert!(!facts(&overlay.path).await.has_data);
        io(&overlay.path, "write -P 9 3G 512");
        io(&overlay.path, "write -P 8 0 64k");
        io(&overlay.path, "read -P 9 3G 512");
        io(&overlay.path, "read -P 7 1M 3M");
        run("qemu-img", &["check", "-q", over]);
        assert!(facts(&overlay.path).await.has_data);
    }
}

#[tokio::test]
async fn data_means_any_write_or_explicit_zero_as_qemu_stores_them() {
    let geometries = [
        "compat=v3",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
    ];
    for geometry in geometries {
        let commands = ["write -P 1 40M 512", "write -z 40M 2M", "write -c -P 1 40M 2M"];
        for command in commands {
            let temp = TempDir::new().unwrap();
            let path = temp.path().join("x.qcow2");
            run(
                "qemu-img",
                &["create", "-q", "-f", "qcow2", "-o", geometry, text(&path), "64M"],
            );
            assert!(!facts(&path).await.has_data, "{geometry}");
            io(&path, command);
            let zero_unrecorded = geometry == "compat=0.10" && command.contains("-z");
            assert!(facts(&path).await.has_data || zero_unrecorded, "{geometry} {command}");
        }
    }
}

#[tokio::test]
async fn usable_recording_bitmaps_are_carried_and_listed_as_qemu_lists_them() {
    let temp = TempDir::new().unwrap();
    let base = cow_base(&temp, GIB).await;
    for (bitmap, granularity) in [("cp 1", "65536"), ("-näme", "4096"), ("off", "65536")] {
        run(
            "qemu-img",
            &["bitmap", "--add", "-g", granularity, "--", text(&base.path), bitmap],
        );
    }
    run("qemu-img", &["bitmap", "--disable", text(&base.path), "off"]);
    let stored = |name: &str, granularity_bytes, recording| StoredBitmap {
        name: name.to_owned(),
        granularity_bytes,
        in_use: false,
        recording,
    };
    let wanted = vec![stored("cp 1", 65_536, true), stored("-näme", 4_096, true)];
    let mut all = wanted.clone();
    all.push(stored("off", 65_536, false));
    assert_eq!(facts(&base.path).await.bitmaps, all);

    let overlay = image(&temp, ImageFormat::Cow);
    for carry in [false, true, true] {
        images().create_overlay(&overlay, &base, GIB, carry).await.unwrap();
        run("qemu-img", &["check", "-q", text(&overlay.path)]);
        let expected = if carry { wanted.clone() } else { Vec::new() };
        assert_eq!(facts(&overlay.path).await.bitmaps, expected);
    }
    let fresh = image(&temp, ImageFormat::Cow);
    images().create_overlay(&fresh, &base, GIB, true).await.unwrap();
    assert_eq!(facts(&fresh.path).await.bitmaps, wanted);
    assert_eq!(facts(&fresh.path).await.backing_name.as_deref(), Some(name(&base)));
    assert!(!facts(&fresh.path).await.has_data);
    assert_eq!(names(temp.path()).len(), 3);
}

#[tokio::test]
async fn making_twice_is_success_and_a_file_in_the_way_is_never_touched() {
    let temp = TempDir::new().unwrap();
    for format in [ImageFormat::Cow, ImageFormat::Raw] {
        for allocation in [Allocation::Sparse, Allocation::Preallocated] {
            let base = image(&temp, format);
            let leftover = format!("{}.new", base.path.display());
            fs::write(leftover, "cut short by a crash").unwrap();
            for _again in 0..2 {
                images().create_base(&base, 8 * MIB, allocation).await.unwrap();
            }
            let occupied = images().actual_bytes(std::slice::from_ref(&base)).await.unwrap();
            assert_eq!(occupied[0] >= 8 * MIB, allocation == Allocation::Preallocated);
            assert_eq!(facts(&base.path).await.size_bytes, 8 * MIB);
            let before = fs::read(&base.path).unwrap();
            let other_size = images().create_base(&base, 9 * MIB, allocation).await.unwrap_err();
            assert_eq!(other_size.kind, DriverErrorKind::AlreadyExists);
            assert_eq!(fs::read(&base.path).unwrap(), before);
        }
    }
    let base = cow_base(&temp, MIB).await;
    let overlay = image(&temp, ImageFormat::Cow);
    images().create_overlay(&overlay, &base, MIB, false).await.unwrap();
    images().create_overlay(&overlay, &base, MIB, false).await.unwrap();
    io(&overlay.path, "write -P 1 0 512");
    let error = images().create_overlay(&overlay, &base, MIB, false).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::AlreadyExists);
    io(&overlay.path, "read -P 1 0 512");
    assert!(names(temp.path()).iter().all(|name| !name.ends_with(".new")));
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_behind() {
    let temp = TempDir::new().unwrap();
    let elsewhere = TempDir::new().unwrap();
    let base = cow_base(&temp, GIB).await;
    let far = cow_base(&elsewhere, GIB).await;
    let overlay = image(&temp, ImageFormat::Cow);
    let kind = async |base: &ImageRef, size| {
        images()
            .create_overlay(&overlay, base, size, false)
            .await
            .unwrap_err()
            .kind
    };
    assert_eq!(kind(&far, GIB).await, DriverErrorKind::Unsupported);
    assert_eq!(kind(&base, MIB).await, DriverErrorKind::InvalidImage);
    assert_eq!(kind(&base, GIB + 1).await, DriverErrorKind::Unsupported);
    assert_eq!(
        kind(&image(&temp, ImageFormat::Cow), GIB).await,
        DriverErrorKind::NotFound
    );
    for format in [ImageFormat::Cow, ImageFormat::Raw] {
        let huge = image(&temp, format);
        let full = images()
            .create_base(&huge, 1_000 * TIB, Allocation::Preallocated)
            .await
            .unwrap_err();
        assert_eq!(full.kind, DriverErrorKind::NoSpace);
    }
    let no_tool = LocalImages::new("/nonexistent/qemu-img");
    let failed = no_tool
        .create_base(&image(&temp, ImageFormat::Cow), MIB, Allocation::Preallocated)
        .await;
    assert_eq!(failed.unwrap_err().kind, DriverErrorKind::Io);
    assert_eq!(names(temp.path()), [name(&base)]);
}

#[tokio::test]
async fn a_live_disk_can_be_looked_at_but_not_adopted() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("busy.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&path), "64M"]);
    let mut child = Command::new("qemu-io")
        .args(["-f", "qcow2", text(&path)])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = Gate::check(temp.path(), "busy.qcow2", None, &|_name| None);
        if matches!(&found, Err(refused) if refused.reason == Reason::InUse) {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        std::thread::yield_now();
    }
    assert_eq!(facts(&path).await.size_bytes, 64 * MIB);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    Gate::check(temp.path(), "busy.qcow2", None, &|_name| None).unwrap();
}

#[tokio::test]
async fn the_disk_alone_tells_whether_a_merge_happened() {
    let temp = TempDir::new().unwrap();
    let base = cow_base(&temp, MIB).await;
    let (top, above) = (image(&temp, ImageFormat::Cow), image(&temp, ImageFormat::Cow));
    images().create_overlay(&top, &base, MIB, false).await.unwrap();
    images().create_overlay(&above, &top, MIB, false).await.unwrap();
    let mut merge = Merge {
        disk: DiskId::fresh(),
        chain: vec![base.clone(), top.clone(), above.clone()],
        base: base.clone(),
        top: top.clone(),
    };
    assert!(!images().is_merged(&merge).await.unwrap());
    run(
        "qemu-img",
        &["rebase", "-u", "-F", "qcow2", "-b", name(&base), text(&above.path)],
    );
    assert!(images().is_merged(&merge).await.unwrap());
    run(
        "qemu-img",
        &["rebase", "-u", "-F", "qcow2", "-b", text(&base.path), text(&above.path)],
    );
    assert!(images().is_merged(&merge).await.unwrap());
    run(
        "qemu-img",
        &["rebase", "-u", "-F", "qcow2", "-b", "other.qcow2", text(&above.path)],
    );
    assert_eq!(
        images().is_merged(&merge).await.unwrap_err().kind,
        DriverErrorKind::InvalidImage
    );

    merge.chain.pop();
    assert!(!images().is_merged(&merge).await.unwrap());
    let mark = format!("{}.merged", top.path.display());
    fs::write(&mark, "").unwrap();
    assert!(images().is_merged(&merge).await.unwrap());
    for _again in 0..2 {
        images().remove(&top).await.unwrap();
        assert!(!top.path.exists() && !Path::new(&mark).exists());
    }
    assert_eq!(
        images().is_merged(&merge).await.unwrap_err().kind,
        DriverErrorKind::NotFound
    );
    assert_eq!(images().actual_bytes(&[top]).await.unwrap(), [0]);
    assert!(images().space(temp.path()).await.unwrap().available_bytes > 0);
    assert!(base.path.exists());
}

#[tokio::test]
async fn making_a_durable_overlay_takes_milliseconds() {
    let temp = TempDir::new().unwrap();
    let base = cow_base(&temp, TIB).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..30 {
        let overlay = image(&temp, ImageFormat::Cow);
        let begun = Instant::now();
        images().create_overlay(&overlay, &base, TIB, false).await.unwrap();
        ours.push(begun.elapsed());
        let other = temp.path().join(format!("{round}.qcow2"));
        let begun = Instant::now();
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                name(&base),
                "-F",
                "qcow2",
                text(&other),
                "1T",
            ],
        );
        theirs.push(begun.elapsed());
    }
    ours.sort();
    theirs.sort();
    println!(
        "overlay of 1 TiB: ours (durable) median {:?}, worst {:?}",
        ours[15], ours[29]
    );
    println!(
        "qemu-img create (not flushed): median {:?}, worst {:?}",
        theirs[15], theirs[29]
    );
    assert!(ours[15] < Duration::from_millis(100), "{:?}", ours[15]);
}

#[tokio::test]
async fn looking_follows_no_link_and_believes_the_recorded_format() {
    let temp = TempDir::new().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("a.qcow2"), specimen(Some("/etc/passwd"))).unwrap();
    fs::write(at("odd.raw"), vec![1; 1_000]).unwrap();
    std::os::unix::fs::symlink("a.qcow2", at("link")).unwrap();
    run("mkfifo", &[text(&at("pipe"))]);
    assert_eq!(facts(&at("a.qcow2")).await.backing_name.as_deref(), Some("/etc/passwd"));
    let odd = facts(&at("odd.raw")).await;
    let theirs = run(
        "qemu-img",
        &["info", "--output=json", "-f", "raw", text(&at("odd.raw"))],
    );
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(
        (Some(odd.size_bytes), odd.format, odd.has_data),
        (theirs["virtual-size"].as_u64(), ImageFormat::Raw, true)
    );
    let as_raw = images().inspect(&at("a.qcow2"), Some(ImageFormat::Raw)).await.unwrap();
    assert_eq!((as_raw.format, as_raw.backing_name), (ImageFormat::Raw, None));
    let kind = async |name: &str, hint| images().inspect(&at(name), hint).await.unwrap_err().kind;
    assert_eq!(
        kind("odd.raw", Some(ImageFormat::Cow)).await,
        DriverErrorKind::InvalidImage
    );
    assert_eq!(kind("link", None).await, DriverErrorKind::InvalidImage);
    assert_eq!(kind("pipe", None).await, DriverErrorKind::InvalidImage);
    assert_eq!(kind("absent", None).await, DriverErrorKind::NotFound);
    let relative = images().inspect(Path::new("a.qcow2"), None).await.unwrap_err();
    assert_eq!(relative.kind, DriverErrorKind::InvalidImage);
}

#[tokio::test]
#[ignore = "needs the right to mount a small file system"]
async fn a_full_file_system_is_no_space_and_no_file_is_left() {
    let temp = TempDir::new().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=300k", "tmpfs", text(temp.path())]);
    let (base, over) = (image(&temp, ImageFormat::Cow), image(&temp, ImageFormat::Cow));
    let first = images().create_base(&base, GIB, Allocation::Sparse).await;
    let second = images()
        .create_overlay(&over, &base, GIB, false)
        .await
        .map_err(|error| error.kind);
    let raw = image(&temp, ImageFormat::Raw);
    let third = images()
        .create_base(&raw, MIB, Allocation::Preallocated)
        .await
        .map_err(|error| error.kind);
    let left = names(temp.path());
    run("umount", &[text(temp.path())]);
    first.unwrap();
    assert_eq!(
        (second, third),
        (Err(DriverErrorKind::NoSpace), Err(DriverErrorKind::NoSpace))
    );
    assert_eq!(left, [name(&base)]);
}

// ------------------------------------------------------------------------------------------------ the museum

/// A valid image of 1 GiB over `backing`, as bytes.
fn specimen(backing: Option<&str>) -> Vec<u8> {
    let fresh = Fresh {
        size_bytes: GIB,
        backing: backing.map(|name| (name, ImageFormat::Cow)),
    };
    let layout = fresh.layout().unwrap();
    let mut bytes = vec![0; usize::try_from(layout.length).unwrap()];
    for (offset, piece) in layout.pieces {
        let at = usize::try_from(offset).unwrap();
        bytes[at..at + piece.len()].copy_from_slice(&piece);
    }
    bytes
}

struct Museum {
    temp: TempDir,
    base: ImageRef,
}

impl Museum {
    fn open() -> Self {
        let temp = TempDir::new().unwrap();
        let base = image(&temp, ImageFormat::Cow);
        fs::write(&base.path, specimen(None)).unwrap();
        Self { temp, base }
    }

    fn check(&self, file: &str, hint: Option<ImageFormat>) -> Result<Adopted, Refused> {
        let known = |file: &str| (file == name(&self.base)).then(|| self.base.clone());
        Gate::check(self.temp.path(), file, hint, &known)
    }

    /// Shows the bytes to the gate; it must refuse for `reason`, quickly, and change nothing.
    fn refuses(&self, what: &str, bytes: &[u8], reason: Reason) {
        let path = self.temp.path().join("brought.qcow2");
        fs::write(&path, bytes).unwrap();
        let before = names(self.temp.path());
        let begun = Instant::now();
        let refused = self.check("brought.qcow2", None).expect_err(what);
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        assert_eq!(refused.reason, reason, "{what}: {refused}");
        assert!(
            refused.text.contains("brought.qcow2") && refused.text.contains(';'),
            "{refused}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
        assert_eq!(names(self.temp.path()), before, "{what}");
    }
}

fn patched(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = specimen(None);
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn every_damaged_header_is_refused_with_its_own_reason() {
    let museum = Museum::open();
    let far = 1_u64 << 50;
    let int = |value: u32| value.to_be_bytes().to_vec();
    let long = |value: u64| value.to_be_bytes().to_vec();
    let hall = [
        (4, int(4), Damage::Version(4)),
        (4, int(1), Damage::Version(1)),
        (20, int(8), Damage::ClusterBits(8)),
        (20, int(22), Damage::ClusterBits(22)),
        (20, int(u32::MAX), Damage::ClusterBits(u32::MAX)),
        (24, long(1_000), Damage::Size(1_000)),
        (24, long(u64::MAX), Damage::Size(u64::MAX)),
        (24, long(1 << 62), Damage::Size(1 << 62)),
        (32, int(1), Damage::Encrypted(1)),
        (32, int(2), Damage::Encrypted(2)),
        (36, int(1), Damage::L1Table(196_608)),
        (36, int(u32::MAX), Damage::L1Table(196_608)),
        (40, long(196_609), Damage::L1Table(196_609)),
        (40, long(far), Damage::L1Table(far)),
        (48, long(65_537), Damage::RefcountTable(65_537)),
        (48, long(far), Damage::RefcountTable(far)),
        (56, int(0), Damage::RefcountTable(65_536)),
        (56, int(u32::MAX), Damage::RefcountTable(65_536)),
        (60, int(70_000), Damage::SnapshotTable(0)),
        (72, long(1 << 5), Damage::UnknownFeatures(1 << 5)),
        (72, long(1 << 63 | 1), Damage::UnknownFeatures(1 << 63)),
        (72, long(1 << 2), Damage::DataFile),
        (72, long(1 << 3), Damage::Compression(0)),
        (96, int(7), Damage::RefcountOrder(7)),
        (100, int(96), Damage::HeaderLength(96)),
        (100, int(107), Damage::HeaderLength(107)),
        (100, int(1 << 20), Damage::HeaderLength(1 << 20)),
        (104, vec![9], Damage::Compression(9)),
        (104, vec![1], Damage::Compression(1)),
        (112, [int(0x1234), int(u32::MAX)].concat(), Damage::Extension(0x1234)),
        (112, [int(0xe279_2aca), int(40)].concat(), Damage::BackingFormat),
        (112, [int(0x4441_5441), int(4)].concat(), Damage::DataFile),
        (112, [int(0x0537_be77), int(16)].concat(), Damage::Encrypted(2)),
        (8, [long(512), int(2_000)].concat(), Damage::BackingName),
        (8, [long(far), int(5)].concat(), Damage::BackingName),
        (8, [long(65_530), int(50)].concat(), Damage::BackingName),
        (8, [long(512), int(5)].concat(), Damage::BackingName), // five NULs
        (196_608, long(1 << 63 | far), Damage::L1Entry(1 << 63 | far)),
        (196_608, long(1 << 63 | 0x1_0200), Damage::L1Entry(1 << 63 | 0x1_0200)),
    ];
    for (at, value, damage) in hall {
        museum.refuses(&format!("{damage:?}"), &patched(at, &value), Reason::Damaged(damage));
    }
    let mut small = patched(72, &long(1 << 4));
    small[20..24].copy_from_slice(&int(9));
    museum.refuses("sub-clusters", &small, Reason::Damaged(Damage::SubClusters));
    museum.refuses("cut", &specimen(None)[..50], Reason::Damaged(Damage::Truncated));
    museum.refuses("empty", &[], Reason::RawNotAsked);
    museum.refuses("text", b"no image at all", Reason::RawNotAsked);
    museum.refuses("corrupt", &patched(72, &long(2)), Reason::MarkedCorrupt);
    museum.refuses("dirty", &patched(72, &long(1)), Reason::MarkedDirty);
    let snapshots = patched(60, &[int(1), long(65_536)].concat());
    museum.refuses("snapshots", &snapshots, Reason::InternalSnapshots);
}

#[test]
fn every_damaged_bitmap_directory_is_refused() {
    let museum = Museum::open();
    let with = |count: u32, bytes: u64, offset: u64, entry: &[u8]| {
        let mut image = specimen(None);
        image[95] = 1; // autoclear: bitmaps
        let extension = [
            0x2385_2875_u32.to_be_bytes(),
            24_u32.to_be_bytes(),
            count.to_be_bytes(),
            [0; 4],
        ]
        .concat();
        image[112..128].copy_from_slice(&extension);
        image[128..136].copy_from_slice(&bytes.to_be_bytes());
        image[136..144].copy_from_slice(&offset.to_be_bytes());
        image.extend_from_slice(entry);
        image
    };
    let entry = |flags: u8, kind: u8, granularity: u8, name: u8, extra: u8| {
        let mut bytes = vec![0; 32];
        (bytes[15], bytes[16], bytes[17], bytes[19], bytes[23]) = (flags, kind, granularity, name, extra);
        bytes[24] = b'x';
        bytes
    };
    let at = u64::try_from(specimen(None).len()).unwrap();
    let path = museum.temp.path().join("good.qcow2");
    fs::write(&path, with(1, 32, at, &entry(2, 1, 16, 1, 0))).unwrap();
    assert_eq!(museum.check("good.qcow2", None).unwrap().facts.bitmaps[0].name, "x");
    fs::remove_file(path).unwrap();
    let good = entry(2, 1, 16, 1, 0);
    let hall = [
        with(1, 1 << 40, at, &good),
        with(1, 32, 1 << 40, &good),
        with(1, 32, u64::MAX - 8, &good),
        with(1, 32, at + 8, &good),
        with(2, 32, at, &good),
        with(u32::MAX, 32, at, &good),
        with(1, 32, at, &entry(8, 1, 16, 1, 0)),
        with(1, 32, at, &entry(2, 7, 16, 1, 0)),
        with(1, 32, at, &entry(2, 1, 64, 1, 0)),
        with(1, 32, at, &entry(2, 1, 16, 0, 0)),
        with(1, 32, at, &entry(2, 1, 16, 2, 0)),
        with(1, 32, at, &entry(2, 1, 16, 99, 0)),
        with(1, 32, at, &entry(2, 1, 16, 1, 9)),
    ];
    for (index, bytes) in hall.iter().enumerate() {
        let path = museum.temp.path().join("brought.qcow2");
        fs::write(&path, bytes).unwrap();
        let refused = museum.check("brought.qcow2", None).expect_err(&index.to_string());
        let is_directory = matches!(refused.reason, Reason::Damaged(Damage::BitmapDirectory(_)));
        assert!(is_directory, "{index}: {refused:?}");
    }
}

#[test]
fn a_backing_name_is_followed_to_a_recorded_image_and_nowhere_else() {
    let museum = Museum::open();
    let base = name(&museum.base).to_owned();
    let inside = museum.temp.path().join(&base);
    for good in [base.clone(), format!("./{base}"), text(&inside).to_owned()] {
        fs::write(museum.temp.path().join("good.qcow2"), specimen(Some(&good))).unwrap();
        assert_eq!(
            museum.check("good.qcow2", None).unwrap().parent.as_ref(),
            Some(&museum.base)
        );
    }
    fs::remove_file(museum.temp.path().join("good.qcow2")).unwrap();
    let json = format!(r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{base}"}}}}"#);
    let hall = [
        (json.as_str(), Reason::BackingProtocol),
        ("nbd://192.0.2.1/x", Reason::BackingProtocol),
        ("x:y", Reason::BackingProtocol),
        ("file:x", Reason::BackingProtocol),
        ("/etc/passwd", Reason::BackingOutside),
        ("/dev/sda", Reason::BackingOutside),
        ("../x.qcow2", Reason::BackingParent),
        ("/tmp/../etc/passwd", Reason::BackingParent),
        ("sub/x.qcow2", Reason::BackingOutside),
        ("brought.qcow2", Reason::BackingSelf),
        ("./brought.qcow2", Reason::BackingSelf),
        ("unknown.qcow2", Reason::BackingUnknown),
        (".", Reason::BackingOutside),
        ("/", Reason::BackingOutside),
    ];
    for (backing, reason) in hall {
        museum.refuses(backing, &specimen(Some(backing)), reason);
    }
    let over = specimen(Some(&base));
    let mut no_format = over.clone();
    no_format[112..116].copy_from_slice(&[0, 0, 0x12, 0x34]);
    museum.refuses("no format", &no_format, Reason::BackingFormatMissing);
    let mut wrong = over.clone();
    wrong[120..125].copy_from_slice(b"vmdk2");
    museum.refuses("wrong format", &wrong, Reason::BackingFormatWrong);
    let mut small = over.clone();
    small[24..32].copy_from_slice(&MIB.to_be_bytes());
    museum.refuses("small", &small, Reason::SmallerThanBase);

    fs::write(&museum.base.path, specimen(Some("brought.qcow2"))).unwrap();
    museum.refuses("cycle", &over, Reason::BackingCycle);
    fs::write(&museum.base.path, specimen(Some("/etc/passwd"))).unwrap();
    museum.refuses("base leads out", &over, Reason::BackingOutside);
    fs::write(&museum.base.path, "garbage").unwrap();
    museum.refuses("base broken", &over, Reason::BackingBroken);
    fs::remove_file(&museum.base.path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &museum.base.path).unwrap();
    museum.refuses("base is a link", &over, Reason::BackingBroken);
}

#[test]
fn only_a_regular_file_with_one_name_in_the_directory_is_taken() {
    let museum = Museum::open();
    let directory = museum.temp.path();
    fs::write(directory.join("image.qcow2"), specimen(None)).unwrap();
    fs::write(directory.join("stale.qcow2"), specimen(None)).unwrap();
    fs::write(directory.join("stale.qcow2.merged"), "").unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    std::os::unix::fs::symlink("image.qcow2", directory.join("link")).unwrap();
    run("mkfifo", &[text(&directory.join("pipe"))]);
    let socket = std::os::unix::net::UnixListener::bind(directory.join("socket")).unwrap();
    let reason = |file: &str| museum.check(file, None).map(|_| ()).map_err(|refused| refused.reason);
    assert_eq!(reason("image.qcow2"), Ok(()));
    assert_eq!(reason("link"), Err(Reason::SymbolicLink));
    assert_eq!(reason("directory"), Err(Reason::NotRegular));
    assert_eq!(reason("pipe"), Err(Reason::NotRegular));
    assert_eq!(reason("socket"), Err(Reason::NotRegular));
    assert_eq!(reason("absent"), Err(Reason::NotFound));
    assert_eq!(reason("stale.qcow2"), Err(Reason::Merged));
    assert_eq!(reason(name(&museum.base)), Err(Reason::AlreadyKnown));
    for file in [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "./image.qcow2",
        "image.qcow2/",
        "a\0b",
    ] {
        assert_eq!(reason(file), Err(Reason::NotPlainName), "{file:?}");
    }
    fs::hard_link(directory.join("image.qcow2"), directory.join("second")).unwrap();
    assert_eq!(reason("image.qcow2"), Err(Reason::HardLinked));
    drop(socket);
}

#[test]
fn raw_is_taken_only_when_asked_for_and_never_with_a_qcow2_header() {
    let museum = Museum::open();
    let show = |bytes: &[u8]| {
        fs::write(museum.temp.path().join("disk.raw"), bytes).unwrap();
        let found = museum.check("disk.raw", Some(ImageFormat::Raw));
        found
            .map(|adopted| adopted.facts.size_bytes)
            .map_err(|refused| refused.reason)
    };
    assert_eq!(show(&[7; 1_024]), Ok(1_024));
    assert_eq!(show(&[7; 1_000]), Err(Reason::RawLength));
    assert_eq!(show(&[]), Err(Reason::RawLength));
    assert_eq!(show(&specimen(None)), Err(Reason::RawLooksLikeQcow2));
    assert_eq!(show(b"QFI\xfbgarbage"), Err(Reason::RawLooksLikeQcow2));
}

#[test]
fn a_table_that_would_take_hours_to_walk_is_given_up_on_the_safe_side() {
    // 2 MiB clusters; the largest L1 table, every entry naming the same empty L2 table.
    let (cluster, entries) = (2_usize << 20, 4_usize << 20);
    let mut bytes = specimen(None);
    bytes[20..24].copy_from_slice(&21_u32.to_be_bytes());
    bytes[36..40].copy_from_slice(&(4_u32 << 20).to_be_bytes());
    bytes[40..48].copy_from_slice(&(4_u64 << 20).to_be_bytes());
    bytes[48..56].copy_from_slice(&(2_u64 << 20).to_be_bytes());
    bytes.resize(2 * cluster, 0);
    for _entry in 0..entries {
        bytes.extend((2_u64 << 20).to_be_bytes());
    }
    let begun = Instant::now();
    assert!(qcow2::read(&bytes).unwrap().has_data);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_an_image_makes_the_reader_panic_or_linger(
        changes in prop::collection::vec((0_usize..256, any::<u8>()), 1..12),
        tables in prop::collection::vec((0_usize..65_536, any::<u8>()), 0..4),
        length in prop_oneof![Just(usize::MAX), 0_usize..400],
    ) {
        let mut bytes = specimen(Some("base.qcow2"));
        bytes[95] = 1;
        for (at, value) in changes {
            bytes[at] = value;
        }
        for (at, value) in tables {
            bytes[196_608 + at] = value;
        }
        bytes.truncate(length);
        let begun = Instant::now();
        if let Ok(contents) = qcow2::read(&bytes) {
            prop_assert!(contents.header.size_bytes.is_multiple_of(512));
        }
        prop_assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn no_bytes_at_all_make_the_header_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.extend(&bytes);
        image.resize(image.len().max(24), 0);
        image[20..24].copy_from_slice(&16_u32.to_be_bytes());
        let parsed = qcow2::Header::parse(&image, u64::MAX);
        prop_assert!(parsed.is_err() || image.len() >= 72);
    }
}
