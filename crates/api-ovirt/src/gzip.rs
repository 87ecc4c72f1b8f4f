//! Packs answers while they are sent; small ones are not worth it.

use crate::answer::Payload;
use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt as _, stream};
use std::io::{self, Write as _};

/// Answers up to this size are sent as they are.
const SMALL_BYTES: usize = 1024;

/// The body of an answer, packed if it is large; whether it is.
pub(crate) fn pack(payload: Payload) -> (Body, bool) {
    match payload {
        Payload::Whole(bytes) if bytes.len() <= SMALL_BYTES => (Body::from(bytes), false),
        Payload::Whole(bytes) => match whole(&bytes) {
            Ok(packed) => (Body::from(packed), true),
            // Writing into memory does not fail; if it ever does, the plain body is as good.
            Err(_) => (Body::from(bytes), false),
        },
        Payload::Pieces(pieces) => (Body::from_stream(streamed(pieces)), true),
    }
}

fn whole(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn streamed(
    pieces: stream::BoxStream<'static, io::Result<Bytes>>,
) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    stream::try_unfold((pieces, encoder), |(mut pieces, encoder)| async move {
        let Some(mut encoder) = encoder else {
            return Ok(None);
        };
        match pieces.next().await {
            Some(piece) => {
                encoder.write_all(&piece?)?;
                // What the client can already read it should get: lists are made while they are sent.
                encoder.flush()?;
                let packed = std::mem::take(encoder.get_mut());
                Ok(Some((Bytes::from(packed), (pieces, Some(encoder)))))
            }
            None => Ok(Some((Bytes::from(encoder.finish()?), (pieces, None)))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    async fn unpacked(payload: Payload) -> (Vec<u8>, bool) {
        let (body, packed) = pack(payload);
        let bytes = body.collect().await.unwrap().to_bytes();
        let mut plain = Vec::new();
        if packed {
            GzDecoder::new(bytes.as_ref()).read_to_end(&mut plain).unwrap();
        } else {
            plain.extend_from_slice(&bytes);
        }
        (plain, packed)
    }

    #[tokio::test]
    async fn what_is_packed_unpacks_to_the_same_document() {
        let small = Bytes::from_static(b"<vms/>");
        assert_eq!(unpacked(Payload::Whole(small.clone())).await, (small.to_vec(), false));
        let large = Bytes::from("<vm>db</vm>".repeat(1000));
        assert_eq!(unpacked(Payload::Whole(large.clone())).await, (large.to_vec(), true));
        let pieces: Vec<io::Result<Bytes>> = large.chunks(700).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let streamed = Payload::Pieces(stream::iter(pieces).boxed());
        assert_eq!(unpacked(streamed).await, (large.to_vec(), true));
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_does_not_look_complete() {
        let pieces = vec![Ok(Bytes::from_static(b"<vms>")), Err(io::Error::other("gone"))];
        let (body, _) = pack(Payload::Pieces(stream::iter(pieces).boxed()));
        assert!(body.collect().await.is_err());
    }
}
