//! Parquet files and directories as tables: errors, pruning, statistics, versions, the wire.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::physical_plan::displayable;
use tidemill_connectors::ConnectorError;
use tidemill_connectors::files::{FileTable, TextFormat, open_text};
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
