//! Tasks on a cluster: each runs exactly once in the result, and none for a result that nobody waits for.

use std::time::{Duration, Instant};

use serde_json::json;
use tidemill::estimator::{ParamGrid, ProblemType};
use tidemill::grid::{Parallel, ROWS_PER_SHARD};
use tidemill::prelude::*;
use tidemill_scheduler::client::{JobSummary, JobsClient};

use crate::cluster::LocalCluster;

#[tokio::test(flavor = "multi_thread")]
async fn seven_tasks_over_three_executors_run_once_each() {
    let cluster = LocalCluster::start(3);
    let warehouse = tempfile::tempdir().unwrap();
    let session = flights_session(&cluster, &warehouse).await;
    let sql = "select time_hour, carrier, flight, day, cast(hour as double) as hour,
               case when arr_delay > 15 then 1 when arr_delay <= 15 then 0 end as late from flights where month = 1";
    let rows = session.sql(sql).await.unwrap();
    let plugins = session.plugins();
    let stages = json!([{"standard_scaler": {"inputs": ["hour"]}}]);
    let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": [0.0, 0.1]}})).unwrap();
    let search = GridSearch {
        pipeline: Pipeline::from_value(&stages, &plugins.stages).unwrap(),
        candidates: grid.candidates(ProblemType::Binary, |name| plugins.estimators.get(name)).unwrap(),
        key: ["time_hour", "carrier", "flight"].map(str::to_owned).to_vec(),
        label: Label::binary("late"),
        folds: Folds::hash(7, "day"),
        metric: "area_under_roc".parse().unwrap(),
        threshold: 0.5,
        permutation_importance: false,
        halving: None,
        parallel: Parallel::Candidates,
        rows_per_shard: ROWS_PER_SHARD,
        seed: 1,
        keep_at: None,
    };
    let scratch = session.warehouse().root().join("scratch");
    let (train, holdout) = (col("day").lt(lit(28)), col("day").gt_eq(lit(28)));
    let found = search.fit(&session, rows, train, holdout, &scratch).await.unwrap();
    assert_eq!(found.n_groups, 7);
    for candidate in &found.candidates {
        assert!(candidate.folds.len() == 7 && candidate.folds.iter().all(Option::is_some), "{candidate:?}");
        assert!(candidate.executors.len() > 1, "all tasks ran on {:?}", candidate.executors);
    }
    assert_eq!(found.stage_fits.values().copied().collect::<Vec<_>>(), [8], "seven folds and the refit");
    assert_eq!(found.fit_passes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_waits_for_is_cancelled() {
    let cluster = LocalCluster::start(1);
    let warehouse = tempfile::tempdir().unwrap();
    let session = flights_session(&cluster, &warehouse).await;
    // A hundred thousand million pairs: hours, were it not cancelled.
    let sql = "select count(*) from flights a, flights b where (a.distance + b.distance) % 7 = 3";
    let query = session.sql(sql).await.unwrap();
    let waiting = tokio::spawn(query.collect());
    let jobs = JobsClient::new(cluster.address.clone(), None);
    let job = job_when(&jobs, |job| job.status == "Running").await;
    waiting.abort();
    let job = job_when(&jobs, |j| j.job_id == job.job_id && j.status == "Failed").await;
    assert!(job.detail.contains("Cancelled"), "{job:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_reads_little_is_one_task() {
    let cluster = LocalCluster::start(2);
    let warehouse = tempfile::tempdir().unwrap();
    let session = flights_session(&cluster, &warehouse).await;
    let sql = "select carrier, count(*) as n, min(arr_delay) as least from flights group by carrier order by carrier";
    let shown = || async { session.sql(sql).await.unwrap().to_string().await.unwrap() };
    let alone = shown().await;
    session.sql("set tidemill_cluster.one_task_values = 600000").await.unwrap();
    let shared = shown().await;
    assert_eq!(alone, shared);
    let jobs = JobsClient::new(cluster.address.clone(), None).list().await.unwrap();
    let mut stages: Vec<usize> = jobs.iter().map(|job| job.num_stages).collect();
    stages.sort_unstable();
    assert!(stages.len() == 2 && stages[0] == 1 && stages[1] > 1, "{stages:?}");
}

/// Waits for a job that is as it should be.
async fn job_when(jobs: &JobsClient, is: impl Fn(&JobSummary) -> bool) -> JobSummary {
    let began = Instant::now();
    loop {
        let all = jobs.list().await.unwrap();
        if let Some(job) = all.iter().find(|job| is(job)) {
            return job.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn flights_session(cluster: &LocalCluster, warehouse: &tempfile::TempDir) -> Session {
    let options = SessionOptions {
        warehouse: warehouse.path().to_str().unwrap().to_owned(),
        cluster: Some(cluster.address.clone()),
        ..SessionOptions::default()
    };
    let session = Session::open(options).await.unwrap();
    let flights = format!("{}/examples/flights/data/flights.parquet", env!("CARGO_MANIFEST_DIR"));
    session.register_parquet("flights", &flights).await.unwrap();
    session
}
