//! Makes a task's work end when the task is cancelled.
//!
//! Ballista's shuffle writers drive a stage in tasks of their own, which aborting the task does not reach. So the
//! writer's input is wrapped: when the token is cancelled the wrapper drops the running stream, which ends the
//! operators below at their next await, and hands the writer an error.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

/// Passes its input on, partition by partition, until a token is cancelled. It is put into a plan after decoding and
/// never travels; it reports no metrics, so the scheduler's count of metrics stays right.
#[derive(Debug)]
pub(crate) struct CancelExec {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
}

impl CancelExec {
    /// Wraps the input of a stage's shuffle writer.
    ///
    /// # Errors
    /// When the plan is not a writer with one input.
    pub(crate) fn below(writer: Arc<dyn ExecutionPlan>, token: CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = writer.children()[..] else {
            return datafusion::common::internal_err!("{} is not a shuffle writer", writer.name());
        };
        let input = Arc::new(Self { input: Arc::clone(input), token });
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        writer.replace_children(vec![input], options)
    }
}

impl DisplayAs for CancelExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("CancelExec")
    }
}

impl ExecutionPlan for CancelExec {
    fn name(&self) -> &str {
        "CancelExec"
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
            .map_err(|c| DataFusionError::Internal(format!("CancelExec has one input, got {}", c.len())))?;
        Ok(Arc::new(Self { input, token: self.token.clone() }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
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

fn cancelled() -> DataFusionError {
    DataFusionError::Execution("task cancelled".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use datafusion::arrow::array::{Int32Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

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

    #[tokio::test]
    async fn a_cancelled_stream_errors_once_and_stops_its_input() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
        let count = Arc::new(AtomicUsize::new(0));
        let endless = Arc::new(Endless(Arc::clone(&schema), Arc::clone(&count)));
        let input = StreamingTableExec::try_new(schema, vec![endless], None, vec![], true, None).unwrap();
        let token = CancellationToken::new();
        let exec = CancelExec { input: Arc::new(input), token: token.clone() };

        let mut stream = exec.execute(0, Arc::new(TaskContext::default())).unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        token.cancel();
        let before = count.load(Ordering::Relaxed);
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
        assert_eq!(count.load(Ordering::Relaxed), before, "the input is not polled again");
    }
}
