//! Tables for people: columns as wide as they need to be.

use std::fmt::Write;

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
}

/// Text in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// Rows under a head.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Titles, and whether the column is of numbers.
    columns: Vec<(&'static str, bool)>,
    rows: Vec<Vec<Cell>>,
}

impl Cell {
    /// A cell that stands out.
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: harmless(&text.into()), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: harmless(&text.to_string()), tone: Tone::Plain }
    }
}

/// A text as a terminal may see it: names come from clients too, and what would move the cursor, change colors or answer for the user is escaped.
fn harmless(text: &str) -> String {
    let shown = |one: char| if one.is_control() { one.escape_default().to_string() } else { one.into() };
    text.chars().map(shown).collect()
}

impl Table {
    /// A table of these columns; a title that begins with `#` is of numbers, which stand to the right.
    pub(super) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| title.strip_prefix('#').map_or((*title, false), |title| (title, true));
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Whether there are rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its end.
    pub(super) fn render(&self, color: bool) -> String {
        let head = self.columns.iter().map(|(title, _)| Cell::from(*title)).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = std::iter::once(&head).chain(&self.rows).map(|row: &Vec<Cell>| width(&row[at].text));
                cells.max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (index, row) in std::iter::once(&head).chain(&self.rows).enumerate() {
            let mut line = String::new();
            let mut gap = 0;
            for ((cell, width_max), (_, is_number)) in row.iter().zip(&widths).zip(&self.columns) {
                let missing = width_max - width(&cell.text);
                let before = gap + if *is_number { missing } else { 0 };
                let styled = styled(cell, index == 0, color);
                if !cell.text.is_empty() {
                    let _infallible = write!(line, "{:before$}{styled}", "");
                    gap = 2 + if *is_number { 0 } else { missing };
                } else {
                    gap += 2 + width_max;
                }
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn styled(cell: &Cell, is_head: bool, color: bool) -> String {
    let code = match cell.tone {
        _ if !color => return cell.text.clone(),
        _ if is_head => "1",
        Tone::Plain => return cell.text.clone(),
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "31",
    };
    format!("\u{1b}[{code}m{}\u{1b}[0m", cell.text)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "#COUNT", "STATE"]);
        table.row(vec!["a".into(), 1.into(), Cell::toned("bad", Tone::Bad)]);
        table.row(vec!["longer".into(), "".into(), "".into()]);
        table.row(vec!["".into(), 123_456.into(), "ok".into()]);
        let expected = "NAME     COUNT  STATE\na            1  bad\nlonger\n        123456  ok\n";
        assert_eq!(table.render(false), expected);
        let colored = table.render(true);
        assert!(colored.contains("\u{1b}[31mbad\u{1b}[0m") && colored.contains("\u{1b}[1mNAME\u{1b}[0m"), "{colored}");
    }
}
