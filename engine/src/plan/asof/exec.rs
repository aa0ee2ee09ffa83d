//! As-of joins as an operator.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};

use super::AsofSpec;
use super::merge::{Merge, Step};
use super::order::{order, with_long_runs};
use crate::codec::wire;

/// How both sides are sorted; equal on both, which is all that the merge needs.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Merges the sides, partition by partition: each left row, in the left's order, with the right row that it matches.
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
        let properties = left_properties(&left, &schema);
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

fn sorted_by(
    side: &Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
    time: usize,
    known_at: Option<usize>,
) -> Option<OrderingRequirements> {
    let columns = columns(side, keys.into_iter().chain([time]).chain(known_at).collect());
    // Rows that can match are in the same order by both.
    let number = match (&columns[..], known_at) {
        ([key, time], None) => order(&side.schema(), Arc::clone(key), Arc::clone(time)),
        _ => None,
    };
    let sort = number.map_or(columns, |number| vec![number]);
    let sort = sort.into_iter().map(|expr| PhysicalSortExpr::new(expr, ASCENDING));
    LexOrdering::new(sort).map(OrderingRequirements::from)
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

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let AsofSpec { left_time, right_time, known_at, .. } = *self.spec;
        vec![
            sorted_by(&self.left, self.left_keys(), left_time, None),
            sorted_by(&self.right, self.right_keys(), right_time, known_at),
        ]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
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
        let memory = MemoryConsumer::new(format!("AsofJoinExec[{partition}]")).register(ctx.memory_pool());
        let ctx = with_long_runs(&ctx);
        let run = AsofRun {
            left: self.left.execute(partition, Arc::clone(&ctx))?,
            right: self.right.execute(partition, Arc::clone(&ctx))?,
            merge: Merge::new(
                Arc::clone(&self.spec),
                &self.right.schema(),
                Arc::clone(&self.schema),
                ctx.session_config().batch_size(),
                memory,
            )?,
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        let joined = stream::try_unfold(run, |mut run| async move { Ok(run.next().await?.map(|b| (b, run))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), joined)))
    }
}

/// One partition's join.
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
