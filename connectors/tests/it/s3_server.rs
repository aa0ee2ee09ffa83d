//! An S3 server on a free port: in this process over a temporary directory, or the moto (`.ci/moto`) that
//! `TIDEMILL_TEST_MOTO` names, which takes any credentials.
//!
//! `s3s-fs` makes a conditional put of a check and a write; a lock around requests that carry
//! `If-None-Match` makes it the one step that real stores make of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::IF_NONE_MATCH;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
    running: Running,
}

enum Running {
    Here { task: JoinHandle<()>, _directory: tempfile::TempDir },
    Moto(Child),
}

impl S3Server {
    /// Starts a server that holds these buckets, empty.
    pub(crate) async fn start(buckets: &[&str]) -> Self {
        if let Some(program) = std::env::var_os("TIDEMILL_TEST_MOTO") {
            return Self::start_moto(program, buckets).await;
        }
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
        Self { endpoint, running: Running::Here { task, _directory: directory } }
    }

    async fn start_moto(program: OsString, buckets: &[&str]) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { endpoint: format!("http://{address}"), running: Running::Moto(child) };
        for bucket in buckets {
            make_bucket(address, bucket).await;
        }
        server
    }
}

/// Makes a bucket, once the server listens.
async fn make_bucket(address: SocketAddr, bucket: &str) {
    let began = Instant::now();
    let mut socket = loop {
        match TcpStream::connect(address).await {
            Ok(socket) => break socket,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "moto does not listen: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let request =
        format!("PUT /{bucket} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

impl Drop for S3Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Here { task, .. } => task.abort(),
            Running::Moto(child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
}
