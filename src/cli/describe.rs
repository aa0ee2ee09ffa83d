//! `tidemill describe`.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use tidemill::dataset;
use tidemill::profile::{ColumnProfile, Profile, SHARES, Values};
use tidemill::report::{self, Align, Table};
use tidemill_engine::Session;
use tidemill_engine::progress::Silent;

use super::args::{DescribeArgs, Global};
use super::error::Result;
use super::output::Output;
use super::session;

/// The name under which a file is read.
const FILE: &str = "__described";
/// How many frequent values are shown.
const SHOWN_VALUES: usize = 3;

/// Shows the profile of a table, a file or a query's rows.
pub(crate) async fn describe(global: &Global, args: DescribeArgs, output: &Arc<Output>) -> Result<()> {
    let session = session::open(global, Arc::new(Silent)).await?;
    let profile = dataset::describe(rows(&session, args).await?).await?;
    if output.is_json() {
        return output.object(&profile);
    }
    output.line(format_args!("{} rows\n", report::thousands(profile.n_rows)))?;
    output.write(table(&profile))
}

async fn rows(session: &Session, args: DescribeArgs) -> Result<DataFrame> {
    let table = match (args.sql, args.table.unwrap_or_default()) {
        (Some(sql), _) => {
            let plan = session.query(&sql).await?;
            return Ok(DataFrame::new(session.context().state(), plan));
        }
        (None, file) if file.contains('/') || file.ends_with(".parquet") => {
            session.register_parquet(FILE, &file).await?;
            FILE.to_owned()
        }
        (None, table) => table,
    };
    Ok(Box::pin(session.sql(&format!("select * from \"{}\"", table.replace('"', "\"\"")))).await?)
}

fn table(profile: &Profile) -> Table {
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
    let mut cells = vec![column.name.clone(), column.data_type.clone(), report::thousands(column.nulls)];
    let none = String::new;
    match &column.values {
        Values::Number { nan, mean, std_dev, min, max, quantiles } => {
            let at = |share: f64| SHARES.iter().position(|s| *s == share).and_then(|i| quantiles.get(i)).copied();
            cells.extend([*mean, *std_dev, *min, at(0.25), at(0.5), at(0.75), *max].map(number));
            cells.push(none());
            cells.push(if *nan > 0 { format!("NaN {}", report::thousands(*nan)) } else { none() });
        }
        Values::Category { distinct, top } => {
            cells.extend(std::iter::repeat_with(none).take(7));
            cells.push(distinct.map_or_else(|| "many".to_owned(), report::thousands));
            let shown = top.iter().take(SHOWN_VALUES).map(|(v, n)| format!("{v} {}", report::thousands(*n)));
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
