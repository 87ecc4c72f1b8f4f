//! Extents: what of a disk is zeroes, or has changed; and the reader of their list.
//!
//! The list is an array of flat objects without texts, so an object ends at its brace: it is read as it comes, and
//! only one object is held. What is not such a list is an error, never a shorter list.

use bytes::{Buf as _, BytesMut};
use serde::Deserialize;

/// The longest object of the list; real ones have less than 100 bytes.
const OBJECT_MAX_BYTES: usize = 4096;

/// What is asked about a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentContext {
    /// What is zeroes.
    Zero,
    /// What has changed since the backup's checkpoint.
    Dirty,
}

/// A range of a disk that is all alike. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Extent {
    /// Where it starts.
    pub start: u64,
    /// How long it is; never 0.
    pub length: u64,
    /// It reads as zeroes.
    #[serde(rename = "zero", default)]
    pub is_zero: bool,
    /// It has changed; false when that was not asked.
    #[serde(rename = "dirty", default)]
    pub is_dirty: bool,
}

impl Extent {
    /// Where the next one starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Begin,
    /// After `[`: the first object, or the end.
    First,
    /// After an object: a comma, or the end.
    Between,
    /// After a comma.
    Object,
    Done,
}

/// Turns pieces of the list into extents.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    buffer: BytesMut,
    at: At,
    /// Where the next extent must start.
    next: u64,
}

impl Parser {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// The next extent, if all of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Extent>, String> {
        loop {
            let blanks = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(blanks);
            let Some(byte) = self.buffer.first().copied() else {
                return Ok(None);
            };
            self.at = match (self.at, byte) {
                (At::Begin, b'[') => At::First,
                (At::First | At::Between, b']') => At::Done,
                (At::Between, b',') => At::Object,
                (At::First | At::Object, b'{') => return self.object(),
                _ => return Err(format!("unexpected {:?} in a list of extents", char::from(byte))),
            };
            self.buffer.advance(1);
        }
    }

    fn object(&mut self) -> Result<Option<Extent>, String> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'}') else {
            if self.buffer.len() > OBJECT_MAX_BYTES {
                return Err("an extent has no end".to_owned());
            }
            return Ok(None);
        };
        let text = self.buffer.split_to(end + 1);
        let extent: Extent = serde_json::from_slice(&text).map_err(|error| format!("an extent: {error}"))?;
        if extent.start != self.next || extent.length == 0 || extent.start.checked_add(extent.length).is_none() {
            return Err(format!(
                "an extent of {} bytes at {}, where one at {} must follow",
                extent.length, extent.start, self.next
            ));
        }
        self.next = extent.end();
        self.at = At::Between;
        Ok(Some(extent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, piece: usize) -> Result<Vec<Extent>, String> {
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            parser.push(bytes);
            while let Some(extent) = parser.next()? {
                found.push(extent);
            }
        }
        if parser.is_done() {
            Ok(found)
        } else {
            Err("no end".to_owned())
        }
    }

    const LIST: &str = r#"[{"start": 0, "length": 65536, "zero": false, "hole": false},
         {"start": 65536, "length": 131072, "dirty": true, "zero": true}]
"#;

    #[test]
    fn a_list_reads_the_same_however_it_is_cut() {
        let whole = all(LIST, LIST.len()).unwrap();
        assert_eq!(whole.len(), 2);
        assert!(!whole[0].is_zero && whole[1].is_zero && whole[1].is_dirty);
        for piece in 1..40 {
            assert_eq!(all(LIST, piece).unwrap(), whole, "in pieces of {piece}");
        }
        assert_eq!(all("[]", 1).unwrap(), []);
    }

    #[test]
    fn what_is_no_list_of_extents_is_an_error_and_never_a_shorter_list() {
        for text in [
            "",
            "{}",
            "[",
            "[}",
            "[,]",
            r#"[{"start": 0, "length": 0}]"#,
            r#"[{"start": 1, "length": 1}]"#,
            r#"[{"start": 0, "length": 1}, {"start": 2, "length": 1}]"#,
            r#"[{"start": 0, "length": 1} {"start": 1, "length": 1}]"#,
            r#"[{"start": 0, "length": 1}, ]"#,
            r#"[{"start": 0, "length": 1}]]"#,
            r#"[{"start": 0, "length": 18446744073709551615}, {"start": 18446744073709551615, "length": 1}]"#,
            r#"[{"start": -1, "length": 1}]"#,
            r#"[{"length": 1}]"#,
            "<html>",
        ] {
            assert!(all(text, 7).is_err(), "{text}");
        }
        let endless = format!("[{{{}", " ".repeat(10_000));
        assert!(all(&endless, 100).is_err());
    }
}
