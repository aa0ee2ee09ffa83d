//! Joining views to rows: each row gets the rows of the views that were known at its time.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Date32Type, FieldRef};
use chrono::NaiveDate;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{cast, lit};
use datafusion::prelude::ident;
use tidemill_ml::suggest::did_you_mean;

use super::definition::{DAY, KNOWN_AT, PERIOD};
use super::rows::utc;
use super::{DeclaredView, FeatureView};
use crate::session::{AsofOptions, Session};
use crate::span::interval;
use crate::{EngineError, Result};

/// Helper columns of the join.
const AT: &str = "__at";
const FROM: &str = "__from";
const KNOWN: &str = "__known";

/// A view and the features that are taken of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewUse {
    /// The view, of one version.
    pub declared: DeclaredView,
    /// Its columns that are joined; all but key and times without any.
    pub columns: Vec<String>,
}

impl ViewUse {
    /// All features of a view.
    pub fn all(declared: DeclaredView) -> Self {
        Self { declared, columns: Vec::new() }
    }
}

impl Session {
    /// Each row once, with the features of each view that were known at the row's time `at`: of the view's rows of its
    /// key that were known by then, and are not older than the view's `max_age`, the one with the latest event time.
    /// Null where there is none. Views are read as they are materialised.
    ///
    /// # Errors
    /// A time or key that the rows lack, a view that was never materialised, a feature that it does not have, a feature
    /// with the name of another column.
    pub async fn join_feature_views(&self, rows: DataFrame, at: &str, views: &[ViewUse]) -> Result<DataFrame> {
        let range = self.day_range(&rows, at).await?;
        self.join_views(rows, at, views, range.as_ref()).await
    }

    /// The days of the first and the last time of the rows; none without rows.
    pub(crate) async fn day_range(&self, rows: &DataFrame, at: &str) -> Result<Option<RangeInclusive<NaiveDate>>> {
        if !rows.schema().has_column_with_unqualified_name(at) {
            let hint = did_you_mean(at, rows.schema().fields().iter().map(|field| field.name().as_str()));
            return Err(EngineError::Invalid(format!("the rows have no time {at:?} to join feature views at{hint}")));
        }
        let day = cast(utc(rows, at)?, DataType::Date32);
        let bounds = rows.clone().aggregate(vec![], vec![min(day.clone()).alias("first"), max(day).alias("last")])?;
        let batches = bounds.collect().await?;
        let bound = |column: usize| {
            let days = batches.first()?.column(column).as_primitive::<Date32Type>();
            days.iter().next().flatten().and_then(Date32Type::to_naive_date_opt)
        };
        Ok(bound(0).zip(bound(1)).map(|(first, last)| first..=last))
    }

    /// The join over the partitions of the views that rows of these days can match.
    pub(crate) async fn join_views(
        &self,
        rows: DataFrame,
        at: &str,
        views: &[ViewUse],
        range: Option<&RangeInclusive<NaiveDate>>,
    ) -> Result<DataFrame> {
        let mut names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        let time = utc(&rows, at)?;
        let mut joined = rows.with_column(AT, time)?;
        for view in views {
            let (right, features) = self.features_of(view, range).await?;
            joined = join_one(self, joined, right, &view.declared)?;
            names.extend(features);
        }
        Ok(joined.select(names.iter().map(ident).collect::<Vec<_>>())?)
    }

    /// The names of a materialised view's features.
    ///
    /// # Errors
    /// A view that was never materialised.
    pub async fn view_features(&self, declared: &DeclaredView) -> Result<Vec<String>> {
        Ok(features(&self.view_table(declared).await?, &declared.view))
    }

    /// The features of a view as its table has them, materialised or not. Nothing is computed.
    pub(crate) async fn view_fields(&self, view: &FeatureView) -> Result<Vec<FieldRef>> {
        let day = NaiveDate::default();
        let rows = self.view_rows(view, &(day..=day)).await?;
        let features = features(&rows, view);
        Ok(rows.schema().fields().iter().filter(|field| features.contains(field.name())).cloned().collect())
    }

    async fn view_table(&self, declared: &DeclaredView) -> Result<DataFrame> {
        let Some(table) = self.warehouse().open_table(&declared.table()).await? else {
            return Err(EngineError::NotFound(format!(
                "feature view {declared} is not materialised; run: tidemill features materialize {} --from DAY --to DAY",
                declared.view.name
            )));
        };
        Ok(self.context().read_table(Arc::new(table.snapshot(None).await?))?)
    }

    /// What is joined of a view, and the names of its features.
    async fn features_of(
        &self,
        view: &ViewUse,
        range: Option<&RangeInclusive<NaiveDate>>,
    ) -> Result<(DataFrame, Vec<String>)> {
        let ViewUse { declared, columns } = view;
        let definition = &declared.view;
        let mut rows = self.view_table(declared).await?;
        let all = features(&rows, definition);
        if let Some(unknown) = columns.iter().find(|column| !all.contains(column)) {
            let hint = did_you_mean(unknown, all.iter().map(String::as_str));
            return Err(EngineError::Invalid(format!("feature view {declared} has no feature {unknown:?}{hint}")));
        }
        if let Some(range) = range {
            let period = |day| lit(definition.partition_by.of(day));
            rows = rows.filter(ident(PERIOD).lt_eq(period(*range.end())))?;
            if let Some(first) = definition.first_day_for(*range.start()) {
                rows = rows.filter(ident(PERIOD).gt_eq(period(first)))?;
            }
        }
        let chosen = if columns.is_empty() { all } else { columns.clone() };
        let mut selected: Vec<_> = definition.key.iter().chain(&chosen).map(ident).collect();
        selected.push(ident(&definition.event_time).alias(FROM));
        selected.push(ident(KNOWN_AT).alias(KNOWN));
        Ok((rows.select(selected)?, chosen))
    }
}

/// The features of a view's table: what is neither key nor time nor ours.
fn features(rows: &DataFrame, view: &FeatureView) -> Vec<String> {
    let own = [DAY, PERIOD, KNOWN_AT, &view.event_time];
    let names = rows.schema().fields().iter().map(|field| field.name().clone());
    let other = |name: &String| {
        !own.contains(&name.as_str()) && !view.key.contains(name) && view.known_at.as_ref() != Some(name)
    };
    names.filter(other).collect()
}

/// One as-of join. Where rows are known a constant time after their events, the latest that is known is the latest
/// event: then the time that the join matches by is when a row is known, which needs no second condition.
fn join_one(session: &Session, left: DataFrame, right: DataFrame, declared: &DeclaredView) -> Result<DataFrame> {
    let view = &declared.view;
    let keys: Vec<(&str, &str)> = view.key.iter().map(|key| (key.as_str(), key.as_str())).collect();
    let mut options = AsofOptions::new(AT, KNOWN);
    let mut age = view.max_age.as_ref().map(|age| age.length());
    if view.known_at.is_some() {
        options.right_time = FROM.to_owned();
        options.known_at = Some(KNOWN.to_owned());
    } else {
        age = age.map(|age| age - view.known_after.length());
    }
    options.tolerance = age.map(interval).transpose()?;
    let joined = session.asof_join(left, right, &keys, &options).map_err(|e| match e {
        EngineError::Invalid(message) => EngineError::Invalid(format!("feature view {declared}: {message}")),
        other => other,
    })?;
    Ok(joined.drop_columns(&[FROM, KNOWN])?)
}
