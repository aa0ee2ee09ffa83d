//! Scans that read text as views where nobody above them can tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::{CastExpr, Column, IsNotNullExpr, IsNullExpr};
use datafusion::physical_expr::{Partitioning, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

/// Positions of columns.
type Columns = BTreeSet<usize>;

/// Reads text of Parquet files as `Utf8View` where it is only grouped by, tested for null, or an argument of functions that
/// take views.
/// Such a text is not copied out of its page, and one of up to twelve bytes is compared as one integer.
///
/// Views stay below: keys of groups become `Utf8` again above the aggregate, where there are few of them. The plan gives
/// the same columns, and none of another type goes through a shuffle, which would write out whole buffers of which it
/// needs a few texts. The rule belongs after all that plan by statistics or distribution.
#[derive(Debug)]
pub struct TextViews {
    takes_views: fn(&str) -> bool,
}

impl TextViews {
    /// The rule, with the functions and aggregates, by name, that take views for `Utf8` and give the same.
    pub fn new(takes_views: fn(&str) -> bool) -> Self {
        Self { takes_views }
    }
}

impl PhysicalOptimizerRule for TextViews {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.rewrite(&plan, &Columns::new())
    }

    fn name(&self) -> &str {
        "text_views"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl TextViews {
    /// The plan with views in some of the columns `wanted`, and below.
    fn rewrite(&self, plan: &Arc<dyn ExecutionPlan>, wanted: &Columns) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            return Ok(self.scan(scan, wanted)?.unwrap_or_else(|| Arc::clone(plan)));
        }
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            return self.aggregate(plan, aggregate);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let input = self.rewrite(projection.input(), &self.below(projection.expr(), wanted))?;
            if Arc::ptr_eq(&input, projection.input()) {
                return Ok(Arc::clone(plan));
            }
            return Ok(Arc::new(ProjectionExec::try_new(projection.expr().to_vec(), input)?));
        }
        let passed = self.passed(plan, wanted);
        let children = plan.children().into_iter().map(|child| self.rewrite(child, &passed));
        replace_children_if_necessary(Arc::clone(plan), children.collect::<Result<_>>()?)
    }

    /// The columns below a projection that may be views when those of its own that are `wanted` may.
    fn below(&self, exprs: &[ProjectionExpr], wanted: &Columns) -> Columns {
        let mut uses = Uses::default();
        for (place, output) in exprs.iter().enumerate() {
            self.add(&output.expr, wanted.contains(&place), &mut uses);
        }
        uses.views()
    }

    /// Adds the uses of columns in an expression, which itself may be a view or not.
    fn add(&self, expr: &Arc<dyn PhysicalExpr>, may_be_view: bool, uses: &mut Uses) {
        if let Some(column) = expr.downcast_ref::<Column>() {
            let side = if may_be_view { &mut uses.as_view } else { &mut uses.as_text };
            side.insert(column.index());
            return;
        }
        let takes_views = expr.is::<IsNullExpr>()
            || expr.is::<IsNotNullExpr>()
            || expr.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| (self.takes_views)(f.name()));
        expr.children().into_iter().for_each(|child| self.add(child, takes_views, uses));
    }

    /// The columns below an operator that are its own columns `wanted`, where it does not look at their texts.
    fn passed(&self, plan: &Arc<dyn ExecutionPlan>, wanted: &Columns) -> Columns {
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let below = |place: &usize| filter.projection().as_ref().map_or(Some(*place), |p| p.get(*place).copied());
            return self.untested(&wanted.iter().filter_map(below).collect(), filter.predicate());
        }
        let is_dealt = matches!(plan.output_partitioning(), Partitioning::RoundRobinBatch(_));
        if plan.is::<RepartitionExec>() && is_dealt { wanted.clone() } else { Columns::new() }
    }

    /// Those of the columns whose texts a predicate does not look at.
    fn untested(&self, columns: &Columns, predicate: &Arc<dyn PhysicalExpr>) -> Columns {
        let mut uses = Uses::default();
        self.add(predicate, false, &mut uses);
        columns - &uses.as_text
    }

    fn aggregate(&self, plan: &Arc<dyn ExecutionPlan>, aggregate: &AggregateExec) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.rewrite(aggregate.input(), &self.below_aggregate(aggregate))?;
        if Arc::ptr_eq(&input, aggregate.input()) {
            return Ok(Arc::clone(plan));
        }
        if input.schema() == aggregate.input().schema() {
            return replace_children_if_necessary(Arc::clone(plan), vec![input]);
        }
        let group = aggregate.group_expr().clone();
        let (functions, filters) = (aggregate.aggr_expr().to_vec(), aggregate.filter_expr().to_vec());
        let schema = input.schema();
        let with_views = AggregateExec::try_new(*aggregate.mode(), group, functions, filters, input, schema)?;
        as_before(Arc::new(with_views.with_limit_options(aggregate.limit_options())), &plan.schema())
    }

    /// The columns below an aggregate of rows that may be views.
    fn below_aggregate(&self, aggregate: &AggregateExec) -> Columns {
        let group = aggregate.group_expr();
        let is_of_rows = matches!(aggregate.mode().input_mode(), AggregateInputMode::Raw);
        if !is_of_rows || group.has_grouping_set() || !aggregate.dynamic_expressions_produced().is_empty() {
            return Columns::new();
        }
        let mut uses = Uses::default();
        group.expr().iter().for_each(|(key, _)| self.add(key, true, &mut uses));
        for function in aggregate.aggr_expr() {
            let takes_views = !function.is_distinct() && (self.takes_views)(function.fun().name());
            function.expressions().iter().for_each(|arg| self.add(arg, takes_views, &mut uses));
            function.order_bys().iter().for_each(|key| self.add(&key.expr, false, &mut uses));
        }
        aggregate.filter_expr().iter().flatten().for_each(|filter| self.add(filter, false, &mut uses));
        uses.views()
    }

    /// A scan of Parquet files that reads some of the columns `wanted` as views; none when it reads all as before.
    fn scan(&self, scan: &DataSourceExec, wanted: &Columns) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else { return Ok(None) };
        let (table, Some(projection)) = (source.table_schema(), source.projection()) else { return Ok(None) };
        if !table.virtual_columns().is_empty() {
            return Ok(None);
        }
        let exprs: Vec<ProjectionExpr> = projection.iter().cloned().collect();
        let mut views = self.below(&exprs, wanted);
        if let Some(predicate) = source.filter() {
            views = self.untested(&views, &predicate);
        }
        let Some(schema) = with_views(table.file_schema(), &views) else { return Ok(None) };
        let partitions = table.table_partition_cols().clone();
        let table = TableSchema::builder(Arc::new(schema)).with_table_partition_cols(partitions).build();
        let mut reader = ParquetSource::new(table).with_table_parquet_options(source.table_parquet_options().clone());
        if let Some(bytes) = source.table_parquet_options().global.metadata_size_hint {
            reader = reader.with_metadata_size_hint(bytes);
        }
        if let Some(factory) = source.parquet_file_reader_factory() {
            reader = reader.with_parquet_file_reader_factory(Arc::clone(factory));
        }
        if let Some(predicate) = source.filter() {
            reader = reader.with_predicate(predicate);
        }
        let Some(source) = reader.try_pushdown_projection(projection)? else { return Ok(None) };
        let groups = config
            .file_groups
            .iter()
            .map(|group| FileGroup::new(group.iter().map(|file| without_bounds_of_file(file, &views)).collect()));
        let config = FileScanConfigBuilder::from(config.clone())
            .with_file_groups(groups.collect())
            .with_statistics(without_bounds(&config.statistics(), &views))
            .with_source(source)
            .build();
        Ok(Some(Arc::new(DataSourceExec::new(Arc::new(config)))))
    }
}

/// How columns are used.
#[derive(Debug, Default)]
struct Uses {
    as_view: Columns,
    as_text: Columns,
}

impl Uses {
    /// Those that are never used as text.
    fn views(&self) -> Columns {
        &self.as_view - &self.as_text
    }
}

/// Statistics without the bounds of some columns, which are of their former type. All that plans by bounds has run.
fn without_bounds(statistics: &Statistics, columns: &Columns) -> Statistics {
    let mut without = statistics.clone();
    for (place, column) in without.column_statistics.iter_mut().enumerate() {
        if columns.contains(&place) {
            (column.min_value, column.max_value) = (Precision::Absent, Precision::Absent);
        }
    }
    without
}

fn without_bounds_of_file(file: &PartitionedFile, columns: &Columns) -> PartitionedFile {
    let mut without = file.clone();
    without.statistics = file.statistics.as_ref().map(|statistics| Arc::new(without_bounds(statistics, columns)));
    without
}

/// The schema with views in some columns of text; none when there are no such columns.
fn with_views(schema: &Schema, views: &Columns) -> Option<Schema> {
    // A field's metadata may say that its text is of a kind, which a cast back would lose.
    let is_text = |field: &Field| *field.data_type() == DataType::Utf8 && field.metadata().is_empty();
    let is_view = |place: usize, field: &Field| is_text(field) && views.contains(&place);
    let fields = || schema.fields().iter().enumerate();
    if !fields().any(|(place, field)| is_view(place, field)) {
        return None;
    }
    let changed = fields().map(|(place, field)| match is_view(place, field) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        false => Arc::clone(field),
    });
    Some(Schema::new_with_metadata(changed.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The plan with its columns cast to the types that they had.
fn as_before(plan: Arc<dyn ExecutionPlan>, before: &Schema) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    if schema.fields() == before.fields() {
        return Ok(plan);
    }
    let columns = schema.fields().iter().zip(before.fields()).enumerate().map(|(place, (now, before))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(now.name(), place));
        let expr = match now.data_type() == before.data_type() {
            true => column,
            false => Arc::new(CastExpr::new(column, before.data_type().clone(), None)),
        };
        ProjectionExpr::new(expr, before.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}
