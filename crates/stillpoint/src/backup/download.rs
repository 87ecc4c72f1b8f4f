//! From a ticket into a file: the extents first, then the data of one area of the disk after the other, several at once.
//!
//! A connection that breaks is made again, and goes on at the byte where it broke. What came is digested as it came, so
//! that it can be compared with what the file holds afterwards.

use super::{
    Trouble, blocking,
    progress::Bar,
    qcow2::{self, Areas, CLUSTER_BYTES, Kind, Map, MapBuilder, Mode, Writer},
    retry::Patience,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;
use stillpoint_sdk::{Error, ExtentContext, ImageClient};

/// Why there is no map.
#[derive(Debug)]
pub(crate) enum NoMap {
    /// The server does not know what changed on this disk.
    NotTracked,
    Trouble(Trouble),
}

impl<E: Into<Trouble>> From<E> for NoMap {
    fn from(error: E) -> Self {
        Self::Trouble(error.into())
    }
}

/// Asks the server what is to be taken of a disk.
pub(crate) async fn map_of(image: &ImageClient, size_bytes: u64, mode: Mode) -> Result<Map, NoMap> {
    let context = match mode {
        Mode::Full => ExtentContext::Zero,
        Mode::Incremental => ExtentContext::Dirty,
    };
    let mut patience = Patience::default();
    loop {
        // From the begin: a list that broke off cannot be asked for in part.
        let mut builder = MapBuilder::new(size_bytes, mode)?;
        let broken = async {
            let mut extents = image.extents(context).await?;
            while let Some(extent) = extents.next().await? {
                builder.push(&extent).map_err(Stop::File)?;
            }
            Ok(())
        };
        match broken.await {
            Ok(()) => return Ok(builder.finish()?),
            Err(Stop::File(error)) => return Err(error.into()),
            Err(Stop::Server(Error::NotFound(_))) if mode == Mode::Incremental => return Err(NoMap::NotTracked),
            Err(Stop::Server(error)) => patience.after(error).await?,
        }
    }
}

enum Stop {
    Server(Error),
    File(qcow2::Qcow2Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// Reads all data of the writer's map, over several connections; returns the digest of the content that came.
pub(crate) async fn download(
    image: &ImageClient,
    writer: &Arc<Writer>,
    connections: usize,
    bar: &Bar<'_>,
) -> Result<String, Trouble> {
    let fetched = stream::iter(qcow2::areas(writer.map()))
        .map(|(area, parts)| async move {
            let mut data = Vec::new();
            for part in parts.iter().filter(|part| part.kind == Kind::Data) {
                let offset = part.first * CLUSTER_BYTES;
                let length = writer.map().byte_end(part.end()) - offset;
                read(image, offset, length, &mut data, bar).await?;
                // The disk's last cluster may be a part of one.
                data.resize(
                    data.len()
                        .next_multiple_of(usize::try_from(CLUSTER_BYTES).expect("64 KiB")),
                    0,
                );
            }
            let writer = Arc::clone(writer);
            blocking(move || {
                let mut rest = data.as_slice();
                for part in parts.iter().filter(|part| part.kind == Kind::Data) {
                    let length = usize::try_from(part.count * CLUSTER_BYTES).expect("an area has 4 MiB");
                    let (bytes, after) = rest.split_at(length);
                    writer.write_data(part.data_index, bytes)?;
                    rest = after;
                }
                Ok((area, qcow2::of_area(&parts, &data)))
            })
            .await
        })
        .buffer_unordered(connections);
    let areas = fetched.try_fold(Areas::default(), |mut areas, (area, digest)| {
        areas.insert(area, digest);
        std::future::ready(Ok(areas))
    });
    Ok(areas.await?.finish())
}

/// Appends bytes of the disk to `data`, going on after broken connections.
async fn read(image: &ImageClient, offset: u64, length: u64, data: &mut Vec<u8>, bar: &Bar<'_>) -> Result<(), Trouble> {
    let (begin, mut patience) = (data.len(), Patience::default());
    loop {
        let done = (data.len() - begin) as u64;
        if done == length {
            return Ok(());
        }
        let broken = async {
            let mut body = image.read(offset + done, length - done).await?;
            while let Some(bytes) = body.next().await? {
                data.extend_from_slice(&bytes);
                bar.add(bytes.len() as u64);
                patience.renew();
            }
            Ok(())
        };
        if let Err(error) = broken.await {
            let told = format!("a connection broke ({error}); going on");
            patience.after(error).await.map_err(|error| {
                Trouble::from(error).context(format!("reading {length} bytes at {offset} of the disk failed"))
            })?;
            bar.say(&told);
        }
    }
}
