//! From the files of a point into a ticket: only what the chain holds as data, several pieces at once. All else of a new
//! disk is zero already.

use super::{
    Trouble, blocking,
    progress::Bar,
    qcow2::{self, CLUSTER_BYTES, Image, Resolved},
    retry::Patience,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;
use stillpoint_sdk::ImageClient;

/// Clusters of a piece: 4 MiB.
const PIECE_CLUSTERS: u64 = 64;

/// Bytes of the disk that the chain (the newest file first) holds.
pub(crate) fn bytes_of(chain: &[Image]) -> u64 {
    let maps: Vec<_> = chain.iter().map(Image::map).collect();
    let Some(top) = maps.first() else { return 0 };
    let lengths = qcow2::resolve(&maps).map(|run| top.byte_end(run.first + run.count) - run.first * CLUSTER_BYTES);
    lengths.sum()
}

/// Writes all of the chain's data, and makes it durable.
pub(crate) async fn upload(
    image: &ImageClient,
    chain: Arc<Vec<Image>>,
    connections: usize,
    bar: &Bar<'_>,
) -> Result<(), Trouble> {
    let maps: Vec<_> = chain.iter().map(Image::map).collect();
    let size_bytes = maps.first().map_or(0, |top| top.size_bytes());
    let chain = &chain;
    stream::iter(qcow2::resolve(&maps).flat_map(cut))
        .map(|piece| async move {
            let offset = piece.first * CLUSTER_BYTES;
            let end = ((piece.first + piece.count) * CLUSTER_BYTES).min(size_bytes);
            let length = usize::try_from(end - offset).expect("4 MiB at most");
            let chain = Arc::clone(chain);
            let bytes = blocking(move || {
                let mut bytes = vec![0; length];
                chain[piece.layer].read_data(piece.data_index, &mut bytes)?;
                Ok(bytes::Bytes::from(bytes))
            })
            .await?;
            write(image, offset, bytes, bar).await
        })
        .buffer_unordered(connections)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    let mut patience = Patience::default();
    while let Err(error) = image.flush().await {
        let again = patience.after(error).await;
        again.map_err(|error| Trouble::from(error).context("the server could not make the disk durable"))?;
    }
    Ok(())
}

fn cut(run: Resolved) -> impl Iterator<Item = Resolved> {
    (0..run.count.div_ceil(PIECE_CLUSTERS)).map(move |piece| {
        let skipped = piece * PIECE_CLUSTERS;
        Resolved {
            first: run.first + skipped,
            count: (run.count - skipped).min(PIECE_CLUSTERS),
            data_index: run.data_index + skipped,
            ..run
        }
    })
}

/// Writes a piece, again and again if connections break: writing the same twice is right.
async fn write(image: &ImageClient, offset: u64, bytes: bytes::Bytes, bar: &Bar<'_>) -> Result<(), Trouble> {
    let (length, mut patience) = (bytes.len() as u64, Patience::default());
    while let Err(error) = image.write(offset, bytes.clone()).await {
        let told = format!("a connection broke ({error}); trying again");
        patience.after(error).await.map_err(|error| {
            Trouble::from(error).context(format!("writing {length} bytes at {offset} of the disk failed"))
        })?;
        bar.say(&told);
    }
    bar.add(length);
    Ok(())
}
