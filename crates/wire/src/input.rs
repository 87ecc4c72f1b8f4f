//! Reading: one view on both encodings, and the place in the document for errors.
//!
//! Both parsers build a tree within [`crate::Limits`] first; what is read here is already bounded in size and depth.

use crate::{
    Dialect,
    error::{WireError, WireErrorKind, cut},
    xml::Element,
};
use serde_json::Value;

/// How a member was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As an XML attribute.
    Attribute,
    /// As an XML element.
    Element,
    /// As a member of a JSON object, which knows no such difference.
    Member,
}

/// A value of the document.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The value of an XML attribute.
    Attribute(&'a str),
    /// An XML element.
    Element(&'a Element),
    /// A JSON value.
    Json(&'a Value),
}

/// The place in the document, and what was skipped so far.
#[derive(Debug, Default)]
pub struct Context {
    dialect: Dialect,
    path: Vec<(&'static str, Option<usize>)>,
    unknown: usize,
}

impl Context {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn enter(&mut self, label: &'static str) {
        self.path.push((label, None));
    }

    pub(crate) fn enter_item(&mut self, label: &'static str, index: usize) {
        self.path.push((label, Some(index)));
    }

    pub(crate) fn leave(&mut self) {
        self.path.pop();
    }

    pub(crate) fn count_unknown(&mut self) {
        self.unknown += 1;
    }

    pub(crate) fn unknown(&self) -> usize {
        self.unknown
    }

    pub(crate) fn error(&self, kind: WireErrorKind, detail: impl Into<String>) -> WireError {
        let steps: Vec<String> = self
            .path
            .iter()
            .map(|(label, index)| index.map_or_else(|| (*label).to_owned(), |index| format!("{label}[{index}]")))
            .collect();
        WireError::new(kind, steps.join("/"), detail)
    }

    /// The value `text` is not a `kind`.
    pub(crate) fn invalid(&self, text: &str, kind: &str) -> WireError {
        self.error(
            WireErrorKind::InvalidValue,
            format!("{:?} is not a valid {kind}", cut(text)),
        )
    }
}

impl<'a> Input<'a> {
    /// Calls `f` with every member of an object.
    pub(crate) fn each_member(
        self,
        ctx: &mut Context,
        mut f: impl FnMut(&'a str, Place, Input<'a>, &mut Context) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        match self {
            Self::Element(element) => {
                refuse_text(element, ctx)?;
                for (key, value) in &element.attributes {
                    // A default namespace changes nothing for a reader that knows none.
                    if key != "xmlns" && !key.starts_with("xmlns:") {
                        f(key, Place::Attribute, Input::Attribute(value), ctx)?;
                    }
                }
                for child in &element.children {
                    f(&child.name, Place::Element, Input::Element(child), ctx)?;
                }
                Ok(())
            }
            Self::Json(Value::Object(members)) => {
                for (key, value) in members {
                    if !value.is_null() {
                        f(key, Place::Member, Input::Json(value), ctx)?;
                    }
                }
                Ok(())
            }
            Self::Json(_) | Self::Attribute(_) => {
                Err(ctx.error(WireErrorKind::InvalidValue, "An object is expected here"))
            }
        }
    }

    /// Calls `f` with every item of a list with a wrapper.
    pub(crate) fn each_child(
        self,
        ctx: &mut Context,
        mut f: impl FnMut(&'a str, Input<'a>, &mut Context) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.each_member(ctx, |key, place, input, ctx| match place {
            Place::Attribute => {
                ctx.count_unknown();
                Ok(())
            }
            Place::Element | Place::Member => f(key, input, ctx),
        })
    }

    /// Calls `f` with every value of a repeated member.
    pub(crate) fn each_value(self, mut f: impl FnMut(Input<'a>) -> Result<(), WireError>) -> Result<(), WireError> {
        if let Self::Json(Value::Array(values)) = self {
            values.iter().try_for_each(|value| f(Input::Json(value)))
        } else {
            f(self)
        }
    }

    /// The text of a scalar of XML, or the JSON value.
    pub(crate) fn scalar(self, ctx: &Context) -> Result<Scalar<'a>, WireError> {
        match self {
            Self::Attribute(text) => Ok(Scalar::Text(text)),
            Self::Element(element) if element.children.is_empty() => Ok(Scalar::Text(&element.text)),
            Self::Json(Value::String(text)) => Ok(Scalar::Text(text)),
            Self::Json(Value::Bool(value)) => Ok(Scalar::Bool(*value)),
            Self::Json(Value::Number(value)) => Ok(Scalar::Number(value)),
            Self::Element(_) | Self::Json(_) => {
                Err(ctx.error(WireErrorKind::InvalidValue, "A plain value is expected here"))
            }
        }
    }
}

/// A value without structure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar<'a> {
    Text(&'a str),
    Bool(bool),
    Number(&'a serde_json::Number),
}

/// Text between the members of an object means that the sender meant something else.
fn refuse_text(element: &Element, ctx: &Context) -> Result<(), WireError> {
    if element.text.trim().is_empty() {
        return Ok(());
    }
    Err(ctx.error(
        WireErrorKind::InvalidValue,
        format!("Text {:?} where elements are expected", cut(&element.text)),
    ))
}
