//! Files that lie: whatever stands in header and tables, reading ends, with bytes or with an error, and never panics.
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use proptest::{prelude::*, test_runner::TestRunner};
use std::{fs, io, path::Path, process::Command};
use stillpoint_qcow2::{Chain, Damage, OpenError, Patience, Place, ReadError};

const MIB: u64 = 1 << 20;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        done.status.success() && !said.contains("failed"),
        "{program} {arguments:?}: {said}"
    );
}

/// An image of 8 MiB with data, zeroes and a compressed cluster.
fn image(directory: &Path, options: &str, cluster: u64) -> Vec<u8> {
    let path = directory.join("made.qcow2");
    let name = path.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, name, "8M"]);
    let packed = format!("write -c -P 3 3M {cluster}");
    run(
        "qemu-io",
        &[
            "-f",
            "qcow2",
            "-c",
            "write -P 1 0 200k",
            "-c",
            "write -z 1M 512k",
            "-c",
            &packed,
            name,
        ],
    );
    fs::read(path).unwrap()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
}

fn open(directory: &Path, bytes: &[u8]) -> Result<Chain, OpenError> {
    let path = directory.join("bad.qcow2");
    fs::write(&path, bytes).unwrap();
    Chain::open(&[Place { path, is_raw: false }]).map_err(|(_, error)| error)
}

/// Reads all that can be read, up to a bound, and looks at the extents.
fn walk(chain: &Chain) {
    let end = chain.size_bytes().min(64 * MIB);
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < end {
        let step = (end - at).min(MIB);
        let part = &mut buffer[..usize::try_from(step).unwrap()];
        let now = chain.read(part, at, Patience::Now).is_ok();
        let waited = chain.read(part, at, Patience::Wait);
        assert!(!now || waited.is_ok(), "the same answer, with patience or without");
        assert!(
            !matches!(waited, Err(ReadError::Io(_))),
            "a lie is no failure of the storage"
        );
        at += step;
    }
    at = 0;
    while at < chain.size_bytes() {
        let Ok(found) = chain.extents(at, chain.size_bytes(), Patience::Wait) else {
            break;
        };
        let sum: u64 = found.iter().map(|extent| extent.length).sum();
        assert!(sum > 0 && at + sum <= chain.size_bytes());
        at += sum;
        if at > 1 << 50 {
            break;
        }
    }
}

#[test]
fn no_header_and_no_table_makes_a_reader_fall() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = [
        ("cluster_size=64k", 64 << 10),
        ("cluster_size=512", 512),
        ("cluster_size=64k,compat=0.10", 64 << 10),
        ("cluster_size=16k,extended_l2=on", 16 << 10),
    ];
    let images: Vec<Vec<u8>> = kinds
        .iter()
        .map(|(options, cluster)| image(directory.path(), options, *cluster))
        .collect();
    for bytes in &images {
        walk(&open(directory.path(), bytes).unwrap());
    }
    let lie = (0..3_u8, any::<prop::sample::Index>(), 0..9_u8, any::<u64>());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    let cases = (prop::sample::select(images), prop::collection::vec(lie, 1..6));
    runner
        .run(&cases, |(mut bytes, lies)| {
            let (length, l1) = (bytes.len() as u64, usize::try_from(word(&bytes, 40)).unwrap());
            let l2 = usize::try_from(word(&bytes, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
            for (table, place, how, random) in lies {
                let (begin, words) = [(0, 14), (l1, 2), (l2, 24)][usize::from(table)];
                let at = begin + place.index(words) * 8;
                let cluster = random % (length / 512) * 512;
                let lie = match how {
                    0 => 0,
                    1 => u64::MAX,
                    2 => random,
                    3 => COPIED | cluster,
                    4 => COMPRESSED | random >> 2,
                    5 => length | COPIED,
                    6 => l1 as u64 | COPIED,
                    7 => word(&bytes, at) ^ 1 << (random % 64),
                    _ => COMPRESSED | (random % length),
                };
                if at + 8 <= bytes.len() {
                    put(&mut bytes, at, lie);
                }
            }
            if let Ok(chain) = open(directory.path(), &bytes) {
                walk(&chain);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn places_outside_of_the_file_and_in_its_header_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = image(directory.path(), "cluster_size=64k", 64 << 10);
    let length = good.len() as u64;
    let l1 = usize::try_from(word(&good, 40)).unwrap();
    let l2 = usize::try_from(word(&good, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    let read = |bytes: &[u8], at: u64| {
        let chain = open(directory.path(), bytes).unwrap();
        let mut buffer = vec![0; 4096];
        chain.read(&mut buffer, at, Patience::Wait).map(|()| buffer)
    };
    assert_eq!(read(&good, 4096).unwrap(), vec![1; 4096]);
    assert_eq!(read(&good, 3 * MIB + 100).unwrap(), vec![3; 4096]);
    let end = length.next_multiple_of(65536);
    // Table entries: behind the end, not on a cluster, with unknown bits, compressed within the header.
    for bad in [
        end,
        end + (1 << 40),
        65536 + 512,
        65536 | 1 << 5,
        65536 | 1 << 60,
        COMPRESSED | 4096,
    ] {
        let mut bytes = good.clone();
        put(&mut bytes, l2, bad);
        let told = read(&bytes, 4096).unwrap_err();
        assert!(
            matches!(told, ReadError::Damage(Damage::L2Entry(entry)) if entry == bad),
            "{bad:#x}: {told}"
        );
    }
    for bad in [end, 65536 + 512, 65536 | 1, u64::MAX] {
        let mut bytes = good.clone();
        put(&mut bytes, l1, bad);
        let told = read(&bytes, 4096).unwrap_err();
        assert!(
            matches!(told, ReadError::Damage(Damage::L1Entry(entry)) if entry == bad),
            "{bad:#x}: {told}"
        );
    }
    // What is no deflate stream, or one of too few bytes.
    let mut bytes = good.clone();
    put(&mut bytes, l2, COMPRESSED | 65536);
    assert!(matches!(
        read(&bytes, 0).unwrap_err(),
        ReadError::Damage(Damage::Compressed(_))
    ));
    let chain = open(directory.path(), &good).unwrap();
    let behind = chain.read(&mut [0; 512], 8 * MIB - 511, Patience::Wait).unwrap_err();
    assert!(matches!(behind, ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));
    let mut bytes = good;
    put(&mut bytes, 40, 0);
    assert!(open(directory.path(), &bytes).is_err(), "an L1 table in the header");
}
