//! Stages that need a GPU go where one is, or fail with a sentence.

use std::time::Duration;

use datafusion::logical_expr::ScalarUDF;
use tidemill_executor::ExecutorOptions;

use crate::cluster::{Cluster, NEEDS_GPU, Setup, int_udf, query, table, until};

fn gpu_udf() -> ScalarUDF {
    int_udf(NEEDS_GPU, |x| Ok(x.clone()))
}

const GPU_QUERY: &str = "select count(*) from t where needs_gpu(x) >= 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_nobody_can_take_fails_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 2, 10).await;
    let setup = Setup {
        executors: 1,
        vcores: 2,
        udfs: vec![gpu_udf()],
        unplaceable_timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let cluster = Cluster::start(setup).await;
    let ctx = cluster.client().await;
    let error = query(&ctx, dir.path(), GPU_QUERY).await.unwrap_err();
    let sentence =
        "needs an executor with a gpu and none joined within 1 s; start one with: tidemill executor --gpus 1";
    assert!(error.contains(sentence), "{error}");
    let job = cluster.jobs().list().await.unwrap().remove(0);
    let logs = cluster.jobs().logs(&job.job_id).await.unwrap();
    assert!(logs.failures[0].message.contains(sentence), "{logs:?}");
    assert!(query(&ctx, dir.path(), "select count(*) from t").await.is_ok(), "others run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_any_executor_fails_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 1, 10).await;
    let unplaceable_timeout = Some(Duration::from_secs(1));
    let cluster = Cluster::start(Setup { unplaceable_timeout, ..Default::default() }).await;
    let error = query(&cluster.client().await, dir.path(), "select count(*) from t").await.unwrap_err();
    assert!(error.contains("needs an executor and none joined within 1 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_stage_waits_and_runs_where_a_gpu_joins() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 2, 10).await;
    let setup = Setup { executors: 1, vcores: 2, udfs: vec![gpu_udf()], ..Default::default() };
    let mut cluster = Cluster::start(setup).await;
    let (ctx, path) = (cluster.client().await, dir.path().to_owned());
    let waiting = tokio::spawn(async move { query(&ctx, &path, GPU_QUERY).await });
    until("the job is planned", || async {
        let jobs = cluster.jobs().list().await.unwrap();
        jobs.first().is_some_and(|job| job.status == "Running").then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    let options = ExecutorOptions { vcores: 1, labels: vec!["gpu".to_owned()], ..Default::default() };
    cluster.add_executor(options).await;
    let rows = waiting.await.unwrap().unwrap();
    assert!(rows.contains("20"), "{rows}");
}
