//! Executors of a user's own build: this program starts itself again as one.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tidemill::estimator::{
    Artifacts, EstimatorRegistry, FitContext, LogisticRegression, ParamGrid, Params, ProblemType,
};
use tidemill::grid::{Parallel, ROWS_PER_SHARD};
use tidemill::matrix::{Feature, Matrix};
use tidemill::prelude::*;
use tidemill::{MlError, executor, runtime_hooks};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::cluster::LocalCluster;

/// Where an executor finds its scheduler.
const SCHEDULER: &str = "TIDEMILL_TEST_SCHEDULER";

/// Logistic regression that ends its process where it is told to.
#[derive(Debug)]
struct Fatal;

impl Estimator for Fatal {
    fn name(&self) -> &str {
        "fatal"
    }

    fn validate(&self, _: &Params, _: ProblemType) -> Result<(), MlError> {
        Ok(())
    }

    fn fit(&self, m: &Matrix, rows: &[u32], all: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>, MlError>> {
        if all.iter().any(|params| params["kills"] == true) {
            std::process::abort();
        }
        all.iter().flat_map(|_| LogisticRegression.fit(m, rows, &[Params::new()], ctx)).collect()
    }

    fn load(&self, features: Arc<[Feature]>, files: &Artifacts) -> Result<Box<dyn Model>, MlError> {
        LogisticRegression.load(features, files)
    }
}

fn plugins() -> Plugins {
    let mut estimators = EstimatorRegistry::default();
    estimators.register(Arc::new(Fatal));
    Plugins { estimators, ..Plugins::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an executor, which the other tests start"]
async fn executor() {
    let scheduler = std::env::var(SCHEDULER).unwrap();
    let options = executor::ExecutorOptions { vcores: 1, ..Default::default() }.with_scheduler(&scheduler).unwrap();
    executor::start(options, runtime_hooks(&plugins(), "own executor").unwrap()).await.unwrap().wait().await.unwrap();
}

/// An executor that is started again whenever it ends.
struct Restarted {
    n_ended: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Restarted {
    fn start(scheduler: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "own_build::executor", "--ignored"]).env(SCHEDULER, scheduler).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let n_ended = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&n_ended);
        let task = tokio::spawn(async move {
            loop {
                command.spawn().unwrap().wait().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { n_ended, task }
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_ends_its_executor_is_a_row_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = LocalCluster::scheduler();
    let executors = Restarted::start(&cluster.address);
    let options = SessionOptions {
        warehouse: folder.path().display().to_string(),
        cluster: Some(cluster.address.clone()),
        plugins: plugins(),
        ..SessionOptions::default()
    };
    let session = Session::open(options).await.unwrap();
    session.register_parquet("flights", "examples/flights/data/flights.parquet").await.unwrap();
    let rows = session
        .sql(
            "select time_hour, carrier, flight, day, cast(distance as double) as distance,
                    case when arr_delay > 15 then 1 when arr_delay <= 15 then 0 end as late
             from flights where month = 1 and arr_delay is not null",
        )
        .await
        .unwrap();
    let candidates = ParamGrid::from_json(&json!({"fatal": {"kills": [false, true, false]}})).unwrap();
    let search = GridSearch {
        pipeline: Pipeline::from_value(
            &json!([{"standard_scaler": {"inputs": ["distance"]}}]),
            &session.plugins().stages,
        )
        .unwrap(),
        candidates: candidates.candidates(ProblemType::Binary, |name| session.plugins().estimators.get(name)).unwrap(),
        key: ["time_hour", "carrier", "flight"].map(str::to_owned).to_vec(),
        label: Label::binary("late"),
        folds: Folds::split("day", 0.25),
        metric: "log_loss".parse().unwrap(),
        threshold: 0.5,
        permutation_importance: false,
        halving: None,
        parallel: Parallel::Candidates,
        rows_per_shard: ROWS_PER_SHARD,
        seed: 1,
        keep_at: None,
    };
    let scratch = session.warehouse().root().join("scratch");
    let (train, holdout) = (col("day").lt(lit(25)), col("day").gt_eq(lit(25)));
    let found = search.fit(&session, rows, train, holdout, &scratch).await.unwrap();

    let errors: Vec<bool> = found.candidates.iter().map(|candidate| candidate.error.is_some()).collect();
    assert_eq!(errors, [false, true, false], "{:?}", found.candidates);
    assert!(found.candidates[1].mean.is_none() && found.best == 0, "{:?}", found.candidates[1]);
    assert!(found.candidates[1].error.as_ref().unwrap().contains("lost its executor 4 times"));
    assert!(found.candidates[0].mean.is_some() && found.candidates[0].mean == found.candidates[2].mean);
    let n_ended = executors.n_ended.load(Ordering::Relaxed);
    assert!(n_ended > 1, "it was tried again: {n_ended}");
}
