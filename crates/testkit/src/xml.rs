//! An XML answer as a small tree, for asserts; it keeps names, attributes, children and text, and nothing else.

use anyhow::{Context, Result, bail};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Deeper documents are refused: no answer of the API comes near.
const DEPTH_MAX: usize = 64;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xml {
    /// Tag name as written.
    pub name: String,
    /// Attributes in the order of the document.
    pub attributes: Vec<(String, String)>,
    /// Child elements in the order of the document.
    pub children: Vec<Xml>,
    /// Text directly inside this element, trimmed.
    pub text: String,
}

impl Xml {
    /// Reads a document of exactly one root element.
    ///
    /// # Errors
    /// When the text is not well-formed or has no element.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        loop {
            match reader.read_event().context("reading XML")? {
                Event::Start(start) => {
                    if open.len() >= DEPTH_MAX {
                        bail!("more than {DEPTH_MAX} levels of XML");
                    }
                    open.push(Self::open(&start)?);
                }
                Event::Empty(start) => Self::close(Self::open(&start)?, &mut open, &mut root)?,
                Event::End(_) => {
                    let mut done = open.pop().context("an end tag without a start")?;
                    done.text = done.text.trim().to_owned();
                    Self::close(done, &mut open, &mut root)?;
                }
                Event::Text(part) => Self::append(&mut open, &part),
                Event::CData(part) => Self::append(&mut open, &part),
                Event::GeneralRef(reference) => {
                    let quoted = format!("&{};", &*reference);
                    let plain = quick_xml::escape::unescape(&quoted).context("an entity")?;
                    Self::append(&mut open, &plain);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        if !open.is_empty() {
            bail!("the XML ends inside an element");
        }
        root.context("no XML element")
    }

    fn open(start: &BytesStart<'_>) -> Result<Self> {
        let name = start.name().as_ref().to_owned();
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.context("an attribute")?;
            let key = attribute.key.as_ref().to_owned();
            let raw = attribute.value.as_ref();
            attributes.push((
                key,
                quick_xml::escape::unescape(raw)
                    .context("an attribute value")?
                    .into_owned(),
            ));
        }
        Ok(Self {
            name,
            attributes,
            children: Vec::new(),
            text: String::new(),
        })
    }

    fn close(done: Self, open: &mut [Self], root: &mut Option<Self>) -> Result<()> {
        match open.last_mut() {
            Some(parent) => parent.children.push(done),
            None if root.is_none() => *root = Some(done),
            None => bail!("a second root element <{}>", done.name),
        }
        Ok(())
    }

    fn append(open: &mut [Self], text: &str) {
        if let Some(element) = open.last_mut() {
            element.text.push_str(text);
        }
    }

    /// The first element below this one at a path such as `storage_domains/storage_domain`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('/')
            .try_fold(self, |at, name| at.children.iter().find(|child| child.name == name))
    }

    /// All direct children with that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text at a path; `None` when there is no such element.
    #[must_use]
    pub fn text_at(&self, path: &str) -> Option<&str> {
        self.find(path).map(|element| element.text.as_str())
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The `id` attribute.
    ///
    /// # Errors
    /// When there is none.
    pub fn id(&self) -> Result<&str> {
        self.attribute("id")
            .with_context(|| format!("<{}> has no id", self.name))
    }
}

/// Text made safe for an element or an attribute of a request.
#[must_use]
pub fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_attributes_lists_and_entities() {
        let xml = Xml::parse(
            "<?xml version=\"1.0\"?><vms><vm id=\"1\" href=\"/a?x=1&amp;y\"><name>a &lt;b&gt; &#65;</name><os/></vm><vm id=\"2\"/></vms>",
        )
        .unwrap();
        assert_eq!(xml.all("vm").map(|vm| vm.id().unwrap()).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(xml.text_at("vm/name"), Some("a <b> A"));
        assert_eq!(xml.find("vm").unwrap().attribute("href"), Some("/a?x=1&y"));
        assert_eq!(xml.text_at("vm/os"), Some(""));
        assert_eq!(xml.find("vm/none"), None);
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        for bad in ["", "text", "<a>", "<a></b>", "<a/><b/>", "<a>&none;</a>"] {
            assert!(Xml::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Xml::parse(&"<a>".repeat(100)).is_err());
    }
}
