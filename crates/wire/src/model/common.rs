//! What every representation shares: the header, links, references, faults, and the small values used by several.

use crate::describe::describe;

describe! {
    /// A link to a sub-collection, an action or another page of an object.
    Link: "link" {
        attr href: String,
        attr rel: String,
    }

    /// The members that every identified type has, in the order in which they come out.
    Header: "header" {
        attr href: String,
        attr id: String,
        el actions: Vec<Link>,
        el name: String,
        el description: String,
        el comment: String,
        el creation_status: String,
        many link: Link,
    }

    /// Why a request failed, for the client.
    Fault: "fault" / "faults" {
        /// What exactly is wrong.
        el detail: String,
        /// The class of the failure; clients match on it.
        el reason: String,
    }

    /// A version number.
    Version: "version" {
        el build: i32,
        el full_version: String,
        el major: i32,
        el minor: i32,
        el revision: i32,
    }
}

impl Link {
    /// A link; `rel` says what it leads to.
    pub fn new(rel: impl Into<String>, href: impl Into<String>) -> Self {
        Self {
            href: Some(href.into()),
            rel: Some(rel.into()),
        }
    }
}

impl Header {
    /// The header of an object with an id and a place.
    pub fn new(id: impl Into<String>, href: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            href: Some(href.into()),
            ..Self::default()
        }
    }

    /// Adds the link `{href}/{action}` for an action.
    pub fn add_action(&mut self, action: &str) {
        let href = format!("{}/{action}", self.href.as_deref().unwrap_or_default());
        self.actions.get_or_insert_default().push(Link::new(action, href));
    }

    /// Adds the link `{href}/{path}` for a sub-collection; `rel` and path are the same word.
    pub fn add_link(&mut self, path: &str) {
        let href = format!("{}/{path}", self.href.as_deref().unwrap_or_default());
        self.link.push(Link::new(path, href));
    }
}

impl Fault {
    /// A fault with both of its texts.
    pub fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            detail: Some(detail.into()),
        }
    }
}

/// A type that has a [`Header`].
pub trait Identified: Default {
    /// Its header.
    fn head(&self) -> &Header;
    /// Its header, to change it.
    fn head_mut(&mut self) -> &mut Header;

    /// The object as an item of a list of references: nothing but id and href.
    fn of(id: impl Into<String>, href: impl Into<String>) -> Self {
        let mut value = Self::default();
        *value.head_mut() = Header::new(id, href);
        value
    }

    /// The object as a member that refers to it: nothing but id and href.
    fn reference(id: impl Into<String>, href: impl Into<String>) -> Option<Box<Self>> {
        Some(Box::new(Self::of(id, href)))
    }
}
