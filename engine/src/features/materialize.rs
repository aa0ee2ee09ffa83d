//! Materialising views: days of rows into the view's table, one commit for each range of days.
//!
//! A commit replaces whole partitions: the rows of its days, and beside them the rows of other days that its first and
//! last partition already had. So a range that is materialised twice, or killed in the middle and run again, gives the
//! same rows. The set of days that are done stands in the commit's metadata, so it is never ahead of the rows or behind
//! them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{cast, lit};
use datafusion::prelude::ident;
use serde::Serialize;
use serde_json::json;
use tidemill_connectors::delta::DeltaTable;
use tidemill_connectors::files::TableFormat;

use super::days::days_of;
use super::definition::{DAY, PERIOD};
use super::rows::date;
use super::{Days, DeclaredView};
use crate::checks::Outcome;
use crate::progress::{Event, Step};
use crate::session::{CommitNote, Session, WriteMode};
use crate::{EngineError, Result};

/// The key of what a commit says of its view.
const METADATA: &str = "feature_view";

/// Which days are materialised.
#[derive(Debug, Clone)]
pub struct MaterializeOptions {
    /// The first day. Without it, all days that are missing since the view's `start`, or after its first day that is
    /// done; with it, every day from it on, again where it was done before.
    pub from: Option<NaiveDate>,
    /// The last day.
    pub to: NaiveDate,
    /// The most days of one commit.
    pub days_per_commit: usize,
}

impl MaterializeOptions {
    /// What is missing up to a day, a year in a commit.
    pub fn until(to: NaiveDate) -> Self {
        Self { from: None, to, days_per_commit: 366 }
    }
}

/// What was materialised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Materialized {
    /// The view.
    pub view: String,
    /// Its version.
    pub version: u64,
    /// Its table in the warehouse.
    pub table: String,
    /// The days that were computed now.
    pub days: Days,
    /// Their rows.
    pub n_rows: u64,
    /// Commits.
    pub n_commits: usize,
    /// All days that are done.
    pub done: Days,
}

impl Session {
    /// Computes a view's rows and writes them to its table. Each commit is atomic: what was committed before a failure
    /// or a kill stays, and the same call again ends with the same rows.
    ///
    /// # Errors
    /// No first day to start from or one after the last, a view whose query fails, rows that are not as expected, a conflicting commit.
    pub async fn materialize(&self, declared: &DeclaredView, options: &MaterializeOptions) -> Result<Materialized> {
        if let Some(from) = options.from.filter(|from| *from > options.to) {
            return Err(EngineError::Invalid(format!("{from} is after {}; the first day comes first", options.to)));
        }
        let done = self.materialized_days(declared).await?;
        let start = declared.view.start;
        let ranges = match options.from {
            Some(from) => vec![start.map_or(from, |start| start.max(from))..=options.to],
            None => {
                let first = start.or_else(|| done.ranges().first().map(|range| *range.start()));
                let Some(first) = first else {
                    return Err(EngineError::Invalid(format!(
                        "feature view {:?} has no start and no day yet; say the first day, as --from 2013-01-01",
                        declared.view.name
                    )));
                };
                done.missing(first..=options.to)
            }
        };
        self.materialize_ranges(declared, ranges, done, options.days_per_commit).await
    }

    /// Makes sure that these days are done, and that the table is there.
    ///
    /// # Errors
    /// As [`Session::materialize`].
    pub(crate) async fn materialize_missing(
        &self,
        declared: &DeclaredView,
        days: &RangeInclusive<NaiveDate>,
    ) -> Result<Materialized> {
        let done = self.materialized_days(declared).await?;
        let start = declared.view.start.unwrap_or(*days.start()).max(*days.start());
        let mut ranges = done.missing(start..=*days.end());
        if done.is_empty() && ranges.is_empty() {
            ranges.push(*days.start()..=*days.start());
        }
        let per_commit = MaterializeOptions::until(*days.end()).days_per_commit;
        self.materialize_ranges(declared, ranges, done, per_commit).await
    }

    /// The days of a view that are done.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn materialized_days(&self, declared: &DeclaredView) -> Result<Days> {
        let Some(table) = self.warehouse().open_table(&declared.table()).await? else { return Ok(Days::default()) };
        for limit in [Some(1), None] {
            let history = table.history(limit).await?;
            if let Some(note) = history.iter().find_map(|entry| entry.app_metadata.get(METADATA)) {
                return Ok(serde_json::from_value(note.get("done").cloned().unwrap_or_default())?);
            }
        }
        Ok(Days::default())
    }

    async fn materialize_ranges(
        &self,
        declared: &DeclaredView,
        ranges: Vec<RangeInclusive<NaiveDate>>,
        done: Days,
        days_per_commit: usize,
    ) -> Result<Materialized> {
        let mut result = Materialized {
            view: declared.view.name.clone(),
            version: declared.version,
            table: declared.table(),
            days: Days::default(),
            n_rows: 0,
            n_commits: 0,
            done,
        };
        let chunks: Vec<_> = ranges.iter().flat_map(|range| chunks(range, days_per_commit.max(1))).collect();
        if chunks.is_empty() {
            return Ok(result);
        }
        let total = chunks.iter().map(|chunk| days_of(chunk).count() as u64).sum();
        let step = Step::start(self.progress(), "materialize", declared.to_string(), Some(total));
        for chunk in chunks {
            result.done.insert(chunk.clone());
            result.n_rows += self.commit_days(declared, &chunk, &result.done).await?;
            result.n_commits += 1;
            result.days.insert(chunk.clone());
            step.advance(result.days.len() as u64, format!("{} to {}", chunk.start(), chunk.end()));
        }
        step.finish(format!("{declared}: {} days, {} rows", result.days.len(), result.n_rows));
        Ok(result)
    }

    /// One commit; gives how many rows the days have.
    async fn commit_days(&self, declared: &DeclaredView, days: &RangeInclusive<NaiveDate>, done: &Days) -> Result<u64> {
        let rows = self.view_rows(&declared.view, days).await?;
        self.check_view_rows(declared, &rows).await?;
        let periods: BTreeSet<String> = days_of(days).map(|day| declared.view.partition_by.of(day)).collect();
        let table = self.warehouse().open_table(&declared.table()).await?;
        let (mut kept, mut read_version) = (0, None);
        let rows = match table {
            None => rows,
            Some(table) => {
                let (others, version) = self.other_days(&table, &rows, &periods, days).await?;
                kept = others.clone().count().await? as u64;
                read_version = Some(version);
                if kept == 0 { rows } else { rows.union(others)? }
            }
        };
        let view = &declared.view;
        let metadata = json!({ METADATA: {
            "name": view.name, "version": declared.version, "digest": declared.digest,
            "from": days.start(), "to": days.end(), "done": done,
        }});
        let mode = WriteMode::ReplacePartitions { column: PERIOD.to_owned(), values: periods };
        let note = CommitNote { metadata, read_version };
        let (_, plan) = rows.into_parts();
        let written = self.write_plan(plan, &declared.table(), mode, note).await?;
        Ok(written.n_rows - kept)
    }

    /// The rows that these partitions of the table have of other days, and the table's version.
    async fn other_days(
        &self,
        table: &DeltaTable,
        rows: &DataFrame,
        periods: &BTreeSet<String>,
        days: &RangeInclusive<NaiveDate>,
    ) -> Result<(DataFrame, u64)> {
        let snapshot = table.snapshot(None).await?;
        let TableFormat::Delta { version } = *snapshot.format() else {
            return Err(EngineError::Internal(format!("{} is no Delta table", table.location())));
        };
        let (Some(first), Some(last)) = (periods.first(), periods.last()) else {
            return Err(EngineError::Internal("a commit of no days".to_owned()));
        };
        let edges = [first, last].map(|period| lit(period.as_str())).to_vec();
        let others = self.context().read_table(Arc::new(snapshot))?;
        let outside = ident(DAY).not_between(date(*days.start()), date(*days.end()));
        let others = others.filter(ident(PERIOD).in_list(edges, false).and(outside))?;
        Ok((as_in(&others, rows)?, version))
    }

    async fn check_view_rows(&self, declared: &DeclaredView, rows: &DataFrame) -> Result<()> {
        let expectations = declared.view.expectations()?;
        if expectations.is_empty() {
            return Ok(());
        }
        let results = self.check(rows.clone(), &expectations).await?;
        let told = |outcome: Outcome| {
            let failed = results.iter().filter(|result| result.outcome == outcome);
            let told: Vec<String> =
                failed.map(|r| format!("{}: {} of {} rows fail", r.check, r.n_failed, r.n_rows)).collect();
            let sentence = || format!("feature view {declared} is not as expected: {}", told.join("; "));
            (!told.is_empty()).then(sentence)
        };
        if let Some(message) = told(Outcome::Warn) {
            self.progress().event(&Event::Warning { message });
        }
        told(Outcome::Fail).map_or(Ok(()), |message| Err(EngineError::Data(message)))
    }
}

/// Rows with the columns of others, in their order and types.
pub(super) fn as_in(rows: &DataFrame, others: &DataFrame) -> Result<DataFrame> {
    let columns = others.schema().fields().iter();
    let columns = columns.map(|field| cast(ident(field.name()), field.data_type().clone()).alias(field.name()));
    Ok(rows.clone().select(columns.collect::<Vec<_>>())?)
}

/// A range cut into ranges of at most so many days.
fn chunks(range: &RangeInclusive<NaiveDate>, n_days: usize) -> Vec<RangeInclusive<NaiveDate>> {
    let days: Vec<NaiveDate> = days_of(range).collect();
    days.chunks(n_days).filter_map(|chunk| Some(*chunk.first()?..=*chunk.last()?)).collect()
}
