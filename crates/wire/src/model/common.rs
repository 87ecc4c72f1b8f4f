//! What every representation shares: the header, links, references, faults, and the small values used by several.

use crate::{
    describe::{Dialect, Member, describe, get_object, put_object},
    error::WireError,
    input::{Context, Input},
    output::{Output, Slot},
};

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
        el actions: Links,
        el name: String,
        el description: String,
        el comment: String,
        el creation_status: State,
        links link: Link,
    }

    /// Why a request failed, for the client.
    Fault: "fault" / "faults" {
        /// What exactly is wrong.
        el detail: String,
        /// The class of the failure; clients match on it.
        early3 reason: String,
    }

    /// Why version 3 does not understand a body, and where its use is described.
    UsageMessage: "usage_message" / "usage_messages" {
        el message: String,
        el detailed_link = "detailedLink": String,
    }

    /// A version number.
    Version: "version" {
        attr3 build: i32,
        attr3 full_version: String,
        attr3 major: i32,
        attr3 minor: i32,
        attr3 revision: i32,
    }

    /// The links to actions.
    Links: "actions" {
        links link: Link,
    }

    /// A state of version 3.
    StateObject: "status" {
        el state: String,
        el detail: String,
    }
}

/// A state by its name: a text in version 4, an object in version 3.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The name, such as `up`.
    pub state: String,
    /// Why it is so, if there is more to say; written in version 3 only.
    pub detail: Option<String>,
}

impl From<String> for State {
    fn from(state: String) -> Self {
        Self { state, detail: None }
    }
}

impl From<&str> for State {
    fn from(state: &str) -> Self {
        state.to_owned().into()
    }
}

impl std::ops::Deref for State {
    type Target = str;

    fn deref(&self) -> &str {
        &self.state
    }
}

impl Member for State {
    fn put(&self, slot: Slot, out: &mut Output) {
        match out.dialect() {
            Dialect::V4 => out.string(slot, &self.state),
            Dialect::V3 => {
                let object = StateObject {
                    state: Some(self.state.clone()),
                    detail: self.detail.clone(),
                };
                put_object(&object, slot, out);
            }
        }
    }

    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        match ctx.dialect() {
            Dialect::V4 => String::get(input, ctx).map(Self::from),
            Dialect::V3 => {
                let object = get_object::<StateObject>(input, ctx)?;
                Ok(Self {
                    state: object.state.unwrap_or_default(),
                    detail: object.detail,
                })
            }
        }
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
        self.actions.get_or_insert_default().link.push(Link::new(action, href));
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
