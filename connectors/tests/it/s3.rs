//! The same on S3, against a server in this process.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use tidemill_connectors::ConnectorError;
use tidemill_connectors::delta::{DeltaOperation, DeltaTable};
use tidemill_connectors::files::FileTable;
use tidemill_connectors::sink::{PublishMode, SinkFormat, SinkSpec, publish, staging};
use tidemill_connectors::stores::{Location, StoreOptions};

use crate::delta::{commit, definition, ids, replace, sixteen_writers};
use crate::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use crate::support::{NOV_5, context, query, rows, sink};

/// How long a refusal or an unreachable server may take to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

fn options(server: &S3Server, credentials: &str) -> StoreOptions {
    static KEYS: Once = Once::new();
    KEYS.call_once(|| {
        // SAFETY: std's environment functions lock each other out, and no C code of this test reads
        // the environment while it runs.
        unsafe {
            std::env::set_var("TIDEMILL_RIGHT_ACCESS_KEY_ID", ACCESS_KEY_ID);
            std::env::set_var("TIDEMILL_RIGHT_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
            std::env::set_var("TIDEMILL_WRONG_ACCESS_KEY_ID", ACCESS_KEY_ID);
            std::env::set_var("TIDEMILL_WRONG_SECRET_ACCESS_KEY", "wrong");
        }
    });
    StoreOptions {
        endpoint: Some(server.endpoint.clone()),
        credentials: Some(credentials.into()),
        ..StoreOptions::default()
    }
}

fn right(server: &S3Server) -> StoreOptions {
    options(server, "env:TIDEMILL_RIGHT")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_table_lives_on_s3() {
    let server = S3Server::start(&["lake"]).await;
    let at = Location::parse_with("s3://lake/tables/t", right(&server)).unwrap();
    let context = context(right(&server));
    assert!(DeltaTable::open(&at).await.unwrap().is_none());
    commit(&context, &at, DeltaOperation::Append, &[(NOV_5, 1), (NOV_5 + 1, 2)]).await.unwrap();
    commit(&context, &at, replace(&["2013-11-05"]), &[(NOV_5, 3)]).await.unwrap();
    assert_eq!(ids(&context, &at).await, ["2013-11-06 2", "2013-11-05 3"]);
    let version = DeltaTable::open(&at).await.unwrap().unwrap().snapshot(None).await.unwrap().version().await.unwrap();
    let recorded = serde_json::to_string(&version).unwrap();
    assert!(!recorded.contains(SECRET_ACCESS_KEY) && !recorded.contains(ACCESS_KEY_ID), "{recorded}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_writers_of_sixteen_partitions_all_land_on_s3() {
    let server = S3Server::start(&["lake"]).await;
    let at = Location::parse_with("s3://lake/t", right(&server)).unwrap();
    sixteen_writers(&at, right(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_150_objects_has_one_creator_among_sixteen_on_s3() {
    let server = S3Server::start(&["lake"]).await;
    let log = Location::parse_with("s3://lake/log", right(&server)).unwrap();
    let writers = (0..16).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut won = Vec::new();
            for key in 0..150 {
                if log.join(&format!("{key:03}")).create(writer.to_string()).await.unwrap() {
                    won.push((key, writer.to_string()));
                }
            }
            won
        })
    });
    let mut winners: Vec<_> = futures::future::try_join_all(writers).await.unwrap().concat();
    winners.sort();
    assert_eq!(winners.len(), 150);
    for (index, (key, writer)) in winners.iter().enumerate() {
        assert_eq!(*key, index);
        assert_eq!(log.join(&format!("{key:03}")).read().await.unwrap(), writer.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_directory_is_published_on_s3() {
    let server = S3Server::start(&["lake"]).await;
    let context = context(right(&server));
    let target = Location::parse_with("s3://lake/out", right(&server)).unwrap();
    for id in [1, 2] {
        let staged = staging(&target, "r");
        let spec = SinkSpec::new(staged.to_string(), SinkFormat::Parquet, "r").with_partition_by(["ds"]);
        let files = sink(&context, vec![vec![rows(&[(NOV_5, id)])]], spec).await.unwrap();
        publish(&target, &staged, &["ds".to_owned()], &files, &PublishMode::ReplaceAll).await.unwrap();
    }
    let table = FileTable::open(&target).await.unwrap();
    assert_eq!(query(&context, Arc::new(table), "select ds, id from t").await, ["2013-11-05 2"]);
}

async fn told(location: Location) -> ConnectorError {
    let began = Instant::now();
    let error = DeltaTable::create(&location, &definition()).await.unwrap_err();
    assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
    assert!(!format!("{error:?}").contains(SECRET_ACCESS_KEY));
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_and_a_missing_bucket_are_told_soon() {
    let server = S3Server::start(&["lake"]).await;
    let at = |bucket: &str, options| Location::parse_with(&format!("s3://{bucket}/t"), options).unwrap();
    let refused = told(at("lake", options(&server, "env:TIDEMILL_WRONG"))).await;
    assert!(matches!(refused, ConnectorError::PermissionDenied { .. }), "{refused:?}");
    let anonymous = told(at("lake", options(&server, "anonymous"))).await;
    assert!(matches!(anonymous, ConnectorError::PermissionDenied { .. }), "{anonymous:?}");
    let missing = told(at("nowhere", right(&server))).await;
    assert!(matches!(missing, ConnectorError::NotFound { .. }), "{missing:?}");
    assert!(missing.to_string().contains("bucket"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_there_is_told_soon_and_may_be_retried() {
    let server = S3Server::start(&[]).await;
    let gone = right(&server);
    drop(server);
    // The port stays open until the server's task has been dropped.
    let address = gone.endpoint.as_deref().unwrap().trim_start_matches("http://").to_owned();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = told(Location::parse_with("s3://lake/t", gone).unwrap()).await;
    assert!(error.is_retryable(), "{error:?}");
}
