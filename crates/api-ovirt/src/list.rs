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
        writer: Some(ListWriter::new(call.form())),
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

    impl Searchable for Item {
        fn field(&self, name: &str) -> Option<String> {
            (name == "name").then(|| format!("tag{:05}", self.0))
        }
    }

    impl Listing for Many {
        type View = Item;
        type Item = model::Tag;

        async fn page(&self, _call: &Call, page: Page) -> Result<Vec<Item>, Fault> {
            let from = match page.after {
                Some((name, _)) if !self.stuck => name.parse::<usize>().unwrap() + 1,
                _ => 0,
            };
            if self.breaks_at.is_some_and(|at| from >= at) {
                return Err(Fault::new(FaultCode::Unavailable, "the core is stopping"));
            }
            Ok((from..self.count.min(from + page.limit)).map(Item).collect())
        }

        fn key(view: &Item) -> Option<Key> {
            Some((view.0.to_string(), view.0.to_string()))
        }

        async fn show(&self, _call: &Call, view: Item) -> Result<model::Tag, Refused> {
            let mut head = Header::new(view.0.to_string(), "/x");
            head.name = view.field("name");
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
        let search = call.search(&["name"]).map_err(|refused| refused.detail().to_owned())?;
        let answered = answer(call, list, search).await;
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
    async fn max_and_page_cut_the_list_after_the_search() {
        let call = call().await;
        for (query, expected) in [
            ("max=2", vec!["tag00000", "tag00001"]),
            ("max=0", vec![]),
            ("search=page%202&max=1", vec!["tag00001"]),
            ("search=name%3D*77%20page%202&max=2", vec!["tag00277", "tag00377"]),
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
        assert!(
            written(&call, list, "search=name%3Dnothing", Encoding::Xml)
                .await
                .is_err()
        );
    }
}
