//! An S3 server in this process, on a free port, over a temporary directory.
//!
//! `s3s-fs` makes a conditional put of a check and a write; a lock around requests that carry
//! `If-None-Match` makes it the one step that real stores make of it.

use std::sync::Arc;

use hyper::header::IF_NONE_MATCH;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The key that the server accepts.
pub(crate) const ACCESS_KEY_ID: &str = "tidemill-test";
/// Its secret.
pub(crate) const SECRET_ACCESS_KEY: &str = "tidemill-secret";

/// A running server; it stops when this is dropped.
pub(crate) struct S3Server {
    /// Its URL, `http://127.0.0.1:<port>`.
    pub(crate) endpoint: String,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl S3Server {
    /// Starts a server that holds these buckets, empty.
    pub(crate) async fn start(buckets: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for bucket in buckets {
            std::fs::create_dir(directory.path().join(bucket)).unwrap();
        }
        let mut builder = S3ServiceBuilder::new(FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let conditional = Arc::new(Mutex::new(()));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, conditional) = (service.clone(), Arc::clone(&conditional));
                let locked = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (service, conditional) = (service.clone(), Arc::clone(&conditional));
                    async move {
                        let exclusive = request.headers().contains_key(IF_NONE_MATCH);
                        let _guard = if exclusive { Some(conditional.lock().await) } else { None };
                        Service::call(&service, request).await
                    }
                });
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    // A client that hangs up is no concern of the server's.
                    drop(server.serve_connection(TokioIo::new(socket), locked).await);
                });
            }
        });
        Self { endpoint, task, _directory: directory }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
