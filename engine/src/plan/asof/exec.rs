//! As-of joins as an operator.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::common::{JoinType, Result, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricValue, MetricsSet};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties, SendableRecordBatchStream,
};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};

use super::AsofSpec;
use super::merge::{Merge, Step};
use super::order::{order, with_long_runs};
use super::slots::{SPARE, Slots};
use crate::codec::wire;

/// How both sides are sorted; equal on both, which is all that the merge needs.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Joins the sides, partition by partition: each left row with the right row that it matches. Left rows keep their order
/// unless memory is short.
#[derive(Debug, Clone)]
pub struct AsofJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    spec: Arc<AsofSpec<usize>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AsofJoinExec {
    /// An operator that joins `right` to `left`.
    ///
    /// # Errors
    /// Columns that are not there, or of types that cannot be joined so.
    pub fn try_new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        spec: Arc<AsofSpec<usize>>,
    ) -> Result<Self> {
        spec.check(&left.schema(), &right.schema())?;
        let schema = Arc::new(build_join_schema(&left.schema(), &right.schema(), &JoinType::Left).0);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            left.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { left, right, spec, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        wire::encode(self.spec.as_ref())
    }

    pub(crate) fn decode(
        bytes: &[u8],
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::try_new(left, right, Arc::new(wire::decode(bytes)?))?))
    }

    fn left_keys(&self) -> Vec<usize> {
        self.spec.on.iter().map(|(l, _)| *l).collect()
    }

    fn right_keys(&self) -> Vec<usize> {
        self.spec.on.iter().map(|(_, r)| *r).collect()
    }
}

/// The properties of a join that gives each left row once, in the left's order. The left's columns keep their positions,
/// and so its orderings and partitioning hold for the output.
pub(super) fn left_properties(left: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Arc<PlanProperties> {
    let orderings = left.equivalence_properties().oeq_class().iter().cloned();
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new_with_orderings(Arc::clone(schema), orderings),
        left.output_partitioning().clone(),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// An operator's line in a plan.
pub(super) fn display(
    name: &str,
    left: &Arc<dyn ExecutionPlan>,
    right: &Arc<dyn ExecutionPlan>,
    spec: &AsofSpec<usize>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (left, right) = (left.schema(), right.schema());
    let named = spec.try_map(|i| Ok(left.field(*i).name().clone()), |i| Ok(right.field(*i).name().clone()));
    write!(f, "{name}: {}", named.map_err(|_| fmt::Error)?)
}

/// The positions as expressions over a side.
fn columns(side: &Arc<dyn ExecutionPlan>, positions: Vec<usize>) -> Vec<Arc<dyn PhysicalExpr>> {
    let schema = side.schema();
    positions.into_iter().map(|i| Arc::new(Column::new(schema.field(i).name(), i)) as _).collect()
}

/// The order that the merge needs of a side.
fn sorted_by(
    side: &Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
    time: usize,
    known_at: Option<usize>,
) -> Result<LexOrdering> {
    let columns = columns(side, keys.into_iter().chain([time]).chain(known_at).collect());
    // Rows that can match are in the same order by both.
    let number = match (&columns[..], known_at) {
        ([key, time], None) => order(&side.schema(), Arc::clone(key), Arc::clone(time)),
        _ => None,
    };
    let sort = number.map_or(columns, |number| vec![number]);
    let sort = sort.into_iter().map(|expr| PhysicalSortExpr::new(expr, ASCENDING));
    LexOrdering::new(sort).ok_or_else(|| internal_datafusion_err!("an as-of join without keys"))
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        display("AsofJoinExec", &self.left, &self.right, &self.spec, f)
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::co_partitioned(vec![
            Distribution::KeyPartitioned(columns(&self.left, self.left_keys())),
            Distribution::KeyPartitioned(columns(&self.right, self.right_keys())),
        ])
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self::try_new(left, right, Arc::clone(&self.spec))?)),
            Err(children) => internal_err!("an as-of join has 2 children, got {}", children.len()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, ctx: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let counts = [&self.left, &self.right].map(|side| side.output_partitioning().partition_count());
        if counts[0] != counts[1] {
            return internal_err!("an as-of join of {} left and {} right partitions", counts[0], counts[1]);
        }
        let join = Join {
            left: self.left.execute(partition, Arc::clone(&ctx))?,
            right: self.right.execute(partition, Arc::clone(&ctx))?,
            operator: self.clone(),
            partition,
            ctx,
        };
        let joined = stream::once(join.start()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), joined)))
    }
}

/// One partition's join.
struct Join {
    operator: AsofJoinExec,
    partition: usize,
    left: SendableRecordBatchStream,
    right: SendableRecordBatchStream,
    ctx: Arc<TaskContext>,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

impl Join {
    /// Holds the left side and takes the right side as it comes; merges where there is too little memory for that.
    async fn start(mut self) -> Result<Batches> {
        let baseline = BaselineMetrics::new(&self.operator.metrics, self.partition);
        // What it holds does not go to disk as it is, but gives way to sorts that do, with a part that it leaves to them.
        let consumer = MemoryConsumer::new(format!("AsofJoinExec[{}]", self.partition)).with_can_spill(true);
        let mut memory = consumer.register(self.ctx.memory_pool());
        let of_sorts = 2 * self.ctx.session_config().options().execution.sort_spill_reservation_bytes;
        if memory.try_grow(of_sorts).is_err() {
            return self.merge(baseline, memory, Vec::new(), Vec::new());
        }
        let (mut left, mut counter) = (Vec::new(), RecordBatchMemoryCounter::new());
        while let Some(batch) = self.left.try_next().await? {
            let fits = memory.try_grow(SPARE * counter.count_batch(&batch)).is_ok();
            left.push(batch);
            if !fits {
                return self.merge(baseline, memory, left, Vec::new());
            }
        }
        if left.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let slots = {
            let _timer = baseline.elapsed_compute().timer();
            Slots::new(&self.operator.spec, &left, &self.right.schema(), memory.take())?
        };
        let Some(mut slots) = slots else { return self.merge(baseline, memory, left, Vec::new()) };
        while let Some(batch) = self.right.try_next().await? {
            let is_taken = {
                let _timer = baseline.elapsed_compute().timer();
                slots.push(&batch)?
            };
            if !is_taken {
                let mut right = slots.into_right_rows();
                right.push(batch);
                return self.merge(baseline, memory, left, right);
            }
        }
        let matches = {
            let _timer = baseline.elapsed_compute().timer();
            slots.into_matches()
        };
        let (schema, mut from) = (Arc::clone(&self.operator.schema), 0);
        let joined = left.into_iter().map(move |batch| {
            let _timer = baseline.elapsed_compute().timer();
            let mut columns = batch.columns().to_vec();
            columns.extend(matches.columns(from, batch.num_rows())?);
            from += batch.num_rows();
            baseline.record_output(batch.num_rows());
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        Ok(stream::iter(joined).boxed())
    }

    /// Sorts both sides, of which some rows were taken already, and merges them.
    fn merge(
        self,
        baseline: BaselineMetrics,
        memory: MemoryReservation,
        left: Vec<RecordBatch>,
        right: Vec<RecordBatch>,
    ) -> Result<Batches> {
        memory.free();
        let AsofJoinExec { left: left_side, right: right_side, spec, schema, .. } = &self.operator;
        let by_left = sorted_by(left_side, self.operator.left_keys(), spec.left_time, None)?;
        let by_right = sorted_by(right_side, self.operator.right_keys(), spec.right_time, spec.known_at)?;
        let merging = MemoryConsumer::new(format!("AsofJoinExec[{}]", self.partition));
        let merge = Merge::new(
            Arc::clone(spec),
            &right_side.schema(),
            Arc::clone(schema),
            self.ctx.session_config().batch_size(),
            merging.register(self.ctx.memory_pool()),
        )?;
        let left = given_back(left, memory.new_empty()).chain(self.left);
        let right = given_back(right, memory.new_empty()).chain(self.right);
        let run = AsofRun {
            left: self.operator.sorted(left_side.schema(), by_left, left, &self.ctx)?,
            right: self.operator.sorted(right_side.schema(), by_right, right, &self.ctx)?,
            merge,
            baseline,
        };
        Ok(stream::try_unfold(run, |mut run| async move { Ok(run.next().await?.map(|b| (b, run))) }).boxed())
    }
}

/// Batches that `memory` is for until they are taken.
fn given_back(
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let mut counter = RecordBatchMemoryCounter::new();
    let batches: Vec<_> = batches.into_iter().map(|batch| (counter.count_batch(&batch), batch)).collect();
    memory.grow(counter.memory_usage());
    stream::iter(batches.into_iter().map(move |(bytes, batch)| {
        memory.shrink(bytes);
        Ok(batch)
    }))
}

impl AsofJoinExec {
    /// The rows of a side in order.
    fn sorted(
        &self,
        schema: SchemaRef,
        ordering: LexOrdering,
        rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
        ctx: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        let once = Arc::new(Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) });
        let rows = StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?;
        let sort = SortExec::new(ordering, Arc::new(rows));
        let sorted = sort.execute(0, with_long_runs(ctx))?;
        for metric in sort.metrics().iter().flat_map(MetricsSet::iter) {
            if matches!(
                metric.value(),
                MetricValue::SpillCount(_) | MetricValue::SpilledBytes(_) | MetricValue::SpilledRows(_)
            ) {
                self.metrics.register(Arc::clone(metric));
            }
        }
        Ok(sorted)
    }
}

/// Rows that are read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        rows.unwrap_or_else(|| {
            let again = stream::iter([internal_err!("the rows of an as-of join are read once")]);
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), again))
        })
    }
}

/// One partition's merge.
struct AsofRun {
    left: SendableRecordBatchStream,
    right: SendableRecordBatchStream,
    merge: Merge,
    baseline: BaselineMetrics,
}

impl AsofRun {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let timer = self.baseline.elapsed_compute().timer();
            let step = self.merge.step()?;
            drop(timer);
            match step {
                Step::NeedLeft => match self.left.next().await {
                    Some(batch) => self.merge.push_left(batch?)?,
                    None => return Ok(None),
                },
                Step::NeedRight => match self.right.next().await {
                    Some(batch) => self.merge.push_right(batch?)?,
                    None => self.merge.end_right(),
                },
                Step::Emit(batch) => {
                    self.baseline.record_output(batch.num_rows());
                    return Ok(Some(batch));
                }
            }
        }
    }
}
