//! `Range` and `Content-Range`, as strict as imageio: a range that is not understood is refused, never taken for none, as
//! bytes in the wrong place are a damaged disk.

use crate::refusal::Refusal;

/// A number of only digits: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// First byte and, if given, last of a `Range`.
pub(super) fn range(header: &str) -> Result<(u64, Option<u64>), Refusal> {
    let refuse = |why: &str| Refusal::range(format!("Cannot satisfy range, {why}"));
    let invalid = || refuse("invalid range or multiple ranges");
    let (first, last) = header
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or_else(invalid)?;
    if first.is_empty() {
        return Err(match number(last) {
            Some(_) => refuse("suffix-byte-range-spec not supported yet"),
            None if last.is_empty() => refuse("no first or last"),
            None => invalid(),
        });
    }
    let first = number(first).ok_or_else(invalid)?;
    if last.is_empty() {
        return Ok((first, None));
    }
    let last = number(last).ok_or_else(invalid)?;
    if first > last {
        return Err(refuse("first > last"));
    }
    Ok((first, Some(last)))
}

/// First byte and, if given, last of a `Content-Range`.
pub(super) fn content_range(header: &str) -> Result<(u64, Option<u64>), Refusal> {
    let refuse = |why: &str| Refusal::bad(format!("Invalid Content-Range{why}"));
    let star = |text: &str| {
        if text == "*" {
            Some(None)
        } else {
            number(text).map(Some)
        }
    };
    let parts = || {
        let (range, complete) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((number(first)?, star(last)?, star(complete)?))
    };
    let (first, last, complete) = parts().ok_or_else(|| refuse(""))?;
    if last.is_some_and(|last| last < first) {
        return Err(refuse(", first > last"));
    }
    if let (Some(last), Some(complete)) = (last, complete)
        && last >= complete
    {
        return Err(refuse(", last >= complete"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_taken_exactly_or_refused() {
        assert_eq!(range("bytes=0-").unwrap(), (0, None));
        assert_eq!(range("bytes=7-9").unwrap(), (7, Some(9)));
        let wrong = [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=-5",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "bytes= 0-1",
            "bytes=+1-2",
            "bytes=0-1 ",
            "Bytes=0-1",
            "bytes=a-b",
            "bytes=1--2",
            "bytes=-1-2",
            "bytes=99999999999999999999-",
            "items=0-1",
        ];
        for header in wrong {
            assert!(range(header).is_err(), "{header}");
        }
    }

    #[test]
    fn a_content_range_is_taken_exactly_or_refused() {
        assert_eq!(content_range("bytes 0-99/*").unwrap(), (0, Some(99)));
        assert_eq!(content_range("bytes 5-*/*").unwrap(), (5, None));
        assert_eq!(content_range("bytes 5-9/10").unwrap(), (5, Some(9)));
        let wrong = [
            "",
            "bytes 0--1/*",
            "bytes 5-4/*",
            "bytes 0-10/10",
            "bytes */10",
            "bytes=0-1/2",
            "bytes 0-1",
            "bytes 0-1/",
            "bytes 0-99999999999999999999/*",
        ];
        for header in wrong {
            assert!(content_range(header).is_err(), "{header}");
        }
    }
}
