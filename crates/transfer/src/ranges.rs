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

    /// How many bytes of it each cell of that many bytes has, from byte 0 to the last cell that has any.
    pub(crate) fn per_cell(&self, cell_bytes: u64) -> Vec<u64> {
        let mut cells = Vec::new();
        for (&start, &end) in &self.ranges {
            let mut at = start;
            while at < end {
                let (Some(cell), Some(next)) = (at.checked_div(cell_bytes), at.checked_add(cell_bytes)) else {
                    return cells;
                };
                let Ok(cell) = usize::try_from(cell) else { return cells };
                let stop = end.min(next - at % cell_bytes);
                if cells.len() <= cell {
                    cells.resize(cell + 1, 0);
                }
                cells[cell] += stop - at;
                at = stop;
            }
        }
        cells
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
            let cells = set.per_cell(16);
            for (cell, count) in (0_u64..).zip(&cells) {
                prop_assert_eq!(*count, bytes.range(cell * 16..cell * 16 + 16).count() as u64, "cell {}", cell);
            }
            prop_assert_eq!(cells.iter().sum::<u64>(), set.total());
            let ends: Vec<_> = set.ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
