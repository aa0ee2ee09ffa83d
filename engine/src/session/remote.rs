//! Queries on a cluster: sent to the scheduler as logical plans, their rows fetched from the executors that have them.
//!
//! Ballista's own operator for this opens a connection to the scheduler for each query and one to an executor for each
//! partition of the result, one after another, and leaves a job running whose rows nobody waits for any more. This one
//! keeps its connections for the session, fetches partitions side by side, and cancels the job when it is dropped.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use ballista_core::BALLISTA_VERSION;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::extension::{BallistaConfigGrpcEndpoint, SessionConfigExt};
use ballista_core::planner::BallistaQueryPlanner;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, ExecuteQueryParams, GetJobStatusResult, KeyValuePair, PartitionLocation, SuccessfulJob, job_status,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version::{check_compatibility, insert_version_header, version_from_metadata};
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_err, internal_datafusion_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::prelude::SessionConfig;
use datafusion_proto::logical_plan::AsLogicalPlan;
use datafusion_proto::protobuf::LogicalPlanNode;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::EngineError;
use crate::cluster::FetchPool;

/// How many partitions of a result are fetched at the same time.
const FETCHES: usize = 8;

/// A session's connections to one cluster.
struct Cluster {
    address: String,
    scheduler: SchedulerGrpcClient<Channel>,
    executors: FetchPool,
    grpc: GrpcClientConfig,
    endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    /// The options that the scheduler has without being told.
    known: HashMap<String, Option<String>>,
    /// The options of the last query and what the scheduler is told of them: few sessions change theirs.
    told: Mutex<Option<(Arc<ConfigOptions>, Vec<KeyValuePair>)>>,
}

/// Plans queries to run on a cluster; what describes only this session's catalog runs here.
#[derive(Debug)]
pub(super) struct RemoteQueryPlanner {
    cluster: Arc<Cluster>,
    ballista: BallistaQueryPlanner<LogicalPlanNode>,
}

impl RemoteQueryPlanner {
    /// A planner for the scheduler at `host:port`. Nothing is sent yet. `known` is what a scheduler's own sessions are
    /// configured with.
    ///
    /// # Errors
    /// An address that is none.
    pub(super) fn new(address: &str, config: &SessionConfig, known: &SessionConfig) -> Result<Self> {
        let url = format!("http://{address}");
        let ballista = config.ballista_config();
        let grpc = GrpcClientConfig::from(&ballista);
        let wrong = |e: &dyn fmt::Display| EngineError::Invalid(format!("{address:?} is no host:port: {e}"));
        let mut endpoint = create_grpc_client_endpoint(url.clone(), Some(&grpc)).map_err(|e| wrong(&e))?;
        let customize = config.ballista_override_create_grpc_client_endpoint();
        if let Some(customize) = &customize {
            endpoint = customize.configure_endpoint(endpoint).map_err(|e| wrong(&e))?;
        }
        let scheduler = SchedulerGrpcClient::new(endpoint.connect_lazy())
            .max_encoding_message_size(grpc.max_message_size)
            .max_decoding_message_size(grpc.max_message_size);
        let known = known.options().entries().into_iter().map(|entry| (entry.key, entry.value)).collect();
        let cluster = Cluster {
            address: address.to_owned(),
            scheduler,
            executors: FetchPool::default(),
            grpc,
            endpoint: customize,
            known,
            told: Mutex::default(),
        };
        let codec = config.ballista_logical_extension_codec();
        let ballista = BallistaQueryPlanner::with_extension(url, ballista, codec);
        Ok(Self { cluster: Arc::new(cluster), ballista })
    }
}

#[async_trait]
impl QueryPlanner for RemoteQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = self.ballista.create_physical_plan(plan, state).await?;
        if !planned.is::<DistributedQueryExec<LogicalPlanNode>>() {
            return Ok(planned);
        }
        Ok(Arc::new(RemoteQueryExec::new(plan.clone(), Arc::clone(&self.cluster))))
    }
}

/// A query that runs on a cluster; one partition, the result's rows in the order of its partitions.
#[derive(Debug)]
struct RemoteQueryExec {
    plan: LogicalPlan,
    cluster: Arc<Cluster>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RemoteQueryExec {
    fn new(plan: LogicalPlan, cluster: Arc<Cluster>) -> Self {
        let schema = Arc::clone(plan.schema().inner());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { plan, cluster, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for RemoteQueryExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "RemoteQueryExec: scheduler={}, plan:\n{}", self.cluster.address, self.plan.display_indent())
            }
            DisplayFormatType::TreeRender => writeln!(f, "scheduler={}", self.cluster.address),
        }
    }
}

impl ExecutionPlan for RemoteQueryExec {
    fn name(&self) -> &str {
        "RemoteQueryExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let config = context.session_config();
        let node = LogicalPlanNode::try_from_logical_plan(&self.plan, &*config.ballista_logical_extension_codec())?;
        let query = ExecuteQueryParams {
            query: Some(Query::LogicalPlan(node.encode_to_vec())),
            settings: self.cluster.settings(config.options()),
            session_id: context.session_id(),
            operation_id: uuid::Uuid::now_v7().to_string(),
        };
        let rows = MetricBuilder::new(&self.metrics).output_rows(partition);
        let batches = stream::once(Arc::clone(&self.cluster).run(query)).try_flatten();
        let counted = batches.inspect_ok(move |batch| rows.add(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster of {}", self.address)
    }
}

impl Cluster {
    /// The options that differ from what the scheduler has by itself.
    fn settings(&self, options: &Arc<ConfigOptions>) -> Vec<KeyValuePair> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, settings)) = told.as_ref().filter(|(last, _)| Arc::ptr_eq(last, options)) {
            return settings.clone();
        }
        let entries = options.entries().into_iter();
        let differing = entries.filter(|entry| self.known.get(&entry.key) != Some(&entry.value));
        let settings: Vec<_> = differing.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect();
        *told = Some((Arc::clone(options), settings.clone()));
        settings
    }

    /// Runs a query and gives its rows.
    async fn run(self: Arc<Self>, query: ExecuteQueryParams) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut request = Request::new(query);
        insert_version_header(request.metadata_mut());
        let answer = self.scheduler.clone().execute_query_push(request).await.map_err(|e| self.refusal(e))?;
        let compatible = check_compatibility(Some(BALLISTA_VERSION), version_from_metadata(answer.metadata()));
        let job = Job { cluster: Arc::clone(&self), id: None, statuses: Some(answer.into_inner()) };
        // Dropped where the versions do not fit, the job is cancelled.
        compatible.map_err(DataFusionError::Execution)?;
        let partitions = job.finished().await?.partition_location;
        let fetched = stream::iter(partitions).map(move |partition| Arc::clone(&self).fetch(partition));
        Ok(fetched.buffered(FETCHES).try_flatten().boxed())
    }

    /// Opens a partition of a result.
    async fn fetch(self: Arc<Self>, location: PartitionLocation) -> Result<SendableRecordBatchStream> {
        let layout = location.layout();
        let missing = |what| internal_datafusion_err!("a partition of a result has no {what}");
        let executor = location.executor_meta.ok_or_else(|| missing("executor"))?;
        let partition = location.partition_id.ok_or_else(|| missing("id"))?.into();
        let port = u16::try_from(executor.port).map_err(|_| missing("port"))?;
        let connected = self.executors.acquire(&executor.host, port, &self.grpc, self.endpoint.clone()).await;
        let mut client = connected.map_err(BallistaError::into_datafusion)?;
        match client.fetch_partition(&executor.id, &partition, location.file_id, layout, true).await {
            Ok(batches) => Ok(batches),
            Err(error) => {
                client.discard();
                Err(error.into_datafusion())
            }
        }
    }

    /// What a call to the scheduler failed with, in a sentence.
    fn refusal(&self, status: Status) -> DataFusionError {
        let message = match status.code() {
            Code::Unavailable => format!("the scheduler at {} does not answer: {}", self.address, status.message()),
            _ => return DataFusionError::Execution(status.message().to_owned()),
        };
        EngineError::Environment { message, retryable: true }.into()
    }
}

/// A job that the scheduler was given. Dropped before its end, it is cancelled.
struct Job {
    cluster: Arc<Cluster>,
    id: Option<String>,
    /// Taken when the job has ended.
    statuses: Option<Streaming<GetJobStatusResult>>,
}

impl Job {
    /// Waits for the job's end and gives where its rows are.
    async fn finished(mut self) -> Result<SuccessfulJob> {
        while let Some(statuses) = &mut self.statuses {
            let Some(status) = statuses.message().await.map_err(|e| self.cluster.refusal(e))? else { break };
            let Some(status) = status.status else { continue };
            match status.status {
                Some(job_status::Status::Successful(job)) => {
                    self.statuses = None;
                    return Ok(job);
                }
                Some(job_status::Status::Failed(failed)) => {
                    self.statuses = None;
                    return exec_err!("Job {} failed: {}", status.job_id, failed.error);
                }
                _ => self.id = Some(status.job_id),
            }
        }
        exec_err!("the scheduler at {} ended before the job did", self.cluster.address)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let (Some(mut statuses), Ok(runtime)) = (self.statuses.take(), Handle::try_current()) else { return };
        let (mut scheduler, id) = (self.cluster.scheduler.clone(), self.id.take());
        runtime.spawn(async move {
            let id = match id {
                Some(id) => id,
                // The scheduler tells the id with the job's first status.
                None => match statuses.message().await {
                    Ok(Some(GetJobStatusResult { status: Some(status), .. })) => status.job_id,
                    _ => return,
                },
            };
            if let Err(error) = scheduler.cancel_job(CancelJobParams { job_id: id.clone() }).await {
                tracing::warn!("job {id} could not be cancelled: {}", error.message());
            }
        });
    }
}
