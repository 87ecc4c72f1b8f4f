//! What a file's bytes are known by: two digests for good, and a check while it is made.
//!
//! Both digests are SHA-256.
//!
//! * `file`: of all its bytes, as `sha256sum` computes it.
//! * `content`: of what it holds of the disk. The disk is cut into areas of 4 MiB; the digest of an area is over each of
//!   its clusters in the file, in order: the cluster's index (8 bytes, little endian), 1 for data or 0 for zeroes, and
//!   for data its 64 KiB. The digest of the content is over each area that has any: its index (8 bytes, little endian)
//!   and its digest.
//!
//! They are computed when the file is whole and is read again, not from what comes from the network. For that there is
//! the *check* of each area: CRC-32 over the bytes that the area's digest is over, computed from memory before they are
//! written, and again from the disk, and compared ([`Qcow2Error::Differs`]). That is enough to say that the digests are
//! of what the server sent. What stands between memory and disk is accident and not an enemy: whoever can change
//! the file while it is made can change the manifest with its digests too, and the bytes' way here is guarded by TLS. Of
//! accidents, CRC-32 finds every one within 32 bits of each other in an area, and misses any other (a block that was not
//! written, or went elsewhere) once in 2^32; the places are in what it is over. It costs a tenth of a SHA-256.
//!
//! *Reading* is direct (see [`super::direct`]) where the file system can, else after the page cache was asked to forget
//! the file, so it is the disk that answers. One thread reads ahead, and one for each digest computes.

use super::{
    CLUSTER_BYTES, Image, Kind, Map, Qcow2Error,
    direct::{Buffer, Direct, Way},
    map::Run,
    write::io_error,
};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
};

/// Clusters of an area.
pub(crate) const AREA_CLUSTERS: u64 = 64;
/// Bytes of a cluster, and of an area.
const CLUSTER: usize = 64 << 10;
pub(crate) const AREA_BYTES: usize = 64 * CLUSTER;
const _: () = assert!(CLUSTER as u64 == CLUSTER_BYTES && AREA_BYTES as u64 == AREA_CLUSTERS * CLUSTER_BYTES);
/// What is read at once. Five pieces are in memory at most: one that is read, and for each digest one that waits and one
/// that is computed.
const PIECE_BYTES: usize = AREA_BYTES / 2;

/// What a file's bytes, and what it holds, are known by. Lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) file: String,
    pub(crate) content: String,
}

/// Checks of areas, as they come.
#[derive(Debug, Default)]
pub(crate) struct Checks(BTreeMap<u64, u32>);

impl Checks {
    pub(crate) fn insert(&mut self, area: u64, check: u32) {
        self.0.insert(area, check);
    }
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

/// What comes before each cluster: where it is, and what.
fn head(cluster: u64, kind: Kind) -> [u8; 9] {
    let mut head = [u8::from(kind == Kind::Data); 9];
    head[..8].copy_from_slice(&cluster.to_le_bytes());
    head
}

/// The check of an area: its parts, and the data of all of them one after the other, in whole clusters.
pub(crate) fn check(parts: &[Run], data: &[u8]) -> u32 {
    let (mut check, mut data) = (crc32fast::Hasher::new(), data.chunks_exact(CLUSTER));
    for part in parts {
        for cluster in part.first..part.end() {
            check.update(&head(cluster, part.kind));
            if part.kind == Kind::Data {
                check.update(data.next().expect("the data of all parts is given"));
            }
        }
    }
    check.finalize()
}

/// Reads a whole file and computes both of its digests; fails if it does not hold what `came`. `read` is told of bytes
/// that were read.
pub(crate) fn digest(
    image: &Image,
    came: Option<&Checks>,
    way: Way,
    mut read: impl FnMut(u64),
) -> Result<Digests, Qcow2Error> {
    let broken = |source| io_error(image.path(), "reading it", source);
    thread::scope(|scope| {
        let (to_file, of_file) = mpsc::sync_channel::<Arc<Buffer>>(1);
        let (to_content, of_content) = mpsc::sync_channel(1);
        let (done, free) = mpsc::channel();
        let begin = |name: &str| thread::Builder::new().name(name.to_owned());
        let reading = begin("reading")
            .spawn_scoped(scope, move || pieces(image, way, &to_file, &to_content, &free))
            .map_err(broken)?;
        let of_content = Pieces {
            coming: of_content,
            done: done.clone(),
            piece: None,
            at: image.layout().data_offset(),
        };
        let content = begin("content")
            .spawn_scoped(scope, move || content(image, came, of_content))
            .map_err(broken)?;
        let mut file = Sha256::new();
        for piece in of_file {
            file.update(piece.bytes());
            read(piece.len() as u64);
            give_back(piece, &done);
        }
        let ended = |_panic| broken(std::io::Error::other("a thread ended"));
        // Why reading ended comes first: the digest of half of the content is none.
        reading.join().map_err(ended)??;
        let content = content.join().map_err(ended)??;
        let content = content.ok_or_else(|| broken(std::io::ErrorKind::UnexpectedEof.into()))?;
        Ok(Digests {
            file: hex(&file.finalize()),
            content,
        })
    })
}

/// Reads a file in pieces, until the end or until nobody wants more.
fn pieces(
    image: &Image,
    way: Way,
    to_file: &SyncSender<Arc<Buffer>>,
    to_content: &SyncSender<Arc<Buffer>>,
    free: &Receiver<Buffer>,
) -> Result<(), Qcow2Error> {
    let direct = Direct::open(image.path(), image.file(), OFlags::RDONLY, way);
    let (mut at, end) = (0, image.layout().file_bytes());
    while at < end {
        let mut piece = free.try_recv().unwrap_or_else(|_none| Buffer::new(PIECE_BYTES));
        let length = usize::try_from(end - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let space = piece.space(length);
        let is_read = match direct.read(at, space) {
            Ok(false) => image.file().read_exact_at(space, at),
            done => done.map(drop),
        };
        is_read.map_err(|source| io_error(image.path(), "reading it", source))?;
        at += length as u64;
        let piece = Arc::new(piece);
        if to_file.send(Arc::clone(&piece)).is_err() || to_content.send(piece).is_err() {
            break;
        }
    }
    Ok(())
}

/// The last one that has a piece gives it back.
fn give_back(piece: Arc<Buffer>, done: &Sender<Buffer>) {
    if let Some(piece) = Arc::into_inner(piece)
        && done.send(piece).is_err()
    {
        tracing::trace!("all is read: the piece is not needed any more");
    }
}

/// The data clusters of a file, from its pieces.
struct Pieces {
    coming: Receiver<Arc<Buffer>>,
    done: Sender<Buffer>,
    piece: Option<Arc<Buffer>>,
    /// Where the next cluster starts, counted from the start of the piece, or of the next one if there is none.
    at: u64,
}

impl Pieces {
    /// The next cluster; `None` when no more come.
    fn cluster(&mut self) -> Option<&[u8]> {
        loop {
            let length = self.piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if self.at < length {
                break;
            }
            self.at -= length;
            if let Some(piece) = self.piece.take() {
                give_back(piece, &self.done);
            }
            self.piece = Some(self.coming.recv().ok()?);
        }
        let at = usize::try_from(self.at).ok()?;
        self.at += CLUSTER_BYTES;
        self.piece.as_ref()?.bytes().get(at..at + CLUSTER)
    }

    /// Takes what still comes.
    fn rest(self) {
        for piece in self.piece.into_iter().chain(self.coming) {
            give_back(piece, &self.done);
        }
    }
}

/// The content's digest; `None` when the file's pieces ended too early.
fn content(image: &Image, came: Option<&Checks>, mut data: Pieces) -> Result<Option<String>, Qcow2Error> {
    let (mut all, mut found) = (Sha256::new(), 0);
    // Data lies in the order of the disk, so the areas come one after the other.
    for (area, parts) in areas(image.map()) {
        let (mut digest, mut check) = (Sha256::new(), crc32fast::Hasher::new());
        for part in &parts {
            for cluster in part.first..part.end() {
                let head = head(cluster, part.kind);
                let data = match part.kind {
                    Kind::Zero => &[],
                    Kind::Data => match data.cluster() {
                        Some(data) => data,
                        None => return Ok(None),
                    },
                };
                digest.update(head);
                digest.update(data);
                if came.is_some() {
                    check.update(&head);
                    check.update(data);
                }
            }
        }
        if came.is_some_and(|came| came.0.get(&area) != Some(&check.finalize())) {
            return Err(Qcow2Error::Differs);
        }
        found += 1;
        all.update(area.to_le_bytes());
        all.update(digest.finalize());
    }
    // What has no data has pieces as well, and they have to be taken.
    data.rest();
    if came.is_some_and(|came| came.0.len() != found) {
        return Err(Qcow2Error::Differs);
    }
    Ok(Some(hex(&all.finalize())))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a text in memory does not fail");
        text
    })
}
