//! Writing a file: data in any order, metadata after all data, the header last of all.
//!
//! *Crash consistency.* Until [`Writer::finish`] has made data and tables durable the file has no header: no tool takes
//! it for an image. It is in a directory that no point has, besides (see `folder`).
//!
//! *Data goes past the page cache* where the file system can ([`direct`](super::direct)), metadata through it. No page has
//! both, as a cluster has several pages. Data that was written directly may be in the disk's own cache still, and in a
//! file system's journal that is not written: it is durable by the same two syncs as all else.

use super::{
    CLUSTER_BYTES, Layout, Map, Qcow2Error,
    direct::{Direct, Way},
    layout,
};
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate},
    io::{Errno, retry_on_intr},
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A file that is being written. All calls block on the disk.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    direct: Direct,
    map: Map,
    layout: Layout,
    backing: Option<String>,
}

impl Writer {
    /// Makes a new file; it must not be there yet.
    pub(crate) fn create(path: &Path, map: Map, backing: Option<&str>, way: Way) -> Result<Self, Qcow2Error> {
        let layout = Layout::of(&map);
        // What cannot be written shall be known before the disk is read.
        layout.header(map.size_bytes(), backing)?;
        let told = |doing| move |source| io_error(path, doing, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.open(path).map_err(told("making it"))?;
        file.set_len(layout.file_bytes()).map_err(told("setting its length"))?;
        if way == Way::Direct {
            reserve(&file, layout.file_bytes()).map_err(told("reserving its space"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            direct: Direct::open(path, &file, OFlags::WRONLY, way),
            file,
            map,
            layout,
            backing: backing.map(str::to_owned),
        })
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes data clusters from the `data_index`th on. The last one of a disk may be short: zeroes follow it. Whole
    /// clusters from a [`Buffer`](super::Buffer) go to the disk directly.
    pub(crate) fn write_data(&self, data_index: u64, bytes: &[u8]) -> Result<(), Qcow2Error> {
        let clusters = (bytes.len() as u64).div_ceil(CLUSTER_BYTES);
        debug_assert!(data_index + clusters <= self.map.data_clusters());
        let (at, doing) = (self.layout.data_at(data_index), "writing data");
        match self.direct.write(at, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => self.put(at, bytes, doing),
            Err(source) => Err(io_error(&self.path, doing, source)),
        }
    }

    /// Writes all metadata; once it returns, the file is whole and durable.
    pub(crate) fn finish(self) -> Result<(Map, Layout), Qcow2Error> {
        let at = |cluster: u64| cluster * CLUSTER_BYTES;
        let layout = &self.layout;
        self.put(at(layout::L1_CLUSTER), &layout.l1(), "writing the L1 table")?;
        layout.l2_tables(&self.map, |number, entries| {
            let place = at(layout.l2_first + number);
            self.put(place, &layout::words(entries), "writing an L2 table")
        })?;
        self.put(
            at(layout.refcount_table),
            &layout.refcounts(),
            "writing the refcount table",
        )?;
        for block in 0..layout.blocks {
            let place = at(layout.blocks_first + block);
            self.put(place, &layout.refcount_block(block), "writing a refcount block")?;
        }
        self.sync()?;
        let header = layout.header(self.map.size_bytes(), self.backing.as_deref())?;
        self.put(0, &header, "writing the header")?;
        self.sync()?;
        Ok((self.map, self.layout))
    }

    fn put(&self, at: u64, bytes: &[u8], doing: &'static str) -> Result<(), Qcow2Error> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|source| io_error(&self.path, doing, source))
    }

    fn sync(&self) -> Result<(), Qcow2Error> {
        let synced = self.file.sync_all();
        synced.map_err(|source| io_error(&self.path, "making it durable", source))
    }
}

/// Takes all of the file's space now, as all of it will be written: that there is too little of it is known before the disk is
/// read, and file systems let direct writes into space that is theirs go side by side.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        // A file system that cannot: the space is taken as it is written to.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn io_error(path: &Path, doing: &'static str, source: io::Error) -> Qcow2Error {
    Qcow2Error::Io {
        path: path.display().to_string(),
        doing,
        source,
    }
}
