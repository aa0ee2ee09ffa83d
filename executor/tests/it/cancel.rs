//! A cancelled job's work stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_scheduler::SchedulerError;

use crate::cluster::{Cluster, Setup, int_udf, query, table, until};

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_job_stops_its_work() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 4, 4000).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let tick = int_udf("tick", move |x| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(x.clone())
    });
    let setup = Setup { executors: 2, vcores: 1, udfs: vec![tick], ..Default::default() };
    let cluster = Cluster::start(setup).await;

    // 256 million pairs, each passing through the function: minutes, were it not cancelled.
    let sql = "select count(*) from t a, t b where tick(a.x + b.x) % 3 = 1";
    let (ctx, path) = (cluster.client().await, dir.path().to_owned());
    let running = tokio::spawn(async move { query(&ctx, &path, sql).await });
    until("the work runs", || async { (calls.load(Ordering::Relaxed) > 3).then_some(()) }).await;
    let job = cluster.jobs().list().await.unwrap().remove(0);
    cluster.jobs().cancel(&job.job_id).await.unwrap();

    let error = running.await.unwrap().unwrap_err();
    assert!(error.contains("Cancelled"), "{error}");
    until("the work stops", || async {
        let before = calls.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (calls.load(Ordering::Relaxed) == before).then_some(())
    })
    .await;
    let again = cluster.jobs().cancel(&job.job_id).await;
    assert!(matches!(again, Err(SchedulerError::NotCancellable { .. })), "{again:?}");

    let ctx = cluster.client().await;
    let count = query(&ctx, dir.path(), "select count(*) from t").await.unwrap();
    assert!(count.contains("16000"), "the cluster works on: {count}");
}
