//! The map of a disk's blocks, drawn: copied, to be copied, zeros, unchanged. Each kind has its own pattern, and a table says the
//! same in numbers.

use crate::ui;
use maud::{Markup, html};
use stillpoint_engine::view::watch::{BlockMap, Cell};

/// Cells in a row.
const COLUMNS: usize = 64;
/// Units of the drawing for a cell.
const SIDE: usize = 10;

/// Which kind a cell shows, and how much of its height is copied, in units of the drawing.
fn kind(cell: &Cell) -> (&'static str, usize) {
    if cell.dirty == 0 {
        return (if cell.zero > 0 { "zero" } else { "clean" }, 0);
    }
    if cell.copied >= cell.dirty {
        return ("copied", 0);
    }
    let part = u128::from(cell.copied) * (SIDE as u128) / u128::from(cell.dirty);
    ("dirty", usize::try_from(part).unwrap_or(0))
}

/// The drawing. `number` keeps the names of two drawings of a page apart.
pub(super) fn drawn(map: &BlockMap, number: usize, alias: &str) -> Markup {
    let rows = map.cells.len().div_ceil(COLUMNS).max(1);
    let columns = map.cells.len().clamp(1, COLUMNS);
    let total = map.total();
    let said = format!(
        "Map of disk {alias}: {} copied, {} still to copy, {} zeros, {} unchanged",
        ui::bytes(total.copied),
        ui::bytes(total.dirty - total.copied),
        ui::bytes(total.zero),
        ui::bytes(total.clean)
    );
    let fill = |kind: &str| format!("url(#m{number}-{kind})");
    html! {
        svg.blocks role="img" aria-label=(said) preserveAspectRatio="none" viewBox={ "0 0 " (columns * SIDE) " " (rows * SIDE) } {
            (patterns(number))
            @for (row, cells) in map.cells.chunks(COLUMNS).enumerate() {
                @for run in runs(cells) {
                    rect x=(run.at * SIDE) y=(row * SIDE) width=(run.many * SIDE) height=(SIDE) fill=(fill(run.kind)) {}
                    @if run.part > 0 {
                        rect x=(run.at * SIDE) y=(row * SIDE + SIDE - run.part) width=(SIDE) height=(run.part) fill=(fill("copied")) {}
                    }
                }
            }
        }
    }
}

struct Run {
    at: usize,
    many: usize,
    kind: &'static str,
    part: usize,
}

/// Equal neighbours made one.
fn runs(cells: &[Cell]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        let (kind, part) = kind(cell);
        match runs.last_mut() {
            Some(last) if last.kind == kind && last.part == 0 && part == 0 => last.many += 1,
            _ => runs.push(Run {
                at,
                many: 1,
                kind,
                part,
            }),
        }
    }
    runs
}

/// The patterns: full, hatched, dotted, empty; each cell with its edge.
fn patterns(number: usize) -> Markup {
    let pattern = |kind: &str, inside: Markup| {
        html! {
            pattern id={ "m" (number) "-" (kind) } width=(SIDE) height=(SIDE) patternUnits="userSpaceOnUse" {
                rect.(kind) width=(SIDE) height=(SIDE) {}
                (inside)
                path.edge d="M0 0H10M0 0V10" {}
            }
        }
    };
    html! {
        defs {
            (pattern("copied", html! {}))
            (pattern("dirty", html! { path.hatch d="M-2 2L2 -2M0 10L10 0M8 12L12 8" {} }))
            (pattern("zero", html! { circle.dot cx="5" cy="5" r="1.4" {} }))
            (pattern("clean", html! {}))
        }
    }
}

/// What the patterns mean, with the counts: the same as a table.
pub(super) fn table(map: &BlockMap, number: usize) -> Markup {
    let total = map.total();
    let row = |kind: &str, name: &str, bytes: u64| {
        html! {
            tr {
                th scope="row" {
                    svg.sample width="14" height="14" viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" fill={ "url(#m" (number) "-" (kind) ")" } {} }
                    " " (name)
                }
                td { (ui::bytes(bytes)) }
            }
        }
    };
    html! {
        table.legend {
            caption { "One cell is " (ui::bytes(map.cell_bytes)) }
            tbody {
                (row("copied", "copied", total.copied))
                (row("dirty", "still to copy", total.dirty - total.copied))
                (row("zero", "zeros, need no copy", total.zero))
                (row("clean", "unchanged since the checkpoint", total.clean))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_holds_each_cell_once() {
        let cell = |dirty, copied, zero, clean| Cell {
            dirty,
            copied,
            zero,
            clean,
        };
        let cells = vec![
            cell(0, 0, 0, 9),
            cell(0, 0, 0, 9),
            cell(8, 4, 1, 0),
            cell(8, 8, 1, 0),
            cell(0, 0, 9, 0),
        ];
        let found: Vec<_> = runs(&cells)
            .iter()
            .map(|run| (run.at, run.many, run.kind, run.part))
            .collect();
        assert_eq!(
            found,
            [
                (0, 2, "clean", 0),
                (2, 1, "dirty", 5),
                (3, 1, "copied", 0),
                (4, 1, "zero", 0)
            ]
        );
        let text = drawn(&BlockMap { cell_bytes: 1, cells }, 0, "<db1>").into_string();
        assert!(
            text.contains("&lt;db1&gt;") && text.contains("viewBox=\"0 0 50 10\""),
            "{text}"
        );
    }
}
