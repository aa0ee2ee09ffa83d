//! The profile of a table, in rows and columns.

use tidemill_ml::profile::{ColumnProfile, Profile, SHARES, Values};

use super::format::thousands;
use super::table::{Align, Table};

/// How many frequent values are shown.
const SHOWN_VALUES: usize = 3;

/// What is in each column.
pub fn profile_table(profile: &Profile) -> Table {
    let mut table = Table::new([
        ("column", Align::Left),
        ("type", Align::Left),
        ("nulls", Align::Right),
        ("mean", Align::Right),
        ("std dev", Align::Right),
        ("min", Align::Right),
        ("25 %", Align::Right),
        ("50 %", Align::Right),
        ("75 %", Align::Right),
        ("max", Align::Right),
        ("distinct", Align::Right),
        ("most frequent", Align::Left),
    ]);
    profile.columns.iter().for_each(|column| table.row(cells(column)));
    table
}

fn cells(column: &ColumnProfile) -> Vec<String> {
    let mut cells = vec![column.name.clone(), column.data_type.clone(), thousands(column.nulls)];
    let none = String::new;
    match &column.values {
        Values::Number { nan, mean, std_dev, min, max, distribution } => {
            let at = |share: f64| distribution.quantiles.get(SHARES.iter().position(|s| *s == share)?).copied();
            cells.extend([*mean, *std_dev, *min, at(0.25), at(0.5), at(0.75), *max].map(number));
            cells.push(none());
            cells.push(if *nan > 0 { format!("NaN {}", thousands(*nan)) } else { none() });
        }
        Values::Category { distinct, top } => {
            cells.extend(std::iter::repeat_with(none).take(7));
            cells.push(distinct.map_or_else(|| "many".to_owned(), thousands));
            let shown = top.iter().take(SHOWN_VALUES).map(|(v, n)| format!("{v} {}", thousands(*n)));
            cells.push(shown.collect::<Vec<_>>().join(", "));
        }
        Values::Time { min, max } => {
            let of = |time: &Option<String>| time.clone().unwrap_or_default();
            cells.extend([none(), none(), of(min), none(), none(), none(), of(max)]);
        }
        Values::Other => {}
    }
    cells
}

/// A number with six significant digits.
fn number(x: Option<f64>) -> String {
    let Some(x) = x else { return String::new() };
    let digits = if x == 0.0 || !x.is_finite() { 0 } else { 5 - x.abs().log10().floor().clamp(-5.0, 5.0) as i32 };
    let text = format!("{x:.*}", digits.max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_significant_digits() {
        let numbers = [0.0, 1.0, 1234.5678, -0.000123456789, 336776.0, f64::NAN].map(|x| number(Some(x)));
        assert_eq!(numbers, ["0", "1", "1234.57", "-0.000123457", "336776", "NaN"]);
    }
}
