//! As-of joins with a right side that fits into memory: it is indexed once, and left rows look their matches up as they
//! come, neither sorted nor partitioned. Joins with several such sides are one pass over the left.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{HashMap, JoinType, Result, exec_err, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::{Distribution, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
    SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::AsofSpec;
use super::exec::{display, left_properties};
use super::merge::Side;
use crate::codec::wire;

/// What to do about a right side that is larger than it was expected to be.
const TOO_LARGE: &str = "the right side of an as-of join does not fit into memory; to sort and merge instead: \
    set datafusion.optimizer.hash_join_single_partition_threshold_rows = 0";

/// Joins each left row with the right row that it matches, which is looked up in an index of the whole right side.
///
/// The result is that of [`super::AsofJoinExec`], and left rows keep their order. The index is made once for all
/// partitions of a process.
#[derive(Debug)]
pub struct AsofLookupExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    spec: Arc<AsofSpec<usize>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    index: Arc<OnceCell<Index>>,
}

impl AsofLookupExec {
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
        let (metrics, index) = (ExecutionPlanMetricsSet::new(), Arc::default());
        Ok(Self { left, right, spec, schema, properties, metrics, index })
    }

    /// Whether a right side is expected to be so small that it is indexed: within the bounds that hash joins have for a
    /// side that they collect.
    pub(crate) fn fits(right: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<bool> {
        let statistics = StatisticsContext::new().compute(right.as_ref(), &StatisticsArgs::new())?;
        let within = |size: Option<&usize>, limit: usize| size.map(|size| *size <= limit);
        let bounds = &config.optimizer;
        let rows = within(statistics.num_rows.get_value(), bounds.hash_join_single_partition_threshold_rows);
        let bytes = within(statistics.total_byte_size.get_value(), bounds.hash_join_single_partition_threshold);
        Ok(rows == Some(true) && bytes != Some(false))
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
}

impl DisplayAs for AsofLookupExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        display("AsofLookupExec", &self.left, &self.right, &self.spec, f)
    }
}

impl ExecutionPlan for AsofLookupExec {
    fn name(&self) -> &str {
        "AsofLookupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
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
        let left = self.left.execute(partition, Arc::clone(&ctx))?;
        let lookup = Arc::new(Lookup {
            spec: Arc::clone(&self.spec),
            keys: key_converter(&self.spec, &self.right.schema())?,
            schema: Arc::clone(&self.schema),
            baseline: BaselineMetrics::new(&self.metrics, partition),
        });
        let (index, right, spec) = (Arc::clone(&self.index), Arc::clone(&self.right), Arc::clone(&self.spec));
        let joined = left.then(move |batch| {
            let (index, right, spec) = (Arc::clone(&index), Arc::clone(&right), Arc::clone(&spec));
            let (lookup, ctx) = (Arc::clone(&lookup), Arc::clone(&ctx));
            async move {
                let batch = batch?;
                let index = index.get_or_try_init(|| Index::collect(right, &spec, ctx)).await?;
                lookup.join(&batch, index)
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), joined)))
    }
}

fn key_converter(spec: &AsofSpec<usize>, right: &SchemaRef) -> Result<RowConverter> {
    let field = |(_, r): &(usize, usize)| SortField::new(right.field(*r).data_type().clone());
    Ok(RowConverter::new(spec.on.iter().map(field).collect())?)
}

/// One partition's look-ups.
struct Lookup {
    spec: Arc<AsofSpec<usize>>,
    keys: RowConverter,
    schema: SchemaRef,
    baseline: BaselineMetrics,
}

impl Lookup {
    fn join(&self, batch: &RecordBatch, index: &Index) -> Result<RecordBatch> {
        let _timer = self.baseline.elapsed_compute().timer();
        let keys: Vec<usize> = self.spec.on.iter().map(|(l, _)| *l).collect();
        let left = Side::new(batch.clone(), &self.keys, &keys, self.spec.left_time, None)?;
        let matches = left.times.iter().zip(&left.keys);
        let matches: UInt32Array = matches.map(|(time, key)| index.find(key.as_ref(), (*time)?, &self.spec)).collect();
        let mut columns = batch.columns().to_vec();
        for column in index.rows.columns() {
            columns.push(take(column, &matches, None)?);
        }
        self.baseline.record_output(batch.num_rows());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// The right rows that can match, by key and time.
#[derive(Debug)]
struct Index {
    /// In ascending order of key, time, known-at and rank.
    rows: RecordBatch,
    times: Vec<i128>,
    /// When each is known; none where that is no matter.
    known: Option<Vec<i128>>,
    /// The rows of each key.
    keys: HashMap<Box<[u8]>, Range<u32>>,
    /// Of all this.
    _memory: MemoryReservation,
}

impl Index {
    /// Reads the right side.
    ///
    /// # Errors
    /// More rows than there is memory for.
    async fn collect(right: Arc<dyn ExecutionPlan>, spec: &AsofSpec<usize>, ctx: Arc<TaskContext>) -> Result<Self> {
        let memory = MemoryConsumer::new("AsofLookupExec").register(ctx.memory_pool());
        let schema = right.schema();
        let batches = right.execute(0, ctx)?.try_fold(Vec::new(), |mut batches, batch| {
            // Once as it came and once in order.
            let grown = memory.try_grow(2 * batch.get_array_memory_size()).map_err(|e| e.context(TOO_LARGE));
            batches.push(batch);
            std::future::ready(grown.map(|()| batches))
        });
        let rows = concat_batches(&schema, &batches.await?)?;
        Self::new(rows, spec, memory)
    }

    fn new(rows: RecordBatch, spec: &AsofSpec<usize>, memory: MemoryReservation) -> Result<Self> {
        let Ok(n_rows) = u32::try_from(rows.num_rows()) else {
            return exec_err!("the right side of an as-of join by look-up has {} rows", rows.num_rows());
        };
        let keys: Vec<usize> = spec.on.iter().map(|(_, r)| *r).collect();
        let converter = key_converter(spec, rows.schema_ref())?;
        let side = Side::new(rows, &converter, &keys, spec.right_time, spec.known_at)?;
        let when = |row: u32| -> Option<(i128, i128)> {
            let known = side.known.as_ref().map_or(Some(i128::MIN), |known| known[row as usize]);
            Some((side.times[row as usize]?, known?))
        };
        let key = |row: u32| side.keys.row(row as usize);
        let mut order: Vec<u32> = (0..n_rows).filter(|row| when(*row).is_some()).collect();
        order.sort_unstable_by(|&a, &b| key(a).cmp(&key(b)).then_with(|| when(a).cmp(&when(b))));
        if order.windows(2).any(|pair| key(pair[0]) == key(pair[1]) && when(pair[0]) == when(pair[1])) {
            let field = |column: &ArrayRef| SortField::new(column.data_type().clone());
            let converter = RowConverter::new(side.batch.columns().iter().map(field).collect())?;
            let ranks = converter.convert_columns(side.batch.columns())?;
            let rank = |row: u32| ranks.row(row as usize);
            let order_of = |a: u32, b: u32| key(a).cmp(&key(b)).then_with(|| when(a).cmp(&when(b)));
            order.sort_unstable_by(|&a, &b| order_of(a, b).then_with(|| rank(a).cmp(&rank(b))));
        }
        let (times, known): (Vec<i128>, Vec<i128>) = order.iter().filter_map(|row| when(*row)).unzip();
        let mut ranges = HashMap::default();
        let mut start = 0;
        for run in order.chunk_by(|a, b| key(*a) == key(*b)) {
            let end = start + run.len() as u32;
            ranges.insert(key(run[0]).as_ref().into(), start..end);
            start = end;
        }
        let bytes_of_key = size_of::<(Box<[u8]>, Range<u32>)>() + side.keys.size() / side.keys.num_rows().max(1);
        let bytes = order.len() * 2 * size_of::<i128>() + ranges.capacity() * bytes_of_key;
        memory.try_grow(bytes).map_err(|e| e.context(TOO_LARGE))?;
        Ok(Self {
            times,
            known: spec.known_at.is_some().then_some(known),
            keys: ranges,
            rows: take_record_batch(&side.batch, &UInt32Array::from(order))?,
            _memory: memory,
        })
    }

    /// The row that a left row of this key and time matches.
    fn find(&self, key: &[u8], time: i128, spec: &AsofSpec<usize>) -> Option<u32> {
        let range = self.keys.get(key)?;
        let times = &self.times[range.start as usize..range.end as usize];
        let is_before = |other: i128| other < time || (!spec.strict && other == time);
        let before = times.partition_point(|other| is_before(*other));
        let earliest = spec.tolerance.map_or(i128::MIN, |tolerance| tolerance.earliest(time));
        let near = (0..before).rev().take_while(|row| times[*row] >= earliest);
        let mut found = near.map(|row| range.start + row as u32);
        found.find(|row| self.known.as_ref().is_none_or(|known| known[*row as usize] <= time))
    }
}
