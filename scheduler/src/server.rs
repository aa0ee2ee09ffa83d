//! Starts the scheduler and owns what it runs on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, Path};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router, middleware};
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::api::get_routes;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::create_scheduler;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tidemill_engine::cluster::{MAX_MESSAGE_BYTES, RuntimeHooks, Token, TokenGuard, advertised_host, check_bind};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::job_ids::JobIds;
use crate::observed::{Observed, Server};
use crate::policy::Placement;
use crate::state::State;
use crate::task_log::{TaskFailure, TaskLog};
use crate::watch::Watch;
use crate::{Result, SchedulerError, SchedulerOptions, guard, liveness};

/// Deep plans recurse while they are decoded and optimised.
const STACK_BYTES: usize = 32 * 1024 * 1024;
/// How often Ballista looks for executors that timed out, in seconds.
const EXPIRY_CHECK_SECONDS: u64 = 1;
/// How long connections may take to end at shutdown before they are cut.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running scheduler. Dropping it stops the scheduler at once.
#[derive(Debug)]
pub struct SchedulerHandle {
    address: SocketAddr,
    /// Everything that Ballista spawns lives on this runtime and ends with it.
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

/// Starts a scheduler and returns once it listens.
///
/// # Errors
/// When the address needs a token and there is none, cannot be listened on, or Ballista does not start.
pub async fn start(options: SchedulerOptions, hooks: RuntimeHooks) -> Result<SchedulerHandle> {
    check_bind(options.bind.ip(), options.token.as_ref())?;
    let bind = |source| SchedulerError::Bind { address: options.bind, source };
    let listener = TcpListener::bind(options.bind).map_err(bind)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("scheduler")
        .thread_stack_size(STACK_BYTES)
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let (ready, started) = oneshot::channel();
    let serving = runtime.spawn(serve(options, hooks, listener, ready, stopped));
    let mut handle = SchedulerHandle { address, runtime: Some(runtime), stop: Some(stop), serving };
    match started.await {
        Ok(Ok(())) => Ok(handle),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(handle.wait().await.err().unwrap_or_else(|| SchedulerError::Ended("at start".into()))),
    }
}

impl SchedulerHandle {
    /// Where the scheduler listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the scheduler ends by itself, which it does on a fault only.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn wait(&mut self) -> Result<()> {
        match (&mut self.serving).await {
            Ok(served) => Ok(served?),
            Err(error) => Err(SchedulerError::Ended(error.to_string())),
        }
    }

    /// Stops taking requests, gives those under way a moment, and ends everything that the scheduler runs.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut self.serving).await;
    }
}

impl Drop for SchedulerHandle {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(
    options: SchedulerOptions,
    hooks: RuntimeHooks,
    listener: TcpListener,
    ready: oneshot::Sender<Result<()>>,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let router = match assemble(&options, &hooks, address).await {
        Ok(router) => router,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    // Without this each small answer waits for the other side's delayed acknowledgement: 40 ms a query.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cannot set TCP_NODELAY: {error}");
        }
    });
    let _ = ready.send(Ok(()));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // A dropped handle cuts the runtime; only a sent stop ends the server gracefully.
    let stop = async move {
        if stopped.await.is_err() {
            std::future::pending().await
        }
    };
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// Builds the scheduler, spawns its watches, and returns its routes behind the token check.
async fn assemble(options: &SchedulerOptions, hooks: &RuntimeHooks, address: SocketAddr) -> Result<Router> {
    let config = Arc::new(ballista_config(options, hooks, address));
    let ours = |e| SchedulerError::Start(Box::new(e));
    let memory = BallistaCluster::new_from_config(&config).await.map_err(ours)?;
    let known = Arc::new(State::new(memory.cluster_state()));
    let state: Arc<dyn ClusterState> = Arc::<State>::clone(&known);
    let cluster = BallistaCluster::new(Arc::clone(&state), memory.job_state());
    let server = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config).await.map_err(ours)?;
    let observed =
        Observed { inner: Arc::new(server), log: Arc::new(TaskLog::default()), state: known, finals: Arc::default() };

    tokio::spawn(liveness::watch(Arc::clone(&state)));
    tokio::spawn(watch(options, &observed, state).run());
    Ok(routes(observed, options.token.clone()))
}

fn watch(options: &SchedulerOptions, scheduler: &Observed, state: Arc<dyn ClusterState>) -> Watch {
    Watch {
        scheduler: scheduler.clone(),
        state,
        needs_gpu: Arc::clone(&options.needs_gpu),
        unplaceable_timeout: options.unplaceable_timeout,
        executor_timeout: options.executor_timeout,
    }
}

fn ballista_config(options: &SchedulerOptions, hooks: &RuntimeHooks, address: SocketAddr) -> SchedulerConfig {
    let placement = Placement::new(Arc::clone(&options.needs_gpu));
    let executor_timeout_seconds = options.executor_timeout.as_secs().max(1);
    SchedulerConfig {
        external_host: advertised_host(address, options.external_host.as_deref()),
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        task_distribution: TaskDistributionPolicy::Custom(Arc::new(placement)),
        job_id_generator: Some(Arc::new(JobIds::default())),
        finished_job_data_clean_up_interval_seconds: options.result_retention.as_secs().max(1),
        executor_timeout_seconds,
        expire_dead_executor_interval_seconds: EXPIRY_CHECK_SECONDS,
        // Ours speaks first, with a sentence; this only catches what it might miss.
        no_executors_grace_period_seconds: options.unplaceable_timeout.as_secs() + 2 * executor_timeout_seconds,
        grpc_server_max_decoding_message_size: MAX_MESSAGE_BYTES as u32,
        grpc_server_max_encoding_message_size: MAX_MESSAGE_BYTES as u32,
        grpc_client_max_message_size: MAX_MESSAGE_BYTES as u32,
        override_config_producer: Some(Arc::clone(&hooks.config)),
        override_session_builder: Some(Arc::clone(&hooks.session_state)),
        override_logical_codec: Some(Arc::clone(&hooks.logical_codec)),
        override_physical_codec: Some(Arc::clone(&hooks.physical_codec)),
        override_create_grpc_client_endpoint: options.token.as_ref().map(Token::endpoint_override),
        // Ballista serves a redirect to a page elsewhere here; the root stays free for our own console.
        web_tui_route: "/api/ballista".to_owned(),
        ..Default::default()
    }
}

fn routes(scheduler: Observed, token: Option<Token>) -> Router {
    let server: Arc<Server> = Arc::clone(&scheduler.inner);
    let log = Arc::clone(&scheduler.log);
    let grpc = SchedulerGrpcServer::new(scheduler)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let ours = Router::new()
        .route("/api/job/{job_id}/failures", get(failures).with_state(log))
        .route("/healthz", get(|| async { "ok" }));
    Routes::new(grpc)
        .into_axum_router()
        .merge(get_routes(server))
        .merge(ours)
        .layer(middleware::from_fn_with_state(TokenGuard::new(token), guard::check))
}

async fn failures(
    extract::State(log): extract::State<Arc<TaskLog>>,
    Path(job): Path<String>,
) -> Json<Vec<TaskFailure>> {
    Json(log.of(&job))
}
