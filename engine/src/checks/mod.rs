//! Checks on data: what is expected of a table's rows, and what they are found to be.
//!
//! A check of rows holds for each row by itself: `not_null`, `in_range`, `in_set` and `sql`. A check of the table holds
//! for all rows together: `unique`, `row_count` and `freshness`. Whatever a predicate does not know (null) passes: only
//! `not_null` is about nulls. All checks of a table see all of its rows, and all but `unique` are computed by one
//! query; another one looks for examples where rows fail.

mod expectation;
mod measure;
#[cfg(test)]
mod tests;

use chrono::Utc;
use datafusion::dataframe::DataFrame;
use serde::{Deserialize, Serialize};

pub use expectation::{Check, Expectation, Freshness, InRange, InSet, OnFailure, RowCount};
pub(crate) use measure::{Reference, check, failing_rows};

use crate::Result;
use crate::session::Session;

/// What came of a check, and what is to be done about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    #[default]
    Passed,
    /// It does not: the run goes on.
    Warn,
    /// It does not: the rows that fail are left out and kept apart.
    Quarantine,
    /// It does not: the run ends.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckResult {
    /// The check, as `in_range(distance, 0 to 6000)`.
    pub check: String,
    /// Rows checked.
    pub n_rows: u64,
    /// Rows that fail: of a check of the table, all of them or, but for `unique`, none.
    pub n_failed: u64,
    /// What is to be done.
    pub outcome: Outcome,
    /// What was found against what was expected, of a check of the table that fails.
    pub detail: Option<String>,
    /// A few rows that fail, as text. Which ones is not defined.
    pub examples: Vec<String>,
}

impl Session {
    /// What the rows are found to be against what is expected of them, in the order of the expectations.
    ///
    /// Nothing is done about it: a check that does not hold is no error, and no row is left out. `freshness` is
    /// measured from now, and `row_count`'s `against_last_run`, which needs a job, holds.
    ///
    /// ```
    /// # use tidemill_engine::Session;
    /// use tidemill_engine::checks::{Check, Expectation, OnFailure, Outcome};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let session = Session::local().await?;
    /// let rows = session.sql("select * from (values (1, 2.5), (2, null)) as t (id, x)").await?;
    /// let ids = Expectation::new(Check::Unique(vec!["id".to_owned()]), OnFailure::Fail)?;
    /// let known = Expectation::new(Check::NotNull(vec!["x".to_owned()]), OnFailure::Warn)?;
    /// let results = session.check(rows, &[ids, known]).await?;
    /// assert_eq!(results[0].outcome, Outcome::Passed);
    /// assert_eq!((results[1].outcome, results[1].n_rows, results[1].n_failed), (Outcome::Warn, 2, 1));
    /// assert_eq!(results[1].examples, ["x = null, id = 2"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A column that is not there, a value that its type does not have, SQL that is no predicate over the rows.
    pub async fn check(&self, rows: DataFrame, expectations: &[Expectation]) -> Result<Vec<CheckResult>> {
        check(&rows, expectations, &Reference { now: Utc::now(), last_rows: None }).await
    }
}
