//! Lists: read from the core in pages, written to the connection as they come, never held whole.
//!
//! The first pieces are made before the answer starts, so that a failure there is still a fault. A failure later breaks
//! the connection off: a cut document is better than one that looks complete.

use crate::{
    answer::{Answer, Payload},
    call::Call,
    fault::Refused,
    search::{PAGE_ITEMS, Search},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use std::{future::Future, io};
use stillpoint_engine::{
    Fault,
    view::{Page, Paged},
};
use stillpoint_wire::{ListWriter, Wire};

/// Bytes after which a piece is sent.
const PIECE_BYTES: usize = 32 << 10;

/// A list that the core gives in pages, searched and in order.
pub(crate) trait Listing: Send + Sync + 'static {
    /// What the core gives.
    type View: Send + Sync;
    /// What is written.
    type Item: Wire + Send;

    /// Items that are read at once.
    fn page_items(&self) -> usize {
        PAGE_ITEMS
    }

    /// The items behind a place.
    fn page(&self, call: &Call, page: Page) -> impl Future<Output = Result<Paged<Self::View>, Fault>> + Send;

    /// The item as it is written, with what shall be inlined.
    fn show(&self, call: &Call, view: Self::View) -> impl Future<Output = Result<Self::Item, Refused>> + Send;
}

/// A list that the core gives whole.
pub(crate) fn whole<T>(items: Vec<T>) -> Paged<T> {
    Paged { items, next: None }
}

/// A page of a list that is in the order of ids and tells no place itself.
pub(crate) fn by_id<T>(items: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Paged<T> {
    let next = items.last().filter(|_| items.len() >= limit).map(id);
    Paged {
        next: next.map(|id| (id.clone(), id)),
        items,
    }
}

struct Run<L: Listing> {
    call: Call,
    listing: L,
    /// `None`: the list is closed.
    writer: Option<ListWriter<L::Item>>,
    waiting: std::vec::IntoIter<L::View>,
    after: Option<(String, String)>,
    last_page: bool,
    /// Still to be passed over.
    skip: usize,
    left: usize,
}

/// Answers with a list, or with the page of it that the search names.
pub(crate) async fn answer<L: Listing>(call: Call, listing: L, search: &Search) -> Result<Answer, Refused> {
    let media_type = call.encoding().media_type();
    let most = call.params().max();
    let (skip, take) = search.window(most, usize::MAX);
    let mut run = Run {
        writer: Some(ListWriter::new(call.form())),
        call,
        listing,
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
            skip: std::mem::take(&mut self.skip),
            limit: self.left.min(self.listing.page_items()),
        };
        let before = page.after.clone();
        let read = self.listing.page(&self.call, page).await?;
        // A page that ends where the one before ended would be asked for again and again.
        if read.next.is_some() && read.next == before {
            return Err(Refused::internal("a list does not advance from page to page"));
        }
        self.last_page = read.next.is_none();
        self.after = read.next;
        self.waiting = read.items.into_iter();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{param::Params, tests::call};
    use http::HeaderMap;
    use http_body_util::BodyExt as _;
    use stillpoint_types::FaultCode;
    use stillpoint_wire::{
        Encoding, Limits,
        model::{self, Header},
    };

    /// A long list of tags, as a core would give it; `breaks_at` fails there, `stuck` gives the first page for ever.
    #[derive(Default)]
    struct Many {
        count: usize,
        breaks_at: Option<usize>,
        stuck: bool,
    }

    struct Item(usize);

    impl Listing for Many {
        type View = Item;
        type Item = model::Tag;

        async fn page(&self, _call: &Call, page: Page) -> Result<Paged<Item>, Fault> {
            let from = match page.after {
                Some((name, _)) if !self.stuck => name.parse::<usize>().unwrap() + 1,
                _ => 0,
            };
            if self.breaks_at.is_some_and(|at| from >= at) {
                return Err(Fault::new(FaultCode::Unavailable, "the core is stopping"));
            }
            let from = from.saturating_add(page.skip).min(self.count);
            let items = (from..self.count.min(from + page.limit)).map(Item).collect();
            Ok(by_id(items, page.limit, |item: &Item| item.0.to_string()))
        }

        async fn show(&self, _call: &Call, view: Item) -> Result<model::Tag, Refused> {
            let mut head = Header::new(view.0.to_string(), "/x");
            head.name = Some(format!("tag{:05}", view.0));
            head.description = Some("y".repeat(200));
            Ok(model::Tag {
                head,
                ..model::Tag::default()
            })
        }
    }

    async fn written(call: &Call, list: Many, query: &str, encoding: Encoding) -> Result<Vec<String>, String> {
        let mut call = call.clone();
        call.visit.encoding = encoding;
        call.visit.params = Params::collect(Some(query), None, &HeaderMap::new());
        let search = call
            .search(crate::search::VMS)
            .map_err(|refused| refused.detail().to_owned())?;
        let answered = answer(call, list, &search).await;
        let payload = answered.map_err(|refused| refused.detail().to_owned())?.payload;
        let body = match payload {
            Payload::Whole(bytes) => bytes,
            Payload::Pieces(pieces) => {
                let body = axum::body::Body::from_stream(pieces);
                body.collect().await.map_err(|error| error.to_string())?.to_bytes()
            }
        };
        let limits = Limits::default();
        let read = stillpoint_wire::read_list::<model::Tag>(&body, encoding, &limits).unwrap();
        Ok(read.value.into_iter().map(|tag| tag.head.name.unwrap()).collect())
    }

    #[tokio::test]
    async fn a_long_list_comes_whole_and_in_order_in_both_encodings() {
        let call = call().await;
        for encoding in [Encoding::Xml, Encoding::Json] {
            for count in [0, 1, 100, 101, 1234] {
                let list = Many {
                    count,
                    ..Many::default()
                };
                let names = written(&call, list, "", encoding).await.unwrap();
                let expected: Vec<_> = (0..count).map(|i| format!("tag{i:05}")).collect();
                assert_eq!(names, expected, "{encoding:?} {count}");
            }
        }
    }

    #[tokio::test]
    async fn max_and_page_cut_the_list() {
        let call = call().await;
        for (query, expected) in [
            ("max=2", vec!["tag00000", "tag00001"]),
            ("max=0", vec![]),
            ("search=page%202&max=1", vec!["tag00001"]),
            ("search=page%202&max=2", vec!["tag00002", "tag00003"]),
            ("search=page%209999&max=10", vec![]),
            ("search=page%2018446744073709551615&max=10", vec![]),
        ] {
            let list = Many {
                count: 450,
                ..Many::default()
            };
            assert_eq!(
                written(&call, list, query, Encoding::Xml).await.unwrap(),
                expected,
                "{query}"
            );
        }
        let list = Many {
            count: 450,
            ..Many::default()
        };
        let page = written(&call, list, "search=page%205", Encoding::Xml).await.unwrap();
        assert_eq!((page.len(), page[0].as_str()), (50, "tag00400"));
    }

    #[tokio::test]
    async fn a_failure_is_a_fault_before_the_answer_and_a_break_within_it() {
        let call = call().await;
        let list = |breaks_at| Many {
            count: 1000,
            breaks_at: Some(breaks_at),
            stuck: false,
        };
        let early = written(&call, list(0), "", Encoding::Xml).await.unwrap_err();
        assert_eq!(early, "[the core is stopping]");
        let late = written(&call, list(500), "", Encoding::Xml).await.unwrap_err();
        assert!(late.contains("broke off"), "{late}");
    }

    #[tokio::test]
    async fn a_list_that_does_not_advance_ends() {
        let call = call().await;
        let list = Many {
            count: 100,
            breaks_at: None,
            stuck: true,
        };
        assert!(written(&call, list, "", Encoding::Xml).await.is_err());
    }
}
