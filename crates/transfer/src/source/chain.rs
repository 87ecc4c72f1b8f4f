//! A chain of image files as the source of a ticket: read in this process (ADR 0013).
//!
//! What is in memory can be read at once; what the storage must be waited for is read on threads for that.

use super::{Extent, pool::Pool};
use bytes::Bytes;
use std::{io, path::Path, sync::Arc};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, ImageRef};
use stillpoint_qcow2::{Chain, OpenError, Patience, Place, ReadError};
use stillpoint_types::ImageFormat;

const OPEN: &str = "open chain of images";
const READ: &str = "read chain of images";

/// The chain of a ticket.
#[derive(Debug)]
pub(crate) struct ChainFile {
    chain: Arc<Chain>,
    pool: Pool,
}

fn io_kind(error: &io::Error) -> DriverErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => DriverErrorKind::NotFound,
        _ => DriverErrorKind::Io,
    }
}

fn not_opened(path: &Path, error: OpenError) -> DriverError {
    let kind = match &error {
        OpenError::Io(error) => io_kind(error),
        // QEMU may know better, and if not, says so as it always did.
        OpenError::Busy | OpenError::Unsupported(_) | OpenError::Damage(_) => DriverErrorKind::Unsupported,
    };
    DriverError::new(kind, OPEN, path.display()).caused_by(error)
}

fn not_read(error: ReadError) -> DriverError {
    let kind = match &error {
        ReadError::Io(error) => io_kind(error),
        ReadError::Damage(_) => DriverErrorKind::InvalidImage,
    };
    DriverError::new(kind, READ, error.to_string()).caused_by(error)
}

/// What was read, or that the storage must be waited for.
fn now<T>(read: Result<T, ReadError>) -> Option<Driven<T>> {
    match read {
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        other => Some(other.map_err(not_read)),
    }
}

impl ChainFile {
    pub(crate) async fn open(layers: Vec<ImageRef>, size_bytes: u64) -> Driven<Self> {
        let chain = waiting(OPEN, move || {
            let place = |layer: ImageRef| Place {
                path: layer.path,
                is_raw: layer.format == ImageFormat::Raw,
            };
            let places: Vec<Place> = layers.into_iter().map(place).collect();
            Chain::open(&places).map_err(|(path, error)| not_opened(&path, error))
        })
        .await?;
        if chain.size_bytes() < size_bytes {
            let text = format!("the disk has {} bytes, the ticket {size_bytes}", chain.size_bytes());
            return Err(DriverError::new(DriverErrorKind::InvalidImage, OPEN, text));
        }
        Ok(Self {
            chain: Arc::new(chain),
            pool: Pool::default(),
        })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.chain.size_bytes()
    }

    /// `None`: the storage must be waited for.
    pub(crate) fn read_now(&self, offset: u64, length: u32) -> Option<Driven<Bytes>> {
        now(self
            .pool
            .filled(length, |buffer| self.chain.read(buffer, offset, Patience::Now)))
    }

    pub(crate) async fn read(&self, offset: u64, length: u32) -> Driven<Bytes> {
        let (chain, pool) = (Arc::clone(&self.chain), self.pool.clone());
        waiting(READ, move || {
            pool.filled(length, |buffer| chain.read(buffer, offset, Patience::Wait))
                .map_err(not_read)
        })
        .await
    }

    /// As QEMU tells them: zero is exact, and a hole is what no layer has.
    pub(crate) async fn extents(&self, offset: u64, end: u64) -> Driven<Vec<Extent>> {
        let found = match now(self.chain.extents(offset, end, Patience::Now)) {
            Some(found) => found?,
            None => {
                let chain = Arc::clone(&self.chain);
                let look = move || chain.extents(offset, end, Patience::Wait).map_err(not_read);
                waiting("look for extents of a chain", look).await?
            }
        };
        let as_told = |extent: stillpoint_qcow2::Extent| Extent {
            length: extent.length,
            zero: extent.is_zero,
            hole: extent.is_hole,
            dirty: false,
        };
        Ok(found.into_iter().map(as_told).collect())
    }

    /// Nobody is kept from changing the files any more.
    pub(crate) fn close(&self) {
        if let Err(error) = self.chain.unlock() {
            tracing::warn!(%error, "the locks of images are given back late");
        }
    }
}

async fn waiting<T: Send + 'static>(op: &'static str, work: impl FnOnce() -> Driven<T> + Send + 'static) -> Driven<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DriverError::new(DriverErrorKind::Io, op, "the thread ended").caused_by(error))?
}
