//! Whether a view's table holds what the view is, day by day.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::NaiveDate;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::lit;
use datafusion::prelude::ident;
use serde::Serialize;

use super::days::days_of;
use super::definition::DAY;
use super::materialize::as_in;
use super::rows::date;
use super::{Days, DeclaredView};
use crate::progress::Step;
use crate::session::Session;
use crate::{EngineError, Result};

/// What a check of a view found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewCheck {
    /// The view.
    pub view: String,
    /// Its version.
    pub version: u64,
    /// How many days were compared.
    pub n_days: usize,
    /// Days of the range that were never materialised.
    pub missing: Days,
    /// Days whose rows differ.
    pub differences: Vec<DayDifference>,
    /// Pairs of key and event time that the table has more than once.
    pub n_duplicates: u64,
}

/// A day whose rows in the table are not those that the view's query gives as of that day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayDifference {
    /// The day.
    pub day: NaiveDate,
    /// Rows that only the table has.
    pub n_only_materialized: usize,
    /// Rows that only the query gives.
    pub n_only_computed: usize,
    /// One of them, as text.
    pub example: String,
}

impl ViewCheck {
    /// Whether all days are there and as they should be.
    pub fn holds(&self) -> bool {
        self.missing.is_empty() && self.differences.is_empty() && self.n_duplicates == 0
    }
}

impl Session {
    /// Compares a view's table with its query, run once for each day over sources that end with that day.
    ///
    /// A difference means that a source has changed since, that the look-back is too short, or that the query looks at
    /// what comes after a day: then what is materialised is not what was known then.
    ///
    /// # Errors
    /// A view that was never materialised, a query that fails.
    pub async fn check_feature_view(
        &self,
        declared: &DeclaredView,
        days: RangeInclusive<NaiveDate>,
    ) -> Result<ViewCheck> {
        let Some(table) = self.warehouse().open_table(&declared.table()).await? else {
            return Err(EngineError::NotFound(format!("feature view {declared} is not materialised")));
        };
        let table = self.context().read_table(Arc::new(table.snapshot(None).await?))?;
        let done = self.materialized_days(declared).await?;
        let missing = done.missing(days.clone());
        let mut result = ViewCheck {
            view: declared.view.name.clone(),
            version: declared.version,
            n_days: 0,
            missing: Days::default(),
            differences: Vec::new(),
            n_duplicates: duplicates(&table, declared, &days).await?,
        };
        missing.into_iter().for_each(|range| result.missing.insert(range));
        let there = result.missing.missing(days);
        let total = there.iter().map(|range| days_of(range).count() as u64).sum();
        let step = Step::start(self.progress(), "check", declared.to_string(), Some(total));
        for day in there.iter().flat_map(days_of) {
            let computed = self.view_rows(&declared.view, &(day..=day)).await?;
            let stored = as_in(&table.clone().filter(ident(DAY).eq(date(day)))?, &computed)?;
            result.differences.extend(difference(day, stored, computed).await?);
            result.n_days += 1;
            step.advance(result.n_days as u64, day.to_string());
        }
        step.finish(format!("{} of {} days differ", result.differences.len(), result.n_days));
        Ok(result)
    }
}

async fn duplicates(table: &DataFrame, declared: &DeclaredView, days: &RangeInclusive<NaiveDate>) -> Result<u64> {
    let view = &declared.view;
    let by: Vec<_> = view.key.iter().chain([&view.event_time]).map(ident).collect();
    let rows = table.clone().filter(ident(DAY).between(date(*days.start()), date(*days.end())))?;
    let counts = rows.aggregate(by, vec![count(lit(1)).alias("__n")])?;
    Ok(counts.filter(ident("__n").gt(lit(1)))?.count().await? as u64)
}

/// How the rows of a day differ as multisets; none when they do not.
async fn difference(day: NaiveDate, stored: DataFrame, computed: DataFrame) -> Result<Option<DayDifference>> {
    let fields = computed.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let stored = one_batch(&stored.collect().await?, &schema)?;
    let computed = one_batch(&computed.collect().await?, &schema)?;
    let (left, right) = (sorted(&converter, &stored)?, sorted(&converter, &computed)?);
    let (mut only_left, mut only_right) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        match (left.get(i), right.get(j)) {
            (Some((l, _)), Some((r, _))) if l == r => (i, j) = (i + 1, j + 1),
            (Some((l, at)), r) if r.is_none_or(|(r, _)| l < r) => {
                only_left.push(*at);
                i += 1;
            }
            (_, Some((_, at))) => {
                only_right.push(*at);
                j += 1;
            }
            _ => break,
        }
    }
    let example = match (only_left.first(), only_right.first()) {
        (Some(at), _) => format!("materialised and not computed: {}", text(&stored, *at)?),
        (None, Some(at)) => format!("computed and not materialised: {}", text(&computed, *at)?),
        (None, None) => return Ok(None),
    };
    let (n_only_materialized, n_only_computed) = (only_left.len(), only_right.len());
    Ok(Some(DayDifference { day, n_only_materialized, n_only_computed, example }))
}

/// All batches as one, under a schema that says no more of nulls than the rows do.
fn one_batch(batches: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch> {
    let rebuild = |batch: &RecordBatch| RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec());
    let batches = batches.iter().map(rebuild).collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(schema, &batches)?)
}

fn sorted(converter: &RowConverter, batch: &RecordBatch) -> Result<Vec<(OwnedRow, usize)>> {
    let rows = converter.convert_columns(batch.columns())?;
    let mut rows: Vec<(OwnedRow, usize)> = rows.iter().enumerate().map(|(i, row)| (row.owned(), i)).collect();
    rows.sort();
    Ok(rows)
}

fn text(batch: &RecordBatch, row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    let schema = batch.schema();
    let value = |(field, column)| {
        let field: &Arc<Field> = field;
        Ok(format!("{} = {}", field.name(), ArrayFormatter::try_new(column, &options)?.value(row)))
    };
    let columns = batch.columns().iter().map(AsRef::as_ref);
    Ok(schema.fields().iter().zip(columns).map(value).collect::<Result<Vec<_>>>()?.join(", "))
}
