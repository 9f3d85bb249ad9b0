//! Tables with borders (spec/sctool.md 4.1.5).
//!
//! Written here because the layouts need a line between chosen rows (keyspaces) and a header that is either set
//! left or aligned like its column, which table crates do not offer together.

use unicode_width::UnicodeWidthStr;

/// How the cells of a column are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// How the header is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Left, over any column; a table without rows prints nothing.
    Left,
    /// A row like the others: aligned like them, printed even alone.
    Row,
}

#[derive(Debug, Clone)]
enum Line {
    Cells(Vec<String>),
    Separator,
}

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    header: Header,
    lines: Vec<Line>,
    /// A column that is cut so that the table fits in that many screen columns.
    cut: Option<(usize, usize)>,
}

/// Corners, crossings and lines.
struct Border {
    horizontal: char,
    vertical: char,
    top: [char; 3],
    middle: [char; 3],
    bottom: [char; 3],
}

const UTF8: Border = Border {
    horizontal: '─',
    vertical: '│',
    top: ['╭', '┬', '╮'],
    middle: ['├', '┼', '┤'],
    bottom: ['╰', '┴', '╯'],
};
const ASCII: Border =
    Border { horizontal: '-', vertical: '|', top: ['+'; 3], middle: ['+'; 3], bottom: ['+'; 3] };

impl Table {
    /// A table with left-aligned columns.
    pub fn new(columns: &[&str]) -> Self {
        let columns = columns.iter().map(|name| ((*name).to_owned(), Align::Left)).collect();
        Self { columns, header: Header::Left, lines: Vec::new(), cut: None }
    }

    /// Aligns the columns from `from` to `to` (exclusive, counted from 0) right.
    pub fn right(mut self, columns: std::ops::Range<usize>) -> Self {
        for (_, align) in &mut self.columns[columns] {
            *align = Align::Right;
        }
        self
    }

    /// Makes the header a row like the others.
    pub fn header_as_row(mut self) -> Self {
        self.header = Header::Row;
        self
    }

    /// Cuts the cells of `column` so that the table is at most `width` wide.
    pub fn cut(mut self, column: usize, width: Option<usize>) -> Self {
        self.cut = width.map(|width| (column, width));
        self
    }

    /// Adds a row with one cell per column.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.lines.push(Line::Cells(cells.into_iter().map(Into::into).collect()));
    }

    /// Adds a line across, unless it would be the first or follow another one.
    pub fn separator(&mut self) {
        if matches!(self.lines.last(), Some(Line::Cells(_))) {
            self.lines.push(Line::Separator);
        }
    }

    /// The finished table; empty if there is nothing to show.
    pub fn render(mut self, utf8: bool) -> String {
        if matches!(self.lines.last(), Some(Line::Separator)) {
            self.lines.pop();
        }
        if self.lines.is_empty() && self.header == Header::Left {
            return String::new();
        }
        self.cut_column();
        let border = if utf8 { &UTF8 } else { &ASCII };
        let widths = self.widths();
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut text = rule(&widths, border, border.top);
        text.push_str(&self.cells(&names, &widths, border, self.header == Header::Left));
        text.push_str(&rule(&widths, border, border.middle));
        for line in &self.lines {
            text.push_str(&match line {
                Line::Cells(cells) => self.cells(cells, &widths, border, false),
                Line::Separator => rule(&widths, border, border.middle),
            });
        }
        if !self.lines.is_empty() {
            text.push_str(&rule(&widths, border, border.bottom));
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width_of = |(at, (name, _)): (usize, &(String, Align))| {
            let cells = self.lines.iter().filter_map(|line| match line {
                Line::Cells(cells) => cells.get(at).map(|cell| cell.width()),
                Line::Separator => None,
            });
            cells.max().unwrap_or(0).max(name.width())
        };
        self.columns.iter().enumerate().map(width_of).collect()
    }

    fn cut_column(&mut self) {
        let Some((column, limit)) = self.cut else { return };
        let widths = self.widths();
        // Each column costs a border and two blanks, the last one a border more.
        let others: usize =
            widths.iter().enumerate().filter(|(at, _)| *at != column).map(|(_, w)| w + 3).sum();
        let room = limit.saturating_sub(others + 4).max(1);
        for line in &mut self.lines {
            if let Line::Cells(cells) = line
                && let Some(cell) = cells.get_mut(column)
            {
                *cell = truncated(cell, room);
            }
        }
    }

    fn cells(&self, cells: &[String], widths: &[usize], border: &Border, all_left: bool) -> String {
        let mut text = border.vertical.to_string();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let blanks = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Right if !all_left => text.push_str(&format!(" {blanks}{cell} ")),
                Align::Left | Align::Right => text.push_str(&format!(" {cell}{blanks} ")),
            }
            text.push(border.vertical);
        }
        text.push('\n');
        text
    }
}

fn rule(widths: &[usize], border: &Border, ends: [char; 3]) -> String {
    let segments: Vec<String> =
        widths.iter().map(|width| border.horizontal.to_string().repeat(width + 2)).collect();
    format!("{}{}{}\n", ends[0], segments.join(&ends[1].to_string()), ends[2])
}

fn truncated(cell: &str, room: usize) -> String {
    if cell.width() <= room {
        return cell.to_owned();
    }
    let mut kept = String::new();
    for c in cell.chars() {
        let mut longer = kept.clone();
        longer.push(c);
        if longer.width() + 1 > room {
            break;
        }
        kept = longer;
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_alignment_and_separators() {
        let mut table = Table::new(&["Keyspace", "Size"]).right(1..2);
        table.row(["orders", "3GiB"]);
        table.separator();
        table.separator();
        table.row(["auth", "18.250KiB"]);
        table.separator();
        insta::assert_snapshot!(table.clone().render(true), @"
        ╭──────────┬───────────╮
        │ Keyspace │ Size      │
        ├──────────┼───────────┤
        │ orders   │      3GiB │
        ├──────────┼───────────┤
        │ auth     │ 18.250KiB │
        ╰──────────┴───────────╯
        ");
        insta::assert_snapshot!(table.header_as_row().render(false), @"
        +----------+-----------+
        | Keyspace |      Size |
        +----------+-----------+
        | orders   |      3GiB |
        +----------+-----------+
        | auth     | 18.250KiB |
        +----------+-----------+
        ");
    }

    #[test]
    fn a_table_without_rows_is_nothing_or_its_header() {
        assert_eq!(Table::new(&["A"]).render(true), "");
        assert_eq!(Table::new(&["A"]).header_as_row().render(false), "+---+\n| A |\n+---+\n");
    }

    #[test]
    fn one_column_may_be_cut_to_the_terminal() {
        let mut table = Table::new(&["ID", "Status"]).cut(1, Some(24));
        table.row(["1", "ERROR upload: agent not reachable"]);
        insta::assert_snapshot!(table.render(false), @"
        +----+-----------------+
        | ID | Status          |
        +----+-----------------+
        | 1  | ERROR upload: … |
        +----+-----------------+
        ");
    }
}
