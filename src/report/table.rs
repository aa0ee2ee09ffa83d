//! A table of text with aligned columns.

use std::fmt;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text under a header; `Display` writes them with columns two spaces apart, the header underlined.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        Self { columns: columns.into_iter().map(|(name, align)| (name.to_owned(), align)).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are not shown, missing ones are empty.
    pub fn row<I, S>(&mut self, cells: I)
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The columns' names and alignment.
    pub fn columns(&self) -> &[(String, Align)] {
        &self.columns
    }

    /// The rows' cells.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    fn widths(&self) -> Vec<usize> {
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(i));
            cells.map(|c| c.chars().count()).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(|(i, (name, _))| name.chars().count().max(width(i))).collect()
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, widths: &[usize], cells: &[String]) -> fmt::Result {
        let mut line = String::new();
        for (i, (width, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
            let cell = cells.get(i).map_or("", String::as_str);
            line.push_str("  ");
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}")),
                Align::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        writeln!(f, "{}", line.trim_end())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let rules: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
        self.write_row(f, &widths, &names)?;
        self.write_row(f, &widths, &rules)?;
        self.rows.iter().try_for_each(|row| self.write_row(f, &widths, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([("name", Align::Left), ("rows", Align::Right)]);
        table.row(["é", "1,000"]);
        table.row(["planes"]);
        assert_eq!(table.to_string(), "  name     rows\n  ──────  ─────\n  é       1,000\n  planes\n");
    }
}
