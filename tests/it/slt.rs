//! SQL behaviour: each file under `tests/slt` runs in process and on a local cluster and expects the same rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tidemill::{Session, SessionOptions};

use crate::cluster::LocalCluster;

/// A session as the test runner sees a database.
struct Database(Session);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

#[async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        rows(&self.0, sql).await.map_err(|e| Failure(e.to_string()))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "tidemill"
    }
}

async fn rows(
    session: &Session,
    sql: &str,
) -> Result<DBOutput<DefaultColumnType>, Box<dyn std::error::Error + Send + Sync>> {
    let batches = session.sql(sql).await?.collect().await?;
    let Some(first) = batches.first() else { return Ok(DBOutput::StatementComplete(0)) };
    let types = vec![DefaultColumnType::Any; first.num_columns()];
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(i).to_string()).collect());
        }
    }
    Ok(DBOutput::Rows { types, rows })
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "slt"));
    files.sort();
    assert!(!files.is_empty(), "no slt file found");
    files
}

/// Runs every file over a fresh warehouse with the flights tables registered.
async fn run_all(cluster: Option<&LocalCluster>) {
    for file in files() {
        let warehouse = tempfile::tempdir().unwrap();
        let options = SessionOptions {
            warehouse: warehouse.path().to_str().unwrap().to_owned(),
            cluster: cluster.map(|c| c.address.clone()),
            ..SessionOptions::default()
        };
        let session = Session::open(options).await.unwrap();
        // On a cluster even these small queries are to be shared.
        session.sql("set tidemill_cluster.one_task_values = 0").await.unwrap();
        for table in ["flights", "weather", "planes", "airports", "airlines"] {
            let path = format!("{}/examples/flights/data/{table}.parquet", env!("CARGO_MANIFEST_DIR"));
            session.register_parquet(table, &path).await.unwrap();
        }
        let session = Arc::new(session);
        let mut runner = Runner::new(|| {
            let session = Arc::clone(&session);
            async move { Ok(Database(session.as_ref().clone())) }
        });
        if let Err(e) = runner.run_file_async(&file).await {
            panic!("{} {}: {e}", file.display(), if cluster.is_some() { "on a cluster" } else { "in process" });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_in_process() {
    run_all(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_on_a_cluster() {
    let cluster = LocalCluster::start(2);
    run_all(Some(&cluster)).await;
}
