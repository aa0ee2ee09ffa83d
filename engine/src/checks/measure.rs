//! Measures rows against what is expected of them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::common::{Column, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::functions::expr_fn::isnan;
use datafusion::functions_aggregate::expr_fn::{count, max, sum};
use datafusion::logical_expr::{Expr, ExprSchemable, lit, when};
use serde_json::Value;
use tidemill_ml::suggest::did_you_mean;

use super::expectation::{Check, Expectation, Freshness, InRange, InSet, OnFailure, RowCount};
use super::{CheckResult, Outcome};
use crate::plan::asof::ticks;
use crate::{EngineError, Result};

/// How many rows that fail are shown.
const MAX_EXAMPLES: usize = 3;

/// How many columns of them are shown, those that the check is about first.
const MAX_EXAMPLE_COLUMNS: usize = 6;

/// How many rows of a group are alike, in the examples of `unique`.
const ROWS_ALIKE: &str = "rows_alike";

/// What rows are compared with beside their expectations.
pub(crate) struct Reference {
    /// The moment from which the age of rows counts.
    pub(crate) now: DateTime<Utc>,
    /// How many rows there were in the last run.
    pub(crate) last_rows: Option<u64>,
}

/// What a check found, before anything is said of it.
struct Found {
    n_failed: u64,
    holds: bool,
    detail: Option<String>,
}

impl Found {
    fn rows(n_failed: u64) -> Self {
        Self { n_failed, holds: n_failed == 0, detail: None }
    }

    /// A check of all rows together that fails with a reason.
    fn table(n_rows: u64, reason: Option<String>) -> Self {
        let holds = reason.is_none();
        Self { n_failed: if holds { 0 } else { n_rows }, holds, detail: reason }
    }
}

/// What the rows are found to be, in the order of the expectations.
pub(crate) async fn check(
    rows: &DataFrame,
    expectations: &[Expectation],
    reference: &Reference,
) -> Result<Vec<CheckResult>> {
    let measured = measure(rows, expectations).await?;
    let n_rows = integer(&measured, "rows")?;
    let mut results = Vec::with_capacity(expectations.len());
    for (i, e) in expectations.iter().enumerate() {
        let found = match e.check() {
            Check::RowCount(expected) => Found::table(n_rows, wrong_count(expected, n_rows, reference.last_rows)),
            Check::Freshness(expected) => {
                Found::table(n_rows, too_old(expected, figure(&measured, i)?, reference.now)?)
            }
            Check::Unique(columns) => Found::rows(count_alike(rows, columns).await?),
            _ => Found::rows(integer(&measured, &name(i))?),
        };
        let outcome = match e.on_failure() {
            _ if found.holds => Outcome::Passed,
            OnFailure::Fail => Outcome::Fail,
            OnFailure::Warn => Outcome::Warn,
            OnFailure::Quarantine => Outcome::Quarantine,
        };
        let examples = if found.holds { Vec::new() } else { examples(rows, e.check()).await? };
        let (check, n_failed, detail) = (e.check().to_string(), found.n_failed, found.detail);
        results.push(CheckResult { check, n_rows, n_failed, outcome, detail, examples });
    }
    Ok(results)
}

/// The condition that a row fails a check of rows; none for a check of the table. Never null.
pub(crate) fn failing_rows(rows: &DataFrame, check: &Check) -> Result<Option<Expr>> {
    Ok(Some(match check {
        Check::NotNull(columns) => any_null(rows, check, columns)?,
        Check::InRange(InRange { column, min, max }) => {
            let (column, kind) = resolve(rows, check, column)?;
            let below = min.as_ref().map(|v| Ok::<_, EngineError>(column.clone().lt(literal(check, v, &kind)?)));
            let above = max.as_ref().map(|v| Ok::<_, EngineError>(column.clone().gt(literal(check, v, &kind)?)));
            let nan = kind.is_floating().then(|| Ok(isnan(column.clone())));
            let outside = nan.into_iter().chain(below).chain(above).collect::<Result<Vec<_>>>()?;
            any(outside)?.is_true()
        }
        Check::InSet(InSet { column, values }) => {
            let (column, kind) = resolve(rows, check, column)?;
            let values = values.iter().map(|v| literal(check, v, &kind)).collect::<Result<Vec<_>>>()?;
            column.in_list(values, true).is_true()
        }
        Check::Sql(sql) => {
            let wrong = |e: EngineError| EngineError::Invalid(format!("{check}: {e}"));
            let predicate = rows.parse_sql_expr(sql).map_err(|e| wrong(e.into()))?;
            let kind = predicate.get_type(rows.schema()).map_err(|e| wrong(e.into()))?;
            if kind != DataType::Boolean {
                return Err(EngineError::Invalid(format!("{check}: expected a predicate, got a value of type {kind}")));
            }
            predicate.is_false()
        }
        Check::Unique(_) | Check::RowCount(_) | Check::Freshness(_) => return Ok(None),
    }))
}

/// One row: how many rows there are, and of each check how many fail or what is newest.
async fn measure(rows: &DataFrame, expectations: &[Expectation]) -> Result<RecordBatch> {
    let mut figures = vec![count(lit(1)).alias("rows")];
    for (i, e) in expectations.iter().enumerate() {
        if let Check::Freshness(Freshness { column, .. }) = e.check() {
            let (column, kind) = resolve(rows, e.check(), column)?;
            if !matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
                let check = e.check();
                return Err(EngineError::Invalid(format!("{check}: expected a timestamp or date, got {kind}")));
            }
            figures.push(max(column).alias(name(i)));
        } else if let Some(fails) = failing_rows(rows, e.check())? {
            figures.push(count(when(fails, lit(1)).end()?).alias(name(i)));
        } else if let Check::Unique(columns) = e.check() {
            any_null(rows, e.check(), columns)?;
        }
    }
    let batches = rows.clone().aggregate(vec![], figures)?.collect().await?;
    let measured = batches.into_iter().find(|b| b.num_rows() == 1);
    measured.ok_or_else(|| EngineError::Internal("the checks of a table gave no row".to_owned()))
}

fn name(i: usize) -> String {
    format!("check_{i}")
}

fn figure(measured: &RecordBatch, i: usize) -> Result<&ArrayRef> {
    let column = measured.column_by_name(&name(i));
    column.ok_or_else(|| EngineError::Internal(format!("check {i} was not measured")))
}

fn integer(row: &RecordBatch, name: &str) -> Result<u64> {
    let column = row.column_by_name(name).ok_or_else(|| EngineError::Internal(format!("no count {name:?}")))?;
    let value = column.as_primitive_opt::<Int64Type>().filter(|c| c.is_valid(0)).map_or(0, |c| c.value(0));
    Ok(u64::try_from(value).unwrap_or_default())
}

fn wrong_count(expected: &RowCount, n_rows: u64, last_rows: Option<u64>) -> Option<String> {
    let RowCount { min, max, against_last_run } = expected;
    if min.is_some_and(|min| n_rows < min) || max.is_some_and(|max| n_rows > max) {
        return Some(format!("{n_rows} rows"));
    }
    let (allowed, last) = ((*against_last_run)?, last_rows.filter(|n| *n > 0)?);
    let change = n_rows.abs_diff(last) as f64 / last as f64;
    (change > allowed).then(|| format!("{n_rows} rows, a change by {change:.3} from the {last} of the last run"))
}

fn too_old(expected: &Freshness, newest: &ArrayRef, now: DateTime<Utc>) -> Result<Option<String>> {
    let earliest = now.checked_sub_signed(expected.within.length()).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let Some(newest) = ticks(newest)?.first().copied().flatten() else {
        return Ok(Some("there is no value".to_owned()));
    };
    let clamped = i64::try_from(newest).unwrap_or(if newest < 0 { i64::MIN } else { i64::MAX });
    let newest = DateTime::from_timestamp_nanos(clamped);
    let text = |t: DateTime<Utc>| t.to_rfc3339_opts(SecondsFormat::Secs, true);
    Ok((newest < earliest)
        .then(|| format!("the newest value is {}, expected {} or later", text(newest), text(earliest))))
}

/// How many rows are equal to another one in the columns.
async fn count_alike(rows: &DataFrame, columns: &[String]) -> Result<u64> {
    let n = sum(Expr::Column(Column::new_unqualified(ROWS_ALIKE))).alias("rows");
    let batches = alike(rows, columns)?.aggregate(vec![], vec![n])?.collect().await?;
    batches.first().map_or(Ok(0), |row| integer(row, "rows"))
}

/// The groups of rows that are equal in the columns, of more than one row.
fn alike(rows: &DataFrame, columns: &[String]) -> Result<DataFrame> {
    let check = Check::Unique(columns.to_vec());
    let keys = columns.iter().map(|c| Ok(resolve(rows, &check, c)?.0)).collect::<Result<Vec<_>>>()?;
    let known = Expr::Not(Box::new(any_null(rows, &check, columns)?));
    let groups = rows.clone().filter(known)?.aggregate(keys, vec![count(lit(1)).alias(ROWS_ALIKE)])?;
    Ok(groups.filter(Expr::Column(Column::new_unqualified(ROWS_ALIKE)).gt(lit(1)))?)
}

fn any_null(rows: &DataFrame, check: &Check, columns: &[String]) -> Result<Expr> {
    let null = columns.iter().map(|c| Ok(resolve(rows, check, c)?.0.is_null()));
    any(null.collect::<Result<Vec<_>>>()?)
}

fn any(conditions: Vec<Expr>) -> Result<Expr> {
    let any = conditions.into_iter().reduce(Expr::or);
    any.ok_or_else(|| EngineError::Internal("a check without a condition".to_owned()))
}

/// The column and its type.
fn resolve(rows: &DataFrame, check: &Check, name: &str) -> Result<(Expr, DataType)> {
    match rows.schema().qualified_fields_with_unqualified_name(name).as_slice() {
        [(qualifier, field)] => {
            let column = Column::new(qualifier.cloned(), field.name().clone());
            Ok((Expr::Column(column), field.data_type().clone()))
        }
        [] => {
            let hint = did_you_mean(name, rows.schema().fields().iter().map(|f| f.name().as_str()));
            Err(EngineError::Invalid(format!("{check}: there is no column {name:?}{hint}")))
        }
        _ => Err(EngineError::Invalid(format!("{check}: there is more than one column {name:?}"))),
    }
}

/// A value of a job file for a column of this type.
fn literal(check: &Check, value: &Value, kind: &DataType) -> Result<Expr> {
    let found = match value {
        Value::Bool(b) if *kind == DataType::Boolean => Some(lit(*b)),
        Value::Number(n) if kind.is_numeric() => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Some(lit(n)),
            (_, Some(n), _) => Some(lit(n)),
            (_, _, n) => n.map(lit),
        },
        Value::String(s) => ScalarValue::try_from_string(s.clone(), kind).ok().filter(|v| !v.is_null()).map(lit),
        _ => None,
    };
    found.ok_or_else(|| EngineError::Invalid(format!("{check}: expected a value of type {kind}, got {value}")))
}

/// A few rows that fail.
async fn examples(rows: &DataFrame, check: &Check) -> Result<Vec<String>> {
    let failing = match (check, failing_rows(rows, check)?) {
        (Check::Unique(columns), _) => alike(rows, columns)?,
        (_, Some(fails)) => {
            let about: Vec<Column> = fails.column_refs().into_iter().cloned().collect();
            let mut columns = rows.schema().columns();
            columns.sort_by_key(|c| !about.contains(c));
            columns.truncate(MAX_EXAMPLE_COLUMNS);
            rows.clone().filter(fails)?.select(columns.into_iter().map(Expr::Column).collect::<Vec<_>>())?
        }
        (_, None) => return Ok(Vec::new()),
    };
    let batches = failing.limit(0, Some(MAX_EXAMPLES))?.collect().await?;
    batches.iter().map(as_text).collect::<Result<Vec<_>>>().map(|rows| rows.concat())
}

fn as_text(batch: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    let row = |i: usize| {
        let cells = schema.fields().iter().zip(&columns).map(|(f, c)| format!("{} = {}", f.name(), c.value(i)));
        cells.collect::<Vec<_>>().join(", ")
    };
    Ok((0..batch.num_rows()).map(row).collect())
}
