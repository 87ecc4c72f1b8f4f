//! Lists: read from the core in pages, written to the connection as they come, never held whole.
//!
//! The first pieces are made before the answer starts, so that a failure there is still a fault. A failure later breaks
//! the connection off: a cut document is better than one that looks complete.

use crate::{
    answer::{Answer, Payload},
    call::Call,
    fault::Refused,
    search::{PAGE_ITEMS, Search, Searchable},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use std::{future::Future, io};
use stillpoint_engine::{Fault, view::Page};
use stillpoint_wire::{ListWriter, Wire};

/// Bytes after which a piece is sent.
const PIECE_BYTES: usize = 32 << 10;

/// The place of an item in the order of its list.
pub(crate) type Key = (String, String);

/// A list that the core gives in pages.
pub(crate) trait Listing: Send + Sync + 'static {
    /// What the core gives.
    type View: Searchable + Send + Sync;
    /// What is written.
    type Item: Wire + Send;

    /// The items behind a place.
    fn page(&self, call: &Call, page: Page) -> impl Future<Output = Result<Vec<Self::View>, Fault>> + Send;

    /// The place of an item; `None`: the core gives the list in one page.
    fn key(view: &Self::View) -> Option<Key>;

    /// The item as it is written, with what shall be inlined.
    fn show(&self, call: &Call, view: Self::View) -> impl Future<Output = Result<Self::Item, Refused>> + Send;
}

struct Run<L: Listing> {
    call: Call,
    listing: L,
    search: Search,
    /// `None`: the list is closed.
    writer: Option<ListWriter<L::Item>>,
    waiting: std::vec::IntoIter<L::View>,
    after: Option<Key>,
    last_page: bool,
    skip: usize,
    left: usize,
}

/// Answers with a list.
pub(crate) async fn answer<L: Listing>(call: Call, listing: L, search: Search) -> Result<Answer, Refused> {
    let media_type = call.encoding().media_type();
    let most = call.params().max();
    let (skip, take) = search.window(most, usize::MAX);
    let mut run = Run {
        writer: Some(ListWriter::new(call.encoding())),
        call,
        listing,
        search,
        waiting: Vec::new().into_iter(),
        after: None,
        last_page: false,
        skip,
        left: take,
    };
    let first = Bytes::from(run.piece().await?);
    if run.writer.is_none() {
        return Ok(Answer::text(StatusCode::OK, media_type, first));
    }
    let rest = stream::try_unfold(run, |mut run| async move {
        if run.writer.is_none() {
            return Ok(None);
        }
        match run.piece().await {
            Ok(piece) => Ok(Some((Bytes::from(piece), run))),
            Err(refused) => {
                tracing::error!(
                    fault = refused.log().unwrap_or(refused.detail()),
                    "a list broke off while it was sent"
                );
                Err(io::Error::other("the list broke off"))
            }
        }
    });
    Ok(Answer {
        status: StatusCode::OK,
        media_type,
        headers: Vec::new(),
        payload: Payload::Pieces(stream::once(async move { Ok(first) }).chain(rest).boxed()),
    })
}

impl<L: Listing> Run<L> {
    /// Writes until a piece is full or the list is at its end, and then closes it.
    async fn piece(&mut self) -> Result<String, Refused> {
        let mut text = String::new();
        while self.left > 0 {
            let Some(view) = self.waiting.next() else {
                if self.last_page {
                    break;
                }
                self.turn_page().await?;
                continue;
            };
            if !self.search.finds(&view) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let item = self.listing.show(&self.call, view).await?;
            self.left -= 1;
            if let Some(writer) = &mut self.writer {
                writer.item(&item);
                text.push_str(&writer.take());
            }
            if text.len() >= PIECE_BYTES {
                return Ok(text);
            }
        }
        if let Some(writer) = self.writer.take() {
            text.push_str(&writer.finish());
        }
        Ok(text)
    }

    async fn turn_page(&mut self) -> Result<(), Refused> {
        let page = Page {
            after: self.after.take(),
            limit: PAGE_ITEMS,
        };
        let before = page.after.clone();
        let views = self.listing.page(&self.call, page).await?;
        match views.last().and_then(L::key) {
            // A page that ends where the one before ended would be asked for again and again.
            Some(key) if before.as_ref() == Some(&key) => {
                return Err(Refused::internal("a list does not advance from page to page"));
            }
            Some(key) => self.after = Some(key),
            None => self.last_page = true,
        }
        self.waiting = views.into_iter();
        Ok(())
    }
}
