//! Executors that are killed or missing.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use tidemill_executor::{ExecutorError, ExecutorOptions};

use crate::cluster::{ChildExecutor, Cluster, GATE, Setup, expected, hooks, int_udf, query, table, until};

/// Some seconds of work in four tasks, then a shuffle.
const SLOW: &str =
    "select a.k, count(*), sum(a.x) from t a join t b on (a.x * 31 + b.x) % 9973 < 100 group by a.k order by a.k";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_survives_a_killed_executor() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 8, 1000).await;
    let cluster = Cluster::start(Setup::default()).await;
    let port = cluster.scheduler.address().port();
    let mut victim = ChildExecutor::start(port);
    let _survivor = ChildExecutor::start(port);

    let ctx = cluster.client().await;
    let path = dir.path().to_owned();
    let running = tokio::spawn(async move { query(&ctx, &path, SLOW).await });
    until("tasks run", || async { has_task(&cluster, "Running").await.then_some(()) }).await;
    victim.kill();
    let killed = Instant::now();
    assert_eq!(running.await.unwrap().unwrap(), expected(dir.path(), SLOW).await);
    assert!(killed.elapsed() < Duration::from_secs(60), "took {:?}", killed.elapsed());
    until("the killed executor is forgotten", || async {
        (cluster.jobs().executors().await.unwrap().len() == 1).then_some(())
    })
    .await;
}

async fn has_task(cluster: &Cluster, status: &str) -> bool {
    let Some(job) = cluster.jobs().list().await.unwrap().into_iter().next() else { return false };
    let Ok(shown) = cluster.jobs().show(&job.job_id).await else { return false };
    let mut tasks = shown.stages.into_iter().flat_map(|stage| stage.tasks).flatten();
    tasks.any(|task| task.status == status)
}

#[tokio::test(flavor = "multi_thread")]
async fn shuffle_data_of_a_killed_executor_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 2, 500).await;
    // Here the function waits until the test lets go of the sender; in the other process it does not.
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let gate = int_udf(GATE, move |x| {
        let _ = held.lock().unwrap().recv();
        Ok(x.clone())
    });
    let cluster = Cluster::start(Setup { executors: 1, vcores: 1, udfs: vec![gate], ..Default::default() }).await;
    let mut victim = ChildExecutor::start(cluster.scheduler.address().port());

    let (ctx, path) = (cluster.client().await, dir.path().to_owned());
    let sql = "select k, sum(gate(x)) as s from t group by k order by k";
    let running = tokio::spawn(async move { query(&ctx, &path, sql).await });
    until("one task is done", || async { has_task(&cluster, "Successful").await.then_some(()) }).await;
    assert!(has_task(&cluster, "Running").await, "the other waits");
    victim.kill();
    drop(hold);
    let plain = sql.replace("gate(x)", "x");
    assert_eq!(running.await.unwrap().unwrap(), expected(dir.path(), &plain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_leaves_is_forgotten_and_its_data_removed() {
    let work = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(Setup::default()).await;
    let options = ExecutorOptions { work_dir: Some(work.path().to_owned()), ..Default::default() };
    cluster.add_executor(options).await;
    assert_eq!(cluster.jobs().executors().await.unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1);
    cluster.executors.remove(0).shutdown().await;
    until("the executor is forgotten", || async { cluster.jobs().executors().await.unwrap().is_empty().then_some(()) })
        .await;
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_a_scheduler_says_so() {
    let options =
        ExecutorOptions { scheduler_port: 1, connect_timeout: Duration::from_millis(300), ..Default::default() };
    let error = tidemill_executor::start(options, hooks(&[])).await.unwrap_err();
    assert!(matches!(error, ExecutorError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("tidemill scheduler"), "{error}");
}
