//! Ballista's cluster state in memory, with our own count of vcores and one executor that is not there.
//!
//! A stage that nobody can take must fail through the same path as a task that failed on an executor, so that graph,
//! client and logs see an ordinary failure. Ballista hears task failures of known executors only: [`NOBODY`] is known
//! and alive when asked for by name, and in no list, so nothing is ever placed on it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::protobuf::{ExecutorHeartbeat, ExecutorStatus, TaskStatus, executor_status};
use ballista_core::serde::scheduler::{
    ExecutorData, ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification,
};
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::task_manager::JobInfoCache;

use tokio::sync::{Mutex, MutexGuard};

use crate::budgets::{Attempt, Budgets};
use crate::task_log::now_ms;

/// The executor in whose name the scheduler itself fails a task.
pub(crate) const NOBODY: &str = "scheduler";

/// Delegates to Ballista's state, counts vcores in [`Budgets`], and knows [`NOBODY`].
pub(crate) struct State {
    inner: Arc<dyn ClusterState>,
    /// Held while tasks are bound, so that no vcore is given twice.
    budgets: Mutex<Budgets>,
}

impl State {
    pub(crate) fn new(inner: Arc<dyn ClusterState>) -> Self {
        Self { inner, budgets: Mutex::default() }
    }

    /// Frees what the tasks held that an executor reports as ended, and returns the reports that count: one that comes
    /// a second time, or after the executor was given up, does not.
    pub(crate) async fn release(&self, executor_id: &str, mut statuses: Vec<TaskStatus>) -> Vec<TaskStatus> {
        if executor_id != NOBODY {
            let mut budgets = self.budgets.lock().await;
            statuses.retain(|s| Attempt::ended_by(s).is_some_and(|attempt| budgets.release(executor_id, &attempt)));
        }
        statuses
    }

    /// Keeps executors from being removed while the guard lives, and tells which are registered.
    pub(crate) async fn executors(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().await
    }
}

#[async_trait]
impl ClusterState for State {
    async fn init(&self) -> Result<()> {
        self.inner.init().await
    }

    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let TaskDistributionPolicy::Custom(policy) = distribution else {
            return Err(BallistaError::Internal("placement is ours alone".to_owned()));
        };
        let mut budgets = self.budgets.lock().await;
        let mut free = budgets.free(executors.as_ref());
        let bound = policy.bind_tasks(free.iter_mut().collect(), active_jobs).await?;
        for (executor_id, task) in &bound {
            budgets.hold(executor_id, Attempt::of_task(task), task.vcores_consumed);
        }
        Ok(bound)
    }

    async fn unbind_tasks(&self, _: Vec<ExecutorSlot>) -> Result<()> {
        // Ballista's count, which loses some; ours follows the executors' reports.
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let (executor_id, total) = (spec.executor_id.clone(), spec.total_vcores);
        self.inner.register_executor(metadata, spec).await?;
        self.budgets.lock().await.register(&executor_id, total);
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        match executor_id {
            NOBODY => Ok(nobody()),
            _ => self.inner.get_executor_metadata(executor_id).await,
        }
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        self.budgets.lock().await.remove(executor_id);
        self.inner.remove_executor(executor_id).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        match executor_id {
            NOBODY => Some(active_heartbeat(NOBODY, now_ms() / 1000)),
            _ => self.inner.get_executor_heartbeat(executor_id),
        }
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}

/// The heartbeat of an active executor last seen at a second since 1970.
pub(crate) fn active_heartbeat(executor_id: &str, timestamp: u64) -> ExecutorHeartbeat {
    let status = executor_status::Status::Active(String::new());
    ExecutorHeartbeat {
        executor_id: executor_id.to_owned(),
        timestamp,
        status: Some(ExecutorStatus { status: Some(status) }),
        ..Default::default()
    }
}

/// Whether a heartbeat says that its executor takes tasks.
pub(crate) fn is_active(heartbeat: &ExecutorHeartbeat) -> bool {
    let status = heartbeat.status.as_ref().and_then(|s| s.status.as_ref());
    matches!(status, Some(executor_status::Status::Active(_)))
}

fn nobody() -> ExecutorMetadata {
    ExecutorMetadata {
        id: NOBODY.to_owned(),
        host: String::new(),
        port: 0,
        grpc_port: 0,
        specification: ExecutorSpecification::default(),
        os_info: ExecutorOperatingSystemSpecification::default(),
    }
}
