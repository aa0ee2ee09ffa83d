//! Queries on a cluster that read so little that sharing the work would take longer than the work.

use std::any::Any;

use ballista_core::config::BallistaConfig;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_connectors::files::FileTable;

const PREFIX: &str = "tidemill_cluster";
const ONE_TASK_VALUES: &str = "one_task_values";

/// The most values that one task reads by default: some 20 ms of work, which a second stage would lengthen by 5 to 10.
const DEFAULT_VALUES: u64 = 1 << 20;

/// The most bytes of files that one task reads, whatever part of them: values can be long.
const MAX_BYTES: u64 = 64 << 20;

/// How a session's queries are spread over a cluster.
///
/// A configuration extension (`SET tidemill_cluster.one_task_values = 0`) that travels with a session to the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterOptions {
    /// A query that reads up to so many values (rows times columns) and takes time in proportion to them runs as one
    /// task.
    one_task_values: u64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { one_task_values: DEFAULT_VALUES }
    }
}

impl ConfigExtension for ClusterOptions {
    const PREFIX: &'static str = PREFIX;
}

impl ExtensionOptions for ClusterOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if key != ONE_TASK_VALUES {
            let message = format!("{PREFIX}.{key} is no option; there is {PREFIX}.{ONE_TASK_VALUES}");
            return Err(DataFusionError::Configuration(message));
        }
        self.one_task_values = value.parse().map_err(|_| {
            DataFusionError::Configuration(format!("{PREFIX}.{key}: expected a whole number, 0 or more, got {value:?}"))
        })?;
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            key: format!("{PREFIX}.{ONE_TASK_VALUES}"),
            value: Some(self.one_task_values.to_string()),
            description: "queries on a cluster that read up to so many values are one task; 0 splits all",
        }]
    }
}

/// The state that plans a query on a cluster as one task; none where its work is to be shared, or there is no cluster.
pub(super) fn one_task(plan: &LogicalPlan, state: &SessionState) -> Option<SessionState> {
    let options = &state.config_options().extensions;
    options.get::<BallistaConfig>()?;
    let limit = options.get::<ClusterOptions>()?.one_task_values;
    if limit == 0 || values_read(plan)? > limit {
        return None;
    }
    let mut state = state.clone();
    state.config_mut().options_mut().execution.target_partitions = 1;
    Some(state)
}

/// The values that a plan reads of tables; none where they do not tell how long it takes: not all is known of a table, or
/// an operator or a function may take more than time in proportion to them.
fn values_read(plan: &LogicalPlan) -> Option<u64> {
    let is_linear = match plan {
        LogicalPlan::TableScan(scan) => return values_of(scan),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::SubqueryAlias(_) => !plan.expressions().iter().any(takes_its_time),
        _ => false,
    };
    match plan.inputs()[..] {
        [input] if is_linear => values_read(input),
        _ => None,
    }
}

fn values_of(scan: &TableScan) -> Option<u64> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<FileTable>()?;
    if table.size_bytes() > MAX_BYTES || scan.filters.iter().any(takes_its_time) {
        return None;
    }
    table.num_rows()?.checked_mul(scan.projected_schema.fields().len() as u64)
}

/// Whether an expression has more than comparisons, arithmetic and aggregates: a function, whose time per value is not
/// known, or a query of its own.
fn takes_its_time(expr: &Expr) -> bool {
    let is_quick = |e: &Expr| {
        matches!(
            e,
            Expr::Alias(_)
                | Expr::Column(_)
                | Expr::Literal(..)
                | Expr::BinaryExpr(_)
                | Expr::Like(_)
                | Expr::Not(_)
                | Expr::IsNotNull(_)
                | Expr::IsNull(_)
                | Expr::IsTrue(_)
                | Expr::IsFalse(_)
                | Expr::Negative(_)
                | Expr::Between(_)
                | Expr::Case(_)
                | Expr::Cast(_)
                | Expr::TryCast(_)
                | Expr::InList(_)
                | Expr::AggregateFunction(_)
        )
    };
    expr.exists(|e| Ok(!is_quick(e))).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::SessionContext;
    use tidemill_connectors::files::{PinnedFile, TableFormat};
    use tidemill_connectors::stores::Location;

    use super::*;

    /// A table of three columns in one file.
    fn table(num_rows: Option<u64>, size: u64) -> Arc<FileTable> {
        let columns = ["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, true));
        let file = PinnedFile {
            path: "f.parquet".to_owned(),
            size,
            last_modified_ms: 0,
            e_tag: None,
            partition_values: vec![],
            num_rows,
            stats: None,
        };
        let location = Location::parse("/nowhere").unwrap();
        let schema = Arc::new(Schema::new(columns.to_vec()));
        Arc::new(FileTable::try_new(location, TableFormat::Parquet, schema, vec![], vec![file]).unwrap())
    }

    async fn read_by(sql: &str) -> Option<u64> {
        let ctx = SessionContext::new();
        ctx.register_table("t", table(Some(1000), 10_000)).unwrap();
        ctx.register_table("long", table(Some(1000), MAX_BYTES + 1)).unwrap();
        ctx.register_table("unknown", table(None, 10_000)).unwrap();
        values_read(&ctx.sql(sql).await.unwrap().into_optimized_plan().unwrap())
    }

    #[tokio::test]
    async fn values_are_rows_times_the_columns_read() {
        assert_eq!(read_by("select a, count(*), avg(b) from t where c > 1 group by a order by 2").await, Some(3000));
        assert_eq!(read_by("select distinct a from (select a from t limit 5) as few").await, Some(1000));
    }

    #[tokio::test]
    async fn what_may_take_longer_is_shared() {
        for sql in [
            "select count(a) from long",
            "select count(a) from unknown",
            "select x.a from t as x join t as y on x.a = y.a",
            "select abs(a) from t",
            "select a from t where abs(a) > 1",
            "select rank() over (order by a) from t",
            "select a from t where b > (select max(b) from t)",
        ] {
            assert_eq!(read_by(sql).await, None, "{sql}");
        }
    }

    #[tokio::test]
    async fn small_queries_on_a_cluster_are_planned_for_one_partition() {
        let ctx = SessionContext::new();
        ctx.register_table("t", table(Some(1000), 10_000)).unwrap();
        let plan = ctx.sql("select a, count(*) from t group by a").await.unwrap().into_optimized_plan().unwrap();
        let mut state = ctx.state();
        let partitions = |state: &SessionState| Some(one_task(&plan, state)?.config().target_partitions());
        state.config_mut().options_mut().extensions.insert(ClusterOptions::default());
        assert_eq!(partitions(&state), None, "in process");
        state.config_mut().options_mut().extensions.insert(BallistaConfig::default());
        assert_eq!(partitions(&state), Some(1));
        for (limit, expected) in [("1000", Some(1)), ("999", None), ("0", None)] {
            state.config_mut().options_mut().set("tidemill_cluster.one_task_values", limit).unwrap();
            assert_eq!(partitions(&state), expected, "{limit}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let mut options = ClusterOptions::default();
        for (key, value, says) in [("one_task_values", "many", "whole number"), ("other", "1", "one_task_values")] {
            let error = options.set(key, value).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
