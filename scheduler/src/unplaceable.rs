//! Fails jobs whose stages wait too long for an executor that can take them: the shell around [`Patience`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::JobId;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    ExecutionError, FailedTask, TaskStatus, UpdateTaskStatusParams, failed_task, task_status,
};
use ballista_scheduler::cluster::ClusterState;
use ballista_scheduler::state::task_manager::JobInfoCache;
use tidemill_engine::cluster::{GPU_LABEL, has_label};

use crate::NeedsGpu;
use crate::observed::Observed;
use crate::patience::{Expired, Lack, Patience, StageKey};
use crate::policy::{is_running, take_slice};
use crate::state::{NOBODY, is_active};
use crate::task_log::now_ms;

/// The longest time between two looks at what waits.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest, for short timeouts.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// What the watch needs of the scheduler.
pub(crate) struct Watch {
    pub(crate) scheduler: Observed,
    pub(crate) state: Arc<dyn ClusterState>,
    pub(crate) needs_gpu: NeedsGpu,
    pub(crate) unplaceable_timeout: Duration,
    pub(crate) executor_timeout: Duration,
}

impl Watch {
    /// Watches forever; ends with the runtime that it was spawned on.
    pub(crate) async fn run(self) {
        let every = (self.unplaceable_timeout / 4).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let mut ticks = tokio::time::interval(every);
        let mut patience = Patience::new(self.unplaceable_timeout);
        loop {
            ticks.tick().await;
            let jobs = self.scheduler.inner.state.task_manager.get_running_job_cache();
            let waiting = self.waiting(&jobs).await;
            for expired in patience.step(Instant::now(), waiting) {
                self.fail(&jobs, &expired).await;
            }
        }
    }

    /// The stages that could run and that no executor alive can take.
    async fn waiting(&self, jobs: &HashMap<JobId, JobInfoCache>) -> Vec<(StageKey, Lack)> {
        let alive = self.alive();
        let mut waiting = Vec::new();
        for (job, info) in jobs.iter().filter(|(_, info)| is_running(info)) {
            let mut graph = info.execution_graph.write().await;
            let mut seen = Vec::new();
            while let Some(stage) = graph.fetch_running_stage(&seen) {
                seen.push(stage.stage_id);
                if let Some(lack) = Lack::among(&alive, (self.needs_gpu)(&stage.plan)) {
                    let (job, attempt) = (job.clone(), stage.stage_attempt_num);
                    waiting.push((StageKey { job, stage: stage.stage_id, attempt }, lack));
                }
            }
        }
        waiting
    }

    /// The executors alive, each as whether it has a GPU.
    fn alive(&self) -> Vec<bool> {
        let oldest = (now_ms() / 1000).saturating_sub(self.executor_timeout.as_secs());
        let heartbeats = self.state.executor_heartbeats().into_values();
        let alive = heartbeats.filter(|h| is_active(h) && h.timestamp > oldest);
        alive.map(|h| has_label(&h.executor_id, GPU_LABEL)).collect()
    }

    /// Gives one partition of the stage to nobody and reports that nobody failed: a failure that is not retried.
    async fn fail(&self, jobs: &HashMap<JobId, JobInfoCache>, expired: &Expired) {
        let Some(info) = jobs.get(&expired.key.job) else { return };
        let Some(task_id) = take_for_nobody(info, &expired.key).await else { return };
        tracing::error!("{expired}");
        let status = failed_status(expired, task_id);
        let params = UpdateTaskStatusParams { executor_id: NOBODY.to_owned(), task_status: vec![status] };
        if let Err(status) = self.scheduler.update_task_status(tonic::Request::new(params)).await {
            tracing::error!("cannot fail job {}: {status}", expired.key.job);
        }
    }
}

async fn take_for_nobody(info: &JobInfoCache, key: &StageKey) -> Option<u32> {
    let mut graph = info.execution_graph.write().await;
    let mut seen = Vec::new();
    while let Some(stage) = graph.fetch_running_stage(&seen) {
        if stage.stage_id == key.stage && stage.stage_attempt_num == key.attempt {
            return Some(take_slice(stage, NOBODY, 1, 0).task_id as u32);
        }
        seen.push(stage.stage_id);
    }
    None
}

fn failed_status(expired: &Expired, task_id: u32) -> TaskStatus {
    let failed = FailedTask {
        error: expired.to_string(),
        retryable: false,
        count_to_failures: false,
        failed_reason: Some(failed_task::FailedReason::ExecutionError(ExecutionError {})),
    };
    TaskStatus {
        task_id,
        job_id: expired.key.job.to_string(),
        stage_id: expired.key.stage as u32,
        stage_attempt_num: expired.key.attempt as u32,
        status: Some(task_status::Status::Failed(failed)),
        ..Default::default()
    }
}
