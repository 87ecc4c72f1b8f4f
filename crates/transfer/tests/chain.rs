//! Chains that are read in this process, against the same chains over NBD: qcow2 of all kinds, as `qemu-io` fills them.
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod common;

use common::*;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillpoint_engine::ports::{DataPlane as _, DriverErrorKind, ImageRef, Source};
use stillpoint_types::{ImageFormat, ImageId};

const KIB: u64 = 1024;

/// Numbers without a pattern; the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn layer(path: PathBuf) -> ImageRef {
    ImageRef {
        id: ImageId::fresh(),
        format: ImageFormat::Cow,
        path,
    }
}

/// One kind of chain: options of `qemu-img`, bytes of a cluster, sizes of the layers (base first), a raw base.
struct Kind {
    options: &'static str,
    cluster: u64,
    sizes: &'static [u64],
    raw_base: bool,
}

const KINDS: &[Kind] = &[
    Kind {
        options: "cluster_size=512",
        cluster: 512,
        sizes: &[3 * MIB, 3 * MIB],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=4k,compat=0.10",
        cluster: 4 * KIB,
        sizes: &[9 * MIB, 8 * MIB, 10 * MIB + 512],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=64k",
        cluster: 64 * KIB,
        sizes: &[20 * MIB, 16 * MIB + 512, 24 * MIB],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=64k,compat=0.10",
        cluster: 64 * KIB,
        sizes: &[20 * MIB],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=64k",
        cluster: 64 * KIB,
        sizes: &[20 * MIB - 700, 24 * MIB, 24 * MIB],
        raw_base: true,
    },
    Kind {
        options: "cluster_size=64k,lazy_refcounts=on",
        cluster: 64 * KIB,
        sizes: &[700 * MIB, 1100 * MIB],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=2M",
        cluster: 2 * MIB,
        sizes: &[40 * MIB, 39 * MIB + 512],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=16k,extended_l2=on",
        cluster: 16 * KIB,
        sizes: &[20 * MIB, 20 * MIB],
        raw_base: true,
    },
    Kind {
        options: "cluster_size=128k,extended_l2=on",
        cluster: 128 * KIB,
        sizes: &[20 * MIB, 24 * MIB, 20 * MIB],
        raw_base: false,
    },
    Kind {
        options: "cluster_size=64k,preallocation=metadata",
        cluster: 64 * KIB,
        sizes: &[20 * MIB],
        raw_base: false,
    },
];

/// A command that changes a disk of this size.
fn change(dice: &mut Dice, size: u64, cluster: u64) -> String {
    let sector = 512;
    let reach = (48 * cluster).min(size / 3).max(sector);
    let at = dice.below(size / sector) * sector;
    let length = ((dice.below(reach / sector) + 1) * sector).min(size - at);
    let pattern = dice.below(255) + 1;
    match dice.below(6) {
        0 => format!("write -z {at} {length}"),
        1 => format!("write -z -u {at} {length}"),
        2 => format!("discard {at} {length}"),
        _ => format!("write -P {pattern} {at} {length}"),
    }
}

/// Compressed clusters, each once and first: QEMU writes none over what is there.
fn packed(dice: &mut Dice, kind: &Kind, size: u64) -> Vec<String> {
    const COUNT: u64 = 4;
    if kind.options.contains("preallocation") {
        return Vec::new();
    }
    let part = size / kind.cluster / COUNT;
    let one = |k| {
        let (at, pattern) = ((k * part + dice.below(part)) * kind.cluster, dice.below(255) + 1);
        format!("write -c -P {pattern} {at} {}", kind.cluster)
    };
    (0..COUNT).map(one).collect()
}

/// Makes the files, base first.
fn make(directory: &Path, kind: &Kind, dice: &mut Dice) -> Vec<ImageRef> {
    let mut layers: Vec<ImageRef> = Vec::new();
    for (depth, size) in kind.sizes.iter().enumerate() {
        let is_raw = kind.raw_base && depth == 0;
        let path = directory.join(format!("{depth}.{}", if is_raw { "raw" } else { "qcow2" }));
        let format = if is_raw { ImageFormat::Raw } else { ImageFormat::Cow };
        if is_raw {
            let mut bytes = noise(dice.below(1 << 40), usize::try_from(*size).unwrap());
            // A hole somewhere in it.
            let hole = usize::try_from(4 * MIB).unwrap();
            bytes.drain(..hole);
            std::fs::write(&path, []).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 4 * MIB).unwrap();
        } else {
            let (bytes, below) = (size.to_string(), layers.last());
            let mut words = vec!["create", "-q", "-f", "qcow2", "-o", kind.options];
            if let Some(below) = below {
                let name = if below.format == ImageFormat::Raw {
                    "raw"
                } else {
                    "qcow2"
                };
                words.extend(["-b", text(&below.path), "-F", name]);
            }
            words.extend([text(&path), &bytes]);
            run("qemu-img", &words);
            let mut commands = packed(dice, kind, *size);
            commands.extend((0..12).map(|_| change(dice, *size, kind.cluster)));
            let mut words = vec!["-d", "unmap", "-f", "qcow2"];
            for command in &commands {
                words.extend(["-c", command]);
            }
            words.push(text(&path));
            let said = run("qemu-io", &words);
            assert!(
                !said.contains("error") && !said.contains("failed"),
                "{commands:?}: {said}"
            );
        }
        layers.push(ImageRef {
            id: ImageId::fresh(),
            format,
            path,
        });
    }
    layers
}

/// An extent: start, length, zero, hole.
type Told = (u64, u64, bool, bool);

fn told(extents: &[serde_json::Value]) -> Vec<Told> {
    let one = |extent: &serde_json::Value| {
        let number = |name: &str| extent[name].as_u64().unwrap();
        (
            number("start"),
            number("length"),
            extent["zero"] == true,
            extent["hole"] == true,
        )
    };
    extents.iter().map(one).collect()
}

/// Where the flagged ones begin and end, neighbours made one.
fn flagged(extents: &[Told], size: u64, flag: impl Fn(&Told) -> bool) -> Vec<(u64, u64)> {
    let (mut all, mut at) = (Vec::<(u64, u64)>::new(), 0);
    for extent in extents {
        assert!(extent.0 == at && extent.1 > 0, "without a gap: {extents:?}");
        at += extent.1;
        if flag(extent) {
            match all.last_mut().filter(|last| last.1 == extent.0) {
                Some(last) => last.1 = at,
                None => all.push((extent.0, at)),
            }
        }
    }
    assert_eq!(at, size);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_has_the_bytes_and_the_extents_that_qemu_says_it_has() {
    let plane = Plane::start().await;
    for (number, kind) in (1..).zip(KINDS) {
        let directory = tempfile::tempdir().unwrap();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number));
        let layers = make(directory.path(), kind, &mut dice);
        let top = &layers.last().unwrap().path;
        let size = *kind.sizes.last().unwrap();
        let nbd = Nbd::start(directory.path(), top, &["--read-only", "--allocation-depth"]).await;
        let theirs = plane.add(nbd.source(None), size, READ).await;
        let ours = plane.add(Source::Chain(layers.clone()), size, READ).await;
        let what = format!("{} {:?}", kind.options, kind.sizes);

        let zero = (
            told(&plane.extents(&ours, "zero").await),
            told(&plane.extents(&theirs, "zero").await),
        );
        let of = |flag: fn(&Told) -> bool| (flagged(&zero.0, size, flag), flagged(&zero.1, size, flag));
        let (ours_hole, theirs_hole) = of(|extent| extent.3);
        assert_eq!(ours_hole, theirs_hole, "{what}: holes");
        // We look for holes of the file everywhere, QEMU does not.
        let (more, less) = of(|extent| extent.2);
        let missed = less
            .iter()
            .find(|(start, end)| !more.iter().any(|(from, to)| from <= start && end <= to));
        assert_eq!(missed, None, "{what}: zeroes that we do not see");

        // Of the large ones only the part that holds something, and its end.
        let mut ranges = vec![(0, size.min(40 * MIB)), (size - size.min(3 * MIB), size.min(3 * MIB))];
        for _ in 0..24 {
            let at = dice.below(size);
            ranges.push((at, (dice.below(3 * kind.cluster) + 1).min(size - at)));
        }
        for (at, length) in ranges {
            let (ours, theirs) = (
                plane.get_range(&ours, at, length).await,
                plane.get_range(&theirs, at, length).await,
            );
            assert_eq!((ours.status, theirs.status), (206, 206));
            assert!(ours.body == theirs.body, "{what}: {length} bytes at {at}");
            for (start, bytes, zero, _) in zero.0.iter().filter(|extent| extent.2) {
                assert!(zero);
                let (from, to) = ((*start).max(at), (start + bytes).min(at + length));
                let part = from.saturating_sub(at)..to.saturating_sub(at);
                if from < to {
                    let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                    assert!(
                        ours.body[part].iter().all(|byte| *byte == 0),
                        "{what}: no zeroes at {from}"
                    );
                }
            }
        }
        plane.transfer.remove(&ours, Duration::from_secs(5)).await.unwrap();
        plane.transfer.remove(&theirs, Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_not_for_us_to_read_is_left_to_qemu() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let plane = Plane::start().await;
    let refused = async |layers: Vec<ImageRef>| {
        let wanted = ticket(Source::Chain(layers), MIB, READ, Duration::from_secs(60));
        plane.transfer.add(wanted).await.unwrap_err().kind
    };
    let zstd = path("zstd.qcow2");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "compression_type=zstd",
            text(&zstd),
            "64M",
        ],
    );
    let other = path("data.qcow2");
    let data = format!("data_file={},data_file_raw=on", text(&path("data.raw")));
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &data, text(&other), "64M"],
    );
    let plain = path("plain.qcow2");
    make_qcow2(&plain, 64 * MIB);
    let cut = path("cut.qcow2");
    std::fs::write(&cut, &std::fs::read(&plain).unwrap()[..70 * 1024]).unwrap();
    for bad in [zstd, other, cut] {
        assert_eq!(
            refused(vec![layer(plain.clone()), layer(bad)]).await,
            DriverErrorKind::Unsupported
        );
    }
    assert_eq!(refused(vec![layer(path("none"))]).await, DriverErrorKind::NotFound);
    let writer = Nbd::start(directory.path(), &plain, &[]).await;
    assert_eq!(
        refused(vec![layer(plain.clone())]).await,
        DriverErrorKind::Unsupported,
        "it is written to"
    );
    drop(writer);
    let wanted = ticket(
        Source::Chain(vec![layer(plain.clone())]),
        MIB,
        WRITE,
        Duration::from_secs(60),
    );
    assert_eq!(
        plane.transfer.add(wanted).await.unwrap_err().kind,
        DriverErrorKind::Unsupported
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_without_its_base_reads_zeroes_and_nobody_writes_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let plane = Plane::start().await;
    let plain = path("plain.qcow2");
    make_qcow2(&plain, 64 * MIB);
    qemu_io(&plain, &["write -P 1 0 64M"]);
    let top = path("top.qcow2");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            text(&plain),
            "-F",
            "qcow2",
            text(&top),
        ],
    );
    qemu_io(&top, &["write -P 2 1M 64k"]);
    let alone = plane.add(Source::Chain(vec![layer(top)]), 64 * MIB, READ).await;
    let answer = plane.get_range(&alone, MIB - 1, 64 * KIB + 2).await;
    assert_eq!(
        (answer.body[0], answer.body[1], *answer.body.last().unwrap()),
        (0, 2, 0)
    );
    let told = told(&plane.extents(&alone, "zero").await);
    let rest = 64 * MIB - MIB - 64 * KIB;
    let wanted = [
        (0, MIB, true, true),
        (MIB, 64 * KIB, false, false),
        (MIB + 64 * KIB, rest, true, true),
    ];
    assert_eq!(told, wanted);
    let refusing = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", "write 0 512", text(&path("top.qcow2"))])
        .output();
    assert!(!refusing.unwrap().status.success(), "what is served is not written to");
    plane.transfer.remove(&alone, Duration::from_secs(5)).await.unwrap();
    qemu_io(&path("top.qcow2"), &["write 0 512"]);
}
