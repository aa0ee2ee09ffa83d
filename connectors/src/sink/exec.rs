//! The plan node that writes files where its input runs.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalExpr,
};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::spec::SinkSpec;
use super::writer::PartitionWriter;
use super::written::{WrittenFile, files_schema, to_batch};
use crate::error::{self, ConnectorError};
use crate::stores::Location;

/// Writes the rows of each input partition as files and returns one row per file ([`files_schema`]).
///
/// Keeps its input's partitions, so a cluster writes on all executors at once. Files are named by run
/// and attempt, never by partition number: a task that runs twice writes two sets of files, of which
/// only the one whose rows reach the driver is committed. When a partition fails or its stream is
/// dropped, the files that it wrote are deleted.
///
/// Memory: at most 128 files are open per partition, with at most 128 MiB of unfinished row groups
/// and one upload part (5 MiB, three at most) for each.
#[derive(Debug)]
pub struct ParallelSinkExec {
    input: Arc<dyn ExecutionPlan>,
    spec: SinkSpec,
    /// The order that the rows of a single file keep.
    ordering: Option<LexOrdering>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ParallelSinkExec {
    /// A sink for the rows of `input`. A single file keeps the order that its input has.
    ///
    /// # Errors
    /// `InvalidInput` naming the partition column that is not there, or has a type that cannot partition.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, spec: SinkSpec) -> error::Result<Self> {
        let ordering = if spec.single_file { input.properties().output_ordering().cloned() } else { None };
        Self::with_ordering(input, spec, ordering)
    }

    fn with_ordering(
        input: Arc<dyn ExecutionPlan>,
        spec: SinkSpec,
        ordering: Option<LexOrdering>,
    ) -> error::Result<Self> {
        spec.check(&input.schema())?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(files_schema()),
            Partitioning::UnknownPartitioning(input.properties().partitioning.partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, spec, ordering, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// The rows of one table partition come together, so that each becomes one file and not one for every task.
    fn distribution(&self) -> Distribution {
        if self.spec.single_file {
            return Distribution::SinglePartition;
        }
        let schema = self.input.schema();
        let column = |name: &String| Some(Arc::new(Column::new(name, schema.index_of(name).ok()?)) as _);
        let columns: Vec<Arc<dyn PhysicalExpr>> = self.spec.partition_by.iter().filter_map(column).collect();
        if columns.is_empty() { Distribution::UnspecifiedDistribution } else { Distribution::KeyPartitioned(columns) }
    }

    /// What it was told.
    pub fn spec(&self) -> &SinkSpec {
        &self.spec
    }

    /// Its input.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// Itself as bytes, without its input, for a plan's codec.
    ///
    /// # Errors
    /// None that a caller can bring about.
    pub fn encode(&self) -> error::Result<Vec<u8>> {
        self.spec.encode()
    }

    /// What [`ParallelSinkExec::encode`] wrote, over `inputs`.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are none of ours, or more or less than one input.
    pub fn decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> error::Result<Self> {
        match inputs {
            [input] => Self::try_new(Arc::clone(input), SinkSpec::decode(bytes)?),
            _ => Err(ConnectorError::invalid(format!("a sink: expected one input, got {}", inputs.len()))),
        }
    }
}

impl DisplayAs for ParallelSinkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the run: two runs of one job have one plan.
        write!(
            f,
            "ParallelSinkExec: location={}, format={:?}, partition_by=[{}]",
            self.spec.location,
            self.spec.format,
            self.spec.partition_by.join(", ")
        )
    }
}

impl ExecutionPlan for ParallelSinkExec {
    fn name(&self) -> &str {
        "ParallelSinkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![self.distribution()])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering.clone().map(OrderingRequirements::from)]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
            Ok([input]) => Ok(Arc::new(Self::with_ordering(input, self.spec.clone(), self.ordering.clone())?)),
            Err(children) => {
                let message = format!("a sink has one child, got {}", children.len());
                Err(DataFusionError::Internal(message))
            }
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let url = Location::parse(&self.spec.location)?.store_url()?;
        let store = context.runtime_env().object_store(&url)?;
        let memory = MemoryConsumer::new(format!("ParallelSinkExec[{partition}]")).register(context.memory_pool());
        let writer = PartitionWriter::try_new(self.spec.clone(), store, &self.input.schema(), memory)?;
        let rows_written = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let input = self.input.execute(partition, context)?;
        let files = stream::once(async move {
            let dropped = CancellationToken::new();
            let _guard = dropped.clone().drop_guard();
            let writing = tokio::spawn(write_all(input, writer, rows_written, dropped));
            let files = writing.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            Ok::<RecordBatch, DataFusionError>(to_batch(&files)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(files_schema(), files)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Runs as a task of its own, so that a write which the store has begun is never abandoned: it would land
/// after the files were taken back. Once the stream is `dropped`, the write in progress is the last one.
async fn write_all(
    mut input: SendableRecordBatchStream,
    mut writer: PartitionWriter,
    rows_written: Count,
    dropped: CancellationToken,
) -> Result<Vec<WrittenFile>> {
    let written = write_rows(&mut input, &mut writer, &rows_written, &dropped).await;
    if written.is_err() || dropped.is_cancelled() {
        writer.abort().await;
    }
    written
}

async fn write_rows(
    input: &mut SendableRecordBatchStream,
    writer: &mut PartitionWriter,
    rows_written: &Count,
    dropped: &CancellationToken,
) -> Result<Vec<WrittenFile>> {
    while let Some(batch) = dropped.run_until_cancelled(input.next()).await.flatten() {
        let batch = batch?;
        rows_written.add(batch.num_rows());
        writer.write(&batch).await?;
    }
    if dropped.is_cancelled() {
        return Ok(vec![]);
    }
    Ok(writer.finish().await?)
}
