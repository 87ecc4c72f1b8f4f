//! The two digests of a file. Both are SHA-256.
//!
//! * `file`: of all its bytes, as `sha256sum` computes it.
//! * `content`: of what it holds of the disk. The disk is cut into areas of 4 MiB; the digest of an area is over each of
//!   its clusters in the file, in order: the cluster's index (8 bytes, little endian), 1 for data or 0 for zeroes, and
//!   for data its 64 KiB. The digest of the content is over each area that has any: its index (8 bytes, little endian)
//!   and its digest.
//!
//! The content's digest is computed twice: from what came from the network while it came, and from the file when it is
//! whole. So what is on the disk is what the server sent, and not what a cache says.

use super::{CLUSTER_BYTES, Kind, Layout, Map, Qcow2Error, map::Run, read::fill};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{Seek as _, SeekFrom},
    path::Path,
};

/// Clusters of an area.
pub(crate) const AREA_CLUSTERS: u64 = 64;

/// What a file's bytes, and what it holds, are known by. Lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) file: String,
    pub(crate) content: String,
}

/// The areas of a map that have clusters in the file, each with its parts, in order.
pub(crate) fn areas(map: &Map) -> impl Iterator<Item = (u64, Vec<Run>)> + '_ {
    let mut parts = map.runs().iter().flat_map(|run| cut(*run)).peekable();
    std::iter::from_fn(move || {
        let first = parts.next()?;
        let area = first.first / AREA_CLUSTERS;
        let mut found = vec![first];
        while let Some(part) = parts.next_if(|part| part.first / AREA_CLUSTERS == area) {
            found.push(part);
        }
        Some((area, found))
    })
}

/// A run, cut where areas meet.
fn cut(run: Run) -> impl Iterator<Item = Run> {
    let mut rest = Some(run);
    std::iter::from_fn(move || {
        let run = rest.take()?;
        let until = (run.first / AREA_CLUSTERS + 1) * AREA_CLUSTERS;
        let count = run.count.min(until - run.first);
        if count < run.count {
            rest = Some(Run {
                first: run.first + count,
                count: run.count - count,
                data_index: run.data_index + if run.kind == Kind::Data { count } else { 0 },
                ..run
            });
        }
        Some(Run { count, ..run })
    })
}

/// The digest of an area: its parts, and the data of all of them one after the other, in whole clusters.
pub(crate) fn of_area(parts: &[Run], mut data: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        for cluster in part.first..part.end() {
            hash.update(cluster.to_le_bytes());
            hash.update([u8::from(part.kind == Kind::Data)]);
            if part.kind == Kind::Data {
                let (bytes, rest) = data.split_at(usize::try_from(CLUSTER_BYTES).expect("64 KiB"));
                hash.update(bytes);
                data = rest;
            }
        }
    }
    hash.finalize().into()
}

/// Digests of areas, as they come. 40 bytes for 4 MiB of data.
#[derive(Debug, Default)]
pub(crate) struct Areas(BTreeMap<u64, [u8; 32]>);

impl Areas {
    pub(crate) fn insert(&mut self, area: u64, digest: [u8; 32]) {
        self.0.insert(area, digest);
    }

    /// The content's digest.
    pub(crate) fn finish(&self) -> String {
        let mut hash = Sha256::new();
        for (area, digest) in &self.0 {
            hash.update(area.to_le_bytes());
            hash.update(digest);
        }
        hex(&hash.finalize())
    }
}

/// Reads a whole file and computes both of its digests. `read` is told of bytes that were read.
pub(crate) fn digest(
    path: &Path,
    mut file: &File,
    map: &Map,
    layout: &Layout,
    mut read: impl FnMut(u64),
) -> Result<Digests, Qcow2Error> {
    let io = |source| super::write::io_error(path, "reading it", source);
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let (mut whole, mut content) = (Sha256::new(), Areas::default());
    let mut buffer = vec![0; usize::try_from(AREA_CLUSTERS * CLUSTER_BYTES).expect("4 MiB")];
    let mut left = layout.data_offset();
    while left > 0 {
        let piece = usize::try_from(left.min(buffer.len() as u64)).expect("4 MiB at most");
        fill(path, file, &mut buffer[..piece])?;
        whole.update(&buffer[..piece]);
        left -= piece as u64;
        read(piece as u64);
    }
    // Data lies in the order of the disk, so the areas come one after the other.
    for (area, parts) in areas(map) {
        let of_data = parts.iter().filter(|part| part.kind == Kind::Data);
        let clusters: u64 = of_data.map(|part| part.count).sum();
        let piece = usize::try_from(clusters * CLUSTER_BYTES).expect("4 MiB at most");
        fill(path, file, &mut buffer[..piece])?;
        content.insert(area, both(&mut whole, &parts, &buffer[..piece]));
        read(piece as u64);
    }
    Ok(Digests {
        file: hex(&whole.finalize()),
        content: content.finish(),
    })
}

/// Less data is not worth a thread.
const THREAD_MIN_BYTES: usize = 512 << 10;

/// Takes an area's data into the file's digest; its own digest. The two are computed at the same time.
fn both(whole: &mut Sha256, parts: &[Run], data: &[u8]) -> [u8; 32] {
    if data.len() >= THREAD_MIN_BYTES {
        return std::thread::scope(|scope| {
            let one = std::thread::Builder::new().spawn_scoped(scope, || of_area(parts, data));
            whole.update(data);
            // Without a thread to be had, or when it ended badly, it is done here.
            one.ok()
                .and_then(|one| one.join().ok())
                .unwrap_or_else(|| of_area(parts, data))
        });
    }
    whole.update(data);
    of_area(parts, data)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a text in memory does not fail");
        text
    })
}
