//! Delta tables: creating, appending, replacing, concurrent commits, reading back.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use serde_json::json;
use tidemill_connectors::delta::{CommitRequest, Committed, DeltaOperation, DeltaTable, TableDefinition, Transaction};
use tidemill_connectors::files::{FileTable, PartitionValues, TableFormat};
use tidemill_connectors::sink::{SinkFormat, SinkSpec, WrittenFile};
use tidemill_connectors::stores::{Location, StoreOptions};
use tidemill_connectors::{ConnectorError, Result};

use crate::support::{NOV_5, context, location, query, rows, sink};

pub(crate) fn definition() -> TableDefinition {
    TableDefinition { schema: rows(&[]).schema(), partition_by: vec!["ds".into()] }
}

pub(crate) fn day(ds: &str) -> PartitionValues {
    PartitionValues(vec![Some(ds.into())])
}

pub(crate) fn replace(days: &[&str]) -> DeltaOperation {
    DeltaOperation::OverwritePartitions(days.iter().map(|ds| day(ds)).collect())
}

/// Writes the files of rows `(day, id)` for a commit.
pub(crate) async fn write(context: &SessionContext, at: &Location, data: &[(i32, i64)]) -> Vec<WrittenFile> {
    let spec = SinkSpec::new(at.to_string(), SinkFormat::Delta, "run1").with_partition_by(["ds"]);
    sink(context, vec![vec![rows(data)]], spec).await.unwrap()
}

pub(crate) async fn commit(
    context: &SessionContext,
    at: &Location,
    operation: DeltaOperation,
    data: &[(i32, i64)],
) -> Result<Committed> {
    let added = if data.is_empty() { vec![] } else { write(context, at, data).await };
    DeltaTable::commit(at, &definition(), &CommitRequest::new(operation, added)).await
}

pub(crate) async fn ids(context: &SessionContext, at: &Location) -> Vec<String> {
    let table = DeltaTable::open(at).await.unwrap().unwrap().snapshot(None).await.unwrap();
    query(context, Arc::new(table), "select ds, id from t order by id").await
}

#[tokio::test]
async fn a_table_is_created_appended_to_replaced_and_read_at_any_version() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    assert!(DeltaTable::open(&at).await.unwrap().is_none());

    let first = commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 1), (NOV_5 + 1, 2)]).await.unwrap();
    assert_eq!(first.version, 0);
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5 + 2, 3)]).await.unwrap();
    // Two partitions are replaced, of which one gets no rows.
    let replaced = commit(&context, &at, replace(&["2013-11-05", "2013-11-06"]), &[(NOV_5, 10)]).await.unwrap();
    assert_eq!((replaced.version, replaced.removed_files), (2, 2));
    assert_eq!(ids(&context, &at).await, ["2013-11-07 3", "2013-11-05 10"]);

    // The same again: the same table, not a second copy.
    commit(&context, &at, replace(&["2013-11-05", "2013-11-06"]), &[(NOV_5, 10)]).await.unwrap();
    assert_eq!(ids(&context, &at).await, ["2013-11-07 3", "2013-11-05 10"]);

    let table = DeltaTable::open(&at).await.unwrap().unwrap();
    let old = table.snapshot(Some(0)).await.unwrap();
    assert_eq!(*old.format(), TableFormat::Delta { version: 0 });
    assert_eq!(query(&context, Arc::new(old), "select id from t order by 1").await, ["1", "2"]);
    let missing = table.snapshot(Some(99)).await.unwrap_err();
    assert!(missing.to_string().contains("has no version 99"), "{missing}");

    let all = commit(&context, &at, DeltaOperation::OverwriteAll, &[]).await.unwrap();
    assert_eq!(all.removed_files, 2);
    assert!(ids(&context, &at).await.is_empty());
}

#[tokio::test]
async fn columns_keep_their_order_and_filters_prune_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 1), (NOV_5 + 1, 2)]).await.unwrap();
    let table = DeltaTable::open(&at).await.unwrap().unwrap().snapshot(None).await.unwrap();
    let version = table.version().await.unwrap();
    assert_eq!((version.format.clone(), version.num_rows), (TableFormat::Delta { version: 0 }, Some(2)));
    let table = Arc::new(table);
    assert_eq!(query(&context, Arc::clone(&table) as _, "select * from t where id = 2").await, ["2013-11-06 2 n2 1.0"]);
    let plan = query(&context, table, "explain select id from t where ds = '2013-11-05'").await.join("\n");
    assert!(plan.contains("2013-11-05") && !plan.contains("ds=2013-11-06"), "{plan}");
}

#[tokio::test]
async fn another_schema_is_refused_by_column() {
    let dir = tempfile::tempdir().unwrap();
    let at = location(dir.path()).join("t");
    DeltaTable::create(&at, &definition()).await.unwrap();
    DeltaTable::create(&at, &definition()).await.unwrap();
    let other = TableDefinition {
        schema: Arc::new(Schema::new(vec![
            Field::new("ds", DataType::Date32, true),
            Field::new("id", DataType::Utf8, true),
        ])),
        partition_by: vec!["ds".into()],
    };
    let error = DeltaTable::create(&at, &other).await.unwrap_err();
    assert!(error.to_string().contains("column \"id\": expected Int64, got Utf8"), "{error}");
    let unpartitioned = TableDefinition { partition_by: vec![], ..definition() };
    let error = DeltaTable::create(&at, &unpartitioned).await.unwrap_err();
    assert!(error.to_string().contains("is partitioned by [\"ds\"]"), "{error}");
}

#[tokio::test]
async fn rows_outside_the_replaced_partitions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    let error = commit(&context, &at, replace(&["2013-11-05"]), &[(NOV_5 + 1, 1)]).await.unwrap_err();
    assert!(error.to_string().contains("2013-11-06"), "{error}");
    assert!(DeltaTable::open(&at).await.unwrap().is_none());
}

#[tokio::test]
async fn a_commit_since_the_read_version_conflicts_only_in_the_same_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 1), (NOV_5 + 1, 2)]).await.unwrap();
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 3)]).await.unwrap();
    let request = |days, added| CommitRequest { read_version: Some(0), ..CommitRequest::new(replace(days), added) };
    let same = request(&["2013-11-05"], write(&context, &at, &[(NOV_5, 9)]).await);
    let error = DeltaTable::commit(&at, &definition(), &same).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Conflict { .. }), "{error:?}");
    let other = request(&["2013-11-06"], write(&context, &at, &[(NOV_5 + 1, 9)]).await);
    DeltaTable::commit(&at, &definition(), &other).await.unwrap();
    assert_eq!(ids(&context, &at).await, ["2013-11-05 1", "2013-11-05 3", "2013-11-06 9"]);
}

#[tokio::test]
async fn a_transaction_is_committed_once_and_recorded_with_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    let request = CommitRequest {
        app_metadata: json!({"run": "r1"}),
        transaction: Some(Transaction { app_id: "stream".into(), version: 7 }),
        ..CommitRequest::new(DeltaOperation::Append, write(&context, &at, &[(NOV_5, 1)]).await)
    };
    assert!(!DeltaTable::commit(&at, &definition(), &request).await.unwrap().already_committed);
    assert!(DeltaTable::commit(&at, &definition(), &request).await.unwrap().already_committed);
    assert_eq!(ids(&context, &at).await, ["2013-11-05 1"]);
    let history = DeltaTable::open(&at).await.unwrap().unwrap().history(None).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].app_metadata, json!({"run": "r1"}));
    assert_eq!(history[0].operation.as_deref(), Some("WRITE"));
}

#[tokio::test]
async fn tables_that_need_more_than_we_know_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = location(dir.path()).join("t");
    DeltaTable::create(&at, &definition()).await.unwrap();
    let entry = dir.path().join("t/_delta_log/00000000000000000000.json");
    let log = std::fs::read_to_string(&entry).unwrap();
    let error_with = |changed: String| {
        std::fs::write(&entry, changed).unwrap();
        let at = at.clone();
        async move { DeltaTable::open(&at).await.unwrap().unwrap().snapshot(None).await.unwrap_err().to_string() }
    };
    let mapped = log
        .replace("\"configuration\":{}", "\"configuration\":{\"delta.columnMapping.mode\":\"name\"}")
        .replace("\"minReaderVersion\":1,\"minWriterVersion\":2", "\"minReaderVersion\":2,\"minWriterVersion\":5");
    assert_ne!(mapped, log);
    assert!(error_with(mapped).await.to_lowercase().contains("column mapping"));
    let unknown = log.replace(
        "\"minReaderVersion\":1,\"minWriterVersion\":2",
        "\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":[\"telepathy\"],\"writerFeatures\":[\"telepathy\"]",
    );
    let error = error_with(unknown).await;
    assert!(error.contains("telepathy"), "{error}");
}

#[tokio::test]
async fn an_unwritable_place_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "in the way").unwrap();
    let at = location(dir.path()).join("file/t");
    let error = DeltaTable::create(&at, &definition()).await.unwrap_err();
    assert!(matches!(error, ConnectorError::PermissionDenied { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_writers_of_sixteen_partitions_all_land() {
    let dir = tempfile::tempdir().unwrap();
    sixteen_writers(&location(dir.path()).join("t"), StoreOptions::default()).await;
}

/// Each writer replaces its own day three times; checkpoints are written on the way.
pub(crate) async fn sixteen_writers(at: &Location, options: StoreOptions) {
    let context = context(options);
    let writers = (0..16).map(|writer| {
        let (at, context) = (at.clone(), context.clone());
        tokio::spawn(async move {
            let ds = format!("2013-11-{:02}", 5 + writer);
            for round in 0..3 {
                let data = [(NOV_5 + writer, i64::from(writer) * 100 + round)];
                commit(&context, &at, replace(&[&ds]), &data).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(writers).await.unwrap();
    let expected: Vec<String> = (0..16).map(|w| format!("2013-11-{:02} {}", 5 + w, w * 100 + 2)).collect();
    assert_eq!(ids(&context, at).await, expected);
    let table = DeltaTable::open(at).await.unwrap().unwrap();
    assert_eq!(table.latest_version().await.unwrap(), 47);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_of_one_partition_one_wins_and_the_others_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (at, context) = (location(dir.path()).join("t"), context(StoreOptions::default()));
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 0)]).await.unwrap();
    let writers = (1..9).map(|id| {
        let (at, context) = (at.clone(), context.clone());
        tokio::spawn(async move {
            let request = CommitRequest {
                read_version: Some(0),
                ..CommitRequest::new(replace(&["2013-11-05"]), write(&context, &at, &[(NOV_5, id)]).await)
            };
            DeltaTable::commit(&at, &definition(), &request).await
        })
    });
    let results = futures::future::try_join_all(writers).await.unwrap();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().flat_map(Result::as_ref).all(|committed| committed.version == 1));
    assert_eq!(ids(&context, &at).await.len(), 1);
}

#[tokio::test]
async fn odd_partition_values_are_written_replaced_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(StoreOptions::default());
    let values = [Some("a/b %=é"), Some("x y"), None, Some("2013-11-05 07:00:00")];
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from_iter_values(0..4))), ("key", Arc::new(StringArray::from_iter(values)))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let definition = TableDefinition { schema: batch.schema(), partition_by: vec!["key".into()] };
    let expected = ["0 a/b %=é", "1 x y", "2 ", "3 2013-11-05 07:00:00"];
    let sql = "select id, key from t order by id";

    let at = location(dir.path()).join("odd table é");
    for _ in 0..2 {
        let spec = SinkSpec::new(at.to_string(), SinkFormat::Delta, "r").with_partition_by(["key"]);
        let added = sink(&context, vec![vec![batch.clone()]], spec).await.unwrap();
        let days = added.iter().map(|file| file.partition_values.clone()).collect();
        let request = CommitRequest::new(DeltaOperation::OverwritePartitions(days), added);
        DeltaTable::commit(&at, &definition, &request).await.unwrap();
        let table = DeltaTable::open(&at).await.unwrap().unwrap().snapshot(None).await.unwrap();
        assert_eq!(query(&context, Arc::new(table), sql).await, expected);
    }

    let plain = location(dir.path()).join("plain");
    let spec = SinkSpec::new(plain.to_string(), SinkFormat::Parquet, "r").with_partition_by(["key"]);
    sink(&context, vec![vec![batch]], spec).await.unwrap();
    let table = FileTable::open(&plain).await.unwrap();
    assert_eq!(query(&context, Arc::new(table), sql).await, expected);
}
