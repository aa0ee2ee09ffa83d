//! What a feature view is declared as.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{NaiveDate, TimeDelta};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checks::{Expectation, OnFailure};
use crate::{EngineError, Result, Span};

/// The column of a view's table that says on which day a row's event was, in UTC.
pub(super) const DAY: &str = "ds";
/// The column of a view's table that says from when on a row is known.
pub(super) const KNOWN_AT: &str = "known_at";
/// The column that partitions a view's table.
pub(super) const PERIOD: &str = "period";

/// A feature view: a query whose rows hold from an event time on, and when they are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureView {
    /// Its name: letters, digits and underscores.
    #[serde(rename = "feature_view")]
    pub name: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The tables that the query reads, by name; others are the session's or the warehouse's, read whole.
    #[serde(default)]
    pub sources: BTreeMap<String, Source>,
    /// One SELECT; in a file, the name of the SQL file beside it or the query itself.
    pub sql: String,
    /// The columns that rows are joined by.
    pub key: Vec<String>,
    /// The column with the time from which a row holds: a timestamp or date in UTC. Rows where it is null are left out.
    pub event_time: String,
    /// How long after its event time a row is known. Default: at once.
    #[serde(default)]
    pub known_after: Span,
    /// The query's column that says when a row is known, instead of `known_after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<String>,
    /// How far before a day the sources are read to compute the day's rows. Default: that day alone.
    #[serde(default)]
    pub look_back: Span,
    /// How old a row may be to be joined, from its event time. Default: however old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// The first day that has rows; nothing is materialised before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<NaiveDate>,
    /// How its table is partitioned.
    #[serde(default)]
    pub partition_by: Period,
    /// What is expected of the rows before they are written: `fail` or `warn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Value>,
}

/// A table that a view reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A Parquet file or folder, relative to the view's file, or a URL; a table of the session or warehouse without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its time, an expression over its columns that casts to a date: rows of the look-back and the day are read. The
    /// whole table is read without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// What one partition of a view's table holds. A partition is the least that a commit rewrites.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A day: for views with many rows a day.
    Day,
    /// A month, so that small views have few files.
    #[default]
    Month,
}

impl Period {
    /// The partition of a day.
    pub(super) fn of(self, day: NaiveDate) -> String {
        let format = match self {
            Self::Day => "%Y-%m-%d",
            Self::Month => "%Y-%m",
        };
        day.format(format).to_string()
    }

    /// How many characters of a date name its partition.
    pub(super) fn name_chars(self) -> i64 {
        match self {
            Self::Day => 10,
            Self::Month => 7,
        }
    }
}

impl FeatureView {
    /// Reads a view's YAML file, and the SQL file that it names.
    ///
    /// # Errors
    /// A file that is missing, YAML that does not parse (with line and column), an unknown key (with the nearest one),
    /// a view that cannot be.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = crate::jobs::read_text(path)?;
        let mut view: Self = crate::jobs::read_yaml(path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        if !view.sql.trim().contains(char::is_whitespace) {
            view.sql = crate::jobs::read_text(&base.join(view.sql.trim()))?;
        }
        for location in view.sources.values_mut().filter_map(|source| source.path.as_mut()) {
            if !location.contains("://") {
                *location = base.join(&*location).to_string_lossy().into_owned();
            }
        }
        view.validate().map_err(|e| match e {
            EngineError::Invalid(message) => EngineError::Invalid(format!("{}: {message}", path.display())),
            other => other,
        })?;
        Ok(view)
    }

    /// Checks what can be checked without its tables.
    ///
    /// # Errors
    /// A name that is none, no key, `known_after` beside `known_at`, an age below the delay, expectations that cannot be.
    pub fn validate(&self) -> Result<()> {
        let invalid = |message: String| Err(EngineError::Invalid(message));
        let name = &self.name;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_word) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return invalid(format!("a feature view is named by letters, digits and underscores, got {name:?}"));
        }
        if self.key.is_empty() {
            return invalid(format!("feature view {name:?} has no key; name the columns that rows are joined by"));
        }
        if self.known_at.is_some() && self.known_after != Span::default() {
            return invalid(format!("feature view {name:?} has known_after and known_at; say one of them"));
        }
        if let Some(age) = self.max_age.as_ref().filter(|age| age.length() < self.known_after.length()) {
            return invalid(format!(
                "feature view {name:?}: a row is known {} after its event and may be {age} old, so none is ever joined; \
                 max_age must be longer than known_after",
                self.known_after
            ));
        }
        self.expectations().map(drop)
    }

    /// The first day whose rows a row of this day may be joined with; none when rows may be however old.
    pub(crate) fn first_day_for(&self, day: NaiveDate) -> Option<NaiveDate> {
        self.max_age.as_ref().map(|age| day - TimeDelta::days(age.whole_days()))
    }

    /// What is expected of its rows.
    ///
    /// # Errors
    /// A check that is none, or one that would leave rows out.
    pub(super) fn expectations(&self) -> Result<Vec<Expectation>> {
        let parse = |value: &Value| {
            let parsed: Expectation = serde_json::from_value(value.clone())
                .map_err(|e| EngineError::Invalid(format!("feature view {:?}, expect: {e}", self.name)))?;
            if parsed.on_failure() == OnFailure::Quarantine {
                return Err(EngineError::Invalid(format!(
                    "feature view {:?}: on_failure: quarantine leaves rows of an input out, and a view has none of its \
                     own; use fail or warn",
                    self.name
                )));
            }
            Ok(parsed)
        };
        self.expect.iter().map(parse).collect()
    }

    /// The digest of what decides its rows and how they are joined: not of places, descriptions or expectations, nor of
    /// comments and line breaks in the query.
    pub fn digest(&self) -> String {
        let times: BTreeMap<_, _> = self.sources.iter().map(|(name, source)| (name, &source.time)).collect();
        let text = json!({
            "sql": self.normal_sql(),
            "times": times,
            "key": self.key,
            "event_time": self.event_time,
            "known_after": self.known_after.length().num_microseconds(),
            "known_at": self.known_at,
            "look_back_days": self.look_back.whole_days(),
            "max_age": self.max_age.as_ref().map(|age| age.length().num_microseconds()),
            "partition_by": self.partition_by,
        });
        blake3::hash(text.to_string().as_bytes()).to_hex().to_string()
    }

    /// The query as the parser writes it; as it stands where only our dialect parses it.
    fn normal_sql(&self) -> String {
        match Parser::parse_sql(&GenericDialect {}, &self.sql) {
            Ok(statements) => statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
            Err(_) => self.sql.trim().to_owned(),
        }
    }
}
