//! Where each snapshot stands in the drawing of a VM's tree: a row for each, a lane for each branch.
//!
//! Pure: from "what stands on what" to places. Parents are above their children. The line that goes on longest stays in its
//! lane; what branches off it comes directly below, in lanes to the right, so that lines never cross.

/// A node's place: its row is its position in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node, as it was given.
    pub(crate) node: usize,
    /// Its lane, from 0.
    pub(crate) lane: usize,
    /// A line comes down to it.
    pub(crate) from_above: bool,
    /// Its line goes on below it.
    pub(crate) goes_on: bool,
    /// The lanes of the branches that leave its line here.
    pub(crate) branches: Vec<usize>,
    /// The lanes of other lines that pass by.
    pub(crate) passing: Vec<usize>,
    /// It is on the line of what it stands on, and not the begin of a branch.
    pub(crate) is_trunk: bool,
}

/// A node that waits for its row.
struct Waiting {
    node: usize,
    lane: usize,
    has_parent: bool,
    is_trunk: bool,
}

/// Places all nodes. `parents`: what each stands on, which must come before it; else it stands on nothing.
pub(crate) fn layout(parents: &[Option<usize>]) -> Vec<Place> {
    let parent_of = |node: usize| parents.get(node).copied().flatten().filter(|parent| *parent < node);
    let mut sizes = vec![1_usize; parents.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    for node in (0..parents.len()).rev() {
        if let Some(parent) = parent_of(node) {
            let size = sizes.get(node).copied().unwrap_or(1);
            if let Some(of) = sizes.get_mut(parent) {
                *of += size;
            }
            if let Some(of) = children.get_mut(parent) {
                of.insert(0, node);
            }
        }
    }
    let roots = (0..parents.len()).rev().filter(|node| parent_of(*node).is_none());
    let mut waiting: Vec<Waiting> = roots
        .map(|node| Waiting {
            node,
            lane: 0,
            has_parent: false,
            is_trunk: true,
        })
        .collect();
    let mut places = Vec::with_capacity(parents.len());
    while let Some(Waiting {
        node,
        lane,
        has_parent,
        is_trunk,
    }) = waiting.pop()
    {
        let passing = waiting
            .iter()
            .filter(|one| one.has_parent)
            .map(|one| one.lane)
            .collect();
        let own = children.get_mut(node).map(std::mem::take).unwrap_or_default();
        // The longest; of equal ones the eldest.
        let trunk = own
            .iter()
            .rev()
            .max_by_key(|child| sizes.get(**child).copied().unwrap_or(1))
            .copied();
        let push = |child, lane, is_trunk| Waiting {
            node: child,
            lane,
            has_parent: true,
            is_trunk,
        };
        waiting.extend(trunk.map(|child| push(child, lane, true)));
        let mut branches = Vec::new();
        // The last one to come is nearest, so that the lines of those that wait have nobody in their way.
        for child in own.into_iter().rev().filter(|child| Some(*child) != trunk) {
            let lane = lane + 1 + branches.len();
            branches.push(lane);
            waiting.push(push(child, lane, false));
        }
        places.push(Place {
            node,
            lane,
            from_above: has_parent,
            goes_on: trunk.is_some(),
            branches,
            passing,
            is_trunk,
        });
    }
    places
}

/// A line of the drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The row of that number.
    Row(usize),
    /// So many rows from that one on are left out.
    Gap(usize, usize),
}

/// Rows of an unbranched line that are shown at its begin and at its end, when the middle is left out.
const SHOWN: (usize, usize) = (3, 24);
/// Fewer rows than that are not worth to be left out.
const GAP_MIN: usize = 12;

/// Leaves out the middle of long lines in which nothing happens. `is_plain`: whether a row is one of those.
pub(crate) fn fold(rows: usize, is_plain: impl Fn(usize) -> bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut row = 0;
    while row < rows {
        let length = (row..rows).take_while(|row| is_plain(*row)).count();
        let gap = length.saturating_sub(SHOWN.0 + SHOWN.1);
        if gap >= GAP_MIN {
            lines.extend((row..row + SHOWN.0).map(Line::Row));
            lines.push(Line::Gap(row + SHOWN.0, gap));
            lines.extend((row + SHOWN.0 + gap..row + length).map(Line::Row));
            row += length;
        } else {
            let next = row + length.max(1);
            lines.extend((row..next).map(Line::Row));
            row = next;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A cheap sequence that looks random and is the same each time.
    fn random(state: &mut u64) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap()
    }

    fn check(parents: &[Option<usize>]) {
        let places = layout(parents);
        assert_eq!(places.len(), parents.len());
        let row_of = |node: usize| places.iter().position(|place| place.node == node).unwrap();
        let nodes: HashSet<usize> = places.iter().map(|place| place.node).collect();
        assert_eq!(nodes.len(), parents.len(), "each once");
        for (row, place) in places.iter().enumerate() {
            let mut lanes = place.passing.clone();
            lanes.push(place.lane);
            lanes.sort_unstable();
            let all = lanes.len();
            lanes.dedup();
            assert_eq!(lanes.len(), all, "row {row}: two things in one lane");
            assert_eq!(place.from_above, parents[place.node].is_some());
            if let Some(parent) = parents[place.node] {
                let above = row_of(parent);
                assert!(above < row, "a parent is above its child");
                for between in &places[above + 1..row] {
                    assert!(between.passing.contains(&place.lane), "the line has a way down");
                }
                let from = &places[above];
                assert!(if place.is_trunk {
                    from.lane == place.lane && from.goes_on
                } else {
                    from.branches.contains(&place.lane)
                });
                for lane in &from.branches {
                    assert!(!from.passing.contains(lane), "a branch leaves into a free lane");
                }
            }
        }
        let lines: usize = places
            .iter()
            .map(|place| place.branches.len() + usize::from(place.goes_on))
            .sum();
        let children = parents.iter().filter(|parent| parent.is_some()).count();
        assert_eq!(lines, children, "each line once");
    }

    #[test]
    fn each_snapshot_has_one_place_below_what_it_stands_on_and_no_line_meets_another() {
        check(&[]);
        let mut state = 7;
        for size in 1..60 {
            for wide in [1, 3, size] {
                let parent = |node: usize, state: &mut u64| {
                    (node > 0 && !random(state).is_multiple_of(9)).then(|| node - 1 - random(state) % wide.min(node))
                };
                let parents: Vec<_> = (0..size).map(|node| parent(node, &mut state)).collect();
                check(&parents);
            }
        }
    }

    #[test]
    fn a_preview_is_a_branch_beside_the_line_that_is_kept() {
        // a, b, the kept state, the trial on a.
        let places = layout(&[None, Some(0), Some(1), Some(0)]);
        let shown: Vec<_> = places.iter().map(|place| (place.node, place.lane)).collect();
        assert_eq!(shown, [(0, 0), (3, 1), (1, 0), (2, 0)]);
        assert_eq!(places[0].branches, [1]);
        assert_eq!(places[1].passing, [0]);
    }

    #[test]
    fn the_middle_of_a_long_line_is_left_out_and_nothing_else() {
        assert_eq!(fold(3, |_| true), [Line::Row(0), Line::Row(1), Line::Row(2)]);
        let lines = fold(1000, |row| row < 999);
        let shown = |line: &Line| match line {
            Line::Row(_) => 1,
            Line::Gap(_, count) => *count,
        };
        assert_eq!(lines.iter().map(shown).sum::<usize>(), 1000);
        assert_eq!(lines.len(), SHOWN.0 + 1 + SHOWN.1 + 1);
        assert_eq!(lines.last(), Some(&Line::Row(999)));
        assert_eq!(fold(1000, |row| row % 20 != 0).len(), 1000, "what is special is shown");
    }
}
