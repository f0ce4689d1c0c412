//! Tables without lines, narrow enough for the terminal.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// A table under construction.
pub(super) struct Table {
    table: comfy_table::Table,
    rows: usize,
}

impl Table {
    pub(super) fn new() -> Table {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        Table { table, rows: 0 }
    }

    /// Column titles; those that start with `>` are numbers, aligned right.
    pub(super) fn with_header(titles: &[&str]) -> Table {
        let mut table = Table::new();
        table.table.set_header(titles.iter().map(|t| t.trim_start_matches('>')));
        for (i, title) in titles.iter().enumerate() {
            if title.starts_with('>')
                && let Some(column) = table.table.column_mut(i)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl ToString>) {
        self.table.add_row(cells.into_iter().map(|c| c.to_string()));
        self.rows += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn render(mut self, width: Option<u16>) -> String {
        if let Some(width) = width {
            self.table.set_content_arrangement(ContentArrangement::Dynamic);
            self.table.set_width(width.max(20));
        }
        self.table.to_string()
    }
}
