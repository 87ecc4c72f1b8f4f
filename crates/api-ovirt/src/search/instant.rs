//! Instants in a search: a date means the whole day, a time the whole second. All is UTC.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use stillpoint_types::Micros;

/// The microseconds from (including) and to (excluding) that a text means; `None`: it is no date.
pub(super) fn read(text: &str) -> Option<(Micros, Micros)> {
    let (from, length) = match text.parse::<Timestamp>() {
        Ok(at) => (at, SignedDuration::from_secs(1)),
        Err(_) => civil(text)?,
    };
    let to = from.checked_add(length).ok()?;
    Some((from.as_microsecond(), to.as_microsecond()))
}

fn civil(text: &str) -> Option<(Timestamp, SignedDuration)> {
    // oVirt's own spelling is the American one.
    let day = text.parse::<Date>().or_else(|_| Date::strptime("%m/%d/%Y", text));
    let (at, length) = match (day, text.contains(':')) {
        (Ok(day), false) => (
            day.to_datetime(jiff::civil::Time::midnight()),
            SignedDuration::from_hours(24),
        ),
        _ => (text.parse::<DateTime>().ok()?, SignedDuration::from_secs(1)),
    };
    Some((at.to_zoned(TimeZone::UTC).ok()?.timestamp(), length))
}
