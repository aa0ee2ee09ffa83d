//! Every port of a guarded cluster refuses callers without the token.

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use ballista_core::serde::protobuf::executor_grpc_client::ExecutorGrpcClient;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{CancelTasksParams, GetJobStatusParams};
use tidemill_engine::cluster::Token;
use tidemill_executor::{ExecutorError, ExecutorOptions};
use tidemill_scheduler::client::JobsClient;
use tidemill_scheduler::{SchedulerError, SchedulerOptions};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{Cluster, Setup, hooks, query};

fn token(text: &str) -> Token {
    Token::parse(text).unwrap()
}

async fn guarded() -> Cluster {
    let token = Some(token("correct-horse-battery"));
    Cluster::start(Setup { executors: 1, vcores: 1, token, ..Default::default() }).await
}

async fn channel(address: std::net::SocketAddr, token: Option<&Token>) -> Channel {
    let mut endpoint = Endpoint::try_from(format!("http://{address}")).unwrap();
    if let Some(token) = token {
        endpoint = endpoint.user_agent(token.user_agent()).unwrap();
    }
    endpoint.connect().await.unwrap()
}

/// What a call to each gRPC port answers.
async fn codes(cluster: &Cluster, token: Option<&Token>) -> [Code; 3] {
    let executor = &cluster.executors[0];
    let scheduler = channel(cluster.scheduler.address(), token).await;
    let status = GetJobStatusParams { job_id: "none".to_owned() };
    let scheduler = SchedulerGrpcClient::new(scheduler).get_job_status(status).await;
    let tasks = channel(executor.grpc_address(), token).await;
    let tasks = ExecutorGrpcClient::new(tasks).cancel_tasks(CancelTasksParams::default()).await;
    let files = channel(executor.flight_address(), token).await;
    let files = FlightServiceClient::new(files).do_get(Ticket::default()).await;
    let code = |status: Option<tonic::Status>| status.map_or(Code::Ok, |s| s.code());
    [code(scheduler.err()), code(tasks.err()), code(files.err())]
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_ports_take_the_token_and_nothing_else() {
    let cluster = guarded().await;
    let wrong = token("wrong-horse-battery-");
    assert_eq!(codes(&cluster, None).await, [Code::Unauthenticated; 3]);
    assert_eq!(codes(&cluster, Some(&wrong)).await, [Code::Unauthenticated; 3]);
    let right = codes(&cluster, cluster.token.as_ref()).await;
    assert!(right.iter().all(|code| *code != Code::Unauthenticated), "{right:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_takes_the_token_and_nothing_else() {
    let cluster = guarded().await;
    let url = |path: &str| format!("http://{}{path}", cluster.scheduler.address());
    for path in ["/api/jobs", "/api/state", "/api/executors", "/", "/nothing", "/api/job/x/failures"] {
        assert_eq!(reqwest::get(url(path)).await.unwrap().status(), 401, "{path}");
    }
    assert_eq!(reqwest::get(url("/healthz")).await.unwrap().status(), 200);
    for wrong in [None, Some(token("wrong-horse-battery-"))] {
        let jobs = JobsClient::new(cluster.scheduler.address().to_string(), wrong);
        assert!(matches!(jobs.list().await, Err(SchedulerError::Refused { .. })));
    }
    assert!(cluster.jobs().list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_executors_without_the_token_are_told_so() {
    let cluster = guarded().await;
    for wrong in [None, Some(token("wrong-horse-battery-"))] {
        let ctx = cluster.client_with(wrong.clone()).await;
        let dir = tempfile::tempdir().unwrap();
        crate::cluster::table(dir.path(), 1, 1).await;
        let error = query(&ctx, dir.path(), "select count(*) from t").await.unwrap_err();
        assert!(error.contains("wrong or missing token"), "{error}");

        let options = cluster.executor_options(ExecutorOptions::default());
        let options = ExecutorOptions { token: wrong, ..options };
        let error = tidemill_executor::start(options, hooks(&[])).await.unwrap_err();
        assert!(matches!(error, ExecutorError::Refused { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_beyond_loopback_needs_a_token() {
    let scheduler = SchedulerOptions { bind: "0.0.0.0:0".parse().unwrap(), ..Default::default() };
    let error = tidemill_scheduler::start(scheduler, hooks(&[])).await.unwrap_err();
    assert!(error.to_string().contains("--token-file"), "{error}");
    let executor = ExecutorOptions { bind: "0.0.0.0".parse().unwrap(), ..Default::default() };
    let error = tidemill_executor::start(executor, hooks(&[])).await.unwrap_err();
    assert!(error.to_string().contains("--token-file"), "{error}");
}
