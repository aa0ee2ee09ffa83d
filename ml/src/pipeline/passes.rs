//! How often a fit reads its rows, counted by the table itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::lit;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{DataFrame, SessionContext, ident};
use serde_json::{Value, json};

use super::{Pipeline, Subset};
use crate::stage::StageRegistry;

/// A table of one partition that counts how often it is read.
#[derive(Debug)]
struct Counted {
    rows: RecordBatch,
    schema: SchemaRef,
    n_reads: Arc<AtomicUsize>,
}

impl PartitionStream for Counted {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.n_reads.fetch_add(1, Ordering::SeqCst);
        Box::pin(MemoryStream::try_new(vec![self.rows.clone()], Arc::clone(&self.schema), None).unwrap())
    }
}

fn counted(rows: RecordBatch) -> (DataFrame, Arc<AtomicUsize>) {
    let n_reads = Arc::new(AtomicUsize::new(0));
    let table = Counted { schema: rows.schema(), rows, n_reads: Arc::clone(&n_reads) };
    let table = StreamingTable::try_new(table.rows.schema(), vec![Arc::new(table)]).unwrap();
    (SessionContext::new().read_table(Arc::new(table)).unwrap(), n_reads)
}

/// The pipeline of the flights example.
fn flights_stages() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/flights/train.yaml");
    let job: Value = serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    job["pipeline"].clone()
}

/// Rows with the columns that the pipeline reads: text where it is indexed, numbers elsewhere, and a day.
fn flights_rows(stages: &Value, pipeline: &Pipeline) -> RecordBatch {
    let texts = stages[1]["string_indexer"]["inputs"].as_array().unwrap();
    let column = |name: String| -> (String, ArrayRef) {
        let length = name.len() as i64;
        if texts.contains(&json!(name)) {
            let text = |i: i64| (i % 11 != 0).then(|| format!("{}", i * length % 7));
            return (name, Arc::new((0..60).map(text).collect::<StringArray>()));
        }
        let number = |i: i64| (i % 13 != 0).then_some((i * length % 17) as f64);
        (name, Arc::new((0..60).map(number).collect::<Float64Array>()))
    };
    let day = ("day".to_owned(), Arc::new(Int64Array::from_iter_values((0..60).map(|i| i % 3))) as ArrayRef);
    let columns = pipeline.input_names().into_iter().map(column).chain([day]);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[tokio::test]
async fn the_flights_pipeline_reads_its_rows_once_for_each_level_that_learns() {
    let stages = flights_stages();
    let pipeline = Pipeline::from_value(&stages, &StageRegistry::default()).unwrap();
    let (df, n_reads) = counted(flights_rows(&stages, &pipeline));
    let folds = (0..3).map(|fold| Subset::of(format!("fold {fold}"), ident("day").not_eq(lit(fold))));
    let subsets: Vec<Subset> = folds.chain([Subset::all("all").profiled()]).collect();
    let fit = pipeline.fit(df, &subsets).await.unwrap();
    // Imputer and indexer; then the scaler, of what the imputer filled. The encoder and the assembler learn nothing.
    assert_eq!(n_reads.load(Ordering::SeqCst), 2);
    assert_eq!(fit.passes, 2);
    let profiled: Vec<bool> = fit.models.iter().map(|model| model.profile().is_some()).collect();
    assert_eq!(profiled, [false, false, false, true]);
}

#[tokio::test]
async fn stages_that_do_not_read_each_other_share_a_pass() {
    let stages: Vec<Value> = (0..5).map(|i| json!({"standard_scaler": {"inputs": [format!("x{i}")]}})).collect();
    let chain: Vec<Value> = (0..4).map(|_| json!({"min_max_scaler": {"inputs": ["x0"]}})).collect();
    let columns = (0..5).map(|i| (format!("x{i}"), Arc::new(Float64Array::from(vec![1.0, 2.0, 4.0])) as ArrayRef));
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    for (stages, expected) in [(stages, 1), (chain, 4)] {
        let (df, n_reads) = counted(rows.clone());
        let pipeline = Pipeline::from_value(&Value::Array(stages), &StageRegistry::default()).unwrap();
        pipeline.fit(df, &[Subset::all("all")]).await.unwrap();
        assert_eq!(n_reads.load(Ordering::SeqCst), expected);
    }
}
