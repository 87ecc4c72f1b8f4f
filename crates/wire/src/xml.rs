//! XML text to a bounded tree of elements.
//!
//! Only what the dialect needs: no DTD, no entity beyond the five predefined ones, no namespace handling (a prefixed name
//! is simply another name). Every limit is checked before the thing it limits is kept, and attributes before they are
//! compared with each other, so that no document costs more than its size.

use crate::error::{Limits, WireError, WireErrorKind, cut};
use crate::output::is_xml_char;
use quick_xml::{
    XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesDecl, BytesRef, BytesStart, Event},
    reader::Reader,
};

/// An element with all of its text joined: mixed content has no meaning in this dialect.
#[derive(Debug)]
pub struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Self>,
    pub(crate) text: String,
}

impl Element {
    /// Its name, without a prefix.
    #[must_use]
    pub fn local_name(&self) -> &str {
        local(&self.name)
    }

    /// The value of an attribute, by its name without a prefix.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| local(key) == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The elements inside of it, in their order.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// Its own text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Parses a whole document; `text` is no longer than the limit on bodies.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Element, WireError> {
    let mut parser = Parser {
        limits,
        stack: Vec::new(),
        root: None,
        elements: 0,
    };
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().map_err(WireError::malformed)? {
            Event::Start(start) => parser.start(&start)?,
            Event::Empty(start) => {
                parser.start(&start)?;
                parser.end()?;
            }
            Event::End(_) => parser.end()?,
            Event::Text(text) => parser.text(&text.xml10_content())?,
            Event::CData(text) => parser.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => parser.reference(&reference)?,
            Event::Decl(decl) if parser.root.is_none() && parser.stack.is_empty() => check_declaration(&decl)?,
            Event::Decl(_) => return Err(WireError::malformed("An XML declaration inside of the document")),
            Event::DocType(_) => return Err(WireError::malformed("A document type declaration is not accepted")),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return parser.finish(),
        }
    }
}

struct Parser<'l> {
    limits: &'l Limits,
    stack: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Parser<'_> {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), WireError> {
        if self.root.is_some() {
            return Err(WireError::malformed("More than one root element"));
        }
        if self.stack.len() >= self.limits.depth {
            return Err(WireError::too_deep(self.limits.depth));
        }
        self.elements += 1;
        if self.elements > self.limits.elements {
            return Err(WireError::too_large(format!(
                "More than {} elements",
                self.limits.elements
            )));
        }
        let name = start.name().as_ref().to_owned();
        if name.is_empty() {
            return Err(WireError::malformed("An element without a name"));
        }
        let attributes = self.attributes(start)?;
        self.stack.push(Element {
            name,
            attributes,
            children: Vec::new(),
            text: String::new(),
        });
        Ok(())
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Vec<(String, String)>, WireError> {
        let mut found: Vec<(String, String)> = Vec::new();
        // The library's check for duplicates compares every pair before a limit could be applied.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(WireError::malformed)?;
            if found.len() >= self.limits.attributes {
                return Err(WireError::too_large(format!(
                    "More than {} attributes",
                    self.limits.attributes
                )));
            }
            if attribute.value.len() > self.limits.text_bytes {
                return Err(self.text_too_long());
            }
            if attribute.value.contains('<') {
                return Err(WireError::malformed("An attribute contains <"));
            }
            let key: &str = attribute.key.as_ref();
            if found.iter().any(|(other, _)| other == key) {
                return Err(WireError::malformed(format!("Attribute {:?} is given twice", cut(key))));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(WireError::malformed)?;
            check_characters(&value)?;
            found.push((key.to_owned(), value.into_owned()));
        }
        Ok(found)
    }

    fn end(&mut self) -> Result<(), WireError> {
        let element = self
            .stack
            .pop()
            .ok_or_else(|| WireError::malformed("An end tag without a start tag"))?;
        match self.stack.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), WireError> {
        check_characters(text)?;
        match self.stack.last_mut() {
            Some(element) if element.text.len() + text.len() > self.limits.text_bytes => Err(self.text_too_long()),
            Some(element) => {
                element.text.push_str(text);
                Ok(())
            }
            None if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() => Ok(()),
            None => Err(WireError::malformed("Text outside of the root element")),
        }
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), WireError> {
        if self.stack.is_empty() {
            return Err(WireError::malformed("A reference outside of the root element"));
        }
        if let Some(c) = reference.resolve_char_ref().map_err(WireError::malformed)? {
            return self.text(c.encode_utf8(&mut [0; 4]));
        }
        let name: &str = reference;
        match resolve_predefined_entity(name) {
            Some(text) => self.text(text),
            None => Err(WireError::malformed(format!("Entity {:?} is not accepted", cut(name)))),
        }
    }

    fn finish(self) -> Result<Element, WireError> {
        match (self.root, self.stack.last()) {
            (Some(root), None) => Ok(root),
            (_, Some(open)) => Err(WireError::malformed(format!(
                "Element {:?} is not closed",
                cut(&open.name)
            ))),
            (None, None) => Err(WireError::malformed("No root element")),
        }
    }

    fn text_too_long(&self) -> WireError {
        WireError::too_large(format!("A text is longer than {} bytes", self.limits.text_bytes))
    }
}

/// The body has been read as UTF-8 already; a document that claims to be anything else is not what it seems.
fn check_declaration(decl: &BytesDecl<'_>) -> Result<(), WireError> {
    let Some(encoding) = decl.encoding() else { return Ok(()) };
    let encoding = encoding.map_err(WireError::malformed)?;
    if encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("us-ascii") {
        return Ok(());
    }
    Err(WireError::malformed(format!(
        "Encoding {:?} is not accepted, use UTF-8",
        cut(&encoding)
    )))
}

fn check_characters(text: &str) -> Result<(), WireError> {
    match text.chars().find(|c| !is_xml_char(*c)) {
        Some(c) => Err(WireError::new(
            WireErrorKind::Malformed,
            "document",
            format!("Character U+{:04X} is not allowed in XML", u32::from(c)),
        )),
        None => Ok(()),
    }
}
