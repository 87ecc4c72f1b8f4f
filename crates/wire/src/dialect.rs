//! The two dialects of the API that have the same representations under slightly different names.
//!
//! Version 4 is what the types are written for. What RHEV 3 writes differently is said beside the member (see
//! [`crate::describe`]) or here: the words of paths, which are also the names of links.

use crate::{Encoding, model::Link};
use std::borrow::Cow;

/// Which API the document is written for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// oVirt 4.
    #[default]
    V4,
    /// RHEV 3.x.
    V3,
}

/// The form of a document: its dialect and its encoding. An encoding alone means version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// The dialect.
    pub dialect: Dialect,
    /// The encoding.
    pub encoding: Encoding,
}

impl From<Encoding> for Form {
    fn from(encoding: Encoding) -> Self {
        Self {
            dialect: Dialect::V4,
            encoding,
        }
    }
}

/// Words of version 4 that version 3 spells differently, or (`None`) has not.
const WORDS: &[(&str, Option<&str>)] = &[
    ("affinitylabels", None),
    ("backups", None),
    ("checkpoints", None),
    ("clusterlevels", None),
    ("commitsnapshot", Some("commit_snapshot")),
    ("diskattachments", Some("disks")),
    ("imagetransfers", None),
    ("networkfilters", None),
    ("previewsnapshot", Some("preview_snapshot")),
    ("undosnapshot", Some("undo_snapshot")),
];

impl Dialect {
    /// How the dialect spells a word of a path; `None`: what it means is not part of the dialect.
    #[must_use]
    pub fn word(self, word: &str) -> Option<&str> {
        match self {
            Self::V4 => Some(word),
            Self::V3 => WORDS
                .iter()
                .find(|(v4, _)| *v4 == word)
                .map_or(Some(word), |(_, v3)| *v3),
        }
    }

    /// A link as the dialect has it.
    #[must_use]
    pub fn link(self, link: &Link) -> Option<Cow<'_, Link>> {
        let Some(rel) = link.rel.as_deref().filter(|_| self == Self::V3) else {
            return Some(Cow::Borrowed(link));
        };
        // Searches are named after the collection that they search.
        let word = rel.split('/').next().unwrap_or(rel);
        let spelled = self.word(word)?;
        if spelled == word {
            return Some(Cow::Borrowed(link));
        }
        let href = link.href.as_deref().unwrap_or_default();
        let place = href.strip_suffix(word).unwrap_or(href);
        Some(Cow::Owned(Link::new(spelled, format!("{place}{spelled}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_follow_the_words_of_the_dialect() {
        let link = |rel: &str| Link::new(rel, format!("/ovirt-engine/api/v3/vms/1/{rel}"));
        let shown = |rel: &str| Dialect::V3.link(&link(rel)).map(Cow::into_owned);
        assert_eq!(shown("nics"), Some(link("nics")));
        assert_eq!(shown("diskattachments"), Some(link("disks")));
        assert_eq!(shown("previewsnapshot"), Some(link("preview_snapshot")));
        assert_eq!(shown("backups"), None);
        assert_eq!(shown("affinitylabels/search"), None);
        assert_eq!(Dialect::V4.link(&link("backups")), Some(Cow::Owned(link("backups"))));
    }
}
