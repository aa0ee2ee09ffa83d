//! What can be expected of rows, as job files say it.

use std::fmt;

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::Value;

use crate::time_length::time_length;
use crate::{EngineError, Result};

/// A check and what happens when it does not hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Expectation {
    check: Check,
    on_failure: OnFailure,
}

/// A check.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// None of the columns is null.
    NotNull(Vec<String>),
    /// No two rows are equal in all of the columns; rows where one is null are equal to none.
    Unique(Vec<String>),
    /// A column lies within bounds.
    InRange(InRange),
    /// A column has one of some values.
    InSet(InSet),
    /// There are so many rows.
    RowCount(RowCount),
    /// There are new rows.
    Freshness(Freshness),
    /// A predicate holds for each row; one that is null holds.
    Sql(String),
}

/// What happens when a check does not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run ends before anything is written.
    #[default]
    Fail,
    /// The run goes on and says so.
    Warn,
    /// The rows that fail are left out and written to a table of their own.
    Quarantine,
}

/// `in_range:`. Bounds are in. Null passes, NaN does not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InRange {
    /// The column.
    pub column: String,
    /// The least value: a number, or text that the column's type reads, as `2013-11-05`.
    #[serde(default)]
    pub min: Option<Value>,
    /// The greatest value.
    #[serde(default)]
    pub max: Option<Value>,
}

/// `in_set:`. Null passes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InSet {
    /// The column.
    pub column: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// `row_count:`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowCount {
    /// The least number of rows.
    #[serde(default)]
    pub min: Option<u64>,
    /// The greatest number of rows.
    #[serde(default)]
    pub max: Option<u64>,
    /// By which fraction of the last run's rows there may be more or fewer now, as `0.2`. Holds where no run of the job
    /// that succeeded checked the table, or it had no rows.
    #[serde(default)]
    pub against_last_run: Option<f64>,
}

/// `freshness:`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// A column of timestamps or dates; without a zone they are in UTC.
    pub column: String,
    /// How old its newest value may be, at midnight UTC of the job's date parameter `ds` where it has one, else now.
    pub within: Within,
}

/// A length of time without months, as `2 days` or `90 minutes`. A day is 24 hours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Within {
    text: String,
    length: TimeDelta,
}

/// The keys of an expectation: one check and what happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    not_null: Option<Vec<String>>,
    unique: Option<Vec<String>>,
    in_range: Option<InRange>,
    in_set: Option<InSet>,
    row_count: Option<RowCount>,
    freshness: Option<Freshness>,
    sql: Option<String>,
    #[serde(default)]
    on_failure: OnFailure,
}

impl TryFrom<Keys> for Expectation {
    type Error = EngineError;

    fn try_from(keys: Keys) -> Result<Self> {
        let checks = [
            keys.not_null.map(Check::NotNull),
            keys.unique.map(Check::Unique),
            keys.in_range.map(Check::InRange),
            keys.in_set.map(Check::InSet),
            keys.row_count.map(Check::RowCount),
            keys.freshness.map(Check::Freshness),
            keys.sql.map(Check::Sql),
        ];
        let mut checks: Vec<Check> = checks.into_iter().flatten().collect();
        match (checks.pop(), checks.len()) {
            (Some(check), 0) => Self::new(check, keys.on_failure),
            (_, n) => Err(EngineError::Invalid(format!(
                "expected one of not_null, unique, in_range, in_set, row_count, freshness, sql in an item of expect, \
                 got {}; begin a new item with -",
                if n == 0 { "none".to_owned() } else { (n + 1).to_string() }
            ))),
        }
    }
}

impl Expectation {
    /// A check and what happens when it does not hold.
    ///
    /// # Errors
    /// A check without columns, bounds or values, bounds that exclude each other, quarantine for a check that is not of
    /// rows.
    pub fn new(check: Check, on_failure: OnFailure) -> Result<Self> {
        let invalid = |what: &str| Err(EngineError::Invalid(format!("{check}: {what}")));
        match &check {
            Check::NotNull(columns) | Check::Unique(columns) if columns.is_empty() => {
                return invalid("expected at least one column");
            }
            Check::InRange(InRange { min: None, max: None, .. }) => return invalid("expected min, max or both"),
            Check::InSet(set) if set.values.is_empty() => return invalid("expected at least one value"),
            Check::RowCount(RowCount { min: None, max: None, against_last_run: None }) => {
                return invalid("expected min, max or against_last_run");
            }
            Check::RowCount(RowCount { min: Some(min), max: Some(max), .. }) if min > max => {
                return invalid("min is greater than max");
            }
            Check::RowCount(RowCount { against_last_run: Some(f), .. }) if !(f.is_finite() && *f >= 0.0) => {
                return invalid("against_last_run must be a fraction that is not negative, as 0.2");
            }
            Check::Unique(_) | Check::RowCount(_) | Check::Freshness(_) if on_failure == OnFailure::Quarantine => {
                return invalid(
                    "on_failure: quarantine is for checks of rows: not_null, in_range, in_set, sql; use fail or warn",
                );
            }
            _ => {}
        }
        Ok(Self { check, on_failure })
    }

    /// The check.
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// What happens when it does not hold.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// The same with a predicate's text changed: parameters put in.
    pub(crate) fn try_map_sql(&self, f: impl FnOnce(&str) -> Result<String>) -> Result<Self> {
        Ok(match &self.check {
            Check::Sql(sql) => Self { check: Check::Sql(f(sql)?), on_failure: self.on_failure },
            _ => self.clone(),
        })
    }
}

impl TryFrom<String> for Within {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self> {
        let length = time_length("within", &text)?;
        Ok(Self { text, length })
    }
}

impl Within {
    /// How long it is.
    pub fn length(&self) -> TimeDelta {
        self.length
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNull(columns) => write!(f, "not_null({})", columns.join(", ")),
            Self::Unique(columns) => write!(f, "unique({})", columns.join(", ")),
            Self::InRange(InRange { column, min, max }) => {
                write!(f, "in_range({column}, {})", bounds(min.as_ref().map(plain), max.as_ref().map(plain)))
            }
            Self::InSet(InSet { column, .. }) => write!(f, "in_set({column})"),
            Self::RowCount(RowCount { min, max, against_last_run }) => {
                let sizes = (min.is_some() || max.is_some()).then(|| bounds(*min, *max));
                let change = against_last_run.map(|f| format!("within {f} of the last run"));
                let parts: Vec<String> = sizes.into_iter().chain(change).collect();
                write!(f, "row_count({})", parts.join(", "))
            }
            Self::Freshness(Freshness { column, within }) => write!(f, "freshness({column}, {within})"),
            Self::Sql(sql) => write!(f, "sql({})", sql.trim()),
        }
    }
}

fn bounds(min: Option<impl fmt::Display>, max: Option<impl fmt::Display>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("{min} or more"),
        (None, Some(max)) => format!("{max} or less"),
        (None, None) => "any".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
