//! Starts an executor and owns what it runs on.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::ConfigProducer;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::TaskStatus;
use ballista_core::serde::protobuf::executor_grpc_server::ExecutorGrpcServer;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::runtime_cache::DefaultSessionRuntimeCache;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnv;
use tidemill_engine::cluster::{
    FetchPool, MAX_MESSAGE_BYTES, RuntimeHooks, TokenGuard, check_bind, executor_id, machine_name,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::link::{Link, registration};
use crate::report::{self, MAX_WAITING};
use crate::service::Service;
use crate::tasks::{Running, TaskRunner};
use crate::work_dir::{self, WorkDir};
use crate::{ExecutorError, ExecutorOptions, Result, memory};

/// Sessions whose runtime (object store clients, file footers) is kept.
const KEPT_SESSIONS: usize = 64;
/// Deep plans recurse while they are decoded and run.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// How often an idle connection is probed.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long the scheduler is given to hear that an executor leaves, and connections to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running executor. Dropping it stops the executor without telling the scheduler; [`ExecutorHandle::shutdown`]
/// tells it.
pub struct ExecutorHandle {
    id: String,
    flight_address: SocketAddr,
    grpc_address: SocketAddr,
    link: Link,
    runner: Arc<TaskRunner>,
    /// Ends the servers gracefully.
    stop: CancellationToken,
    /// The servers of both ports.
    servers: JoinSet<Result<()>>,
    /// Heartbeats, reports, sweeping: they end with the executor only.
    chores: JoinSet<Result<()>>,
    /// The threads that tasks run on.
    threads: Option<Runtime>,
}

/// Starts an executor and returns once the scheduler has registered it.
///
/// # Errors
/// When options are not acceptable, a port or the work directory cannot be had, or no scheduler takes it in time.
pub async fn start(options: ExecutorOptions, hooks: RuntimeHooks) -> Result<ExecutorHandle> {
    check_bind(options.bind, options.token.as_ref())?;
    let flight = listen(options.bind, options.flight_port)?;
    let grpc = listen(options.bind, options.grpc_port)?;
    let (flight_address, grpc_address) = (flight.local_addr()?, grpc.local_addr()?);

    let instance = uuid::Uuid::new_v4().simple().to_string();
    let host = options.external_host.clone().unwrap_or_else(machine_name);
    let id = executor_id(options.gpus, &options.labels, &host, &instance);
    let work_dir = Arc::new(WorkDir::create(options.work_dir.as_deref(), &id)?);
    let ports = (flight_address.port(), grpc_address.port());
    let link = Link::new(&options, registration(id.clone(), advertised(&options), ports, options.vcores()))?;

    let threads = threads(options.vcores())?;
    let (statuses, reports) = mpsc::channel(MAX_WAITING);
    let runner = TaskRunner {
        executor_id: id.clone(),
        config: config(&options, &hooks),
        codec: BallistaCodec::new(Arc::clone(&hooks.logical_codec), Arc::clone(&hooks.physical_codec)),
        runtimes: Arc::new(runtimes(&options, &hooks, &work_dir)?),
        fetches: Arc::new(FetchPool::default()),
        work_dir: Arc::clone(&work_dir),
        threads: threads.handle().clone(),
        statuses,
        running: Running::default(),
        prepared: Mutex::default(),
        hooks,
    };
    let mut handle = ExecutorHandle {
        id,
        flight_address,
        grpc_address,
        link,
        runner: Arc::new(runner),
        stop: CancellationToken::new(),
        servers: JoinSet::new(),
        chores: JoinSet::new(),
        threads: Some(threads),
    };
    // The scheduler connects back before it registers: the servers come first.
    handle.serve(&options, flight, grpc)?;
    handle.link.register(options.connect_timeout).await?;
    handle.talk(&options, reports);
    tracing::info!("executor {} serves scheduler {}", handle.id, handle.link.address);
    Ok(handle)
}

impl ExecutorHandle {
    /// The executor's id, unique for each start; its first part are its labels.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it serves shuffle data and results.
    pub fn flight_address(&self) -> SocketAddr {
        self.flight_address
    }

    /// Where it receives tasks.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Waits until the executor ends by itself: a server failed, or the scheduler was silent for too long.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn wait(&mut self) -> Result<()> {
        let ended = tokio::select! {
            ended = self.servers.join_next() => ended,
            ended = self.chores.join_next() => ended,
        };
        match ended {
            None => Ok(()),
            Some(Ok(Ok(()))) => Err(ExecutorError::Server("it stopped".to_owned())),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(ExecutorError::Server(error.to_string())),
        }
    }

    /// Leaves the cluster: tells the scheduler, drops the tasks, closes the ports and removes the data.
    pub async fn shutdown(mut self) {
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, self.link.leave()).await;
        self.runner.running.cancel_all();
        self.stop.cancel();
        let ended = async { while self.servers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, ended).await;
    }

    fn serve(&mut self, options: &ExecutorOptions, flight: TcpListener, grpc: TcpListener) -> Result<()> {
        let guard = TokenGuard::new(options.token.clone());
        let files = BallistaFlightService::new(self.runner.work_dir.path().display().to_string());
        let files = FlightServiceServer::new(files)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let files = InterceptedService::new(files, guard.clone());
        let service = Service { runner: Arc::clone(&self.runner) };
        let tasks = ExecutorGrpcServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let tasks = InterceptedService::new(tasks, guard);
        self.servers.spawn(serving(Server::builder().add_service(files), flight, self.stop.clone())?);
        self.servers.spawn(serving(Server::builder().add_service(tasks), grpc, self.stop.clone())?);
        Ok(())
    }

    fn talk(&mut self, options: &ExecutorOptions, reports: mpsc::Receiver<TaskStatus>) {
        let (every, patience) = (options.heartbeat_interval, options.scheduler_lost_timeout);
        let link = self.link.clone();
        self.chores.spawn(async move { link.beat(every, patience).await });
        let link = self.link.clone();
        self.chores.spawn(async move {
            report::report(link, reports).await;
            Ok(())
        });
        let work_dir = Arc::clone(&self.runner.work_dir);
        self.chores.spawn(async move {
            work_dir::sweep_forever(work_dir).await;
            Ok(())
        });
    }
}

impl fmt::Debug for ExecutorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorHandle")
            .field("id", &self.id)
            .field("flight_address", &self.flight_address)
            .field("grpc_address", &self.grpc_address)
            .finish_non_exhaustive()
    }
}

impl Drop for ExecutorHandle {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
        self.runner.work_dir.remove();
    }
}

fn listen(ip: IpAddr, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let bind = |source| ExecutorError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(bind)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serving(
    router: Router,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<()>> + Send + 'static> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEP_ALIVE));
    Ok(async move {
        let served = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
        served.map_err(|error| ExecutorError::Server(error.to_string()))
    })
}

/// The host that others are told; none lets the scheduler take the address that the executor calls from.
fn advertised(options: &ExecutorOptions) -> Option<String> {
    let bound = (!options.bind.is_unspecified()).then(|| options.bind.to_string());
    options.external_host.clone().or(bound)
}

fn threads(vcores: usize) -> Result<Runtime> {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let builder = builder.enable_all().thread_name("task").thread_stack_size(STACK_BYTES);
    Ok(builder.worker_threads(vcores).build()?)
}

/// The sessions' configuration; what tasks fetch from other executors carries the token.
fn config(options: &ExecutorOptions, hooks: &RuntimeHooks) -> ConfigProducer {
    let config = Arc::clone(&hooks.config);
    match options.token.clone() {
        None => config,
        Some(token) => Arc::new(move || token.apply(config())),
    }
}

/// Runtimes by session, spilling into the work directory, with a memory pool per task.
fn runtimes(options: &ExecutorOptions, hooks: &RuntimeHooks, work_dir: &WorkDir) -> Result<DefaultSessionRuntimeCache> {
    hooks.kept.set_vcores(options.vcores());
    let budget = memory::budget_bytes(options.memory_bytes);
    if let Some(bytes) = budget {
        hooks.kept.set_budget(bytes);
    }
    let policy = memory::pool_policy(budget, options.vcores(), Arc::clone(&hooks.kept))?;
    let base = Arc::clone(&hooks.runtime_env);
    let spilling = DiskManagerMode::Directories(vec![work_dir.spill()]);
    let disk_manager = DiskManagerBuilder::default().with_mode(spilling).build();
    let unusable = |error| ExecutorError::WorkDir { path: work_dir.spill(), source: std::io::Error::other(error) };
    let disk_manager = Arc::new(disk_manager.map_err(unusable)?);
    let producer = Arc::new(move |config: &_| {
        let base = RuntimeEnv::clone(&*base(config)?);
        Ok(Arc::new(RuntimeEnv { disk_manager: Arc::clone(&disk_manager), ..base }))
    });
    Ok(DefaultSessionRuntimeCache::new(producer, policy, KEPT_SESSIONS))
}
