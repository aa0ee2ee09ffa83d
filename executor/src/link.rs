//! The executor's side of its conversation with the scheduler: registration, heartbeats, farewell.

use std::time::{Duration, Instant};

use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::serde::protobuf::executor_resource::Resource;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    ExecutorOperatingSystemSpecification, ExecutorRegistration, ExecutorResource, ExecutorSpecification,
    ExecutorStatus, ExecutorStoppedParams, HeartBeatParams, RegisterExecutorParams, TaskStatus, UpdateTaskStatusParams,
    executor_status,
};
use tidemill_engine::cluster::{MAX_MESSAGE_BYTES, machine_name};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::{ExecutorError, ExecutorOptions, Result};

/// How long one connection attempt or call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between attempts to register.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often an idle connection is probed, so that a scheduler whose machine is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection to the scheduler that mends itself, and who this executor is.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    client: SchedulerGrpcClient<Channel>,
    /// The scheduler, for messages.
    pub(crate) address: String,
    /// What the scheduler is told of this executor.
    pub(crate) registration: ExecutorRegistration,
}

impl Link {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// When the scheduler's address is not one.
    pub(crate) fn new(options: &ExecutorOptions, registration: ExecutorRegistration) -> Result<Self> {
        let address = format!("{}:{}", options.scheduler_host, options.scheduler_port);
        let wrong = |_| ExecutorError::Address { address: address.clone() };
        let mut endpoint = Endpoint::try_from(format!("http://{address}")).map_err(wrong)?;
        if let Some(token) = &options.token {
            endpoint = endpoint.user_agent(token.user_agent()).map_err(wrong)?;
        }
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CALL_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let client = SchedulerGrpcClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { client, address, registration })
    }

    /// Registers, trying again while no scheduler answers.
    ///
    /// # Errors
    /// When none answers in time, or it refuses.
    pub(crate) async fn register(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let params = RegisterExecutorParams { metadata: Some(self.registration.clone()) };
            let status = match self.client.clone().register_executor(params).await {
                Ok(_) => return Ok(()),
                Err(status) => status,
            };
            let address = self.address.clone();
            match status.code() {
                Code::Unauthenticated => return Err(ExecutorError::Refused { address }),
                _ if is_absence(&status) && start.elapsed() < patience => {}
                _ if is_absence(&status) => {
                    let waited_s = start.elapsed().as_secs_f64();
                    return Err(ExecutorError::Unreachable { address, waited_s, reason: reason(&status) });
                }
                _ => {
                    let reason = status.message().to_owned();
                    return Err(ExecutorError::NotRegistered { address, reason });
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Sends heartbeats. A scheduler that does not know this executor, because it is new or gave it up, registers it
    /// by its heartbeat.
    ///
    /// # Errors
    /// When the scheduler has been silent for longer than `patience`.
    pub(crate) async fn beat(&self, every: Duration, patience: Option<Duration>) -> Result<()> {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_answer = Instant::now();
        let mut silent = false;
        loop {
            ticks.tick().await;
            let beat = self.send_heartbeat(executor_status::Status::Active(String::new())).await;
            let Err(status) = beat else {
                if silent {
                    tracing::info!("scheduler {} answers again", self.address);
                }
                (silent, last_answer) = (false, Instant::now());
                continue;
            };
            if !silent {
                tracing::warn!("scheduler {} does not answer: {}", self.address, reason(&status));
            }
            silent = true;
            if patience.is_some_and(|p| last_answer.elapsed() > p) {
                let silent_s = last_answer.elapsed().as_secs_f64();
                return Err(ExecutorError::SchedulerLost { address: self.address.clone(), silent_s });
            }
        }
    }

    /// Tells the scheduler that this executor leaves; its work goes to others at once.
    pub(crate) async fn leave(&self) {
        let _ = self.send_heartbeat(executor_status::Status::Terminating(String::new())).await;
        let params = ExecutorStoppedParams {
            executor_id: self.registration.id.clone(),
            reason: "the executor was shut down".to_owned(),
        };
        if let Err(status) = self.client.clone().executor_stopped(params).await {
            tracing::debug!("the scheduler did not hear that this executor leaves: {status}");
        }
    }

    /// Reports what became of tasks.
    pub(crate) async fn report(&self, task_status: Vec<TaskStatus>) -> std::result::Result<(), Status> {
        let params = UpdateTaskStatusParams { executor_id: self.registration.id.clone(), task_status };
        self.client.clone().update_task_status(params).await.map(drop)
    }

    async fn send_heartbeat(&self, status: executor_status::Status) -> std::result::Result<(), Status> {
        let params = HeartBeatParams {
            executor_id: self.registration.id.clone(),
            metrics: vec![],
            status: Some(ExecutorStatus { status: Some(status) }),
            metadata: Some(self.registration.clone()),
        };
        self.client.clone().heart_beat_from_executor(params).await.map(drop)
    }
}

/// Whether a status means that nobody answered, so that the same call may succeed later.
pub(crate) fn is_absence(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
}

/// What the deepest cause of a status says.
fn reason(status: &Status) -> String {
    let mut deepest: &dyn std::error::Error = status;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => deepest.to_string(),
    }
}

/// What the scheduler is told of an executor. Without a host it takes the address that the executor calls from.
pub(crate) fn registration(
    id: String,
    host: Option<String>,
    (flight_port, grpc_port): (u16, u16),
    vcores: usize,
) -> ExecutorRegistration {
    let resource = ExecutorResource { resource: Some(Resource::Vcores(vcores as u32)) };
    ExecutorRegistration {
        id,
        host,
        port: u32::from(flight_port),
        grpc_port: u32::from(grpc_port),
        specification: Some(ExecutorSpecification { resources: vec![resource] }),
        os_info: Some(ExecutorOperatingSystemSpecification {
            system_name: machine_name(),
            physical_cores: std::thread::available_parallelism().map_or(0, usize::from) as u32,
            ..Default::default()
        }),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}
