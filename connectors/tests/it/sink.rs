//! The parallel sink: what it writes, what it takes back, how it is published.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use futures::{StreamExt, stream};
use tidemill_connectors::files::{FileTable, PartitionValues, TextFormat, open_text};
use tidemill_connectors::sink::{
    ParallelSinkExec, PublishMode, SinkFormat, SinkSpec, discard_run, publish, publish_file, staging,
};
use tidemill_connectors::stores::StoreOptions;

use crate::support::{NOV_5, context, files_below, location, plan_of, query, rows, sink};

#[tokio::test]
async fn every_partition_writes_its_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let spec = SinkSpec::new(location(dir.path()).to_string(), SinkFormat::Parquet, "r").with_partition_by(["ds"]);
    let input =
        vec![vec![rows(&[(NOV_5, 1), (NOV_5 + 1, 2), (NOV_5, 3)])], vec![rows(&[(NOV_5, 4)]), rows(&[(NOV_5, 5)])]];
    let files = sink(&context, input, spec).await.unwrap();
    assert_eq!(files.len(), 3);
    assert_eq!(files.iter().map(|file| file.num_rows).sum::<u64>(), 5);
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(files_below(dir.path()), paths);
    assert!(paths[0].starts_with("ds=2013-11-05/part-r-"), "{}", paths[0]);
    for file in &files {
        assert_eq!(std::fs::metadata(dir.path().join(&file.path)).unwrap().len(), file.size_bytes);
        assert!(file.stats.contains("\"nullCount\""), "{}", file.stats);
    }
    let table = FileTable::open(&location(dir.path())).await.unwrap();
    let got = query(&context, Arc::new(table), "select ds, count(*), sum(id) from t group by ds order by ds").await;
    assert_eq!(got, ["2013-11-05 4 13", "2013-11-06 1 2"]);
}

#[tokio::test]
async fn more_partitions_than_open_files_lose_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let spec = SinkSpec::new(location(dir.path()).to_string(), SinkFormat::Parquet, "r").with_partition_by(["ds"]);
    let data: Vec<(i32, i64)> = (0..600).map(|i| (NOV_5 + i % 300, i64::from(i))).collect();
    let batches = data.chunks(100).map(rows).collect();
    sink(&context, vec![batches], spec).await.unwrap();
    let table = FileTable::open(&location(dir.path())).await.unwrap();
    let got = query(&context, Arc::new(table), "select count(*), count(distinct ds), sum(id) from t").await;
    assert_eq!(got, ["600 300 179700"]);
}

#[tokio::test]
async fn a_file_that_has_grown_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let mut spec = SinkSpec::new(location(dir.path()).to_string(), SinkFormat::JsonLines, "r");
    spec.target_file_bytes = 200;
    let batches = (0..10).map(|id| rows(&[(NOV_5, id), (NOV_5, id + 100)])).collect();
    let files = sink(&context, vec![batches], spec).await.unwrap();
    assert!(files.len() > 2, "{files:?}");
    assert_eq!(files.iter().map(|file| file.num_rows).sum::<u64>(), 20);
}

#[derive(Debug)]
struct Failing {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    then_hang: bool,
}

impl PartitionStream for Failing {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::iter(self.batches.clone().into_iter().map(Ok));
        let end = if self.then_hang {
            stream::pending().boxed()
        } else {
            stream::once(async { Err(DataFusionError::Execution("row 7 is bad".into())) }).boxed()
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.chain(end)))
    }
}

fn failing_sink(spec: SinkSpec, then_hang: bool) -> Arc<ParallelSinkExec> {
    let batch = rows(&[(NOV_5, 1), (NOV_5 + 1, 2)]);
    let failing = Failing { schema: batch.schema(), batches: vec![batch.clone(), batch], then_hang };
    let schema = Arc::clone(&failing.schema);
    let input = StreamingTableExec::try_new(schema, vec![Arc::new(failing)], None, vec![], false, None).unwrap();
    Arc::new(ParallelSinkExec::try_new(Arc::new(input), spec).unwrap())
}

/// One row per file, so that files are complete before the failure.
fn small_files(dir: &tempfile::TempDir) -> SinkSpec {
    let mut spec =
        SinkSpec::new(location(dir.path()).to_string(), SinkFormat::JsonLines, "r").with_partition_by(["ds"]);
    spec.target_file_bytes = 1;
    spec
}

#[tokio::test]
async fn a_failure_takes_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let error = collect(failing_sink(small_files(&dir), false), context.task_ctx()).await.unwrap_err();
    assert!(error.to_string().contains("row 7 is bad"), "{error}");
    assert_eq!(files_below(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_stream_takes_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let mut files = execute_stream(failing_sink(small_files(&dir), true), context.task_ctx()).unwrap();
    assert!(futures::poll!(files.next()).is_pending());
    until(|| !files_below(dir.path()).is_empty()).await;
    drop(files);
    until(|| files_below(dir.path()).is_empty()).await;
}

async fn until(holds: impl Fn() -> bool) {
    let polling = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), polling).await.unwrap();
}

#[tokio::test]
async fn a_single_file_is_written_without_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let (context, out) = (context(StoreOptions::default()), dir.path().join("out.csv"));
    let target = location(&out);
    for data in [vec![], vec![(NOV_5, 1)]] {
        let staged = staging(&target.parent(), "r");
        let spec = SinkSpec::new(staged.to_string(), SinkFormat::Csv, "r").with_single_file();
        let files = sink(&context, vec![vec![rows(&data)]], spec).await.unwrap();
        publish_file(&target, &staged, &files).await.unwrap();
        assert_eq!(files_below(dir.path()), ["out.csv"]);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.starts_with("ds,id,name,score\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + data.len());
    }
}

#[tokio::test]
async fn a_directory_is_published_partition_by_partition() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let target = location(dir.path()).join("out");
    let columns = vec!["ds".to_owned()];
    let day = |ds: &str| PartitionValues(vec![Some(ds.to_owned())]);
    let publish_rows = |run: &'static str, data: Vec<(i32, i64)>, mode: PublishMode| {
        let (context, target, columns) = (context.clone(), target.clone(), columns.clone());
        async move {
            let staged = staging(&target, run);
            let spec = SinkSpec::new(staged.to_string(), SinkFormat::Parquet, run).with_partition_by(columns.clone());
            let files = sink(&context, vec![vec![rows(&data)]], spec).await.unwrap();
            publish(&target, &staged, &columns, &files, &mode).await
        }
    };
    publish_rows("a", vec![(NOV_5, 1), (NOV_5 + 1, 2), (NOV_5 + 2, 3)], PublishMode::Append).await.unwrap();
    let days = PublishMode::ReplacePartitions(vec![day("2013-11-05"), day("2013-11-06")]);
    publish_rows("b", vec![(NOV_5, 9)], days.clone()).await.unwrap();
    let table = FileTable::open(&target).await.unwrap();
    assert_eq!(
        query(&context, Arc::new(table), "select ds, id from t order by id").await,
        ["2013-11-07 3", "2013-11-05 9"]
    );
    assert!(!dir.path().join("out/_staging").exists());

    let error = publish_rows("c", vec![(NOV_5 + 2, 1)], days).await.unwrap_err();
    assert!(error.to_string().contains("2013-11-07"), "{error}");
    discard_run(&target, "c", &[]).await.unwrap();
    publish_rows("d", vec![(NOV_5, 4)], PublishMode::ReplaceAll).await.unwrap();
    assert_eq!(files_below(dir.path()).len(), 1);
}

#[tokio::test]
async fn text_keeps_its_partition_columns_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    for (format, read) in
        [(SinkFormat::Csv, TextFormat::Csv { has_header: true }), (SinkFormat::JsonLines, TextFormat::JsonLines)]
    {
        let at = location(dir.path()).join(format.extension());
        let spec = SinkSpec::new(at.to_string(), format, "r").with_partition_by(["ds"]);
        sink(&context, vec![vec![rows(&[(NOV_5, 1), (NOV_5 + 1, 2)])]], spec).await.unwrap();
        let table = open_text(&context.state(), &at, read).await.unwrap();
        assert_eq!(
            query(&context, table, "select ds, id, name from t order by id").await,
            ["2013-11-05 1 n1", "2013-11-06 2 n2"]
        );
    }
}

#[tokio::test]
async fn leftovers_of_a_dead_run_are_found_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (context, at) = (context(StoreOptions::default()), location(dir.path()));
    let spec = |run: &str| SinkSpec::new(at.to_string(), SinkFormat::Parquet, run);
    let kept = sink(&context, vec![vec![rows(&[(NOV_5, 1)])]], spec("r1")).await.unwrap();
    sink(&context, vec![vec![rows(&[(NOV_5, 1)])]], spec("r1")).await.unwrap();
    sink(&context, vec![vec![rows(&[(NOV_5, 1)])]], spec("r10")).await.unwrap();
    assert_eq!(discard_run(&at, "r1", &kept).await.unwrap(), 1);
    assert_eq!(files_below(dir.path()).len(), 2);
}

#[tokio::test]
async fn a_sink_survives_the_wire_and_keeps_its_input_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let batch = rows(&[(NOV_5, 1)]);
    let input = plan_of(&context, vec![vec![batch.clone()], vec![batch.clone()], vec![batch]]).await;
    let spec = SinkSpec::new(location(dir.path()).to_string(), SinkFormat::Delta, "r").with_partition_by(["ds"]);
    let sink = ParallelSinkExec::try_new(input, spec).unwrap();
    let decoded = ParallelSinkExec::decode(&sink.encode().unwrap(), &[Arc::clone(sink.input())]).unwrap();
    assert_eq!(decoded.spec(), sink.spec());
    assert_eq!(decoded.properties().partitioning.partition_count(), 3);
    assert!(decoded.metrics().is_some());
    let bad = SinkSpec::new("s3://b/t", SinkFormat::Delta, "r").with_partition_by(["no"]);
    let error = ParallelSinkExec::try_new(Arc::clone(sink.input()), bad).unwrap_err();
    assert!(error.to_string().contains("\"no\""), "{error}");
}

#[tokio::test]
async fn statistics_of_written_files_are_those_of_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let spec = SinkSpec::new(location(dir.path()).to_string(), SinkFormat::Delta, "r");
    let files = sink(&context, vec![vec![rows(&[(NOV_5, -4), (NOV_5 + 1, 8)])]], spec).await.unwrap();
    let stats: serde_json::Value = serde_json::from_str(&files[0].stats).unwrap();
    assert_eq!(stats["numRecords"], 2);
    assert_eq!(stats["minValues"]["id"], -4);
    assert_eq!(stats["maxValues"]["ds"], "2013-11-06");
    assert_eq!(stats["nullCount"]["name"], 0);
    let table = FileTable::open(&location(dir.path())).await.unwrap();
    assert_eq!(table.statistics().unwrap().column_statistics.len(), 4);
}
