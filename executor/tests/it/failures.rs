//! Errors of tasks reach the user, with the executor that had them.

use datafusion::error::DataFusionError;
use tidemill_scheduler::SchedulerError;

use crate::cluster::{Cluster, Setup, int_udf, query, table};

#[tokio::test(flavor = "multi_thread")]
async fn task_errors_reach_client_and_logs() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path(), 1, 10).await;
    let fail = int_udf("fail", |_| Err(DataFusionError::Execution("the dam broke".to_owned())));
    let panic = int_udf("fall_over", |_| panic!("the mill burned"));
    let setup = Setup { executors: 1, vcores: 1, udfs: vec![fail, panic], ..Default::default() };
    let cluster = Cluster::start(setup).await;
    let ctx = cluster.client().await;

    let error = query(&ctx, dir.path(), "select fail(x) from t").await.unwrap_err();
    assert!(error.contains("the dam broke"), "{error}");
    assert!(error.contains(cluster.executors[0].id()), "{error}");
    let job = cluster.jobs().list().await.unwrap().remove(0);
    let logs = cluster.jobs().logs(&job.job_id).await.unwrap();
    assert_eq!(logs.summary.status, "Failed");
    assert!(logs.failures[0].message.contains("the dam broke"), "{logs:?}");
    assert_eq!(logs.failures[0].executor_id, cluster.executors[0].id());

    let error = query(&ctx, dir.path(), "select fall_over(x) from t").await.unwrap_err();
    assert!(error.contains("failed"), "{error}");
    assert!(query(&ctx, dir.path(), "select count(*) from t").await.is_ok(), "the executor lives on");

    let unknown = cluster.jobs().logs("nothing").await;
    assert!(matches!(unknown, Err(SchedulerError::UnknownJob { .. })), "{unknown:?}");
}
