//! GET: bytes of an image, from the source to the client with several requests ahead.

use super::{Item, Outlet, Visit, body_of, first_of, range};
use crate::{
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use http::{HeaderValue, Response, StatusCode, header};

pub(super) async fn get(registry: &Registry, id: &str, visit: &Visit) -> Result<Response<Body>, Refusal> {
    let asked = visit.header(header::RANGE).map(range::range).transpose()?;
    let op = registry.begin(id, Need::Read)?;
    let size = match op.source().size_bytes().await {
        Ok(size) => size.min(op.ticket().size_bytes),
        Err(error) => {
            let stopped = Stopped::Source(error);
            op.end_badly(&stopped);
            return Err((&stopped).into());
        }
    };
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
    let length = end - first;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if asked.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
    if length == 0 {
        op.end_well();
        return Ok(response);
    }
    let (outlet, mut items) = Outlet::new();
    let gone = op.token().drop_guard();
    tokio::spawn(async move {
        match read(&op, &outlet, first, end).await {
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

async fn read(op: &Operation, outlet: &Outlet, first: u64, end: u64) -> Result<(), Stopped> {
    let source = op.source();
    let chunk = u64::from(source.chunk_bytes());
    let (mut asked, mut sent) = (first, first);
    let mut ahead = FuturesOrdered::new();
    let done = loop {
        while ahead.len() < source.depth() && asked < end {
            // Whole chunks of the disk, so that requests of neighbours do not share one.
            let step = (chunk - asked % chunk).min(end - asked);
            let length = u32::try_from(step).expect("a chunk is far less than 4 GiB");
            ahead.push_back(source.read(asked, length));
            asked += step;
        }
        let data: Bytes = match ahead.next().await {
            None => return Ok(()),
            Some(Ok(data)) => data,
            Some(Err(error)) => break Stopped::Source(error),
        };
        let length = data.len() as u64;
        if let Err(stopped) = outlet.put(op, Item::Data(data)).await {
            break stopped;
        }
        op.transferred(sent, length);
        sent += length;
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
