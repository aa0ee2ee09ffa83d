//! What the tests share.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use tidemill_connectors::sink::{ParallelSinkExec, SinkSpec, WrittenFile, table_of_files};
use tidemill_connectors::stores::{Location, StoreOptions, runtime_env};
use tidemill_connectors::{ConnectorError, Result};

/// 2013-11-05 in days since 1970-01-01.
pub(crate) const NOV_5: i32 = 16014;

pub(crate) fn location(path: &Path) -> Location {
    Location::parse(path.to_str().unwrap()).unwrap()
}

pub(crate) fn context(options: StoreOptions) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(4).with_option_extension(options.clone());
    SessionContext::new_with_config_rt(config, runtime_env(options, None).unwrap())
}

/// Rows `(ds, id, name, score)`, one per element.
pub(crate) fn rows(rows: &[(i32, i64)]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ds", Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| r.0)))),
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)))),
        ("name", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| format!("n{}", r.1))))),
        ("score", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.1 as f64 / 2.0)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn write_parquet(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A plan with one partition per element.
pub(crate) async fn plan_of(context: &SessionContext, partitions: Vec<Vec<RecordBatch>>) -> Arc<dyn ExecutionPlan> {
    let schema = partitions[0][0].schema();
    let table = MemTable::try_new(schema, partitions).unwrap();
    table.scan(&context.state(), None, &[], None).await.unwrap()
}

pub(crate) async fn sink(
    context: &SessionContext,
    partitions: Vec<Vec<RecordBatch>>,
    spec: SinkSpec,
) -> Result<Vec<WrittenFile>> {
    let sink = Arc::new(ParallelSinkExec::try_new(plan_of(context, partitions).await, spec)?);
    let batches =
        collect(sink, context.task_ctx()).await.map_err(|error| ConnectorError::internal(error.to_string()))?;
    table_of_files(&batches)
}

/// The result of a query over `table` as `t`, as lines of text without the frame.
pub(crate) async fn query(context: &SessionContext, table: Arc<dyn TableProvider>, sql: &str) -> Vec<String> {
    context.deregister_table("t").unwrap();
    context.register_table("t", table).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    text.lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" "))
        .collect()
}

/// All files below a directory, relative, sorted.
pub(crate) fn files_below(path: &Path) -> Vec<String> {
    fn walk(root: &Path, path: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(root, &entry.path(), found);
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = vec![];
    walk(path, path, &mut found);
    found.sort();
    found
}
