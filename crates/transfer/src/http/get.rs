//! GET: bytes of an image, from the source to the client with several requests ahead.

use super::{Item, Outlet, Visit, body_of, first_of, range};
use crate::{
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
    source::READ_NOW_BYTES,
};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use stillpoint_engine::ports::Driven;

/// Of small pieces so many bytes are collected before they are sent.
const BATCH_BYTES: usize = 64 * 1024;

pub(super) async fn get(registry: &Registry, id: &str, visit: &Visit) -> Result<Response<Body>, Refusal> {
    let asked = visit.header(header::RANGE).map(range::range).transpose()?;
    let (op, size) = sized(registry.begin(id, Need::Read)?).await?;
    let (first, last) = asked.unwrap_or((0, None));
    let end = match last {
        // Not cut to what there is: a client that asks for more is mistaken about the disk.
        Some(last) => last.checked_add(1).filter(|end| *end <= size),
        None => Some(size),
    };
    let end = end.filter(|end| first < *end || asked.is_none());
    let Some(end) = end else {
        return Err(Refusal::range("Requested range out of allowed range").of_size(size));
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if asked.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let headers = response.headers_mut();
    describe(headers);
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(op.ticket().file_name.as_deref()),
    );
    if asked.is_some() {
        let total = op.ticket().size_bytes;
        let text = format!("bytes {first}-{}/{total}", end - 1);
        headers.insert(
            header::CONTENT_RANGE,
            text.parse()
                .map_err(|_no_header| Refusal::range("Cannot satisfy range"))?,
        );
    }
    stream(op, vec![(first, end)], response).await
}

/// The operation, and the bytes that it can read.
pub(super) async fn sized(op: Operation) -> Result<(Operation, u64), Refusal> {
    match op.source().size_bytes().await {
        Ok(size) => {
            let size = size.min(op.ticket().size_bytes);
            Ok((op, size))
        }
        Err(error) => {
            let stopped = Stopped::Source(error);
            op.end_badly(&stopped);
            Err((&stopped).into())
        }
    }
}

/// What is said of data: it is nothing to look at, and nothing to keep.
pub(super) fn describe(headers: &mut HeaderMap) {
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Answers with the bytes of the ranges (begin and end of each), one after the other.
pub(super) async fn stream(
    op: Operation,
    ranges: Vec<(u64, u64)>,
    mut response: Response<Body>,
) -> Result<Response<Body>, Refusal> {
    let length = ranges.iter().map(|(begin, end)| end - begin).sum::<u64>();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if length == 0 {
        op.end_well();
        return Ok(response);
    }
    if length <= READ_NOW_BYTES
        && let Some(read) = at_once(&op, &ranges)
    {
        return match read {
            Ok(bytes) => {
                op.end_well();
                *response.body_mut() = bytes.into();
                Ok(response)
            }
            Err(error) => {
                let stopped = Stopped::Source(error);
                op.end_badly(&stopped);
                Err((&stopped).into())
            }
        };
    }
    let (outlet, mut items) = Outlet::new();
    let gone = op.token().drop_guard();
    tokio::spawn(async move {
        match read(&op, &outlet, ranges).await {
            Ok(()) => op.end_well(),
            Err(stopped) => {
                outlet.fail(&stopped);
                op.end_badly(&stopped);
            }
        }
    });
    let begin = first_of(&mut items).await?;
    *response.body_mut() = body_of(begin, items, gone, Some(length));
    Ok(response)
}

/// The bytes of short ranges, if they are in memory: an operation that waits for nothing needs no task of its own.
fn at_once(op: &Operation, ranges: &[(u64, u64)]) -> Option<Driven<Bytes>> {
    let mut batch = Batch::default();
    for (begin, end) in ranges {
        let length = u32::try_from(end - begin).ok()?;
        match op.source().read_now(*begin, length)? {
            Ok(data) => batch.push(*begin, data),
            Err(error) => return Some(Err(error)),
        }
    }
    let bytes = batch.take();
    for (offset, length) in batch.places {
        op.has_read(offset, length);
    }
    Some(Ok(bytes))
}

/// Cuts ranges into requests: whole chunks of the disk, so that requests of neighbours do not share one.
fn requests(ranges: Vec<(u64, u64)>, chunk: u64) -> impl Iterator<Item = (u64, u32)> {
    ranges.into_iter().flat_map(move |(begin, end)| {
        let mut at = begin;
        std::iter::from_fn(move || {
            let step = (chunk - at % chunk).min(end - at);
            at += step;
            let length = u32::try_from(step).expect("a chunk is far less than 4 GiB");
            (length > 0).then(|| (at - step, length))
        })
    })
}

/// Pieces that go out together: small ones cost more than their bytes.
#[derive(Debug, Default)]
struct Batch {
    pieces: Vec<Bytes>,
    /// Where they are on the disk: offset and length of each.
    places: Vec<(u64, u64)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, offset: u64, data: Bytes) {
        self.bytes += data.len();
        self.places.push((offset, data.len() as u64));
        self.pieces.push(data);
    }

    /// What goes out; one piece as it is, without a copy.
    fn take(&mut self) -> Bytes {
        self.bytes = 0;
        match self.pieces.pop() {
            Some(only) if self.pieces.is_empty() => only,
            last => {
                self.pieces.extend(last);
                let all = self.pieces.concat().into();
                self.pieces.clear();
                all
            }
        }
    }
}

async fn read(op: &Operation, outlet: &Outlet, ranges: Vec<(u64, u64)>) -> Result<(), Stopped> {
    let source = op.source();
    let mut requests = requests(ranges, u64::from(source.chunk_bytes()));
    let (mut ahead, mut batch) = (FuturesOrdered::new(), Batch::default());
    let done = loop {
        let mut next = None;
        while ahead.len() < source.depth()
            && let Some((offset, length)) = requests.next()
        {
            // What is in memory is read when it is needed: then it still is in the processor's cache when it goes out.
            if ahead.is_empty()
                && let Some(read) = source.read_now(offset, length)
            {
                next = Some((offset, read));
                break;
            }
            ahead.push_back(async move { (offset, source.read(offset, length).await) });
        }
        if next.is_none() {
            next = ahead.next().await;
        }
        let is_last = next.is_none();
        match next {
            Some((offset, Ok(data))) => batch.push(offset, data),
            Some((_, Err(error))) => break Stopped::Source(error),
            None => {}
        }
        if batch.bytes >= BATCH_BYTES || is_last && batch.bytes > 0 {
            if let Err(stopped) = outlet.put(op, Item::Data(batch.take())).await {
                break stopped;
            }
            for (offset, length) in batch.places.drain(..) {
                op.has_read(offset, length);
            }
        }
        if is_last {
            return Ok(());
        }
    };
    // What was asked for is waited for, so that nothing reads any more once this operation has ended.
    while ahead.next().await.is_some() {}
    Err(done)
}

/// The name for whoever saves the answer as a file. Only harmless letters as they are, others in the extended form.
fn disposition(file_name: Option<&str>) -> HeaderValue {
    let attachment = HeaderValue::from_static("attachment");
    let Some(name) = file_name else {
        return attachment;
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.chars().all(is_plain) {
        return format!("attachment; filename={name}").parse().unwrap_or(attachment);
    }
    let simple: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut exact = String::new();
    for byte in name.bytes() {
        match char::from(byte) {
            c if is_plain(c) => exact.push(c),
            _ => exact.push_str(&format!("%{byte:02X}")),
        }
    }
    let text = format!("attachment; filename={simple}; filename*=UTF-8''{exact}");
    text.parse().unwrap_or(attachment)
}
