//! Queries give the rows that plain DataFusion gives, and small ones are quick.

use std::path::Path;
use std::time::{Duration, Instant};

use tidemill_engine::cluster::Token;
use tidemill_executor::ExecutorOptions;

use crate::cluster::{Cluster, Setup, expected, query, table, until};

const GROUP_BY: &str = "select k, count(*), sum(x) from t group by k order by k";

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_cluster_answers_as_datafusion_does() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 7, 1000).await;
    let token = Token::parse("correct-horse-battery").unwrap();
    let setup = Setup { executors: 3, vcores: 2, token: Some(token), ..Default::default() };
    let cluster = Cluster::start(setup).await;
    let ctx = cluster.client().await;
    for sql in [
        "select 1",
        GROUP_BY,
        "select a.k, count(*) from t a join t b on a.x = b.x + 1 group by a.k order by a.k",
        "select x from t where x % 500 = 3 order by x desc limit 5",
    ] {
        assert_eq!(query(&ctx, dir.path(), sql).await.unwrap(), expected(dir.path(), sql).await, "{sql}");
    }
    let jobs = cluster.jobs().list().await.unwrap();
    assert_eq!(jobs.len(), 4);
    assert!(jobs.iter().all(|job| job.status == "Completed"), "{jobs:?}");
    let shown = cluster.jobs().show(&jobs[2].job_id).await.unwrap();
    assert!(shown.stages.len() > 1 && shown.physical_plan.is_some());
    for executor in cluster.executors {
        executor.shutdown().await;
    }
    cluster.scheduler.shutdown().await;
}

/// Files below a folder.
fn n_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { n_files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_outputs_do_not_touch_the_disk_and_large_ones_do() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    table(dir.path(), 4, 20_000).await;
    let mut cluster = Cluster::start(Setup::default()).await;
    for _ in 0..2 {
        let options = ExecutorOptions { vcores: 2, work_dir: Some(work.path().to_owned()), ..Default::default() };
        cluster.add_executor(options).await;
    }
    let ctx = cluster.client().await;
    for (sql, is_small) in [(GROUP_BY, true), ("select x, k from t order by x", false)] {
        assert_eq!(query(&ctx, dir.path(), sql).await.unwrap(), expected(dir.path(), sql).await, "{sql}");
        let in_memory = is_small && Path::new("/dev/shm").is_dir();
        assert_eq!(n_files(work.path()) == 0, in_memory, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_outlives_its_scheduler() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 2, 100).await;
    let first = Cluster::start(Setup { executors: 1, vcores: 1, ..Default::default() }).await;
    let port = first.scheduler.address().port();
    let executors = first.executors;
    first.scheduler.shutdown().await;
    // The port may be held for a moment by connections that end.
    let second = until("the port is free again", || async {
        let mut options = tidemill_scheduler::SchedulerOptions::default();
        options.bind.set_port(port);
        tidemill_scheduler::start(options, crate::cluster::hooks(&[])).await.ok()
    })
    .await;
    second.shutdown().await;
    let second = until("the port is free again", || async {
        let setup = Setup { port, ..Default::default() };
        let free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free { Some(Cluster::start(setup).await) } else { None }
    })
    .await;
    until("the executor is registered again", || async {
        let known = second.jobs().executors().await.ok()?;
        (known.len() == 1 && known[0].id == executors[0].id()).then_some(())
    })
    .await;
    let ctx = second.client().await;
    assert_eq!(query(&ctx, dir.path(), GROUP_BY).await.unwrap(), expected(dir.path(), GROUP_BY).await);
}

/// `cargo test -p tidemill-executor --test it -- --ignored --nocapture latency`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn latency_of_small_queries() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 2, 170_000).await;
    let token = Token::parse("correct-horse-battery").unwrap();
    let setup = Setup { executors: 2, vcores: 1, token: Some(token), ..Default::default() };
    let cluster = Cluster::start(setup).await;
    let ctx = cluster.client().await;
    for sql in ["select 1", GROUP_BY] {
        let mut times: Vec<Duration> = vec![];
        for _ in 0..35 {
            let start = Instant::now();
            query(&ctx, dir.path(), sql).await.unwrap();
            times.push(start.elapsed());
        }
        let mut times = times.split_off(5);
        times.sort();
        println!("{sql}: p50 {:?}, p90 {:?}", times[times.len() / 2], times[times.len() * 9 / 10]);
    }
}
