//! JSON text to a bounded `serde_json::Value`.
//!
//! The library's own reader keeps the last of two members of the same name, in silence. Here that is an error, as a
//! repeated element is in XML: which of two values was meant must not depend on the reader.

use crate::error::{Limits, WireError, WireErrorKind, cut};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::{cell::Cell, fmt};

/// Parses a whole document; `text` is no longer than the limit on bodies.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Value, WireError> {
    let shared = Shared {
        limits,
        elements: Cell::new(0),
        broken: Cell::new(None),
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Node {
        shared: &shared,
        depth: 1,
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| shared.broken.take().unwrap_or_else(|| WireError::malformed(error)))
}

struct Shared<'l> {
    limits: &'l Limits,
    elements: Cell<usize>,
    /// Our own error, which the parser's error type cannot carry.
    broken: Cell<Option<WireError>>,
}

impl Shared<'_> {
    fn fail<E: serde::de::Error>(&self, error: WireError) -> E {
        let carrier = E::custom(&error.detail);
        self.broken.set(Some(error));
        carrier
    }

    fn check_text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        if text.len() <= self.limits.text_bytes {
            return Ok(());
        }
        let detail = format!("A text is longer than {} bytes", self.limits.text_bytes);
        Err(self.fail(WireError::too_large(detail)))
    }
}

#[derive(Clone, Copy)]
struct Node<'s, 'l> {
    shared: &'s Shared<'l>,
    depth: usize,
}

impl Node<'_, '_> {
    /// The values inside of this one.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let limit = self.shared.limits.depth;
        if self.depth > limit {
            return Err(self.shared.fail(WireError::too_deep(limit)));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let count = self.shared.elements.get() + 1;
        self.shared.elements.set(count);
        if count > self.shared.limits.elements {
            let detail = format!("More than {} values", self.shared.limits.elements);
            return Err(self.shared.fail(WireError::too_large(detail)));
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.shared.check_text(value)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.shared.check_text(&key)?;
            let value = members.next_value_seed(inner)?;
            if map.contains_key(&key) {
                let detail = format!("Member {:?} is given more than once", cut(&key));
                return Err(self
                    .shared
                    .fail(WireError::new(WireErrorKind::Duplicate, "document", detail)));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
