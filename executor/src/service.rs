//! What the scheduler asks of an executor.

use std::sync::Arc;

use ballista_core::serde::protobuf::executor_grpc_server::ExecutorGrpc;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, LaunchMultiTaskParams, LaunchMultiTaskResult, LaunchTaskParams,
    LaunchTaskResult, RemoveJobDataParams, RemoveJobDataResult, StopExecutorParams, StopExecutorResult,
};
use ballista_core::serde::scheduler::TaskKey;
use tonic::{Request, Response, Status};

use crate::tasks::TaskRunner;

/// Ballista's executor service over our task runner.
pub(crate) struct Service {
    pub(crate) runner: Arc<TaskRunner>,
}

#[tonic::async_trait]
impl ExecutorGrpc for Service {
    async fn launch_task(&self, _: Request<LaunchTaskParams>) -> Result<Response<LaunchTaskResult>, Status> {
        Err(Status::unimplemented("tasks are launched by LaunchMultiTask"))
    }

    async fn launch_multi_task(
        &self,
        request: Request<LaunchMultiTaskParams>,
    ) -> Result<Response<LaunchMultiTaskResult>, Status> {
        // The callback address in the request is not used: statuses go to the scheduler that this executor was told
        // to serve, by the route that is known to work.
        request.into_inner().multi_tasks.into_iter().for_each(|tasks| self.runner.launch(tasks));
        Ok(Response::new(LaunchMultiTaskResult { failed_jobs: vec![] }))
    }

    async fn stop_executor(
        &self,
        request: Request<StopExecutorParams>,
    ) -> Result<Response<StopExecutorResult>, Status> {
        // The scheduler gave this executor up and its tasks to others. The process lives, so it drops the tasks and
        // is registered anew by its next heartbeat.
        tracing::warn!("dropping all tasks, the scheduler says: {}", request.into_inner().reason);
        self.runner.running.cancel_all();
        Ok(Response::new(StopExecutorResult {}))
    }

    async fn cancel_tasks(&self, request: Request<CancelTasksParams>) -> Result<Response<CancelTasksResult>, Status> {
        let tasks = request.into_inner().task_infos.into_iter().map(|task| TaskKey {
            job_id: task.job_id.into(),
            stage_id: task.stage_id as usize,
            task_id: task.task_id as usize,
        });
        let running = tasks.filter(|task| self.runner.running.cancel(task)).count();
        tracing::info!("cancelling {running} tasks");
        Ok(Response::new(CancelTasksResult { cancelled: true }))
    }

    async fn remove_job_data(
        &self,
        request: Request<RemoveJobDataParams>,
    ) -> Result<Response<RemoveJobDataResult>, Status> {
        let RemoveJobDataParams { job_id, remove_stage_ids } = request.into_inner();
        let removed = self.runner.work_dir.remove_job(&job_id, &remove_stage_ids).await;
        removed.map_err(|error| Status::invalid_argument(format!("cannot remove data: {error}")))?;
        Ok(Response::new(RemoveJobDataResult {}))
    }
}
