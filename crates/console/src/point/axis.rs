//! The time axis, drawn: snapshots above, backups and checkpoints below. What it shows is in the list beside it, too, so it is hidden
//! from screen readers and from the keyboard.

use super::{Kind, Point};
use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};
use stillpoint_types::Micros;

/// Labels of the axis.
const LABELS: i64 = 4;

/// Where a moment stands, in hundredths of a percent of the width.
fn place(at: Micros, begin: Micros, end: Micros) -> i64 {
    // A margin at both ends, for the marks.
    let width = (end - begin).max(1);
    let part = i128::from((at - begin).clamp(0, width)) * 9400 / i128::from(width);
    300 + i64::try_from(part).unwrap_or(0)
}

fn percent(place: i64) -> String {
    format!("{}.{:02}%", place / 100, place % 100)
}

/// The drawing of those points, from the oldest of them until now.
pub(super) fn drawn(points: &[Point], chosen: Option<&str>, here: &str, now: Micros) -> Markup {
    let Some(begin) = points.iter().map(|point| point.at).min() else {
        return html! {};
    };
    let end = now.max(begin + 1_000_000);
    html! {
        svg.axis aria-hidden="true" height="112" width="100%" {
            line.lane x1="0" x2="100%" y1="26" y2="26" {}
            line.lane x1="0" x2="100%" y1="62" y2="62" {}
            text.lane-name x="2" y="12" { "snapshots" }
            text.lane-name x="2" y="80" { "backups, checkpoints" }
            @for label in 0..LABELS {
                @let at = begin + (end - begin) / (LABELS - 1) * label;
                @let x = percent(place(at, begin, end));
                line.grid x1=(x) x2=(x) y1="18" y2="90" {}
                text.label x=(x) y="106" text-anchor=(match label { 0 => "start", 3 => "end", _ => "middle" }) { (short(at, end - begin)) }
            }
            @for point in points.iter().rev() {
                @let word = point.word();
                a href={ (here) "?point=" (word) "#chosen" } tabindex="-1" aria-label={ "On the axis: " (point.name) } .chosen[chosen == Some(word.as_str())] {
                    (mark(point, &percent(place(point.at, begin, end))))
                }
            }
        }
    }
}

fn mark(point: &Point, x: &str) -> Markup {
    let y = if matches!(point.kind, Kind::Backup(..) | Kind::Checkpoint(_)) {
        62
    } else {
        26
    };
    html! {
        title { (point.name) }
        svg.mark x=(x) y=(y) overflow="visible" { (symbol(point.kind)) }
    }
}

/// A mark around the origin: a circle is a snapshot, a full one has memory, a square is a backup, a diamond a checkpoint.
fn symbol(kind: Kind) -> Markup {
    html! {
        circle.ring r="13" {}
        @match kind {
            Kind::Snapshot(_) | Kind::Former => { circle.hollow r="7" {} },
            Kind::Memory(_) => { circle.full r="8" {} },
            Kind::Backup(..) => { rect.full x="-7" y="-7" width="14" height="14" {} },
            Kind::Checkpoint(_) => { path.hollow d="M0 -8L8 0L0 8L-8 0Z" {} },
        }
    }
}

/// The mark beside a point of the list.
pub(super) fn sample(kind: Kind) -> Markup {
    html! { svg.mark.sample aria-hidden="true" width="20" height="20" viewBox="-10 -10 20 20" { (symbol(kind)) } }
}

/// A moment, as short as the whole axis allows.
fn short(at: Micros, whole: Micros) -> String {
    let format = match whole / 1_000_000 {
        0..600 => "%H:%M:%S",
        600..86_400 => "%H:%M",
        86_400..8_640_000 => "%b %d",
        _ => "%Y-%m",
    };
    Timestamp::from_microsecond(at).map_or_else(
        |_out_of_range| String::new(),
        |at| at.to_zoned(TimeZone::UTC).strftime(format).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_stands_within_the_drawing_whatever_the_clock_did() {
        assert_eq!(percent(place(0, 0, 100)), "3.00%");
        assert_eq!(percent(place(100, 0, 100)), "97.00%");
        assert_eq!(percent(place(50, 0, 100)), "50.00%");
        assert_eq!(percent(place(500, 0, 100)), "97.00%");
        assert_eq!(percent(place(-5, 0, 0)), "3.00%");
    }
}
