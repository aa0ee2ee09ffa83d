//! Scans whose partitions have the same number of rows, whatever row groups the files have.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Puts a [`RowSlicesExec`] on top of scans that read parts of files. It belongs after all other rules.
#[derive(Debug, Default)]
pub struct SliceScans;

impl PhysicalOptimizerRule for SliceScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let sliced = plan.transform_down(|node| {
            if node.is::<RowSlicesExec>() {
                return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
            }
            Ok(match sliced(&node) {
                Some(_) => Transformed::new(Arc::new(RowSlicesExec::new(node)), true, TreeNodeRecursion::Jump),
                None => Transformed::no(node),
            })
        });
        sliced.data()
    }

    fn name(&self) -> &str {
        "slice_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Reads the rows of the scan below it. Where that would read the row groups that begin in a range of a file's bytes,
/// this reads the rows at the range's share of the file: files of few large row groups, as many tools write, are read by
/// all partitions alike.
///
/// A row group that lies in two shares is decoded where it is wanted and read in both, so files on a local disk alone
/// are cut.
#[derive(Debug)]
pub struct RowSlicesExec {
    scan: Arc<dyn ExecutionPlan>,
    /// The scan of the same rows by their numbers; what is below itself where that has no such form.
    sliced: Arc<dyn ExecutionPlan>,
}

impl RowSlicesExec {
    /// The rows of `scan`.
    pub fn new(scan: Arc<dyn ExecutionPlan>) -> Self {
        let sliced = sliced(&scan).unwrap_or_else(|| Arc::clone(&scan));
        Self { scan, sliced }
    }
}

/// A scan's rows by their numbers, if any of its files is read in parts and all of those can be cut so.
fn sliced(scan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, _) = scan.downcast_ref::<DataSourceExec>()?.downcast_to_file_source::<ParquetSource>()?;
    let is_part = |file: &PartitionedFile| file.range() != (0, file.object_meta.size);
    let files = || config.file_groups.iter().flat_map(FileGroup::iter);
    if !config.object_store_url.as_str().starts_with("file://") || !files().any(is_part) {
        return None;
    }
    let slice = |file: &PartitionedFile| if is_part(file) { slice_of(file) } else { Some(file.clone()) };
    let group = |group: &FileGroup| Some(FileGroup::new(group.iter().map(slice).collect::<Option<Vec<_>>>()?));
    let mut config = config.clone();
    config.file_groups = config.file_groups.iter().map(group).collect::<Option<Vec<_>>>()?;
    Some(Arc::new(DataSourceExec::new(Arc::new(config))))
}

/// The same part of a file by rows; none where it is not known how many the file has.
fn slice_of(file: &PartitionedFile) -> Option<PartitionedFile> {
    let Precision::Exact(n_rows) = file.statistics.as_ref()?.num_rows else { return None };
    let (start, end) = file.range();
    let row_at = |byte: u64| (n_rows as u128 * u128::from(byte) / u128::from(file.object_meta.size)) as usize;
    let (first, next) = (row_at(start), row_at(end));
    let rows = vec![RowSelector::skip(first), RowSelector::select(next - first), RowSelector::skip(n_rows - next)];
    let selection = ParquetRowSelection::new(RowSelection::from(rows));
    let mut slice = file.clone().with_extension(selection);
    slice.range = None;
    Some(slice)
}

impl DisplayAs for RowSlicesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowSlicesExec")
    }
}

impl ExecutionPlan for RowSlicesExec {
    fn name(&self) -> &str {
        "RowSlicesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([scan]) => Ok(Arc::new(Self::new(scan))),
            Err(children) => internal_err!("slices of a scan have one child, got {}", children.len()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.sliced.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [scan] => Ok(Arc::clone(scan)),
            inputs => internal_err!("slices of a scan have one child, got {}", inputs.len()),
        }
    }
}
