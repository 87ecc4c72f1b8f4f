//! What a file holds of its disk: runs of clusters, from a server's extents to the resolution of a whole chain.

use super::{CLUSTER_BYTES, Qcow2Error, SIZE_MAX_BYTES};
use stillpoint_sdk::Extent;

/// The most runs of a file: a disk of 2 TiB in which every other cluster is taken. 24 bytes of memory each.
const RUNS_MAX: usize = 16 << 20;

/// What a cluster in a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its bytes are in the file.
    Data,
    /// It reads as zeroes, whatever the backing file says.
    Zero,
}

/// Clusters that follow each other and are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first cluster on the disk.
    pub(crate) first: u64,
    /// How many; never 0.
    pub(crate) count: u64,
    pub(crate) kind: Kind,
    /// Of data: how many data clusters of the file come before the first one.
    pub(crate) data_index: u64,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What a file holds. What is in no run comes from the backing file, or is zero if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    size_bytes: u64,
    /// In order, without overlap; neighbours of one kind are one run.
    runs: Vec<Run>,
    data_clusters: u64,
}

impl Map {
    /// An empty map of a disk.
    pub(crate) fn new(size_bytes: u64) -> Result<Self, Qcow2Error> {
        if size_bytes == 0 || !size_bytes.is_multiple_of(512) || size_bytes > SIZE_MAX_BYTES {
            return Err(Qcow2Error::Unfit(format!(
                "a disk of {size_bytes} bytes cannot be put into a qcow2 file: 512 bytes to 1 PiB in steps of 512 can"
            )));
        }
        Ok(Self {
            size_bytes,
            runs: Vec::new(),
            data_clusters: 0,
        })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Clusters of the disk.
    pub(crate) fn clusters(&self) -> u64 {
        self.size_bytes.div_ceil(CLUSTER_BYTES)
    }

    pub(crate) fn data_clusters(&self) -> u64 {
        self.data_clusters
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of the disk that the file holds as data, or as zeroes.
    pub(crate) fn bytes_of(&self, kind: Kind) -> u64 {
        let of_kind = self.runs.iter().filter(|run| run.kind == kind);
        of_kind
            .map(|run| self.byte_end(run.end()) - run.first * CLUSTER_BYTES)
            .sum()
    }

    /// The disk's byte at which the clusters before `cluster` end.
    pub(crate) fn byte_end(&self, cluster: u64) -> u64 {
        cluster.saturating_mul(CLUSTER_BYTES).min(self.size_bytes)
    }

    /// Adds clusters after those that are there.
    pub(crate) fn push(&mut self, first: u64, count: u64, kind: Kind) -> Result<(), Qcow2Error> {
        debug_assert!(self.runs.last().is_none_or(|last| last.end() <= first) && first + count <= self.clusters());
        let data_index = self.data_clusters;
        if kind == Kind::Data {
            self.data_clusters += count;
        }
        if let Some(last) = self.runs.last_mut()
            && last.kind == kind
            && last.end() == first
        {
            last.count += count;
            return Ok(());
        }
        if self.runs.len() >= RUNS_MAX {
            let text = format!("the disk is too scattered: more than {RUNS_MAX} separate pieces");
            return Err(Qcow2Error::Unfit(text));
        }
        self.runs.push(Run {
            first,
            count,
            kind,
            data_index,
        });
        Ok(())
    }
}

/// How a server's extents are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The file stands alone: all that is not zero is in it.
    Full,
    /// The file stands on the one before: all that has changed is in it, zeroes too.
    Incremental,
}

/// What an extent does to a part of a cluster.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    nothing: bool,
    zero: bool,
    data: bool,
}

/// Makes a map from extents of any alignment.
///
/// A cluster that is touched in part is taken whole: what a client reads outside of the dirty extents is the same
/// moment's content, so taking more is right, and taking less never is.
#[derive(Debug)]
pub(crate) struct MapBuilder {
    map: Map,
    mode: Mode,
    /// Where the next extent must start.
    at: u64,
    /// The parts so far of the cluster that `at` is inside of.
    seen: Seen,
}

impl MapBuilder {
    pub(crate) fn new(size_bytes: u64, mode: Mode) -> Result<Self, Qcow2Error> {
        Ok(Self {
            map: Map::new(size_bytes)?,
            mode,
            at: 0,
            seen: Seen::default(),
        })
    }

    pub(crate) fn push(&mut self, extent: &Extent) -> Result<(), Qcow2Error> {
        let size = self.map.size_bytes;
        if extent.start != self.at || extent.end() > size {
            return Err(Qcow2Error::Unfit(format!(
                "the server lists {} bytes at {} of a disk of {size} bytes, where {} must follow",
                extent.length, extent.start, self.at
            )));
        }
        let seen = match (self.mode, extent.is_dirty, extent.is_zero) {
            (Mode::Full, _, true) | (Mode::Incremental, false, _) => Seen {
                nothing: true,
                ..Seen::default()
            },
            (Mode::Incremental, true, true) => Seen {
                zero: true,
                ..Seen::default()
            },
            (Mode::Full, _, false) | (Mode::Incremental, true, false) => Seen {
                data: true,
                ..Seen::default()
            },
        };
        while self.at < extent.end() {
            let cluster = self.at / CLUSTER_BYTES;
            let whole_until = if extent.end() == size {
                self.map.clusters()
            } else {
                extent.end() / CLUSTER_BYTES
            };
            if self.at.is_multiple_of(CLUSTER_BYTES) && whole_until > cluster {
                self.take(cluster, whole_until - cluster, seen)?;
                self.at = self.map.byte_end(whole_until);
                continue;
            }
            let (cluster_end, part_end) = (self.map.byte_end(cluster + 1), extent.end());
            self.seen.nothing |= seen.nothing;
            self.seen.zero |= seen.zero;
            self.seen.data |= seen.data;
            self.at = part_end.min(cluster_end);
            if self.at == cluster_end {
                let seen = std::mem::take(&mut self.seen);
                self.take(cluster, 1, seen)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, first: u64, count: u64, seen: Seen) -> Result<(), Qcow2Error> {
        match seen {
            Seen {
                data: false,
                zero: false,
                ..
            } => Ok(()),
            Seen {
                data: false,
                nothing: false,
                ..
            } => self.map.push(first, count, Kind::Zero),
            _ => self.map.push(first, count, Kind::Data),
        }
    }

    /// The map, when the extents reached the end of the disk.
    pub(crate) fn finish(self) -> Result<Map, Qcow2Error> {
        if self.at != self.map.size_bytes {
            return Err(Qcow2Error::Unfit(format!(
                "the server lists {} of the disk's {} bytes",
                self.at, self.map.size_bytes
            )));
        }
        Ok(self.map)
    }
}

/// Data clusters that follow each other on the disk and in one file of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Which map of the chain.
    pub(crate) layer: usize,
    /// The first one's number among the data clusters of that file.
    pub(crate) data_index: u64,
}

/// What a chain (the newest file first) holds as data, in the order of the disk. All else is zero.
pub(crate) fn resolve<'m>(chain: &'m [&'m Map]) -> impl Iterator<Item = Resolved> + 'm {
    let clusters = chain.first().map_or(0, |top| top.clusters());
    let mut cursors = vec![0_usize; chain.len()];
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < clusters {
            let mut end = clusters;
            let mut found = None;
            for (layer, map) in chain.iter().enumerate() {
                let cursor = &mut cursors[layer];
                while map.runs.get(*cursor).is_some_and(|run| run.end() <= at) {
                    *cursor += 1;
                }
                let Some(run) = map.runs.get(*cursor) else { continue };
                if run.first <= at {
                    end = end.min(run.end());
                    found = Some((layer, run));
                    break;
                }
                end = end.min(run.first);
            }
            let (first, count) = (at, end - at);
            at = end;
            if let Some((layer, run)) = found
                && run.kind == Kind::Data
            {
                return Some(Resolved {
                    first,
                    count,
                    layer,
                    data_index: run.data_index + (first - run.first),
                });
            }
        }
        None
    })
}
