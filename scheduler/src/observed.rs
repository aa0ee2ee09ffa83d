//! Ballista's scheduler service with an ear on what executors report: failures for the log, ends for the budgets,
//! and the last stage's outputs held back until all are there. A job's first status is told when it is queued.

use std::collections::HashMap;
use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStoppedParams, ExecutorStoppedResult,
    GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult, HeartBeatParams, HeartBeatResult,
    JobStatus, PollWorkParams, PollWorkResult, QueuedJob, RegisterExecutorParams, RegisterExecutorResult,
    RemoveSessionParams, RemoveSessionResult, TaskStatus, UpdateTaskStatusParams, UpdateTaskStatusResult, job_status,
};
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::{StreamExt, stream};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::finals::{FinalStage, Finals, Outstanding, Report, final_stage};
use crate::job_ids;
use crate::state::State;
use crate::task_log::TaskLog;

/// Ballista's scheduler with DataFusion's own plan messages.
pub(crate) type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Delegates everything; keeps the failures of tasks and frees what ended tasks held.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) inner: Arc<Server>,
    pub(crate) log: Arc<TaskLog>,
    pub(crate) state: Arc<State>,
    pub(crate) finals: Arc<Mutex<Finals>>,
}

impl Observed {
    /// Passes on what an executor reports, or holds it back.
    async fn hear(
        &self,
        executor_id: String,
        statuses: Vec<TaskStatus>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        self.log.record(&executor_id, &statuses);
        // Before Ballista hears of it, for it then looks for free vcores.
        let statuses = self.state.release(&executor_id, statuses).await;
        let (mut pass, mut ready) = (vec![], vec![]);
        for status in statuses {
            match self.final_stage(&status).await {
                None => pass.push(status),
                Some((stage, outstanding)) => {
                    let mut finals = self.finals.lock().await;
                    ready.push(finals.hold(stage, &outstanding, (executor_id.clone(), status)));
                }
            }
        }
        // Each time that Ballista is told something, if only nothing, it gives the freed vcores to others.
        if !pass.is_empty() || ready.iter().all(Vec::is_empty) {
            self.tell(executor_id, pass).await?;
        }
        for reports in ready {
            self.finish(reports).await?;
        }
        Ok(Response::new(UpdateTaskStatusResult { success: true }))
    }

    async fn final_stage(&self, status: &TaskStatus) -> Option<(FinalStage, Outstanding)> {
        let jobs = self.inner.state.task_manager.get_running_job_cache();
        self.finals.lock().await.retain_jobs(|job| jobs.contains_key(job));
        let graph = jobs.get(&JobId::from(status.job_id.clone()))?.execution_graph.read().await;
        final_stage(&graph, status)
    }

    /// Reports a whole stage. No executor is removed meanwhile, and none that was takes part: its loss would otherwise
    /// reach Ballista between the reports.
    async fn finish(&self, reports: Vec<Report>) -> Result<(), Status> {
        let executors = self.state.executors().await;
        if reports.iter().any(|(by, _)| !executors.knows(by)) {
            return Ok(());
        }
        let mut by_executor: HashMap<String, Vec<TaskStatus>> = HashMap::new();
        for (by, status) in reports {
            by_executor.entry(by).or_default().push(status);
        }
        for (by, statuses) in by_executor {
            self.tell(by, statuses).await?;
        }
        Ok(())
    }

    async fn tell(
        &self,
        executor_id: String,
        task_status: Vec<TaskStatus>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        let params = UpdateTaskStatusParams { executor_id, task_status };
        SchedulerGrpc::update_task_status(&*self.inner, Request::new(params)).await
    }
}

/// The first status of a job, which tells whoever submitted it what to cancel.
fn queued(job_id: String) -> GetJobStatusResult {
    let queued = job_status::Status::Queued(QueuedJob::default());
    let status = JobStatus { job_id, status: Some(queued), ..JobStatus::default() };
    GetJobStatusResult { status: Some(status), flight_proxy: None }
}

/// One delegating method.
macro_rules! delegate {
    ($($method:ident($params:ty) -> $result:ty;)*) => {
        #[tonic::async_trait]
        impl SchedulerGrpc for Observed {
            type ExecuteQueryPushStream = <Server as SchedulerGrpc>::ExecuteQueryPushStream;

            async fn execute_query_push(
                &self,
                request: Request<ExecuteQueryParams>,
            ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
                let submission = SchedulerGrpc::execute_query_push(&*self.inner, request);
                let (answer, name) = job_ids::with_name(submission).await;
                Ok(answer?.map(|statuses| -> Self::ExecuteQueryPushStream {
                    Box::pin(stream::iter(name.map(|name| Ok(queued(name)))).chain(statuses))
                }))
            }

            async fn update_task_status(
                &self,
                request: Request<UpdateTaskStatusParams>,
            ) -> Result<Response<UpdateTaskStatusResult>, Status> {
                let UpdateTaskStatusParams { executor_id, task_status } = request.into_inner();
                self.hear(executor_id, task_status).await
            }

            $(async fn $method(&self, request: Request<$params>) -> Result<Response<$result>, Status> {
                SchedulerGrpc::$method(&*self.inner, request).await
            })*
        }
    };
}

delegate! {
    poll_work(PollWorkParams) -> PollWorkResult;
    register_executor(RegisterExecutorParams) -> RegisterExecutorResult;
    heart_beat_from_executor(HeartBeatParams) -> HeartBeatResult;
    create_update_session(CreateUpdateSessionParams) -> CreateUpdateSessionResult;
    remove_session(RemoveSessionParams) -> RemoveSessionResult;
    execute_query(ExecuteQueryParams) -> ExecuteQueryResult;
    get_job_status(GetJobStatusParams) -> GetJobStatusResult;
    get_job_metrics(GetJobMetricsParams) -> GetJobMetricsResult;
    executor_stopped(ExecutorStoppedParams) -> ExecutorStoppedResult;
    cancel_job(CancelJobParams) -> CancelJobResult;
    clean_job_data(CleanJobDataParams) -> CleanJobDataResult;
}
