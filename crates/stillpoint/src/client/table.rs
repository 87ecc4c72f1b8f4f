//! Tables for people: columns as wide as need be, numbers at the right.

/// A table with a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&text| text.to_owned()).collect()],
        }
    }

    /// Adds a row with as many cells as the head has.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// The lines, without an end of the last.
    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        // A column whose every cell begins with a digit is one of numbers.
        let is_number = |column: usize| {
            self.rows.len() > 1
                && self.rows[1..].iter().all(|row| {
                    row.get(column)
                        .is_some_and(|cell| cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "-")
                })
        };
        let columns: Vec<_> = (0..self.rows[0].len())
            .map(|column| (width(column), is_number(column)))
            .collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&columns).map(|(cell, (width, is_number))| {
                if *is_number {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_are_at_the_right() {
        let mut table = Table::new(&["DISK", "BYTES", "MODE"]);
        table.row(vec!["a".into(), "5 B".into(), "full".into()]);
        table.row(vec!["longer".into(), "12345 B".into(), "incremental".into()]);
        assert_eq!(
            table.text(),
            "DISK      BYTES  MODE\na           5 B  full\nlonger  12345 B  incremental"
        );
    }
}
