//! Reading a file: nothing in it is believed, and all of its metadata must be what [`Layout`] says for its map.
//!
//! So a file is either exactly one that [`super::Writer`] wrote, or damaged; there is no third kind to go wrong with.

use super::{
    CLUSTER_BYTES, Kind, L2_ENTRIES, Layout, Map, Qcow2Error, SIZE_MAX_BYTES,
    direct::forget,
    layout::{COPIED, L1_CLUSTER, ZERO},
    write::io_error,
};
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A file of a backup, open for reading.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    file: File,
    map: Map,
    layout: Layout,
    backing: Option<String>,
}

impl Image {
    /// Opens a file and checks its metadata, as it is on the disk: every table, every reference, every refcount, its
    /// length.
    pub(crate) fn open(path: &Path) -> Result<Self, Qcow2Error> {
        let file = File::open(path).map_err(|source| io_error(path, "opening it", source))?;
        let source = Source { path, file: &file };
        let metadata = file
            .metadata()
            .map_err(|source| io_error(path, "looking at it", source))?;
        if !metadata.is_file() {
            return Err(source.damaged("it is no regular file"));
        }
        forget(&file);
        let head = source.cluster(0)?;
        let (size_bytes, backing) = source.header(&head)?;
        let map = source.map(size_bytes)?;
        let layout = Layout::of(&map);
        if metadata.len() != layout.file_bytes() {
            let text = format!("it has {} bytes instead of {}", metadata.len(), layout.file_bytes());
            return Err(source.damaged(text));
        }
        source.check(&head, &map, &layout, backing.as_deref())?;
        Ok(Self {
            path: path.to_owned(),
            file,
            map,
            layout,
            backing,
        })
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The name of its backing file, as it is in the header.
    pub(crate) fn backing(&self) -> Option<&str> {
        self.backing.as_deref()
    }

    /// The file, for whoever reads it whole.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads data clusters from the `data_index`th on.
    pub(crate) fn read_data(&self, data_index: u64, bytes: &mut [u8]) -> Result<(), Qcow2Error> {
        let read = self.file.read_exact_at(bytes, self.layout.data_at(data_index));
        read.map_err(|source| io_error(&self.path, "reading data", source))
    }
}

struct Source<'f> {
    path: &'f Path,
    file: &'f File,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_be_bytes(bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_be_bytes(bytes)
}

impl Source<'_> {
    fn damaged(&self, detail: impl Into<String>) -> Qcow2Error {
        Qcow2Error::Damaged {
            path: self.path.display().to_string(),
            detail: detail.into(),
        }
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>, Qcow2Error> {
        let mut bytes = Vec::new();
        let mut length_left = length;
        // In pieces: a length from a damaged file must not become an allocation.
        while length_left > 0 {
            let piece = length_left.min(CLUSTER_BYTES);
            let begin = bytes.len();
            bytes.resize(begin + usize::try_from(piece).expect("a cluster at most"), 0);
            let place = at + (length - length_left);
            if let Err(error) = self.file.read_exact_at(&mut bytes[begin..], place) {
                return Err(if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    self.damaged(format!("it ends before byte {}", place + piece))
                } else {
                    io_error(self.path, "reading its metadata", error)
                });
            }
            length_left -= piece;
        }
        Ok(bytes)
    }

    fn cluster(&self, cluster: u64) -> Result<Vec<u8>, Qcow2Error> {
        self.bytes(cluster * CLUSTER_BYTES, CLUSTER_BYTES)
    }

    /// Size of the disk, and the backing file's name. All else of the header is compared as a whole later.
    fn header(&self, head: &[u8]) -> Result<(u64, Option<String>), Qcow2Error> {
        if &head[..4] != b"QFI\xfb" {
            return Err(self.damaged("it is no qcow2 file, or was never finished"));
        }
        let size_bytes = word(head, 24);
        if size_bytes == 0 || size_bytes > SIZE_MAX_BYTES {
            return Err(self.damaged(format!("its header says a disk of {size_bytes} bytes")));
        }
        let (at, length) = (word(head, 8), half(head, 16));
        if at == 0 {
            return Ok((size_bytes, None));
        }
        let name = usize::try_from(at)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(at, length)| head.get(at..at.checked_add(length)?))
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or_else(|| self.damaged("the name of its backing file is outside of its header"))?;
        Ok((size_bytes, Some(name.to_owned())))
    }

    /// What the tables say; data must lie in the order of the disk.
    fn map(&self, size_bytes: u64) -> Result<Map, Qcow2Error> {
        let mut map = Map::new(size_bytes).map_err(|error| self.damaged(error.to_string()))?;
        let clusters = map.clusters();
        let l1 = self.bytes(L1_CLUSTER * CLUSTER_BYTES, clusters.div_ceil(L2_ENTRIES) * 8)?;
        let mut expected: Option<u64> = None;
        // Tables follow each other, so a damaged L1 cannot make this read more than the file has.
        let mut next_table = (L1_CLUSTER + (l1.len() as u64).div_ceil(CLUSTER_BYTES)) * CLUSTER_BYTES;
        for (index, entry) in l1.chunks_exact(8).map(|entry| word(entry, 0)).enumerate() {
            if entry == 0 {
                continue;
            }
            if entry != next_table | COPIED {
                return Err(self.damaged("its L1 table is not as it was written"));
            }
            let table = self.bytes(next_table, CLUSTER_BYTES)?;
            next_table += CLUSTER_BYTES;
            for (slot, entry) in table.chunks_exact(8).map(|entry| word(entry, 0)).enumerate() {
                let cluster = index as u64 * L2_ENTRIES + slot as u64;
                let kind = match entry {
                    0 => continue,
                    ZERO => Kind::Zero,
                    _ => Kind::Data,
                };
                if cluster >= clusters {
                    return Err(self.damaged("a table reaches beyond the end of the disk"));
                }
                if kind == Kind::Data {
                    let place = entry ^ COPIED;
                    if expected.is_some_and(|expected| expected != place) || !place.is_multiple_of(CLUSTER_BYTES) {
                        let text = format!("the data of cluster {cluster} is not where it was written");
                        return Err(self.damaged(text));
                    }
                    expected = place.checked_add(CLUSTER_BYTES);
                }
                map.push(cluster, 1, kind)
                    .map_err(|error| self.damaged(error.to_string()))?;
            }
        }
        Ok(map)
    }

    /// Every byte of metadata must be what the writer writes for this map.
    fn check(&self, head: &[u8], map: &Map, layout: &Layout, backing: Option<&str>) -> Result<(), Qcow2Error> {
        let same = |what: &str, is: bool| {
            if is {
                Ok(())
            } else {
                Err(self.damaged(format!("{what} is not as it was written")))
            }
        };
        let at = |cluster: u64| cluster * CLUSTER_BYTES;
        same("its header", layout.header(map.size_bytes(), backing)? == head)?;
        let l1 = layout.l1();
        same("its L1 table", self.bytes(at(L1_CLUSTER), l1.len() as u64)? == l1)?;
        layout.l2_tables(map, |number, entries| {
            let there = self.cluster(layout.l2_first + number)?;
            same("an L2 table", there == super::layout::words(entries))
        })?;
        let table = layout.refcounts();
        same(
            "its refcount table",
            self.bytes(at(layout.refcount_table), table.len() as u64)? == table,
        )?;
        for block in 0..layout.blocks {
            let there = self.cluster(layout.blocks_first + block)?;
            same("a refcount block", there == layout.refcount_block(block))?;
        }
        Ok(())
    }
}
