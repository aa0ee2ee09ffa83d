//! What a task's shuffle writer reads: rows that end when the task is cancelled, and that may come before the writer.
//!
//! Ballista's shuffle writers drive a stage in tasks of their own, which aborting the task does not reach. So the
//! writer's input is wrapped: when the token is cancelled the wrapper drops the running stream, which ends the
//! operators below at their next await, and hands the writer an error.
//!
//! Writers make their files before they read. A task that may have little to write [begins](TaskInput::begin) to read
//! first, and only then decides where the files are made.

use std::fmt;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, stream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Passes its input on, partition by partition, until a token is cancelled. It is put into a plan after decoding and
/// never travels; it reports no metrics, so the scheduler's count of metrics stays right.
pub(crate) struct TaskInput {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
    /// The partitions that have begun and are not executed yet.
    begun: Mutex<Vec<Option<SendableRecordBatchStream>>>,
}

impl TaskInput {
    /// The rows of `input` until `token` is cancelled.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, token: CancellationToken) -> Self {
        Self { input, token, begun: Mutex::default() }
    }

    /// Reads all partitions until they have ended, and gives the bytes of all their rows; or until these are more than
    /// `most`, and gives none. What was read comes first when the partitions are executed.
    ///
    /// Partitions are read side by side and stop together: an operator that deals rows out to all of them waits for
    /// none.
    ///
    /// # Errors
    /// Those of the rows.
    pub(crate) async fn begin(&self, context: &Arc<TaskContext>, most: usize) -> Result<Option<usize>> {
        let n = self.input.output_partitioning().partition_count();
        let bounds = Arc::new(Bounds { most, taken: AtomicUsize::new(0), enough: CancellationToken::new() });
        let rows = |partition| self.cancellable(partition, Arc::clone(context));
        let mut others = JoinSet::new();
        for partition in 1..n {
            let taken = take(rows(partition)?, Arc::clone(&bounds));
            others.spawn(async move { Ok((partition, taken.await?)) });
        }
        let mut begun: Vec<_> = (0..n).map(|_| None).collect();
        if n > 0 {
            begun[0] = Some(take(rows(0)?, Arc::clone(&bounds)).await?);
        }
        while let Some(joined) = others.join_next().await {
            let (partition, rows) = joined.unwrap_or_else(|error| Err(ended(error)))?;
            begun[partition] = Some(rows);
        }
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        Ok((!bounds.enough.is_cancelled()).then(|| bounds.taken.load(Ordering::Relaxed)))
    }

    /// A partition's rows until the token is cancelled.
    fn cancellable(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let batches = stream::unfold((Some(input), self.token.clone()), |(input, token)| async move {
            let mut input = input?;
            // Biased: a stream that is always ready must not outrun the cancellation.
            tokio::select! {
                biased;
                () = token.cancelled() => {
                    drop(input);
                    Some((Err(cancelled()), (None, token)))
                }
                batch = input.next() => Some((batch?, (Some(input), token))),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// How much partitions take together.
struct Bounds {
    most: usize,
    taken: AtomicUsize,
    /// More than the most was taken.
    enough: CancellationToken,
}

/// Takes a partition's rows until it ends or enough is taken of all; gives all of its rows.
async fn take(mut rows: SendableRecordBatchStream, bounds: Arc<Bounds>) -> Result<SendableRecordBatchStream> {
    let schema = rows.schema();
    let mut taken = vec![];
    let has_ended = loop {
        let next = tokio::select! {
            biased;
            () = bounds.enough.cancelled() => break false,
            next = rows.next() => next,
        };
        let Some(batch) = next.transpose()? else { break true };
        let bytes = bytes_of(&batch);
        taken.push(Ok(batch));
        if bounds.taken.fetch_add(bytes, Ordering::Relaxed) + bytes > bounds.most {
            bounds.enough.cancel();
        }
    };
    let rest = stream::iter((!has_ended).then_some(rows)).flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(taken).chain(rest))))
}

/// The bytes of a batch's own rows, which may be a part of its buffers; of views all that they point into.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &Arc<dyn Array>| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size()) + bytes_of_views(&data)
    };
    batch.columns().iter().map(bytes).sum()
}

/// The bytes that the views of an array and its children point into, which Arrow does not count to a slice.
fn bytes_of_views(data: &ArrayData) -> usize {
    let is_view = matches!(data.data_type(), DataType::Utf8View | DataType::BinaryView);
    let own: usize = data.buffers().iter().skip(1).filter(|_| is_view).map(Buffer::len).sum();
    own + data.child_data().iter().map(bytes_of_views).sum::<usize>()
}

/// Why a partition's own task gave nothing. Its panic goes on.
fn ended(error: JoinError) -> DataFusionError {
    match error.try_into_panic() {
        Ok(panic) => panic::resume_unwind(panic),
        Err(_) => cancelled(),
    }
}

impl fmt::Debug for TaskInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInput").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for TaskInput {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("TaskInput")
    }
}

impl ExecutionPlan for TaskInput {
    fn name(&self) -> &str {
        "TaskInput"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
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

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|c| DataFusionError::Internal(format!("TaskInput has one input, got {}", c.len())))?;
        Ok(Arc::new(Self::new(input, self.token.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        match begun.get_mut(partition).and_then(Option::take) {
            Some(rows) => Ok(rows),
            None => self.cancellable(partition, context),
        }
    }
}

fn cancelled() -> DataFusionError {
    DataFusionError::Execution("task cancelled".to_owned())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, StringArray, StringViewArray, StructArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
    use futures::TryStreamExt;

    use super::*;

    /// Yields a batch whenever it is asked, without end, and counts.
    #[derive(Debug)]
    struct Endless(Arc<Schema>, Arc<AtomicUsize>);

    impl PartitionStream for Endless {
        fn schema(&self) -> &Arc<Schema> {
            &self.0
        }

        fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
            let (schema, count) = (Arc::clone(&self.0), Arc::clone(&self.1));
            let column = Arc::new(Int32Array::from(vec![1]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
            let batches = stream::repeat_with(move || {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(batch.clone())
            });
            Box::pin(RecordBatchStreamAdapter::new(schema, batches))
        }
    }

    /// `n` partitions of endless rows, and how many batches were asked for.
    fn endless(n: usize) -> (TaskInput, CancellationToken, Arc<AtomicUsize>) {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
        let count = Arc::new(AtomicUsize::new(0));
        let partition = || Arc::new(Endless(Arc::clone(&schema), Arc::clone(&count))) as Arc<dyn PartitionStream>;
        let partitions = (0..n).map(|_| partition()).collect();
        let input = StreamingTableExec::try_new(Arc::clone(&schema), partitions, None, vec![], true, None).unwrap();
        let token = CancellationToken::new();
        (TaskInput::new(Arc::new(input), token.clone()), token, count)
    }

    #[tokio::test]
    async fn a_cancelled_stream_errors_once_and_stops_its_input() {
        let (input, token, count) = endless(1);
        let mut stream = input.execute(0, Arc::new(TaskContext::default())).unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        token.cancel();
        let before = count.load(Ordering::Relaxed);
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
        assert_eq!(count.load(Ordering::Relaxed), before, "the input is not polled again");
    }

    #[tokio::test]
    async fn rows_beyond_the_bound_are_not_read_and_none_is_lost() {
        let (input, token, count) = endless(3);
        let context = Arc::new(TaskContext::default());
        assert_eq!(input.begin(&context, 40).await.unwrap(), None);
        let taken = count.load(Ordering::Relaxed);
        assert!((11..=13).contains(&taken), "{taken} batches of 4 bytes, one more from each partition at most");
        let mut given = 0;
        for partition in 0..3 {
            let mut rows = input.execute(partition, Arc::clone(&context)).unwrap();
            while count.load(Ordering::Relaxed) == taken {
                rows.next().await.unwrap().unwrap();
                given += 1;
            }
            count.store(taken, Ordering::Relaxed);
            given -= 1;
        }
        assert_eq!(given, taken, "what was taken comes before what is read then");
        token.cancel();
        assert!(input.begin(&context, 40).await.is_err());
    }

    #[tokio::test]
    async fn few_rows_are_read_to_their_end() {
        let batch = |rows: Vec<i32>| {
            let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
            RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(rows))]).unwrap()
        };
        let parts = [vec![batch(vec![1, 2]), batch(vec![3])], vec![], vec![batch(vec![4])]];
        let input = MemorySourceConfig::try_new_exec(&parts, batch(vec![]).schema(), None).unwrap();
        let input = TaskInput::new(input, CancellationToken::new());
        let context = Arc::new(TaskContext::default());
        assert_eq!(input.begin(&context, 16).await.unwrap(), Some(16));
        for (partition, expected) in parts.iter().enumerate() {
            let rows = input.execute(partition, Arc::clone(&context)).unwrap();
            assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap(), *expected);
        }
    }

    #[test]
    fn bytes_of_slices_are_their_own_and_those_of_views_are_all() {
        let texts = vec!["a text that no view holds in itself"; 100];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let views: ArrayRef = Arc::new(StringViewArray::from(texts));
        let nested: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("v", DataType::Utf8View, false)),
            views.slice(0, 2),
        )]));
        let bytes = |array: ArrayRef| bytes_of(&RecordBatch::try_from_iter([("x", array)]).unwrap());
        assert!((70..200).contains(&bytes(plain.slice(0, 2))));
        assert!(bytes(plain) > 3_500 && bytes(views.slice(0, 2)) > 3_500 && bytes(nested) > 3_500);
    }
}
