//! The primitive formats (spec 3.3), each once for both encodings.

use crate::{
    Dialect,
    describe::Member,
    error::WireError,
    input::{Context, Input, Scalar},
    output::{Output, Slot},
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use stillpoint_types::Micros;

/// An instant: microseconds since the Unix epoch, UTC. On the wire it has milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub Micros);

impl From<Micros> for Date {
    fn from(micros: Micros) -> Self {
        Self(micros)
    }
}

impl Member for String {
    fn put(&self, slot: Slot, out: &mut Output) {
        out.string(slot, self);
    }

    /// `<x/>` and `<x></x>` are the same document to XML, and both mean the empty text here.
    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        Ok(match input.scalar(ctx)? {
            Scalar::Text(text) => text.to_owned(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
        })
    }
}

impl Member for bool {
    fn put(&self, slot: Slot, out: &mut Output) {
        out.string(slot, if *self { "true" } else { "false" });
    }

    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        let text = match input.scalar(ctx)? {
            Scalar::Bool(value) => return Ok(value),
            Scalar::Text(text) => text.to_owned(),
            Scalar::Number(value) => value.to_string(),
        };
        match text.trim() {
            "1" => Ok(true),
            "0" => Ok(false),
            word if word.eq_ignore_ascii_case("true") => Ok(true),
            word if word.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(ctx.invalid(&text, "boolean")),
        }
    }
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Member for $ty {
            fn put(&self, slot: Slot, out: &mut Output) {
                out.string(slot, &self.to_string());
            }

            /// An empty element reads as 0: engines do so, and clients rely on it.
            fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
                let text = match input.scalar(ctx)? {
                    Scalar::Text(text) => text.trim().to_owned(),
                    Scalar::Number(value) => value.to_string(),
                    Scalar::Bool(value) => return Err(ctx.invalid(&value.to_string(), "integer")),
                };
                if text.is_empty() {
                    return Ok(0);
                }
                text.parse().map_err(|_| ctx.invalid(&text, concat!("integer (", stringify!($ty), ")")))
            }
        }
    )*};
}
integers! { i32 i64 u64 }

impl Member for f64 {
    /// What is no number prints nothing: neither encoding has a form for it.
    fn put(&self, slot: Slot, out: &mut Output) {
        if self.is_finite() {
            let text = self.to_string();
            out.raw(slot, &text, &text);
        }
    }

    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        let text = match input.scalar(ctx)? {
            Scalar::Text(text) => text.trim().to_owned(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Bool(value) => return Err(ctx.invalid(&value.to_string(), "decimal")),
        };
        match text.parse::<Self>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) | Err(_) => Err(ctx.invalid(&text, "decimal")),
        }
    }
}

impl Member for Date {
    fn put(&self, slot: Slot, out: &mut Output) {
        let millis = self.0.div_euclid(1000);
        let time =
            Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 { Timestamp::MIN } else { Timestamp::MAX });
        match out.dialect() {
            Dialect::V4 => out.raw(
                slot,
                &time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
                &millis.to_string(),
            ),
            // An `xsd:dateTime` in both encodings, as the documents of version 3 have it.
            Dialect::V3 => out.string(slot, &time.strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00").to_string()),
        }
    }

    /// In JSON also milliseconds since the epoch, native or as text. A date without a zone is UTC.
    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        let (text, json) = match input.scalar(ctx)? {
            Scalar::Text(text) => (text.trim().to_owned(), matches!(input, Input::Json(_))),
            Scalar::Number(value) => (value.to_string(), true),
            Scalar::Bool(value) => return Err(ctx.invalid(&value.to_string(), "date")),
        };
        let micros = if json && text.parse::<i64>().is_ok() {
            parse_millis(&text)
        } else {
            parse_iso(&text)
        };
        micros.map(Self).ok_or_else(|| ctx.invalid(&text, "date"))
    }
}

fn parse_millis(text: &str) -> Option<Micros> {
    let time = Timestamp::from_millisecond(text.parse().ok()?).ok()?;
    Some(time.as_microsecond())
}

fn parse_iso(text: &str) -> Option<Micros> {
    // Keeps the library's extensions (zone names, calendars, week dates) out of the contract.
    let plain = text.len() >= 19
        && text.as_bytes().get(10) == Some(&b'T')
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'+' | b'T' | b'Z'));
    if !plain {
        return None;
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        // No zone given, or no date at all: the second parser tells.
        Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    Some(time.as_microsecond())
}
