//! GET `/images/{ticket}/extents`: what of a disk is zeroes, or changed. A disk may have millions of extents, so the array
//! is written as it is found, and never whole in memory.

use crate::{
    http::{Item, Outlet, Visit, body_of, first_of},
    refusal::Refusal,
    registry::{Need, Operation, Registry, Stopped},
    source::{Context, Extent, Source},
};
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use std::{fmt::Write as _, time::Duration};
use stillpoint_engine::ports::{DirtyMap, Driven};
use tokio::time::Instant;

/// A piece of the answer.
const PIECE_BYTES: usize = 32 * 1024;
/// A client that hears nothing for long takes the connection for dead (imageio's own after 60 s): a blank between two
/// extents keeps it waiting.
const SILENCE_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn get(registry: &Registry, id: &str, visit: &Visit) -> Result<Response<Body>, Refusal> {
    let op = registry.begin(id, Need::Read)?;
    let context = match visit.choice("context", &["dirty", "zero"], "zero")? {
        "dirty" => Context::Dirty,
        _ => Context::Zero,
    };
    if context == Context::Dirty && op.dirty().is_none() && !op.source().has_dirty() {
        // A status by which clients know that they must take all.
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "Ticket does not support dirty extents",
        ));
    }
    let (outlet, mut items) = Outlet::new();
    let gone = op.token().drop_guard();
    tokio::spawn(async move {
        match write(&op, &outlet, context).await {
            Ok(()) => op.end_well(),
            Err(stopped) => {
                outlet.fail(&stopped);
                op.end_badly(&stopped);
            }
        }
    });
    let begin = first_of(&mut items).await?;
    let mut response = Response::new(body_of(begin, items, gone, None));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn write(op: &Operation, outlet: &Outlet, context: Context) -> Result<(), Stopped> {
    let source = op.source();
    let end = source.size_bytes().await?.min(op.ticket().size_bytes);
    let map = op.dirty().filter(|_| context == Context::Dirty);
    let (mut text, mut heard) = (String::from("["), Instant::now());
    let mut found = Merged::new(context);
    let mut at = 0;
    while at < end {
        op.watch().check()?;
        let extents = match map {
            Some(map) => by_map(source, map, at, end).await?,
            None => source.extents(at, end, context).await?,
        };
        for extent in extents {
            at += extent.length;
            found.push(extent, &mut text);
            if text.len() >= PIECE_BYTES {
                outlet.put(op, Item::Data(std::mem::take(&mut text).into())).await?;
                heard = Instant::now();
            }
        }
        if heard.elapsed() > SILENCE_MAX {
            text.push('\n');
            outlet.put(op, Item::Data(std::mem::take(&mut text).into())).await?;
            heard = Instant::now();
        }
    }
    found.end(&mut text);
    text.push_str("]\n");
    outlet.put(op, Item::Data(text.into())).await?;
    outlet.put(op, Item::End).await
}

/// The next extents by a map of changes. Only of what changed is the source asked what reads as zeroes.
async fn by_map(source: &Source, map: &DirtyMap, at: u64, end: u64) -> Driven<Vec<Extent>> {
    let (is_dirty, length) = map.run(at);
    let stop = match length {
        0 => end,
        length => at.saturating_add(length).min(end),
    };
    if !is_dirty && length > 0 {
        return Ok(vec![Extent::data(stop - at)]);
    }
    let extents = source.extents(at, stop, Context::Zero).await?;
    let dirty = |extent| Extent {
        hole: false,
        dirty: true,
        ..extent
    };
    Ok(extents.into_iter().map(dirty).collect())
}

/// Writes extents with equal neighbours made one.
#[derive(Debug)]
struct Merged {
    context: Context,
    /// Where the current one starts.
    start: u64,
    current: Option<Extent>,
    is_first: bool,
}

impl Merged {
    fn new(context: Context) -> Self {
        Self {
            context,
            start: 0,
            current: None,
            is_first: true,
        }
    }

    fn push(&mut self, extent: Extent, text: &mut String) {
        match &mut self.current {
            Some(current) if current.is_alike(&extent) => current.length += extent.length,
            _ => {
                self.end(text);
                self.current = Some(extent);
            }
        }
    }

    fn end(&mut self, text: &mut String) {
        let Some(extent) = self.current.take() else {
            return;
        };
        let separator = if self.is_first { "" } else { ", " };
        self.is_first = false;
        let Extent {
            length,
            zero,
            hole,
            dirty,
        } = extent;
        let start = self.start;
        let written = match self.context {
            Context::Zero => write!(
                text,
                r#"{separator}{{"start": {start}, "length": {length}, "zero": {zero}, "hole": {hole}}}"#
            ),
            Context::Dirty => write!(
                text,
                r#"{separator}{{"start": {start}, "length": {length}, "dirty": {dirty}, "zero": {zero}}}"#
            ),
        };
        written.expect("writing to a text in memory does not fail");
        self.start += length;
    }
}
