//! Writing: one sink for both encodings, and the list writer that hands out a list in pieces.
//!
//! Tags are labels of the descriptions, so only values need escaping. XML comes out compact: white space is not
//! significant there (spec 3.1). A value can never break the document: what XML 1.0 forbids becomes U+FFFD.

use crate::{
    Dialect, Encoding, Form,
    describe::{Member, Wire},
    model::Link,
};
use std::{borrow::Cow, marker::PhantomData};

const XML_HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;

/// Where a value is written.
#[derive(Debug, Clone, Copy)]
pub enum Slot {
    /// As a named member of an object.
    Member(&'static str),
    /// As one of many: named in XML, nameless in a JSON array.
    Item(&'static str),
    /// As a document or an item of its list: named in XML, nameless and without separator in JSON.
    Root(&'static str),
}

impl Slot {
    fn tag(self) -> &'static str {
        match self {
            Self::Member(tag) | Self::Item(tag) | Self::Root(tag) => tag,
        }
    }
}

/// A document being written.
#[derive(Debug)]
pub struct Output {
    dialect: Dialect,
    encoding: Encoding,
    text: String,
    /// XML: a start tag has been written up to its attributes, and lacks its end.
    open: bool,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        let text = match form.encoding {
            Encoding::Xml => XML_HEAD.to_owned(),
            Encoding::Json => String::new(),
        };
        Self {
            dialect: form.dialect,
            encoding: form.encoding,
            text,
            open: false,
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Starts an object.
    pub(crate) fn begin(&mut self, slot: Slot) {
        self.name(slot);
        match self.encoding {
            Encoding::Xml => self.open = true,
            Encoding::Json => self.text.push('{'),
        }
    }

    /// Ends the object that was begun last.
    pub(crate) fn end(&mut self, slot: Slot) {
        match self.encoding {
            Encoding::Xml if self.open => {
                self.text.push_str("/>");
                self.open = false;
            }
            Encoding::Xml => self.close_tag(slot),
            Encoding::Json => self.text.push('}'),
        }
    }

    /// Writes an attribute of the object just begun.
    pub(crate) fn attribute(&mut self, label: &'static str, value: &str) {
        match self.encoding {
            Encoding::Xml => {
                self.text.push(' ');
                self.text.push_str(label);
                self.text.push_str("=\"");
                push_escaped(&mut self.text, value, true);
                self.text.push('"');
            }
            Encoding::Json => self.string(Slot::Member(label), value),
        }
    }

    /// Writes a text: quoted in JSON. An empty one prints start and end tag, which readers tell from absence.
    pub(crate) fn string(&mut self, slot: Slot, value: &str) {
        self.name(slot);
        match self.encoding {
            Encoding::Xml => {
                self.text.push('>');
                push_escaped(&mut self.text, value, false);
                self.close_tag(slot);
            }
            Encoding::Json => push_json_string(&mut self.text, value),
        }
    }

    /// Writes a value whose form differs between the encodings; `json` is written unquoted.
    pub(crate) fn raw(&mut self, slot: Slot, xml: &str, json: &str) {
        match self.encoding {
            Encoding::Xml => self.string(slot, xml),
            Encoding::Json => {
                self.name(slot);
                self.text.push_str(json);
            }
        }
    }

    /// Writes repeated values of one name.
    pub(crate) fn many<T: Member>(&mut self, label: &'static str, values: &[T]) {
        let array = self.encoding == Encoding::Json && !values.is_empty();
        if array {
            self.name(Slot::Member(label));
            self.text.push('[');
        }
        for value in values {
            value.put(Slot::Item(label), self);
        }
        if array {
            self.text.push(']');
        }
    }

    /// Writes links, as the dialect has them.
    pub(crate) fn links(&mut self, label: &'static str, links: &[Link]) {
        let shown: Vec<Link> = links
            .iter()
            .filter_map(|link| self.dialect.link(link))
            .map(Cow::into_owned)
            .collect();
        self.many(label, &shown);
    }

    /// What precedes every value: the start of its tag, or the separator and its key.
    fn name(&mut self, slot: Slot) {
        match self.encoding {
            Encoding::Xml => {
                if self.open {
                    self.text.push('>');
                    self.open = false;
                }
                self.text.push('<');
                self.text.push_str(slot.tag());
            }
            Encoding::Json if matches!(slot, Slot::Root(_)) => {}
            Encoding::Json => {
                // Every complete value ends in a quote, a digit, a brace or a bracket: only a fresh container has no
                // separator after it.
                if !matches!(self.text.as_bytes().last(), None | Some(b'{' | b'[')) {
                    self.text.push(',');
                }
                if let Slot::Member(label) = slot {
                    push_json_string(&mut self.text, label);
                    self.text.push(':');
                }
            }
        }
    }

    fn close_tag(&mut self, slot: Slot) {
        self.text.push_str("</");
        self.text.push_str(slot.tag());
        self.text.push('>');
    }
}

/// Writes a list item by item, so that it never has to be held whole.
#[derive(Debug)]
pub struct ListWriter<T> {
    out: Output,
    any: bool,
    items: PhantomData<fn(&T)>,
}

impl<T: Wire> ListWriter<T> {
    /// Starts a list.
    #[must_use]
    pub fn new(form: impl Into<Form>) -> Self {
        let mut out = Output::new(form.into());
        match out.encoding {
            Encoding::Xml => {
                out.text.push('<');
                out.text.push_str(T::PLURAL);
                out.text.push('>');
            }
            Encoding::Json => out.text.push('{'),
        }
        Self {
            out,
            any: false,
            items: PhantomData,
        }
    }

    /// Writes one more item.
    pub fn item(&mut self, item: &T) {
        if self.out.encoding == Encoding::Json {
            // The separator is written here and not by `name`: the text before may have been taken away already.
            if self.any {
                self.out.text.push(',');
            } else {
                push_json_string(&mut self.out.text, T::TAG);
                self.out.text.push_str(":[");
            }
        }
        item.put(Slot::Root(T::TAG), &mut self.out);
        self.any = true;
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.text.len()
    }

    /// Takes what has been written since the last call.
    #[must_use]
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out.text)
    }

    /// Ends the list and returns what has not been taken yet.
    #[must_use]
    pub fn finish(mut self) -> String {
        match self.out.encoding {
            Encoding::Xml => self.out.close_tag(Slot::Root(T::PLURAL)),
            Encoding::Json => self.out.text.push_str(if self.any { "]}" } else { "}" }),
        }
        self.out.text
    }
}

fn push_json_string(text: &mut String, value: &str) {
    text.push_str(&serde_json::to_string(value).expect("a string always has a JSON form"));
}

/// Appends a value so that an XML reader gets it back unchanged, except for characters that XML cannot carry.
fn push_escaped(text: &mut String, value: &str, attribute: bool) {
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' if attribute => text.push_str("&quot;"),
            // Readers turn these into line feeds (text) or spaces (attributes) unless they are references.
            '\r' => text.push_str("&#13;"),
            '\n' if attribute => text.push_str("&#10;"),
            '\t' if attribute => text.push_str("&#9;"),
            c if is_xml_char(c) => text.push(c),
            _ => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
}

/// Whether XML 1.0 can carry the character (production `Char`).
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}
