//! A set of bytes, as ranges that do not touch: so that bytes which are read twice count once.

use std::collections::BTreeMap;

/// Ranges kept. A client that reads every other byte of a disk gets a smaller count, not all of our memory.
const RANGES_MAX: usize = 100_000;

/// Bytes of a disk.
#[derive(Debug, Default)]
pub(crate) struct RangeSet {
    /// Start to end (exclusive).
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl RangeSet {
    /// Adds the bytes from `start` up to, without, `end`.
    pub(crate) fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        // All that overlap or touch begin at or before the end; the last of them first.
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.ranges.remove(&from);
            self.total -= to - from;
            (start, end) = (start.min(from), end.max(to));
        }
        if self.ranges.len() < RANGES_MAX {
            self.ranges.insert(start, end);
            self.total += end - start;
        }
    }

    /// How many bytes are in it.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_count_once_however_ranges_overlap(ranges in prop::collection::vec((0_u64..200, 0_u64..40), 0..60)) {
            let mut set = RangeSet::default();
            let mut bytes = std::collections::BTreeSet::new();
            for (start, length) in ranges {
                set.add(start, start + length);
                bytes.extend(start..start + length);
            }
            prop_assert_eq!(set.total(), bytes.len() as u64);
            let ends: Vec<_> = set.ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
