//! Tables without lines. One that is too wide for the terminal wraps its longest column, or is turned on its side.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::report::escape::visible;

/// Columns that the longest column must be left with; with less the table is turned.
const WRAPPED_MIN: usize = 20;

/// A table under construction.
#[derive(Default)]
pub(super) struct Table {
    titles: Vec<String>,
    /// By column.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table::default()
    }

    /// Column titles; those that start with `>` are numbers, aligned right.
    pub(super) fn with_header(titles: &[&str]) -> Table {
        Table {
            titles: titles.iter().map(|t| t.trim_start_matches('>').to_string()).collect(),
            right: titles.iter().map(|t| t.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl ToString>) {
        // a value of a stranger's may hold anything
        let cells = cells.into_iter().map(|c| visible(&c.to_string()).into_owned());
        self.rows.push(cells.collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with a space before it. Without a width they are as long as they need to be.
    pub(super) fn render(&self, width: Option<u16>) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if !self.titles.is_empty() {
            table.set_header(&self.titles);
        }
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        for (i, right) in self.right.iter().enumerate() {
            if let (true, Some(column)) = (*right, table.column_mut(i)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = |table: &comfy_table::Table| table.lines().map(|l| l.trim_end().to_string()).collect::<Vec<_>>();
        let Some(width) = width else { return lines(&table) };
        // each column's content, and a space on both sides
        let columns: Vec<usize> = table
            .column_max_content_widths()
            .iter()
            .map(|w| usize::from(*w) + 2)
            .collect();
        let whole: usize = columns.iter().sum();
        let longest = columns.iter().max().copied().unwrap_or(0);
        if whole <= usize::from(width) {
            lines(&table)
        } else if whole - longest + WRAPPED_MIN <= usize::from(width) {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
            lines(&table)
        } else {
            self.turned()
        }
    }

    /// A line for each cell, with its title where there are any.
    fn turned(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.rows {
            for (i, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                let indent = if i == 0 { " " } else { "   " };
                lines.push(match self.titles.get(i) {
                    Some(title) => format!("{indent}{title}: {cell}"),
                    None => format!("{indent}{cell}"),
                });
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::with_header(&["key", ">n", "what"]);
        table.row(["a", "10", "a long text that goes on and on for a while"]);
        table
    }

    #[test]
    fn a_wide_table_wraps_and_a_very_wide_one_is_turned() {
        assert_eq!(table().render(None).len(), 2);
        assert_eq!(table().render(None), table().render(Some(200)));
        let wrapped = table().render(Some(40));
        assert!(
            wrapped.len() > 2 && wrapped.iter().all(|l| l.chars().count() <= 40),
            "{wrapped:?}"
        );
        assert_eq!(table().render(Some(20))[..2], [" key: a", "   n: 10"]);
    }
}
