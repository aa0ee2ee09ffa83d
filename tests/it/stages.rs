//! Every stage on a cluster of processes: a plan gives the bits there that it gives in process.

use std::path::{Path, PathBuf};

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::ident;
use serde_json::Value;
use tidemill::{Session, SessionOptions};
use tidemill_ml::pipeline::PipelineModel;

use crate::cluster::LocalCluster;

/// The saved pipelines of `ml/tests/golden`, one for each stage, and their rows: `ml/src/pipeline/golden.rs` checks them.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ml/tests/golden/pipeline-v1")
}

fn saved_pipelines() -> Vec<PathBuf> {
    let files = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

async fn session(warehouse: &Path, cluster: Option<&LocalCluster>) -> Session {
    let warehouse = warehouse.to_str().unwrap().to_owned();
    let cluster = cluster.map(|cluster| cluster.address.clone());
    let session = Session::open(SessionOptions { warehouse, cluster, ..SessionOptions::default() }).await.unwrap();
    session.register_parquet("golden", golden().join("rows.parquet").to_str().unwrap()).await.unwrap();
    session
}

/// The features of the rows, as text that tells all bits of numbers but NaN's.
async fn transformed(session: &Session, model: &PipelineModel) -> String {
    let rows = session.sql("select * from golden").await.unwrap();
    let features = model.transform(rows, &["id"]).unwrap();
    let features = features.sort(vec![ident("id").sort(true, true)]).unwrap().collect().await.unwrap();
    pretty_format_batches(&features).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_give_the_same_bits_on_a_cluster() {
    let cluster = LocalCluster::start(2);
    let warehouse = tempfile::tempdir().unwrap();
    let there = session(warehouse.path(), Some(&cluster)).await;
    let here = session(warehouse.path(), None).await;
    let files = saved_pipelines();
    assert!(files.len() >= here.plugins().stages.names().len());
    for file in files {
        let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let saved = serde_json::to_vec(&saved["pipeline"]).unwrap();
        let model = PipelineModel::from_bytes(&saved, &here.plugins().stages).unwrap();
        let expected = transformed(&here, &model).await;
        assert!(expected.lines().count() > 10, "{}: {expected}", file.display());
        assert_eq!(transformed(&there, &model).await, expected, "{}", file.display());
    }
}
