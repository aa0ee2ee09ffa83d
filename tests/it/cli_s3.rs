//! Data and warehouse on S3, against a server on loopback.

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

use crate::cli_cluster::cluster;
use crate::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use crate::support::Workplace;

const SCORED: &str = "select id, ds, late, score, predicted, model_version from small_scored order by id";

/// A server with the bucket `lake` that holds the data, and a folder whose commands know it.
struct Lake {
    work: Workplace,
    // Stopped before the threads that it runs on.
    _server: S3Server,
    _runtime: Runtime,
}

impl Lake {
    fn start() -> Self {
        let mut work = Workplace::new();
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(S3Server::start(&["lake"]));
        runtime.block_on(upload(&server, std::fs::read(work.path("small.parquet")).unwrap()));
        let settings = [
            ("AWS_ENDPOINT_URL", server.endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ];
        settings.iter().for_each(|(name, value)| work.set(name, value));
        std::fs::remove_file(work.path("small.parquet")).unwrap();
        for job in ["train.yaml", "score.yaml"] {
            work.edit(job, "small: small.parquet", "small: s3://lake/data/small.parquet");
        }
        Self { work, _server: server, _runtime: runtime }
    }
}

async fn upload(server: &S3Server, bytes: Vec<u8>) {
    let store = AmazonS3Builder::new()
        .with_endpoint(&server.endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("lake")
        .with_access_key_id(ACCESS_KEY_ID)
        .with_secret_access_key(SECRET_ACCESS_KEY)
        .build()
        .unwrap();
    store.put(&"data/small.parquet".into(), PutPayload::from(bytes)).await.unwrap();
}

#[test]
fn the_same_jobs_with_both_ends_on_s3_in_both_modes() {
    let lake = Lake::start();
    let (_cluster, address) = cluster(&lake.work, &[]);
    let mut tables = Vec::new();
    for (warehouse, mode) in [("s3://lake/local", vec![]), ("s3://lake/remote", vec!["--cluster", address.as_str()])] {
        let common = [&["--warehouse", warehouse], &mode[..]].concat();
        lake.work.succeed(&[&["run", "train.yaml"], &common[..]].concat());
        let days = ["run", "score.yaml", "--param", "ds=2024-01-09", "--param", "to=2024-01-10"];
        lake.work.succeed(&[&days[..], &common].concat());
        let rows = ["sql", "--format", "json", "-c", SCORED];
        tables.push(lake.work.succeed(&[&rows[..], &common].concat()).objects());
    }
    assert_eq!(tables[0].len(), 120);
    assert_eq!(tables[0], tables[1]);
    assert!(!lake.work.path("warehouse").exists());
}

#[test]
fn refused_credentials() {
    let mut lake = Lake::start();
    lake.work.set("AWS_SECRET_ACCESS_KEY", "wrong");
    let ended = lake.work.tidemill(&["run", "train.yaml", "--warehouse", "s3://lake/w"]);
    ended.fails(3, &["s3://lake", "refused the credentials", "AWS_ACCESS_KEY_ID"]);
    assert!(!ended.stderr.contains(SECRET_ACCESS_KEY) && !ended.stderr.contains("wrong"), "{ended:?}");
}

#[test]
fn missing_bucket() {
    let lake = Lake::start();
    // The server makes a missing bucket when something is put there, so it is missed where something is read.
    lake.work.edit("train.yaml", "s3://lake/data", "s3://absent/data");
    lake.work.tidemill(&["run", "train.yaml"]).fails(2, &["s3://absent", "bucket"]);
    assert!(lake.work.files("models").is_empty());
}

#[test]
fn store_that_does_not_answer() {
    let mut lake = Lake::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    lake.work.set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"));
    lake.work.tidemill(&["run", "train.yaml", "--warehouse", "s3://lake/w"]).fails(3, &["s3://lake"]);
}
