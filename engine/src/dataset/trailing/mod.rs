//! What the rows of a key before a row's time say: counts, sums, means over trailing windows.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::functions::expr_fn::{get_field, isnan, sqrt};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, cast, lit, when};
use datafusion::prelude::ident;
use tidemill_ml::functions::{exact_mean, exact_moments, exact_sum};

use crate::{EngineError, Result, Span};

/// What is computed of the rows in a window. Null and NaN are left out of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailingAggregate {
    /// How many values there are: 0 without rows.
    Count,
    /// Their sum, rounded once.
    Sum,
    /// Their mean, rounded once.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their standard deviation, of a sample: null with fewer than two.
    Stddev,
}

impl TrailingAggregate {
    fn udaf(self) -> Arc<AggregateUDF> {
        match self {
            Self::Count => count_udaf(),
            Self::Sum => exact_sum::udaf(),
            Self::Mean => exact_mean::udaf(),
            Self::Min => min_udaf(),
            Self::Max => max_udaf(),
            Self::Stddev => exact_moments::udaf(),
        }
    }

    /// The aggregate out of what its function gives; `time` is null where a row has no past.
    fn finish(self, value: Expr, time: Expr) -> Result<Expr> {
        let value = match self {
            Self::Stddev => sqrt(get_field(value, "variance")),
            _ => value,
        };
        let mut with_past = when(time.is_not_null(), value);
        Ok(match self {
            Self::Count => with_past.otherwise(lit(0_i64))?,
            _ => with_past.end()?,
        })
    }
}

impl fmt::Display for TrailingAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Stddev => "stddev",
        })
    }
}

/// Which aggregates of which windows [`trailing_aggregates`] computes.
#[derive(Debug, Clone, Copy)]
pub struct Trailing<'a> {
    /// The columns that a row shares with its past; null is a value. Without any, all rows are one past.
    pub key: &'a [&'a str],
    /// A timestamp or date.
    pub time: &'a str,
    /// The lengths of the windows, as `7 days` or `90 minutes`; a day is 24 hours.
    pub windows: &'a [&'a str],
    /// How long before a row's time its windows end, where values become known only later; not at all by default.
    pub lag: Option<&'a str>,
    /// The aggregates, each of a column of numbers or booleans.
    pub aggregates: &'a [(TrailingAggregate, &'a str)],
}

/// The rows with a column for each aggregate and window, named `delay_mean_7_days`: over the rows of equal key whose
/// time lies in `[time - lag - window, time - lag)`.
///
/// A row never sees itself or rows of its own time. All but counts are `Float64`, and null where the window has no
/// value; a row without a time has no past and is in no window. Sums and means are exact and rounded once: like all
/// others they do not depend on the order, partitioning and number of threads. One sort by key and time.
///
/// # Errors
/// Columns that do not exist, are of the wrong type or have the name of a new one; windows and lags that are not
/// lengths of time or not a whole number of the time column's unit.
pub fn trailing_aggregates(rows: DataFrame, trailing: &Trailing<'_>) -> Result<DataFrame> {
    let columns = trailing.columns(&rows)?;
    let kept: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let number = |i: usize| format!("__trailing_{i}");
    let windows = columns.iter().enumerate().map(|(i, column)| Ok(trailing.window(column)?.alias(number(i))));
    let rows = rows.window(windows.collect::<Result<Vec<_>>>()?)?;
    let finish = |(i, column): (usize, &TrailingColumn<'_>)| {
        let value = column.aggregate.finish(ident(number(i)), ident(trailing.time))?;
        Ok(value.alias(&column.name))
    };
    let finished = columns.iter().enumerate().map(finish).collect::<Result<Vec<_>>>()?;
    Ok(rows.select(kept.into_iter().chain(finished).collect::<Vec<_>>())?)
}

/// One of the new columns.
struct TrailingColumn<'a> {
    name: String,
    aggregate: TrailingAggregate,
    of: &'a str,
    frame: WindowFrame,
}

impl<'a> Trailing<'a> {
    /// The new columns, once all is checked.
    fn columns(&self, rows: &DataFrame) -> Result<Vec<TrailingColumn<'a>>> {
        self.key.iter().try_for_each(|name| field(rows, name).map(|_| ()))?;
        let time = field(rows, self.time)?;
        let lag = self.lag.map_or(Ok(0), |lag| ticks("a lag", lag, time))?;
        let mut columns: Vec<TrailingColumn<'_>> = Vec::new();
        for &window in self.windows {
            let frame = frame(lag, ticks("a window", window, time)?, window)?;
            for &(aggregate, of) in self.aggregates {
                check_number(field(rows, of)?)?;
                let name = format!("{of}_{aggregate}_{}", window.trim().replace(' ', "_"));
                if rows.schema().has_column_with_unqualified_name(&name) || columns.iter().any(|c| c.name == name) {
                    return Err(EngineError::Invalid(format!("there is a column {name:?} already; rename or drop it")));
                }
                columns.push(TrailingColumn { name, aggregate, of, frame: frame.clone() });
            }
        }
        if columns.is_empty() {
            return Err(EngineError::Invalid("trailing aggregates need a window and an aggregate".to_owned()));
        }
        Ok(columns)
    }

    fn window(&self, column: &TrailingColumn<'_>) -> Result<Expr> {
        let number = cast(ident(column.of), DataType::Float64);
        let present = when(isnan(number.clone()), lit(ScalarValue::Float64(None))).otherwise(number)?;
        let mut window = WindowFunction::new(column.aggregate.udaf(), vec![present]);
        window.params.partition_by = self.key.iter().map(|name| ident(*name)).collect();
        window.params.order_by = vec![cast(ident(self.time), DataType::Int64).sort(true, false)];
        window.params.window_frame = column.frame.clone();
        Ok(Expr::from(window))
    }
}

fn field<'a>(rows: &'a DataFrame, name: &str) -> Result<&'a Field> {
    if let Ok(field) = rows.schema().field_with_unqualified_name(name) {
        return Ok(field.as_ref());
    }
    let names = rows.schema().fields().iter().map(|f| f.name().as_str());
    let hint = crate::nearest(name, names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
    Err(EngineError::Invalid(format!("there is no column {name:?}{hint}")))
}

fn check_number(field: &Field) -> Result<()> {
    if field.data_type().is_numeric() || *field.data_type() == DataType::Boolean {
        return Ok(());
    }
    let (name, got) = (field.name(), field.data_type());
    Err(EngineError::Invalid(format!("column {name:?} is {got}; expected numbers or booleans to aggregate")))
}

/// From `lag + window` before a row's time on, to the last tick before `lag` before it.
fn frame(lag: i64, window: i64, text: &str) -> Result<WindowFrame> {
    let start = lag.checked_add(window).filter(|_| window > 0).ok_or_else(|| {
        EngineError::Invalid(format!(
            "a window must be longer than nothing and within 292 years with its lag, got {text:?}"
        ))
    })?;
    let before = |ticks: i64| WindowFrameBound::Preceding(ScalarValue::Int64(Some(ticks)));
    Ok(WindowFrame::new_bounds(WindowFrameUnits::Range, before(start), before(lag + 1)))
}

/// A length of time in the ticks of a time column.
fn ticks(what: &str, text: &str, time: &Field) -> Result<i64> {
    let per_tick = match time.data_type() {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        other => {
            return Err(EngineError::Invalid(format!(
                "the time column {:?} is {other}; expected a timestamp or date",
                time.name()
            )));
        }
    };
    let length = Span::try_from(text.to_owned()).map_err(|e| EngineError::Invalid(format!("{what}: {e}")))?.length();
    let nanos = i128::from(length.num_seconds()) * 1_000_000_000 + i128::from(length.subsec_nanos());
    let ticks = i64::try_from(nanos / per_tick).ok().filter(|_| nanos % per_tick == 0);
    ticks.ok_or_else(|| {
        EngineError::Invalid(format!(
            "{what} of {text:?} is no whole number of the unit of the time column {:?}, {}",
            time.name(),
            time.data_type()
        ))
    })
}

#[cfg(test)]
mod tests;
