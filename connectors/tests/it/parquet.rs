//! Parquet files and directories as tables: errors, pruning, statistics, versions, the wire.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::{collect, collect_partitioned, displayable};
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tidemill_connectors::ConnectorError;
use tidemill_connectors::files::{FileTable, SliceScans, TextFormat, open_text};
use tidemill_connectors::stores::StoreOptions;

use crate::support::{NOV_5, context, location, query, rows, write_parquet};

async fn open_error(path: &std::path::Path) -> ConnectorError {
    FileTable::open(&location(path)).await.unwrap_err()
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.parquet");
    let error = open_error(&missing).await;
    assert!(matches!(error, ConnectorError::NotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("missing.parquet"), "{error}");

    let text = dir.path().join("text.parquet");
    std::fs::write(&text, "this is not a table at all").unwrap();
    let error = open_error(&text).await;
    assert!(matches!(error, ConnectorError::InvalidInput { .. }), "{error:?}");
    assert!(error.to_string().contains("is not a Parquet file"), "{error}");

    let cut = dir.path().join("cut.parquet");
    write_parquet(&cut, &rows(&[(NOV_5, 1)]));
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 20]).unwrap();
    let error = open_error(&cut).await;
    assert!(error.to_string().contains("truncated"), "{error}");

    let empty = dir.path().join("empty.parquet");
    std::fs::write(&empty, "").unwrap();
    assert!(open_error(&empty).await.to_string().contains("0 bytes"));
}

#[tokio::test]
async fn files_of_different_schemas_are_refused_by_column() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(&dir.path().join("a.parquet"), &rows(&[(NOV_5, 1)]));
    write_parquet(&dir.path().join("b.parquet"), &rows(&[(NOV_5, 1)]).project(&[0, 1, 2]).unwrap());
    let error = open_error(dir.path()).await.to_string();
    assert!(error.contains("b.parquet") && error.contains("column \"score\" is missing"), "{error}");
}

#[tokio::test]
async fn a_directory_is_read_pruned_and_counted_without_reading() {
    let dir = tempfile::tempdir().unwrap();
    for (ds, id) in [("2013-11-05", 1), ("2013-11-06", 2), ("2013-11-07", 3)] {
        let batch = rows(&[(NOV_5, id), (NOV_5, id + 10)]).project(&[1, 2, 3]).unwrap();
        write_parquet(&dir.path().join(format!("ds={ds}/part.parquet")), &batch);
    }
    std::fs::create_dir(dir.path().join("_staging")).unwrap();
    std::fs::write(dir.path().join("_staging/x.parquet"), "half written").unwrap();
    let context = context(StoreOptions::default());
    let table = FileTable::open(&location(dir.path())).await.unwrap();
    assert_eq!(table.num_rows(), Some(6));
    let stats = table.statistics().unwrap();
    assert_eq!(stats.num_rows, Precision::Exact(6));

    let provider: Arc<dyn TableProvider> = Arc::new(table);
    let got =
        query(&context, Arc::clone(&provider), "select ds, id from t where ds >= '2013-11-06' and id > 10 order by id")
            .await;
    assert_eq!(got, ["2013-11-06 12", "2013-11-07 13"]);

    let plan = |sql: &'static str| {
        let context = context.clone();
        async move {
            let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            displayable(plan.as_ref()).indent(true).to_string()
        }
    };
    let pruned = plan("select name from t where ds = '2013-11-06'").await;
    assert!(pruned.contains("ds=2013-11-06") && !pruned.contains("ds=2013-11-05"), "{pruned}");
    let by_statistics = plan("select name from t where id = 13").await;
    assert!(by_statistics.contains("ds=2013-11-07") && !by_statistics.contains("ds=2013-11-05"), "{by_statistics}");
    let none = plan("select name from t where id > 100").await;
    assert!(none.contains("EmptyExec"), "{none}");
    let counted = plan("select count(*) from t").await;
    assert!(!counted.contains("DataSourceExec"), "{counted}");
}

#[tokio::test]
async fn a_decoded_table_reads_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd name %41.parquet");
    write_parquet(&path, &rows(&[(NOV_5, 1), (NOV_5, 2)]));
    let table = FileTable::open(&location(&path)).await.unwrap();
    let decoded = FileTable::decode(&table.encode().unwrap()).unwrap();
    let context = context(StoreOptions::default());
    let got = query(&context, Arc::new(decoded), "select id, name, score, ds from t order by id desc").await;
    assert_eq!(got, ["2 n2 1.0 2013-11-05", "1 n1 0.5 2013-11-05"]);
}

#[tokio::test]
async fn the_version_follows_the_content_and_not_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &'static str, id: i64| {
        let path = dir.path().join(name).join("x.parquet");
        write_parquet(&path, &rows(&[(NOV_5, id)]));
        async move {
            let table = FileTable::open(&location(path.parent().unwrap())).await.unwrap();
            table.version().await.unwrap()
        }
    };
    let (first, copy, other) = (version("a", 1).await, version("b", 1).await, version("c", 2).await);
    assert_eq!(first.digest, copy.digest);
    assert_ne!(first.digest, other.digest);
    assert_eq!((first.num_rows, first.num_files), (Some(1), 1));
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_opened_has_no_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    write_parquet(&path, &rows(&[(NOV_5, 1)]));
    let table = FileTable::open(&location(&path)).await.unwrap();
    write_parquet(&path, &rows(&[(NOV_5, 1), (NOV_5, 2)]));
    let error = table.version().await.unwrap_err();
    assert!(matches!(error, ConnectorError::Conflict { .. }), "{error:?}");
}

#[tokio::test]
async fn csv_and_json_lines_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    std::fs::write(dir.path().join("x.csv"), "id,name\n1,a\n2,b\n").unwrap();
    std::fs::write(dir.path().join("x.jsonl"), "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n").unwrap();
    let formats = [("x.csv", TextFormat::Csv { has_header: true }), ("x.jsonl", TextFormat::JsonLines)];
    for (name, format) in formats {
        let table = open_text(&context.state(), &location(&dir.path().join(name)), format).await.unwrap();
        assert_eq!(query(&context, table, "select name, id from t order by id").await, ["a 1", "b 2"]);
    }
    let missing = open_text(&context.state(), &location(&dir.path().join("y.csv")), TextFormat::JsonLines).await;
    assert!(matches!(missing.unwrap_err(), ConnectorError::NotFound { .. }));
}

#[tokio::test]
async fn partitions_have_the_same_number_of_rows_whatever_the_row_groups_are() {
    let dir = tempfile::tempdir().unwrap();
    let n = 10_003;
    let all = rows(&(0..n).map(|id| (NOV_5, id)).collect::<Vec<_>>());
    // One row group; three of different sizes; one for each few rows.
    for (name, group_rows) in [("one", 20_000), ("three", 4_000), ("many", 100)] {
        let path = dir.path().join(format!("{name}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, all.schema(), Some(properties)).unwrap();
        writer.write(&all).unwrap();
        writer.close().unwrap();
        let table: Arc<dyn TableProvider> = Arc::new(FileTable::open(&location(&path)).await.unwrap());

        let state = SessionStateBuilder::new_from_existing(context(StoreOptions::default()).state())
            .with_physical_optimizer_rule(Arc::new(SliceScans))
            .build();
        let context = SessionContext::new_with_state(state);
        context.sql("set datafusion.optimizer.repartition_file_min_size = 1").await.unwrap();
        // Each partition by itself, as on a cluster.
        context.sql("set datafusion.execution.enable_file_stream_work_stealing = false").await.unwrap();
        context.register_table("t", table).unwrap();
        let plan_of = |sql: &'static str| {
            let context = context.clone();
            async move { context.sql(sql).await.unwrap().create_physical_plan().await.unwrap() }
        };
        let ids = |batches: &[RecordBatch]| -> Vec<i64> {
            let ids = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
            ids.copied().collect()
        };
        let plan = plan_of("select id from t").await;
        let shown = displayable(plan.as_ref()).indent(true).to_string();
        assert!(shown.contains("RowSlicesExec"), "{shown}");
        let parts = collect_partitioned(plan, context.task_ctx()).await.unwrap();
        let counts: Vec<usize> = parts.iter().map(|part| ids(part).len()).collect();
        assert_eq!(counts.len(), 4, "{name}");
        assert!(counts.iter().all(|count| count.abs_diff(2_501) <= 1), "{name}: {counts:?}");
        assert_eq!(parts.iter().flat_map(|part| ids(part)).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>(), "{name}");

        let plan = plan_of("select id from t where id >= 7000 and id % 2 = 0").await;
        let mut found = ids(&collect(plan, context.task_ctx()).await.unwrap());
        found.sort_unstable();
        assert_eq!(found, (7_000..n).step_by(2).collect::<Vec<_>>(), "{name}");
    }
}
