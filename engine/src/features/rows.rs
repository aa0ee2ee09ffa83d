//! The rows of a view: its query over sources that are cut to what its days may see.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveDate, TimeDelta};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::ViewTable;
use datafusion::functions::expr_fn::left;
use datafusion::logical_expr::{Expr, LogicalPlan, cast, lit};
use datafusion::prelude::ident;
use tidemill_connectors::files::FileTable;
use tidemill_connectors::stores::Location;
use tidemill_ml::suggest::did_you_mean;

use super::FeatureView;
use super::definition::{DAY, KNOWN_AT, PERIOD, Source};
use crate::jobs::Device;
use crate::session::{Session, parse_statement};
use crate::span::interval;
use crate::{EngineError, Result};

impl Session {
    /// The rows of a view whose events were on these days, as its table has them: key, event time and the query's
    /// other columns, then when each is known, its day and its partition.
    ///
    /// # Errors
    /// A query that does not plan, sources that are not there, columns that the view names and its query lacks.
    pub(super) async fn view_rows(&self, view: &FeatureView, days: &RangeInclusive<NaiveDate>) -> Result<DataFrame> {
        let query = self.view_query(view, days).await.map_err(|e| in_view(view, e))?;
        table_rows(view, query, days).map_err(|e| in_view(view, e))
    }

    /// The view's query, planned where only its sources are known.
    async fn view_query(&self, view: &FeatureView, days: &RangeInclusive<NaiveDate>) -> Result<DataFrame> {
        let mut state = self.context().state();
        let statement = parse_statement(&state, &view.sql)?;
        let read: Vec<String> =
            state.resolve_table_references(&statement)?.iter().map(|table| table.table().to_owned()).collect();
        if let Some(unread) = view.sources.keys().find(|name| !read.contains(name)) {
            let hint = did_you_mean(unread, read.iter().map(String::as_str));
            return Err(EngineError::Invalid(format!("its query does not read the source {unread:?}{hint}")));
        }
        let tables = MemorySchemaProvider::new();
        for name in read {
            let source = view.sources.get(&name).cloned().unwrap_or_default();
            let (_, plan) = self.source_rows(view, &name, &source, days).await?.into_parts();
            tables.register_table(name, Arc::new(ViewTable::new(plan, None)))?;
        }
        let catalog = MemoryCatalogProvider::new();
        let options = state.config().options().catalog.clone();
        catalog.register_schema(&options.default_schema, Arc::new(tables))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(options.default_catalog, Arc::new(catalog));
        state.register_catalog_list(Arc::new(catalogs));
        let plan = state.statement_to_plan(statement).await?;
        if matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Statement(_) | LogicalPlan::Copy(_))
        {
            return Err(EngineError::Invalid("expected one SELECT".to_owned()));
        }
        Ok(self.data_frame(self.with_models(plan, Device::Cpu, Default::default()).await?))
    }

    /// A source, cut to the days and their look-back where it has a time.
    async fn source_rows(
        &self,
        view: &FeatureView,
        name: &str,
        source: &Source,
        days: &RangeInclusive<NaiveDate>,
    ) -> Result<DataFrame> {
        let rows = match &source.path {
            Some(path) => {
                let table = FileTable::open(&Location::parse(path)?).await?;
                self.context().read_table(Arc::new(table))?
            }
            None => {
                let plan = self.query(&format!("select * from \"{}\"", name.replace('"', "\"\""))).await?;
                self.data_frame(plan)
            }
        };
        let Some(time) = &source.time else { return Ok(rows) };
        let day = cast(rows.parse_sql_expr(time)?, DataType::Date32);
        let first = *days.start() - TimeDelta::days(view.look_back.whole_days());
        Ok(rows.filter(day.between(date(first), date(*days.end())))?)
    }
}

/// The query's rows of these days as the table has them.
fn table_rows(view: &FeatureView, query: DataFrame, days: &RangeInclusive<NaiveDate>) -> Result<DataFrame> {
    let known_at = view.known_at.iter();
    for name in view.key.iter().chain([&view.event_time]).chain(known_at) {
        require(&query, name)?;
    }
    let names: Vec<String> = query.schema().fields().iter().map(|field| field.name().clone()).collect();
    let ours = |name: &&String| [DAY, PERIOD].contains(&name.as_str()) || (*name == KNOWN_AT && !is_known_at(view));
    if let Some(taken) = names.iter().find(ours) {
        return Err(EngineError::Invalid(format!("its query has a column {taken:?}, which its table adds; rename it")));
    }
    let event = utc(&query, &view.event_time)?;
    let known = match &view.known_at {
        Some(column) => utc(&query, column)?,
        None => later(event.clone(), view.known_after.length())?,
    };
    let kept = names.iter().filter(|name| **name != view.event_time && *name != KNOWN_AT);
    let day = cast(event.clone(), DataType::Date32);
    let mut columns = vec![event.alias(&view.event_time)];
    columns.extend(kept.map(ident));
    columns.extend([
        known.alias(KNOWN_AT),
        day.clone().alias(DAY),
        left(cast(day, DataType::Utf8), lit(view.partition_by.name_chars())).alias(PERIOD),
    ]);
    let rows = query.select(columns)?;
    Ok(rows.filter(ident(DAY).between(date(*days.start()), date(*days.end())))?)
}

fn is_known_at(view: &FeatureView) -> bool {
    view.known_at.as_deref() == Some(KNOWN_AT)
}

fn require(query: &DataFrame, name: &str) -> Result<()> {
    if query.schema().has_column_with_unqualified_name(name) {
        return Ok(());
    }
    let hint = did_you_mean(name, query.schema().fields().iter().map(|field| field.name().as_str()));
    Err(EngineError::Invalid(format!("its query has no column {name:?}{hint}")))
}

/// A column of times as timestamps in UTC without a zone, in microseconds; dates are their midnights.
pub(super) fn utc(rows: &DataFrame, name: &str) -> Result<Expr> {
    let field = rows.schema().field_with_unqualified_name(name)?;
    let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
    match field.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            Ok(cast(cast(ident(name), zoned), plain))
        }
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => Ok(cast(ident(name), plain)),
        other => Err(EngineError::Invalid(format!(
            "the time {name:?} is {other}, expected a timestamp or a date; to_timestamp_seconds makes one of seconds"
        ))),
    }
}

/// A timestamp so much later.
fn later(time: Expr, by: TimeDelta) -> Result<Expr> {
    if by == TimeDelta::zero() {
        return Ok(time);
    }
    let sum = time + lit(interval(by)?);
    Ok(cast(sum, DataType::Timestamp(TimeUnit::Microsecond, None)))
}

/// A day as a literal.
pub(super) fn date(day: NaiveDate) -> Expr {
    lit(ScalarValue::Date32(Some(arrow::datatypes::Date32Type::from_naive_date(day))))
}

/// An error told with the view's name.
fn in_view(view: &FeatureView, e: EngineError) -> EngineError {
    match e {
        EngineError::Invalid(message) => EngineError::Invalid(format!("feature view {:?}: {message}", view.name)),
        EngineError::DataFusion(e) => {
            let message = EngineError::DataFusion(e).to_string();
            EngineError::Invalid(format!("feature view {:?}: {message}", view.name))
        }
        other => other,
    }
}
