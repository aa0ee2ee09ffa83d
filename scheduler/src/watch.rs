//! Fails jobs whose stages wait too long for an executor that can take them, and those that lose one after the other: the
//! shell around [`Patience`] and [`losses`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::JobId;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    ExecutionError, FailedTask, TaskStatus, UpdateTaskStatusParams, failed_task, task_status,
};
use ballista_scheduler::cluster::ClusterState;
use ballista_scheduler::state::execution_stage::{ExecutionStage, RunningStage};
use ballista_scheduler::state::task_manager::JobInfoCache;
use tidemill_engine::cluster::{GPU_LABEL, has_label};

use crate::NeedsGpu;
use crate::losses;
use crate::observed::Observed;
use crate::patience::{Lack, Patience, StageKey};
use crate::policy::{is_running, take_slice};
use crate::state::{NOBODY, is_active};
use crate::task_log::now_ms;

/// The longest time between two looks at what waits.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest, for short timeouts.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// What a look at the running stages finds.
#[derive(Default)]
struct Found {
    /// Those that could run and that no executor alive can take.
    waiting: Vec<(StageKey, Lack)>,
    /// Those that lost their executors too often, and how often.
    losing: Vec<(StageKey, usize)>,
}

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
            let Found { waiting, losing } = self.look(&jobs).await;
            for expired in patience.step(Instant::now(), waiting) {
                self.fail(&jobs, &expired.key, expired.to_string()).await;
            }
            for (key, losses) in losing {
                let StageKey { job, stage, .. } = &key;
                let message = format!(
                    "work of stage {stage} of job {job} lost its executor {losses} times: what it runs may end the \
                     process; see the executors' logs, and whether they have memory enough"
                );
                self.fail(&jobs, &key, message).await;
            }
        }
    }

    async fn look(&self, jobs: &HashMap<JobId, JobInfoCache>) -> Found {
        let alive = self.alive();
        let mut found = Found::default();
        for (job, info) in jobs.iter().filter(|(_, info)| is_running(info)) {
            let mut graph = info.execution_graph.write().await;
            let mut seen = Vec::new();
            while let Some(stage) = graph.fetch_running_stage(&seen) {
                seen.push(stage.stage_id);
                if let Some(lack) = Lack::among(&alive, (self.needs_gpu)(&stage.plan)) {
                    found.waiting.push((key_of(job, stage), lack));
                }
            }
            // Also those that have given out all their tasks.
            for stage in graph.stages().values() {
                if let ExecutionStage::Running(stage) = stage
                    && let Some(losses) = losses::too_many(stage)
                {
                    found.losing.push((key_of(job, stage), losses));
                }
            }
        }
        found
    }

    /// The executors alive, each as whether it has a GPU.
    fn alive(&self) -> Vec<bool> {
        let oldest = (now_ms() / 1000).saturating_sub(self.executor_timeout.as_secs());
        let heartbeats = self.state.executor_heartbeats().into_values();
        let alive = heartbeats.filter(|h| is_active(h) && h.timestamp > oldest);
        alive.map(|h| has_label(&h.executor_id, GPU_LABEL)).collect()
    }

    /// Reports that a task of the stage failed, a failure that is not retried: one that runs, else one that nobody is given.
    async fn fail(&self, jobs: &HashMap<JobId, JobInfoCache>, key: &StageKey, message: String) {
        let Some(info) = jobs.get(&key.job) else { return };
        let Some((executor_id, task_id)) = a_task(info, key).await else { return };
        tracing::error!("{message}");
        let status = failed_status(key, message, task_id);
        let params = UpdateTaskStatusParams { executor_id, task_status: vec![status] };
        if let Err(status) = self.scheduler.update_task_status(tonic::Request::new(params)).await {
            tracing::error!("cannot fail job {}: {status}", key.job);
        }
    }
}

fn key_of(job: &JobId, stage: &RunningStage) -> StageKey {
    StageKey { job: job.clone(), stage: stage.stage_id, attempt: stage.stage_attempt_num }
}

/// A task of a stage, and the executor that has it.
async fn a_task(info: &JobInfoCache, key: &StageKey) -> Option<(String, u32)> {
    let mut graph = info.execution_graph.write().await;
    if let Some(ExecutionStage::Running(stage)) = graph.stages().get(&key.stage)
        && stage.stage_attempt_num == key.attempt
    {
        let running = stage.task_infos.iter().find_map(|task| match &task.task_status {
            task_status::Status::Running(running) => Some((running.executor_id.clone(), task.task_id as u32)),
            _ => None,
        });
        if running.is_some() {
            return running;
        }
    }
    let mut seen = Vec::new();
    while let Some(stage) = graph.fetch_running_stage(&seen) {
        if stage.stage_id == key.stage && stage.stage_attempt_num == key.attempt {
            return Some((NOBODY.to_owned(), take_slice(stage, NOBODY, 1, 0).task_id as u32));
        }
        seen.push(stage.stage_id);
    }
    None
}

fn failed_status(key: &StageKey, message: String, task_id: u32) -> TaskStatus {
    let failed = FailedTask {
        error: message,
        retryable: false,
        count_to_failures: false,
        failed_reason: Some(failed_task::FailedReason::ExecutionError(ExecutionError {})),
    };
    TaskStatus {
        task_id,
        job_id: key.job.to_string(),
        stage_id: key.stage as u32,
        stage_attempt_num: key.attempt as u32,
        status: Some(task_status::Status::Failed(failed)),
        ..Default::default()
    }
}
